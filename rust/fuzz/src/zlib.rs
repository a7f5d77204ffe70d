//! zlib's C code as the reference.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The result of decompressing with zlib.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    pub output: Vec<u8>,
    /// Length of the stream in bytes; `None` if zlib rejects it or it is incomplete.
    pub stream_len: Option<usize>,
}

/// Inflates a raw DEFLATE stream, ignoring anything after it.
pub fn inflate(stream: &[u8]) -> Judged {
    let mut output = Vec::new();
    let stream_len = run(Decompress::new(false), stream, &mut output);
    Judged { output, stream_len }
}

/// Decompresses all members of a gzip file, after which nothing may follow; `None` if zlib rejects
/// one.
pub fn gunzip(mut layer: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    loop {
        layer = &layer[run(Decompress::new_gzip(15), layer, &mut output)?..];
        if layer.is_empty() {
            return Some(output);
        }
    }
}

fn run(mut zlib: Decompress, input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    loop {
        output.reserve(64 << 10);
        let before = (zlib.total_in(), zlib.total_out());
        let rest = &input[before.0 as usize..];
        let status = zlib.decompress_vec(rest, output, FlushDecompress::None).ok()?;
        match status {
            Status::StreamEnd => return Some(zlib.total_in() as usize),
            _ if (zlib.total_in(), zlib.total_out()) == before => return None,
            _ => {}
        }
    }
}

/// One part of a raw DEFLATE stream to be compressed.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub data: &'a [u8],
    pub flush: FlushCompress,
}

/// Compresses `parts` into a raw DEFLATE stream, with the flush of each part after it.
pub fn deflate(level: u32, parts: &[Part<'_>]) -> Vec<u8> {
    let mut zlib = Compress::new(Compression::new(level), false);
    let mut stream = Vec::new();
    let end = Part { data: &[], flush: FlushCompress::Finish };
    for part in parts.iter().chain([&end]) {
        let start = zlib.total_in();
        loop {
            stream.reserve(part.data.len() + 1024);
            let rest = &part.data[(zlib.total_in() - start) as usize..];
            let before = zlib.total_out();
            let status = zlib.compress_vec(rest, &mut stream, part.flush).unwrap();
            let is_done = (zlib.total_in() - start) as usize == part.data.len();
            let is_flushed = stream.len() < stream.capacity() || zlib.total_out() == before;
            if status == Status::StreamEnd
                || is_done && is_flushed && part.flush != FlushCompress::Finish
            {
                break;
            }
        }
    }
    stream
}
