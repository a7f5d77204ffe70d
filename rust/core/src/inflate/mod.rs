//! DEFLATE (RFC 1951), one stream at a time, stopping at every block boundary.
//!
//! [`Inflater::run`] takes input in pieces of any size and stops when it needs more, when its output
//! should be taken, and after each block, where the bit position says exactly how far it read. It may
//! start at any checkpoint. This file is the plain decoder: safe, able to suspend at any input byte,
//! and the judge of `fast.rs`, which takes over where input and output leave it room.
//!
//! gzip's members, headers and checks are in `gzip.rs`.

#![allow(clippy::cast_possible_truncation, reason = "DEFLATE's fields are 16 bits at most")]

mod bits;
mod fast;
mod huffman;

mod tables;
mod unit;
mod window;

use crate::checkpoint::{WINDOW_LEN, Window};
use crate::error::{CodeName, GzipError};
use bits::BitBuffer;
use huffman::{BlockTables, CodeLengthTable};
use tables::{CODE_LENGTH_ORDER, CODE_LENGTH_SYMBOLS, END_OF_BLOCK, EXCEPTIONAL, LITERALS};
use window::OutputWindow;

pub use unit::Unit;
pub use window::{Filled, new_buffer};

/// The most uncompressed bytes that one compressed byte can stand for: 258 from two bits.
pub const MAX_RATIO: u64 = 1032;

/// HLIT and HDIST of RFC 1951 §3.2.7, the most that have a meaning.
const MAX_LITLEN_CODES: u16 = 286;
const MAX_DISTANCE_CODES: u16 = 30;

/// The most code lengths of zero that symbol 17 stands for; 16 stands for up to 6 of any (§3.2.7).
const SHORT_RUN: usize = 10;
/// Code lengths of both codes, and what a short run may write beyond them.
const CODE_LENGTHS_LEN: usize = (MAX_LITLEN_CODES + MAX_DISTANCE_CODES) as usize + SHORT_RUN;

/// Units from here on are markers, below are bytes.
pub const FIRST_MARKER: u16 = 1 << 15;

/// Why [`Inflater::run`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All input was used and more is needed.
    NeedInput,
    /// The output must be taken before more can be written.
    OutputFull,
    /// A block has ended; `last` is its BFINAL bit.
    BlockEnd {
        /// Whether the stream ends with this block.
        last: bool,
    },
}

/// Which decoder does the bulk of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// The fast decoder where there is room for it.
    Fast,
    /// The plain decoder everywhere: slow, and the oracle of the fast one.
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

/// How many code lengths a dynamic block's header holds.
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

/// What the plain decoder did with the bits it had.
enum Progress {
    Continue,
    Stop(Stop),
}

/// A DEFLATE decoder that can stop and go on anywhere.
///
/// It writes bytes, unless it was made by [`Inflater::marked`].
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
}

impl Inflater<u8> {
    /// Starts before the first block of a stream.
    #[must_use]
    pub fn new(speed: Speed) -> Self {
        Self::with(speed)
    }

    /// Starts between two blocks, with the output before them and the `count` (0 to 7) bits of the
    /// last byte before `input` that already belong to the block, as the low bits of `bits`.
    #[must_use]
    pub fn resume(speed: Speed, window: &Window, bits: u8, count: u8) -> Self {
        let mut this = Self::with(speed);
        this.restart(window, WINDOW_LEN, bits, count);
        this
    }

    /// As a new one from [`Self::resume`] that keeps its memory; distances may reach only the last
    /// `history_len` bytes of `window`.
    pub fn restart(&mut self, window: &Window, history_len: usize, bits: u8, count: u8) {
        self.output.restart(window.as_bytes(), history_len);
        self.start_over(bits, count);
    }

    /// The last 32 KiB of output so far, taken or not, across streams.
    #[must_use]
    pub fn window(&self) -> Window {
        Window::ending_with(self.history())
    }
}

/// The unit that stands for the byte at `index` of the window that was not known.
#[must_use]
pub const fn marker(index: u16) -> u16 {
    FIRST_MARKER | index
}

impl Inflater<u16> {
    /// Starts between two blocks without knowing the output before them: what is copied from there comes
    /// out as a [`marker`] of its place in that window. `bits` and `count` as for [`Inflater::resume`].
    #[must_use]
    pub fn marked(speed: Speed, bits: u8, count: u8) -> Self {
        let mut this = Self::with(speed);
        this.restart_marked(bits, count);
        this
    }

    /// As a new one from [`Self::marked`] that keeps its memory.
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
        }
    }

    /// Stands before a block header whose first `count` (0 to 7) bits are the low ones of `bits`.
    fn start_over(&mut self, bits: u8, count: u8) {
        self.bits = BitBuffer::primed(bits, count & 7);
        self.state = State::BlockHeader;
        self.last_block = false;
    }

    /// Starts a new stream whose distances do not reach into the one before; output goes on.
    pub fn start_stream(&mut self) {
        self.state = State::BlockHeader;
        self.last_block = false;
        self.output.start_member();
    }

    /// Bits that were taken from the input and not yet used.
    #[must_use]
    pub fn unused_bits(&self) -> u32 {
        self.bits.count()
    }

    /// Drops the rest of a byte after the last block, then gives the byte that follows the stream.
    pub fn next_byte(&mut self, input: &mut &[u8]) -> Option<u8> {
        self.bits.align_to_byte();
        let byte = self.bits.take(8, input)?;
        u8::try_from(byte).ok()
    }

    /// Hands out the output since the last call, once, and makes room for more.
    pub fn take_output<T>(&mut self, consume: impl FnOnce(&[U]) -> T) -> T {
        let taken = consume(self.output.take());
        if !self.output.has_room() {
            self.output.slide();
        }
        taken
    }

    /// As [`Self::take_output`], but gives the whole buffer away and goes on in `next`, which is one from
    /// [`new_buffer`].
    pub fn hand_over(&mut self, next: Box<[U]>) -> Filled<U> {
        self.output.hand_over(next)
    }

    /// The last `WINDOW_LEN` units of output so far, taken or not.
    #[must_use]
    pub fn history(&self) -> &[U] {
        self.output.history()
    }

    /// How many units back distances may reach now.
    #[must_use]
    pub fn history_len(&self) -> usize {
        self.output.history_len()
    }

    /// How many units of output wait to be taken.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.output.pending_len()
    }

    /// Bytes of memory held beside the value itself.
    #[must_use]
    pub const fn heap_memory(&self) -> usize {
        self.output.capacity() + size_of::<BlockTables>()
    }

    /// Decodes until something happens that the caller should know of.
    ///
    /// # Errors
    ///
    /// A broken rule of RFC 1951; the bit position is that of the header or symbol concerned. The
    /// inflater must not be used further.
    pub fn run(&mut self, input: &mut &[u8]) -> Result<Stop, GzipError> {
        loop {
            if let Progress::Stop(stop) = self.advance(input)? {
                return Ok(stop);
            }
        }
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Progress, GzipError> {
        let state = match self.state {
            State::BlockHeader => self.block_header(input)?,
            State::StoredHeader => self.stored_header(input)?,
            State::Stored { remaining } => return Ok(self.stored(remaining, input)),
            State::CodeCounts => self.code_counts(input)?,
            State::CodeLengthLengths { counts, next } => {
                self.code_length_lengths(counts, next, input)?
            }
            State::CodeLengths { counts, next } => self.code_lengths(counts, next, input)?,
            State::Symbols => return self.symbols(input),
        };
        Ok(match state {
            Some(state) => {
                self.state = state;
                Progress::Continue
            }
            None => Progress::Stop(Stop::NeedInput),
        })
    }

    fn end_block(&mut self) -> Progress {
        self.state = State::BlockHeader;
        Progress::Stop(Stop::BlockEnd { last: self.last_block })
    }

    /// §3.2.3. Like the header readers below: the next state, or `None` for lack of input.
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
        // Safe to repeat when the input ends first: an aligned buffer stays aligned.
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
        // Whole bytes that the bit buffer holds come first.
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

    /// §3.2.7, HLIT, HDIST and HCLEN.
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

    /// §3.2.7, the lengths of the code length code.
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

    /// §3.2.7, the lengths of both codes, run-length coded as one sequence.
    fn code_lengths(
        &mut self,
        counts: CodeCounts,
        mut next: usize,
        input: &mut &[u8],
    ) -> Result<Option<State>, GzipError> {
        let total = counts.total();
        let mut buffer = self.bits;
        while next < total {
            // A code word and its repeat count: at most 7 + 7 bits.
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
            // Runs of up to 10 are written without asking how long they are: what is written beyond
            // them is written again or not looked at.
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

    /// §3.2.3, the literals and matches of a block with Huffman codes.
    fn symbols(&mut self, input: &mut &[u8]) -> Result<Progress, GzipError> {
        loop {
            if self.speed == Speed::Fast
                && fast::decode(&self.tables, &mut self.bits, input, &mut self.output)?
            {
                return Ok(self.end_block());
            }
            if !self.output.has_room() {
                return Ok(Progress::Stop(Stop::OutputFull));
            }
            // One symbol by hand, then the fast decoder may have room again: it stops short of the
            // ends of input and output, and at anything that is wrong, which is told here.
            match self.symbol(input)? {
                Some(Symbol::Data) => {}
                Some(Symbol::EndOfBlock) => return Ok(self.end_block()),
                None => return Ok(Progress::Stop(Stop::NeedInput)),
            }
        }
    }

    /// Decodes one literal, match or end of block; `None`, and no bit used, for lack of input.
    fn symbol(&mut self, input: &mut &[u8]) -> Result<Option<Symbol>, GzipError> {
        // A length and a distance need at most 15 + 5 + 15 + 13 = 48 bits; 56 fit.
        self.bits.fill(input);
        let bits = self.bits.peek();
        let entry = self.tables.litlen(bits);
        if entry & LITERALS != 0 {
            // The first of two: the bits held may not be enough for the second.
            let literal_bits = tables::code_len(entry);
            if literal_bits > self.bits.count() {
                return Ok(None);
            }
            self.bits.consume(literal_bits);
            self.output.push((tables::payload(entry) & 0xff) as u8);
            return Ok(Some(Symbol::Data));
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
        Ok(Some(Symbol::Data))
    }
}

/// What one code word stood for.
enum Symbol {
    Data,
    EndOfBlock,
}

/// Base and extra bits of the length or distance whose code word is lowest in `bits`.
fn value(entry: u32, bits: u64) -> usize {
    let extra = tables::consumed(entry) - tables::code_len(entry);
    tables::payload(entry) as usize + huffman::low_bits(bits >> tables::code_len(entry), extra)
}
