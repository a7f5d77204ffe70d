//! DEFLATE (RFC 1951), one stream at a time, stopping at every block boundary.
//!
//! [`Inflater::run`] takes input in pieces of any size. It stops when it needs more input, when its
//! output should be taken, and after each block, at an exact bit position. It can start at any
//! checkpoint. This file is the plain decoder: it is safe code, can suspend at any input byte, and
//! is the reference for `fast.rs`, which takes over where there is enough input and room for
//! output.
//!
//! `gzip.rs` handles gzip's members, headers and checksums.

#![allow(clippy::cast_possible_truncation, reason = "DEFLATE's fields are 16 bits at most")]

mod bits;
mod fast;
mod huffman;
mod record;
mod symbols;
mod tables;
mod unit;
mod window;

use std::ops::Range;

use crate::checkpoint::{BlockHeader, SparseWindow, WINDOW_LEN, Window};
use crate::error::{CodeName, GzipError};
use bits::BitBuffer;
use huffman::{BlockTables, CodeLengthTable};
use record::{KnownBytes, Mode, PAUSE_LEN, Recorder};
use tables::{CODE_LENGTH_ORDER, CODE_LENGTH_SYMBOLS, END_OF_BLOCK, EXCEPTIONAL, LITERALS};
use window::OutputWindow;

pub(crate) use fast::{BitWork, with_bit_instructions};
pub(crate) use record::words;
pub use record::{Body, EARLY_LEN, Match};
pub use symbols::SymbolFinder;
pub use unit::Unit;
pub use window::{Filled, new_buffer};

/// Maximum compression ratio of DEFLATE: two bits can produce 258 bytes.
pub const MAX_RATIO: u64 = 1032;

/// Largest valid numbers of codes, from HLIT and HDIST (RFC 1951 §3.2.7).
const MAX_LITLEN_CODES: u16 = 286;
const MAX_DISTANCE_CODES: u16 = 30;

/// Maximum length of a short run: symbol 17 repeats a length of zero up to 10 times, symbol 16 any
/// length up to 6 times (§3.2.7).
const SHORT_RUN: usize = 10;
/// Number of code lengths of both codes, plus what a short run may write beyond them.
const CODE_LENGTHS_LEN: usize = (MAX_LITLEN_CODES + MAX_DISTANCE_CODES) as usize + SHORT_RUN;

/// The smallest unit that is a marker; smaller units are bytes.
pub const FIRST_MARKER: u16 = 1 << 15;

/// Why [`Inflater::run`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All input was used and more is needed.
    NeedInput,
    /// The output must be taken before more can be written.
    OutputFull,
    /// A block has ended.
    BlockEnd {
        /// Whether it is the last block of the stream (its BFINAL bit).
        last: bool,
    },
    /// The header of a block has been read; [`Inflater::body`] says what follows. Only while
    /// recording with pauses.
    BlockHeader,
    /// Between two symbols of a block, so that they can be found again later. Only while recording
    /// with pauses.
    Pause,
}

/// Which decoder to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// The fast decoder, wherever there is enough input and room for output.
    Fast,
    /// The plain decoder only. It is slow, and the reference for the fast one.
    Plain,
}

/// What comes next in the stream.
#[derive(Debug, Clone, Copy)]
enum State {
    BlockHeader,
    StoredHeader,
    Stored { remaining: u16 },
    CodeCounts,
    CodeLengthLengths { counts: CodeCounts, next: usize },
    CodeLengths { counts: CodeCounts, next: usize },
    Symbols,
}

/// The numbers of code lengths in a dynamic block's header.
#[derive(Debug, Clone, Copy)]
struct CodeCounts {
    litlen: u16,
    distance: u16,
    code_length: u16,
}

impl CodeCounts {
    const fn total(self) -> usize {
        self.litlen as usize + self.distance as usize
    }
}

/// The result of one step of the plain decoder.
enum Progress {
    Continue,
    Stop(Stop),
}

/// A DEFLATE decoder that can suspend and resume anywhere.
///
/// Its output is bytes, unless it was created with [`Inflater::marked`].
#[derive(Debug, Clone)]
pub struct Inflater<U = u8> {
    speed: Speed,
    bits: BitBuffer,
    state: State,
    last_block: bool,
    output: OutputWindow<U>,
    tables: Box<BlockTables>,
    code_length_table: CodeLengthTable,
    code_length_lengths: [u8; CODE_LENGTH_SYMBOLS],
    /// Literal/length code lengths, then distance code lengths.
    code_lengths: [u8; CODE_LENGTHS_LEN],
    recorder: Option<Box<Recorder>>,
    /// The bytes before the start that are known; `None` if all are, or if none are needed any more.
    known: Option<KnownBytes>,
}

/// Why decoding from a sparse window failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SparseError {
    /// The stored block header is not the header of a block with Huffman codes.
    Header,
    /// A match refers to this byte of the window, which is not known.
    MissingByte(usize),
}

impl Inflater<u8> {
    /// Starts before the first block of a stream.
    #[must_use]
    pub fn new(speed: Speed) -> Self {
        Self::with(speed)
    }

    /// Starts between two blocks. `window` is the output so far. The low `count` bits (0 to 7) of
    /// `bits` are the bits of the byte before the input that belong to the next block.
    #[must_use]
    pub fn resume(speed: Speed, window: &Window, bits: u8, count: u8) -> Self {
        let mut this = Self::with(speed);
        this.restart(window, WINDOW_LEN, bits, count);
        this
    }

    /// Resets to the state of [`Self::resume`], keeping the buffers. Distances may reach only the
    /// last `history_len` bytes of `window`.
    pub fn restart(&mut self, window: &Window, history_len: usize, bits: u8, count: u8) {
        self.output.restart(window.as_bytes(), history_len);
        self.start_over(bits, count);
    }

    /// Starts at the first bit after the low `count` bits (0 to 7) of `bits`, with the bytes of
    /// `window` before it. Nothing else is known of the window: [`Self::check_window`] must be
    /// called after each [`Self::run`].
    #[must_use]
    pub fn resume_sparse(speed: Speed, window: &SparseWindow, bits: u8, count: u8) -> Self {
        let mut this = Self::with(speed);
        let (mut history, mut known) = (vec![0; WINDOW_LEN], KnownBytes::none());
        let mut rest = &window.bytes[..];
        for run in &window.runs {
            let start = usize::from(run.start);
            let range = start..(start + usize::from(run.len)).min(WINDOW_LEN);
            let (bytes, after) = rest.split_at(range.len().min(rest.len()));
            if bytes.len() == range.len() {
                history[range.clone()].copy_from_slice(bytes);
                known.add(range);
            }
            rest = after;
        }
        this.output.restart(&history, WINDOW_LEN);
        this.start_over(bits, count);
        this.known = Some(known);
        this.record(0..WINDOW_LEN as u64, false);
        this
    }

    /// Continues inside a block with this header, at the bit where the decoder is.
    ///
    /// # Errors
    /// [`SparseError::Header`].
    pub fn enter_block(&mut self, header: &BlockHeader) -> Result<(), SparseError> {
        let bits = std::mem::take(&mut self.bits);
        let mut input = &header.bytes[..];
        self.state = State::BlockHeader;
        while !matches!(self.state, State::Symbols) {
            match self.header_field(&mut input) {
                Ok(Some(state)) => self.state = state,
                Ok(None) | Err(_) => return Err(SparseError::Header),
            }
        }
        let used = 8 * (header.bytes.len() - input.len()) - self.bits.count() as usize;
        if used != usize::from(header.len) || header.bytes.len() != used.div_ceil(8) {
            return Err(SparseError::Header);
        }
        self.bits = bits;
        Ok(())
    }

    /// Continues inside a stored block, with `remaining` bytes left.
    pub fn enter_stored(&mut self, remaining: u16, last: bool) {
        self.state = State::Stored { remaining };
        self.last_block = last;
    }

    /// Checks that the matches decoded so far refer only to known bytes of the window. Output must
    /// not be taken before this check.
    ///
    /// # Errors
    /// [`SparseError::MissingByte`].
    pub fn check_window(&mut self) -> Result<(), SparseError> {
        let (Some(known), Some(recorder)) = (&self.known, &mut self.recorder) else {
            return Ok(());
        };
        let first = self.output.position() - self.output.pending_len() as u64;
        for found in recorder.matches.drain(..) {
            // The start of the source in the window, which ends where decoding started.
            let place = first + u64::from(found.offset()) + WINDOW_LEN as u64;
            let start =
                usize::try_from(place).unwrap_or(usize::MAX) - usize::from(found.distance());
            let range = start..start.saturating_add(usize::from(found.source_len()));
            if let Some(byte) = known.first_missing(range) {
                return Err(SparseError::MissingByte(byte));
            }
        }
        if self.output.position() >= WINDOW_LEN as u64 {
            // Distances cannot reach the window any more.
            (self.known, self.recorder) = (None, None);
        }
        Ok(())
    }

    /// The last 32 KiB of output, taken or not, including output of earlier streams.
    #[must_use]
    pub fn window(&self) -> Window {
        Window::ending_with(self.history())
    }
}

/// The unit that stands for the byte at `index` of the unknown window.
#[must_use]
pub const fn marker(index: u16) -> u16 {
    FIRST_MARKER | index
}

impl Inflater<u16> {
    /// Starts between two blocks without knowing the output before them: a byte copied from there
    /// is output as a [`marker`] of its position in that window. `bits` and `count` are as for
    /// [`Inflater::resume`].
    #[must_use]
    pub fn marked(speed: Speed, bits: u8, count: u8) -> Self {
        let mut this = Self::with(speed);
        this.restart_marked(bits, count);
        this
    }

    /// Resets to the state of [`Self::marked`], keeping the buffers.
    pub fn restart_marked(&mut self, bits: u8, count: u8) {
        let mut window = [0; WINDOW_LEN];
        for (unit, index) in window.iter_mut().zip(0..) {
            *unit = marker(index);
        }
        self.output.restart(&window, WINDOW_LEN);
        self.start_over(bits, count);
    }
}

impl<U: Unit> Inflater<U> {
    fn with(speed: Speed) -> Self {
        Self {
            speed,
            bits: BitBuffer::default(),
            state: State::BlockHeader,
            last_block: false,
            output: OutputWindow::new(),
            tables: BlockTables::new(),
            code_length_table: CodeLengthTable::new(),
            code_length_lengths: [0; CODE_LENGTH_SYMBOLS],
            code_lengths: [0; CODE_LENGTHS_LEN],
            recorder: None,
            known: None,
        }
    }

    /// Continues at a block header whose first `count` bits (0 to 7) are the low bits of `bits`.
    fn start_over(&mut self, bits: u8, count: u8) {
        self.bits = BitBuffer::primed(bits, count & 7);
        self.state = State::BlockHeader;
        self.last_block = false;
        self.known = None;
        if let Some(recorder) = &mut self.recorder {
            recorder.matches.clear();
        }
    }

    /// Records what the decoder does from now on: matches in the output positions of `range`,
    /// counted in units from the decoder's first output, and a few before it. With `pauses`, it
    /// also stops after each block header, between symbols, and, as if the output were full, at the
    /// end of the range.
    pub fn record(&mut self, range: Range<u64>, pauses: bool) {
        match &mut self.recorder {
            Some(recorder) => {
                (recorder.range, recorder.pauses) = (range, pauses);
                recorder.is_over = false;
            }
            None => self.recorder = Some(Box::new(Recorder::new(range, pauses))),
        }
    }

    /// The number of units output so far, taken or not.
    #[must_use]
    pub fn output_position(&self) -> u64 {
        self.output.position()
    }

    /// Moves the matches recorded since the last call to the end of `matches`. Their offsets count
    /// from the first unit of output that has not been taken, so they must be taken first.
    pub fn take_matches(&mut self, matches: &mut Vec<Match>) {
        if let Some(recorder) = &mut self.recorder {
            if matches.is_empty() {
                std::mem::swap(matches, &mut recorder.matches);
            } else {
                matches.append(&mut recorder.matches);
            }
        }
    }

    /// What follows the block header that has just been read; `None` unless it was recorded.
    #[must_use]
    pub fn body(&self) -> Option<Body> {
        let recorder = self.recorder.as_ref()?;
        match self.state {
            State::Stored { remaining } => {
                Some(Body::Stored { len: remaining, last: self.last_block })
            }
            State::Symbols => Some(Body::Huffman(recorder.header.header())),
            _ => None,
        }
    }

    /// Starts a new stream, whose distances cannot reach into the previous one. Output continues in
    /// the same buffer.
    pub fn start_stream(&mut self) {
        self.state = State::BlockHeader;
        self.last_block = false;
        self.output.start_member();
    }

    /// The number of bits taken from the input but not used yet.
    #[must_use]
    pub fn unused_bits(&self) -> u32 {
        self.bits.count()
    }

    /// Discards the unused bits of the current byte and returns the next byte. For use after the
    /// last block.
    pub fn next_byte(&mut self, input: &mut &[u8]) -> Option<u8> {
        self.bits.align_to_byte();
        let byte = self.bits.take(8, input)?;
        u8::try_from(byte).ok()
    }

    /// Passes the output since the last call to `consume` and makes room for more.
    pub fn take_output<T>(&mut self, consume: impl FnOnce(&[U]) -> T) -> T {
        let taken = consume(self.output.take());
        if !self.output.has_room() {
            self.output.slide();
        }
        taken
    }

    /// Like [`Self::take_output`], but gives the whole buffer away and continues in `next`, which
    /// must come from [`new_buffer`].
    pub fn hand_over(&mut self, next: Box<[U]>) -> Filled<U> {
        self.output.hand_over(next)
    }

    /// The last `WINDOW_LEN` units of output, taken or not.
    #[must_use]
    pub fn history(&self) -> &[U] {
        self.output.history()
    }

    /// The largest valid distance at this point, in units.
    #[must_use]
    pub fn history_len(&self) -> usize {
        self.output.history_len()
    }

    /// The number of units of output that have not been taken.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.output.pending_len()
    }

    /// Bytes of heap memory held.
    #[must_use]
    pub fn heap_memory(&self) -> usize {
        let recorder = self.recorder.as_ref().map_or(0, |recorder| recorder.heap_memory());
        self.output.capacity() + size_of::<BlockTables>() + recorder
    }

    /// Decodes until there is a reason to stop.
    ///
    /// # Errors
    ///
    /// The rule of RFC 1951 that is broken; the bit position is that of the invalid header or
    /// symbol. The inflater must not be used afterwards.
    pub fn run(&mut self, input: &mut &[u8]) -> Result<Stop, GzipError> {
        loop {
            if let Progress::Stop(stop) = self.advance(input)? {
                return Ok(stop);
            }
        }
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Progress, GzipError> {
        match self.state {
            State::Stored { remaining } => return Ok(self.stored(remaining, input)),
            State::Symbols => return self.symbols(input),
            _ => {}
        }
        let (held, before) = (self.bits, *input);
        let is_first = matches!(self.state, State::BlockHeader);
        let state = self.header_field(input)?;
        if let Some(recorder) = &mut self.recorder {
            if is_first {
                recorder.header.clear();
            }
            let used = 8 * (before.len() - input.len()) + held.count() as usize;
            recorder.header.append(held, before, used - self.bits.count() as usize);
        }
        let Some(state) = state else { return Ok(Progress::Stop(Stop::NeedInput)) };
        self.state = state;
        let is_read = matches!(state, State::Stored { .. } | State::Symbols);
        Ok(match &mut self.recorder {
            Some(recorder) if is_read && recorder.pauses => {
                recorder.since_pause = 0;
                Progress::Stop(Stop::BlockHeader)
            }
            _ => Progress::Continue,
        })
    }

    /// Reads a part of a block header. Like each reader, returns the next state, or `None` if there
    /// is not enough input.
    fn header_field(&mut self, input: &mut &[u8]) -> Result<Option<State>, GzipError> {
        match self.state {
            State::BlockHeader => self.block_header(input),
            State::StoredHeader => self.stored_header(input),
            State::CodeCounts => self.code_counts(input),
            State::CodeLengthLengths { counts, next } => {
                self.code_length_lengths(counts, next, input)
            }
            State::CodeLengths { counts, next } => self.code_lengths(counts, next, input),
            State::Stored { .. } | State::Symbols => Ok(None),
        }
    }

    fn end_block(&mut self) -> Progress {
        self.state = State::BlockHeader;
        Progress::Stop(Stop::BlockEnd { last: self.last_block })
    }

    /// §3.2.3.
    fn block_header(&mut self, input: &mut &[u8]) -> Result<Option<State>, GzipError> {
        let Some(header) = self.bits.take(3, input) else { return Ok(None) };
        self.last_block = header & 1 != 0;
        Ok(Some(match header >> 1 {
            0 => State::StoredHeader,
            1 => {
                self.tables.build_fixed()?;
                State::Symbols
            }
            2 => State::CodeCounts,
            _ => return Err(GzipError::ReservedBlockType),
        }))
    }

    /// §3.2.4.
    fn stored_header(&mut self, input: &mut &[u8]) -> Result<Option<State>, GzipError> {
        // Safe to repeat after running out of input: an aligned buffer stays aligned.
        self.bits.align_to_byte();
        let Some(header) = self.bits.take(32, input) else { return Ok(None) };
        let [a, b, c, d] = header.to_le_bytes();
        let (len, nlen) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        if len != !nlen {
            return Err(GzipError::StoredLength { len, nlen });
        }
        Ok(Some(State::Stored { remaining: len }))
    }

    fn stored(&mut self, mut remaining: u16, input: &mut &[u8]) -> Progress {
        // First the whole bytes in the bit buffer.
        while remaining > 0 && self.bits.count() >= 8 && self.output.has_room() {
            let byte = (self.bits.peek() & 0xff) as u8;
            self.bits.consume(8);
            self.output.push(byte);
            remaining -= 1;
        }
        if self.bits.count() == 0 && remaining > 0 {
            let piece = &input[..input.len().min(usize::from(remaining))];
            let copied = self.output.extend(piece);
            *input = &input[copied..];
            // At most `remaining`, by the slicing above.
            remaining -= u16::try_from(copied).unwrap_or(remaining);
        }
        self.state = State::Stored { remaining };
        if remaining == 0 {
            self.end_block()
        } else if !self.output.has_room() {
            Progress::Stop(Stop::OutputFull)
        } else {
            Progress::Stop(Stop::NeedInput)
        }
    }

    /// §3.2.7: HLIT, HDIST and HCLEN.
    fn code_counts(&mut self, input: &mut &[u8]) -> Result<Option<State>, GzipError> {
        let Some(header) = self.bits.take(14, input) else { return Ok(None) };
        let counts = CodeCounts {
            litlen: (header & 31) as u16 + 257,
            distance: (header >> 5 & 31) as u16 + 1,
            code_length: (header >> 10) as u16 + 4,
        };
        if counts.litlen > MAX_LITLEN_CODES || counts.distance > MAX_DISTANCE_CODES {
            let (litlen, distance) = (counts.litlen, counts.distance);
            return Err(GzipError::TooManyCodes { litlen, distance });
        }
        self.code_length_lengths = [0; CODE_LENGTH_SYMBOLS];
        Ok(Some(State::CodeLengthLengths { counts, next: 0 }))
    }

    /// §3.2.7: the lengths of the code length code.
    fn code_length_lengths(
        &mut self,
        counts: CodeCounts,
        mut next: usize,
        input: &mut &[u8],
    ) -> Result<Option<State>, GzipError> {
        while next < usize::from(counts.code_length) {
            let Some(len) = self.bits.take(3, input) else {
                self.state = State::CodeLengthLengths { counts, next };
                return Ok(None);
            };
            self.code_length_lengths[CODE_LENGTH_ORDER[next]] = len as u8;
            next += 1;
        }
        self.code_length_table.build(&self.code_length_lengths)?;
        Ok(Some(State::CodeLengths { counts, next: 0 }))
    }

    /// §3.2.7: the lengths of both codes, run-length encoded as one sequence.
    fn code_lengths(
        &mut self,
        counts: CodeCounts,
        mut next: usize,
        input: &mut &[u8],
    ) -> Result<Option<State>, GzipError> {
        let total = counts.total();
        let mut buffer = self.bits;
        while next < total {
            // A code word and its repeat count have at most 7 + 7 bits.
            if buffer.count() < 14 {
                buffer.fill(input);
            }
            let bits = buffer.peek();
            let (symbol, code_len) = self.code_length_table.symbol(bits);
            let (extra, base) = match symbol {
                16 => (2, 3),
                17 => (3, 3),
                18 => (7, 11),
                _ => (0, 1),
            };
            if buffer.count() < code_len + extra {
                self.bits = buffer;
                self.state = State::CodeLengths { counts, next };
                return Ok(None);
            }
            let run = base + huffman::low_bits(bits >> code_len, extra);
            let repeated = match symbol {
                16 if next == 0 => None,
                16 => Some(self.code_lengths[next - 1]),
                17 | 18 => Some(0),
                len => Some(len as u8),
            };
            let Some(len) = repeated.filter(|_| run <= total - next) else {
                self.bits = buffer;
                return Err(GzipError::CodeLengthRepeat);
            };
            buffer.consume(code_len + extra);
            // Write runs of up to 10 without a branch on their length: anything written beyond the
            // run is overwritten or never read.
            let rest = &mut self.code_lengths[next..];
            if let Some(start) = rest.first_chunk_mut::<SHORT_RUN>() {
                *start = [len; SHORT_RUN];
            }
            if run > SHORT_RUN {
                rest[..run].fill(len);
            }
            next += run;
        }
        self.bits = buffer;
        let (litlen, distance) = self.code_lengths[..total].split_at(usize::from(counts.litlen));
        self.tables.build(litlen, distance)?;
        Ok(Some(State::Symbols))
    }

    /// §3.2.3: the literals and matches of a block with Huffman codes.
    fn symbols(&mut self, input: &mut &[u8]) -> Result<Progress, GzipError> {
        if self.recorder.is_some() {
            return self.record_symbols(input);
        }
        loop {
            if self.speed == Speed::Fast
                && fast::decode(&self.tables, &mut self.bits, input, &mut self.output, u64::MAX)?
            {
                return Ok(self.end_block());
            }
            if !self.output.has_room() {
                return Ok(Progress::Stop(Stop::OutputFull));
            }
            // Decode one symbol here, after which the fast decoder may have room again. It stops
            // short of the ends of input and output and before invalid symbols, which are reported
            // here.
            match self.symbol(input)? {
                Some(Symbol::Literal | Symbol::Match { .. }) => {}
                Some(Symbol::EndOfBlock) => return Ok(self.end_block()),
                None => return Ok(Progress::Stop(Stop::NeedInput)),
            }
        }
    }

    /// Like [`Self::symbols`], but with a recorder.
    #[cold]
    fn record_symbols(&mut self, input: &mut &[u8]) -> Result<Progress, GzipError> {
        // Taken out, so that the recorder and the decoder can be changed together.
        let Some(mut recorder) = self.recorder.take() else { return Ok(Progress::Continue) };
        let progress = self.record_symbols_with(&mut recorder, input);
        self.recorder = Some(recorder);
        progress
    }

    fn record_symbols_with(
        &mut self,
        recorder: &mut Recorder,
        input: &mut &[u8],
    ) -> Result<Progress, GzipError> {
        loop {
            let len = input.len();
            let position = self.output.position();
            let mode = recorder.mode(position);
            if recorder.pauses && position >= recorder.range.end && !recorder.is_over {
                recorder.is_over = true;
                return Ok(Progress::Stop(Stop::OutputFull));
            }
            if mode != Mode::Record {
                // The first pause is where recording begins.
                recorder.since_pause = PAUSE_LEN;
            } else if recorder.since_pause >= PAUSE_LEN {
                recorder.since_pause = 0;
                if recorder.pauses {
                    return Ok(Progress::Stop(Stop::Pause));
                }
            }
            if self.speed == Speed::Fast {
                let (tables, bits, output) = (&self.tables, &mut self.bits, &mut self.output);
                let is_ended = match mode {
                    Mode::Decode(max_len) => fast::decode(tables, bits, input, output, max_len)?,
                    Mode::Record => {
                        let max_input = PAUSE_LEN - recorder.since_pause;
                        let matches = &mut recorder.matches;
                        fast::decode_recording(tables, bits, input, output, max_input, matches)?
                    }
                };
                if is_ended {
                    return Ok(self.end_block());
                }
            }
            if !self.output.has_room() {
                return Ok(Progress::Stop(Stop::OutputFull));
            }
            let offset = self.output.pending_len();
            match self.symbol(input)? {
                Some(Symbol::Literal) => {}
                Some(Symbol::Match { distance, len }) => {
                    if mode == Mode::Record {
                        recorder.matches.push(Match::new(offset, distance, len));
                    }
                }
                Some(Symbol::EndOfBlock) => return Ok(self.end_block()),
                None => {
                    recorder.since_pause += len - input.len();
                    return Ok(Progress::Stop(Stop::NeedInput));
                }
            }
            recorder.since_pause += len - input.len();
        }
    }

    /// Decodes one literal, match or end of block; `None`, with no bits used, if there is not
    /// enough input.
    fn symbol(&mut self, input: &mut &[u8]) -> Result<Option<Symbol>, GzipError> {
        // A length and a distance need at most 15 + 5 + 15 + 13 = 48 bits; 56 fit.
        self.bits.fill(input);
        let bits = self.bits.peek();
        let entry = self.tables.litlen(bits);
        if entry & LITERALS != 0 {
            // Only the first of two literals: there may not be enough bits for the second.
            let literal_bits = tables::code_len(entry);
            if literal_bits > self.bits.count() {
                return Ok(None);
            }
            self.bits.consume(literal_bits);
            self.output.push((tables::payload(entry) & 0xff) as u8);
            return Ok(Some(Symbol::Literal));
        }
        let litlen_bits = tables::consumed(entry);
        if litlen_bits > self.bits.count() {
            return Ok(None);
        }
        if entry & EXCEPTIONAL != 0 {
            if entry & END_OF_BLOCK == 0 {
                return Err(GzipError::InvalidSymbol(CodeName::LitLen));
            }
            self.bits.consume(litlen_bits);
            return Ok(Some(Symbol::EndOfBlock));
        }
        let len = value(entry, bits);

        let bits = bits >> litlen_bits;
        let entry = self.tables.distance(bits);
        let match_bits = litlen_bits + tables::consumed(entry);
        if match_bits > self.bits.count() {
            return Ok(None);
        }
        if entry & EXCEPTIONAL != 0 {
            self.bits.consume(litlen_bits);
            return Err(GzipError::InvalidSymbol(CodeName::Distance));
        }
        let distance = value(entry, bits);
        let available = self.output.history_len();
        if distance > available {
            self.bits.consume(litlen_bits);
            return Err(GzipError::DistanceTooFar {
                distance: distance as u32,
                available: available as u32,
            });
        }
        self.bits.consume(match_bits);
        self.output.repeat(distance, len);
        Ok(Some(Symbol::Match { distance, len }))
    }
}

/// The kind of symbol that was decoded.
enum Symbol {
    Literal,
    Match { distance: usize, len: usize },
    EndOfBlock,
}

/// The length or distance whose code word is in the low bits of `bits`: the base plus the extra
/// bits.
fn value(entry: u32, bits: u64) -> usize {
    let extra = tables::consumed(entry) - tables::code_len(entry);
    tables::payload(entry) as usize + huffman::low_bits(bits >> tables::code_len(entry), extra)
}
