//! gzip (RFC 1952): the members of a layer, with their headers and checksums, around DEFLATE
//! streams.
//!
//! [`GzipDecoder::step`] decodes a layer of any number of members, in pieces of any size, and stops
//! at every candidate for a checkpoint. Nothing may follow the last member: readers of layers
//! disagree on what trailing bytes mean, and the reference rejects them.

use std::ops::Range;

use crate::checkpoint::{Checkpoint, PointStart, SeekPoint, WINDOW_LEN, Window};
use crate::error::{Error, GzipError, Result, SeekError, SeekPart};
use crate::inflate::{Filled, Inflater, SparseError, Speed, Stop};
use crate::span::BitOffset;
use crate::trace::{NoteKind, Notes, Trace};

/// First bytes of every member.
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Longest FNAME or FCOMMENT without its zero byte. Go's reader, which unpacks layers, rejects longer
/// ones.
const MAX_HEADER_TEXT: u32 = 511;

/// The only compression method, CM.
const DEFLATE: u8 = 8;

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

/// Why [`GzipDecoder::step`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// All input was used; more is needed unless the layer ends here.
    NeedInput,
    /// Output must be taken before decoding can continue.
    Output,
    /// A checkpoint is possible here, at [`GzipDecoder::position`]: after a member's header, or
    /// after a block that is not the last of its member.
    Candidate,
    /// A member has ended and its checksums match.
    MemberEnd,
}

#[derive(Debug, Clone)]
enum State {
    Header(HeaderReader),
    Blocks,
    Trailer { bytes: [u8; 8], len: usize },
    BetweenMembers,
}

/// A decoder for whole layers, or for the part after a checkpoint.
#[derive(Debug, Clone)]
pub struct GzipDecoder {
    state: State,
    inflater: Inflater,
    /// `None` if the member's start was not seen, or if the caller does the checks.
    check: Option<MemberCheck>,
    checks_members: bool,
    trailer: Trailer,
    /// Bytes taken from the input so far, from the start of the layer.
    taken: u64,
    seen_member: bool,
    /// Whether it started at a checkpoint of a seek table.
    is_sparse: bool,
    /// Set if the stored block header of that checkpoint is invalid.
    failure: Option<SparseError>,
    /// What was decoded since the trace was last taken, if it is traced.
    notes: Option<Notes>,
    /// Where the current member header begins.
    header_start: BitOffset,
}

impl GzipDecoder {
    /// Starts at the first byte of a layer.
    #[must_use]
    pub fn new(speed: Speed) -> Self {
        Self {
            state: State::Header(HeaderReader::default()),
            inflater: Inflater::new(speed),
            check: None,
            checks_members: true,
            trailer: Trailer::default(),
            taken: 0,
            seen_member: false,
            is_sparse: false,
            failure: None,
            notes: None,
            header_start: BitOffset(0),
        }
    }

    /// Starts at the first byte of a layer, without checking members: the caller compares each
    /// member's output with its [`Self::trailer`]. Output need not be taken at the end of a member.
    #[must_use]
    pub fn unchecked(speed: Speed) -> Self {
        Self { checks_members: false, ..Self::new(speed) }
    }

    /// Stops checking members and returns the check of the current member, which covers all output
    /// that was taken. The caller does the checks from here on.
    pub fn leave_checks(&mut self) -> MemberCheck {
        self.checks_members = false;
        self.check.take().unwrap_or_default()
    }

    /// Continues at another position in the layer, keeping its buffers; output that was not taken
    /// is lost. A member that begins before that position is not checked.
    pub fn restart(&mut self, point: &ResumePoint<'_>) {
        let bits = (8 - point.position.bit_in_byte()) % 8;
        let value = if bits == 0 { 0 } else { point.first >> (8 - bits) };
        self.inflater.restart(point.window, point.history_len, value, bits);
        self.state = match point.next {
            Next::Block => State::Blocks,
            Next::Trailer => State::Trailer { bytes: [0; 8], len: 0 },
            Next::Member => State::BetweenMembers,
        };
        self.check = None;
        self.taken = point.position.0.div_ceil(8);
        self.seen_member = true;
        if let Some(notes) = &mut self.notes {
            *notes = Notes::default();
        }
    }

    /// Starts at a checkpoint. The input must begin at [`Checkpoint::first_byte`], and `first` is
    /// the byte there.
    ///
    /// The member that contains the checkpoint cannot be checked; later members are.
    #[must_use]
    pub fn resume(speed: Speed, checkpoint: &Checkpoint, first: u8) -> Self {
        let bits = checkpoint.bits & 7;
        let value = if bits == 0 { 0 } else { first >> (8 - bits) };
        Self {
            state: State::Blocks,
            inflater: Inflater::resume(speed, &checkpoint.window, value, bits),
            check: None,
            checks_members: true,
            trailer: Trailer::default(),
            taken: checkpoint.compressed.0,
            seen_member: true,
            is_sparse: false,
            failure: None,
            notes: None,
            header_start: BitOffset(0),
        }
    }

    /// Starts at a checkpoint of a seek table. The input must begin with the first whole byte at or
    /// after [`SeekPoint::position`]; `first` is the byte that contains that bit, and is ignored if
    /// it is the byte's first bit.
    ///
    /// Bytes that the sparse window does not list are unknown. A reference to one of them is an
    /// error, which [`Self::step`] reports before any output that follows the reference can be
    /// taken; so is an invalid block header in the checkpoint. The error's part is checkpoint 0, for
    /// the caller to replace. The member that contains the checkpoint cannot be checked, unless it
    /// starts there; later members are.
    #[must_use]
    pub fn resume_at(speed: Speed, point: &SeekPoint, first: u8) -> Self {
        let used = point.position.bit_in_byte();
        let count = (8 - used) % 8;
        let mut inflater = Inflater::resume_sparse(speed, &point.window, first >> used, count);
        let mut failure = None;
        let mut state = State::Blocks;
        match &point.start {
            PointStart::Member => state = State::BetweenMembers,
            PointStart::Block => {}
            PointStart::Huffman(header) => failure = inflater.enter_block(header).err(),
            PointStart::Stored { remaining, last } => inflater.enter_stored(*remaining, *last),
        }
        Self {
            state,
            inflater,
            check: None,
            checks_members: true,
            trailer: Trailer::default(),
            taken: point.position.0.div_ceil(8),
            // Before the first byte of the layer there is no member.
            seen_member: point.position.0 > 0,
            is_sparse: true,
            failure,
            notes: None,
            header_start: point.position,
        }
    }

    /// Traces what is decoded from now on: boundaries and block headers everywhere, matches and
    /// places between symbols only in `range`, which counts bytes of output since the decoder
    /// started. At the end of that range it stops with [`Event::Output`].
    pub fn trace(&mut self, range: Range<u64>) {
        self.notes.get_or_insert_default();
        self.inflater.record(range, true);
    }

    /// Moves the trace of the output that was not taken to `trace`; call it just before that output
    /// is taken.
    pub fn take_trace(&mut self, trace: &mut Trace) {
        self.inflater.take_matches(&mut trace.matches);
        if let Some(notes) = &mut self.notes {
            notes.take(&mut trace.notes);
        }
    }

    /// Notes that something begins at `position`.
    fn note(&mut self, position: BitOffset, kind: NoteKind) {
        if let Some(notes) = &mut self.notes {
            notes.push(self.inflater.pending_len(), position, kind);
        }
    }

    /// The position of the first unused bit.
    #[must_use]
    pub fn position(&self) -> BitOffset {
        self.position_after(0)
    }

    /// The position after the next `used` bytes, which the inflater has taken.
    fn position_after(&self, used: usize) -> BitOffset {
        let taken = self.taken.saturating_add(used as u64).saturating_mul(8);
        BitOffset(taken.saturating_sub(u64::from(self.inflater.unused_bits())))
    }

    /// Bytes of the layer taken so far; the next input must follow them.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether a member's header or the end of the layer comes next.
    #[must_use]
    pub fn is_between_members(&self) -> bool {
        match &self.state {
            State::BetweenMembers => true,
            State::Header(header) => header.is_empty(),
            State::Blocks | State::Trailer { .. } => false,
        }
    }

    /// The largest valid distance at this point, in bytes.
    #[must_use]
    pub fn history_len(&self) -> usize {
        self.inflater.history_len()
    }

    /// The trailer of the last member that ended.
    #[must_use]
    pub const fn trailer(&self) -> Trailer {
        self.trailer
    }

    /// The inflater, for its window and its pending output.
    #[must_use]
    pub fn inflater(&self) -> &Inflater {
        &self.inflater
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.inflater.heap_memory()
    }

    /// Passes the output since the last call to `consume`.
    pub fn take_output<T>(&mut self, consume: impl FnOnce(&[u8]) -> T) -> T {
        let check = &mut self.check;
        self.inflater.take_output(|bytes| {
            if let Some(check) = check {
                check.update(bytes);
            }
            consume(bytes)
        })
    }

    /// Like [`Inflater::hand_over`], but does not update the member's check.
    pub fn hand_over(&mut self, next: Box<[u8]>) -> Filled<u8> {
        self.inflater.hand_over(next)
    }

    /// Decodes until the next event.
    ///
    /// # Errors
    ///
    /// [`Error::Gzip`] with the bit position of the error. The decoder must not be used afterwards.
    pub fn step(&mut self, input: &mut &[u8]) -> Result<Event> {
        let len = input.len();
        if let Some(failure) = &self.failure {
            return Err(sparse_error(failure));
        }
        let outcome = self.advance(input);
        self.taken = self.taken.saturating_add((len - input.len()) as u64);
        if self.is_sparse {
            // Checked first, since whatever follows an unknown byte is meaningless.
            self.inflater.check_window().map_err(|error| sparse_error(&error))?;
        }
        outcome.map_err(|kind| Error::Gzip { kind, at: self.position() })
    }

    /// Checks that the layer may end here.
    ///
    /// # Errors
    ///
    /// [`GzipError::Truncated`] inside a member, or before the first one.
    pub fn finish(&self) -> Result<()> {
        let inside = match &self.state {
            _ if self.seen_member && self.is_between_members() => return Ok(()),
            State::Header(_) | State::BetweenMembers => "a gzip header",
            State::Blocks => "a deflate block",
            State::Trailer { .. } => "a gzip trailer",
        };
        Err(Error::Gzip { kind: GzipError::Truncated(inside), at: self.position() })
    }

    fn advance(&mut self, input: &mut &[u8]) -> std::result::Result<Event, GzipError> {
        let len = input.len();
        loop {
            match &mut self.state {
                State::BetweenMembers => {
                    self.state = State::Header(HeaderReader::default());
                    self.header_start = self.position_after(len - input.len());
                }
                State::Header(header) => {
                    let Some(byte) = self.inflater.next_byte(input) else {
                        return Ok(Event::NeedInput);
                    };
                    match header.push(byte) {
                        Ok(false) => {}
                        Ok(true) => {
                            self.state = State::Blocks;
                            self.seen_member = true;
                            self.check = self.checks_members.then(MemberCheck::new);
                            self.inflater.start_stream();
                            self.note(self.header_start, NoteKind::Member);
                            return Ok(Event::Candidate);
                        }
                        Err(GzipError::Magic(..)) if self.seen_member => {
                            return Err(GzipError::TrailingBytes);
                        }
                        Err(kind) => return Err(kind),
                    }
                }
                State::Blocks => match self.inflater.run(input)? {
                    Stop::NeedInput => return Ok(Event::NeedInput),
                    Stop::OutputFull => return Ok(Event::Output),
                    Stop::BlockEnd { last: false } => {
                        let position = self.position_after(len - input.len());
                        self.note(position, NoteKind::Block);
                        return Ok(Event::Candidate);
                    }
                    Stop::BlockHeader => {
                        let position = self.position_after(len - input.len());
                        if let Some(body) = self.inflater.body() {
                            self.note(position, NoteKind::Body(body));
                        }
                    }
                    Stop::Pause => {
                        let position = self.position_after(len - input.len());
                        self.note(position, NoteKind::Symbol);
                    }
                    Stop::BlockEnd { last: true } => {
                        self.state = State::Trailer { bytes: [0; 8], len: 0 };
                    }
                },
                // The checksum covers output that has not been taken yet.
                State::Trailer { .. } if self.checks_members && self.inflater.pending_len() > 0 => {
                    return Ok(Event::Output);
                }
                State::Trailer { bytes, len } => {
                    while *len < bytes.len() {
                        let Some(byte) = self.inflater.next_byte(input) else {
                            return Ok(Event::NeedInput);
                        };
                        bytes[*len] = byte;
                        *len += 1;
                    }
                    let [a, b, c, d, e, f, g, h] = *bytes;
                    self.trailer = Trailer {
                        crc: u32::from_le_bytes([a, b, c, d]),
                        isize: u32::from_le_bytes([e, f, g, h]),
                    };
                    if let Some(check) = self.check.take() {
                        check.compare(self.trailer)?;
                    }
                    self.state = State::BetweenMembers;
                    return Ok(Event::MemberEnd);
                }
            }
        }
    }
}

fn sparse_error(error: &SparseError) -> Error {
    let kind = match error {
        SparseError::Header => SeekError::BlockHeader,
        SparseError::MissingByte(index) => {
            let before = WINDOW_LEN.saturating_sub(*index);
            SeekError::MissingWindowByte(u32::try_from(before).unwrap_or(u32::MAX))
        }
    };
    Error::Seek { kind, part: SeekPart::Checkpoint(0) }
}

/// A position at which a decoder can continue, with the state that it needs.
#[derive(Debug, Clone, Copy)]
pub struct ResumePoint<'a> {
    /// The position of the first unused bit.
    pub position: BitOffset,
    /// The byte that contains that bit; ignored if it is the byte's first bit.
    pub first: u8,
    /// The output before the position.
    pub window: &'a Window,
    /// How much of the window distances may reach. Output of other members does not count.
    pub history_len: usize,
    /// What starts at the position.
    pub next: Next,
}

/// What comes next in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A block header.
    Block,
    /// The rest of a byte, then a member trailer.
    Trailer,
    /// A member header, or the end of the layer.
    Member,
}

/// A member trailer (RFC 1952 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trailer {
    /// CRC32.
    pub crc: u32,
    /// ISIZE.
    pub isize: u32,
}

/// The checksum and size of a member's output, to be compared with its trailer.
#[derive(Debug, Clone, Default)]
pub struct MemberCheck {
    crc: crc32fast::Hasher,
    len: u32,
}

impl MemberCheck {
    /// A check that covers no output.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the member's next output.
    #[allow(clippy::cast_possible_truncation, reason = "ISIZE counts modulo 2^32")]
    pub fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.len = self.len.wrapping_add(bytes.len() as u32);
    }

    /// Appends the output that another check covers.
    pub fn append(&mut self, next: &Self) {
        self.crc.combine(&next.crc);
        self.len = self.len.wrapping_add(next.len);
    }

    /// Compares the output with the trailer, first the checksum, then the size.
    ///
    /// # Errors
    ///
    /// [`GzipError::Crc`] or [`GzipError::Isize`].
    pub fn compare(self, trailer: Trailer) -> std::result::Result<(), GzipError> {
        let actual = self.crc.finalize();
        if actual != trailer.crc {
            return Err(GzipError::Crc { actual, stored: trailer.crc });
        }
        if self.len != trailer.isize {
            return Err(GzipError::Isize { actual: self.len, stored: trailer.isize });
        }
        Ok(())
    }
}

/// The length of the gzip member header at the start of `bytes`; `None` if there is no header or it
/// is incomplete.
#[must_use]
pub fn header_len(bytes: &[u8]) -> Option<usize> {
    let mut header = HeaderReader::default();
    for (index, byte) in bytes.iter().enumerate() {
        if header.push(*byte).ok()? {
            return Some(index + 1);
        }
    }
    None
}

/// Parses a member header byte by byte (RFC 1952 §2.3).
#[derive(Debug, Clone, Default)]
struct HeaderReader {
    field: Field,
    flags: u8,
    /// Bytes of the current field seen so far.
    seen: u32,
    extra_len: u32,
    stored_crc: u16,
    crc: crc32fast::Hasher,
}

/// Header fields in stored order; all but the first are optional.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Fixed,
    ExtraLen,
    Extra,
    Name,
    Comment,
    HeaderCrc,
    End,
}

impl HeaderReader {
    /// ID1, ID2, CM, FLG, MTIME, XFL, OS.
    const FIXED_LEN: u32 = 10;

    fn is_empty(&self) -> bool {
        self.field == Field::Fixed && self.seen == 0
    }

    /// Takes the next byte and returns whether the header is complete.
    fn push(&mut self, byte: u8) -> std::result::Result<bool, GzipError> {
        if self.flags & FHCRC != 0 && self.field != Field::HeaderCrc {
            self.crc.update(&[byte]);
        }
        self.seen += 1;
        match self.field {
            Field::Fixed => self.fixed(byte)?,
            Field::ExtraLen => {
                self.extra_len |= u32::from(byte) << (8 * (self.seen - 1));
                if self.seen == 2 {
                    self.next(if self.extra_len > 0 { Field::Extra } else { Field::Name });
                }
            }
            Field::Extra if self.seen == self.extra_len => self.next(Field::Name),
            Field::Extra => {}
            Field::Name | Field::Comment if byte == 0 => {
                self.next(if self.field == Field::Name {
                    Field::Comment
                } else {
                    Field::HeaderCrc
                });
            }
            Field::Name | Field::Comment if self.seen > MAX_HEADER_TEXT => {
                return Err(GzipError::HeaderText(MAX_HEADER_TEXT));
            }
            Field::Name | Field::Comment => {}
            Field::HeaderCrc => {
                self.stored_crc |= u16::from(byte) << (8 * (self.seen - 1));
                if self.seen == 2 {
                    let actual = (self.crc.clone().finalize() & 0xffff) as u16;
                    if actual != self.stored_crc {
                        return Err(GzipError::HeaderCrc { actual, stored: self.stored_crc });
                    }
                    self.next(Field::End);
                }
            }
            Field::End => {}
        }
        Ok(self.field == Field::End)
    }

    fn fixed(&mut self, byte: u8) -> std::result::Result<(), GzipError> {
        match self.seen {
            1 if byte != MAGIC[0] => return Err(GzipError::Magic(byte)),
            2 if byte != MAGIC[1] => return Err(GzipError::Magic(byte)),
            3 if byte != DEFLATE => return Err(GzipError::Method(byte)),
            4 if byte & RESERVED != 0 => return Err(GzipError::ReservedFlags(byte)),
            4 => {
                self.flags = byte;
                // Few headers have a checksum, so it is computed only if the flag is set.
                if byte & FHCRC != 0 {
                    self.crc.update(&[MAGIC[0], MAGIC[1], DEFLATE, byte]);
                }
            }
            Self::FIXED_LEN => self.next(Field::ExtraLen),
            _ => {}
        }
        Ok(())
    }

    /// Moves on to `field`, or to the first field after it that the flags say is present.
    fn next(&mut self, field: Field) {
        self.seen = 0;
        self.field = match field {
            Field::ExtraLen if self.flags & FEXTRA == 0 => return self.next(Field::Name),
            Field::Name if self.flags & FNAME == 0 => return self.next(Field::Comment),
            Field::Comment if self.flags & FCOMMENT == 0 => return self.next(Field::HeaderCrc),
            Field::HeaderCrc if self.flags & FHCRC == 0 => Field::End,
            field => field,
        };
    }
}
