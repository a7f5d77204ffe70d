//! Running tocsin's decoders.

use tocsin_core::Error;
use tocsin_core::error::GzipError;
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::inflate::{Inflater, Speed, Stop};

/// The result of inflating a raw DEFLATE stream with one of tocsin's decoders.
#[derive(Debug, PartialEq, Eq)]
pub struct Inflated {
    pub output: Vec<u8>,
    /// Length of the stream in bits; `Err(None)` if it is incomplete.
    pub end: Result<u64, Option<GzipError>>,
}

/// Inflates a raw DEFLATE stream, ignoring anything after it.
pub fn inflate(stream: &[u8], speed: Speed) -> Inflated {
    let mut inflater = Inflater::new(speed);
    let mut input = stream;
    let mut output = Vec::new();
    loop {
        let stop = inflater.run(&mut input);
        inflater.take_output(|bytes| output.extend_from_slice(bytes));
        let end = match stop {
            Ok(
                Stop::OutputFull | Stop::BlockEnd { last: false } | Stop::BlockHeader | Stop::Pause,
            ) => continue,
            Ok(Stop::BlockEnd { last: true }) => {
                let taken = (stream.len() - input.len()) as u64 * 8;
                Ok(taken - u64::from(inflater.unused_bits()))
            }
            Ok(Stop::NeedInput) => Err(None),
            Err(kind) => Err(Some(kind)),
        };
        return Inflated { output, end };
    }
}

/// Everything that a gzip decoder reports about a layer, up to its end or the first error.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    pub output: Vec<u8>,
    /// (bit position, output length) of each candidate.
    pub candidates: Vec<(u64, u64)>,
    /// (bit position, output length) of each member's end.
    pub member_ends: Vec<(u64, u64)>,
    pub end: Result<(), Error>,
}

/// When output is taken, which must make no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Only when the decoder cannot continue.
    Late,
    /// After every step.
    Early,
}

pub fn gunzip<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    speed: Speed,
    taking: Taking,
) -> Decoded {
    let mut decoder = GzipDecoder::new(speed);
    let mut decoded = Decoded {
        output: Vec::new(),
        candidates: Vec::new(),
        member_ends: Vec::new(),
        end: Ok(()),
    };
    for piece in pieces {
        let mut input = piece;
        while decoded.end.is_ok() {
            let event = decoder.step(&mut input);
            let position = (
                decoder.position().0,
                (decoded.output.len() + decoder.inflater().pending_len()) as u64,
            );
            if taking == Taking::Early || !matches!(event, Ok(Event::NeedInput | Event::Candidate))
            {
                decoder.take_output(|bytes| decoded.output.extend_from_slice(bytes));
            }
            match event {
                Ok(Event::NeedInput) => break,
                Ok(Event::Output) => {}
                Ok(Event::Candidate) => decoded.candidates.push(position),
                Ok(Event::MemberEnd) => decoded.member_ends.push(position),
                Err(error) => decoded.end = Err(error),
            }
        }
    }
    if decoded.end.is_ok() {
        decoder.take_output(|bytes| decoded.output.extend_from_slice(bytes));
        decoded.end = decoder.finish();
    }
    decoded
}
