//! gzip (RFC 1952): members, their headers and checks, around the DEFLATE streams of a layer.
//!
//! [`GzipDecoder::step`] walks a layer of any number of members in pieces of any size, and stops at
//! every candidate for a checkpoint. After the last member nothing may follow: readers of layers do
//! not agree on what trailing bytes mean, and the reference refuses them.

use crate::checkpoint::{Checkpoint, Window};
use crate::error::{Error, GzipError, Result};
use crate::inflate::{Filled, Inflater, Speed, Stop};
use crate::span::BitOffset;

/// First bytes of every member.
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Longest FNAME or FCOMMENT without its zero byte; Go's reader, which unpacks layers, takes no more.
const MAX_HEADER_TEXT: u32 = 511;

/// The only compression method, CM.
const DEFLATE: u8 = 8;

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

/// Why [`GzipDecoder::step`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// All input was used and more is needed, if there is any.
    NeedInput,
    /// Output must be taken before anything else can happen.
    Output,
    /// A place between blocks where a checkpoint could be, at [`GzipDecoder::position`]: after a
    /// member's header, or after a block that is not the last of its member.
    Candidate,
    /// A member has ended and its checks agree.
    MemberEnd,
}

#[derive(Debug, Clone)]
enum State {
    Header(HeaderReader),
    Blocks,
    Trailer { bytes: [u8; 8], len: usize },
    BetweenMembers,
}

/// A decoder of whole layers, or from a checkpoint on.
#[derive(Debug, Clone)]
pub struct GzipDecoder {
    state: State,
    inflater: Inflater,
    /// `None` when the member's start was not seen, or the checks are left to the caller.
    check: Option<MemberCheck>,
    checks_members: bool,
    trailer: Trailer,
    /// Bytes taken from the input so far, from the start of the layer.
    taken: u64,
    seen_member: bool,
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
        }
    }

    /// Starts at the first byte of a layer and leaves it to the caller to compare each member's output
    /// with its [`Self::trailer`]. Output need not be taken at a member's end.
    #[must_use]
    pub fn unchecked(speed: Speed) -> Self {
        Self { checks_members: false, ..Self::new(speed) }
    }

    /// Leaves the checks to the caller from here on, who gets the one of the member that has begun: it has
    /// seen all output that was taken.
    pub fn leave_checks(&mut self) -> MemberCheck {
        self.checks_members = false;
        self.check.take().unwrap_or_default()
    }

    /// Goes on at another place of the layer, without giving up its memory; what was not taken is lost.
    /// The checks of a member that begins before the place are not made.
    pub fn restart(&mut self, place: &Place<'_>) {
        let bits = (8 - place.position.bit_in_byte()) % 8;
        let value = if bits == 0 { 0 } else { place.first >> (8 - bits) };
        self.inflater.restart(place.window, place.history_len, value, bits);
        self.state = match place.next {
            Next::Block => State::Blocks,
            Next::Trailer => State::Trailer { bytes: [0; 8], len: 0 },
            Next::Member => State::BetweenMembers,
        };
        self.check = None;
        self.taken = place.position.0.div_ceil(8);
        self.seen_member = true;
    }

    /// Starts at a checkpoint; the input is to begin at [`Checkpoint::first_byte`], and `first` is the
    /// byte there.
    ///
    /// The checks of the member the checkpoint lies in cannot be made; those of later members are.
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
        }
    }

    /// The first bit not used yet.
    #[must_use]
    pub fn position(&self) -> BitOffset {
        let taken = self.taken.saturating_mul(8);
        BitOffset(taken.saturating_sub(u64::from(self.inflater.unused_bits())))
    }

    /// Bytes of the layer taken so far; the next ones are to follow them.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether a member's header, or nothing, comes next.
    #[must_use]
    pub fn is_between_members(&self) -> bool {
        match &self.state {
            State::BetweenMembers => true,
            State::Header(header) => header.is_empty(),
            State::Blocks | State::Trailer { .. } => false,
        }
    }

    /// How many bytes back distances may reach now.
    #[must_use]
    pub fn history_len(&self) -> usize {
        self.inflater.history_len()
    }

    /// What the last member that ended says of itself.
    #[must_use]
    pub const fn trailer(&self) -> Trailer {
        self.trailer
    }

    /// The state of inflation here; `uncompressed` is the output so far, taken or not.
    #[must_use]
    pub fn inflater(&self) -> &Inflater {
        &self.inflater
    }

    /// Bytes of memory held.
    #[must_use]
    pub const fn memory(&self) -> usize {
        size_of::<Self>() + self.inflater.heap_memory()
    }

    /// Hands the output since the last call to `consume`, once.
    pub fn take_output<T>(&mut self, consume: impl FnOnce(&[u8]) -> T) -> T {
        let check = &mut self.check;
        self.inflater.take_output(|bytes| {
            if let Some(check) = check {
                check.update(bytes);
            }
            consume(bytes)
        })
    }

    /// As [`Inflater::hand_over`]; makes no checks.
    pub fn hand_over(&mut self, next: Box<[u8]>) -> Filled<u8> {
        self.inflater.hand_over(next)
    }

    /// Goes on until something happens that the caller should know of.
    ///
    /// # Errors
    ///
    /// [`Error::Gzip`] with the bit position of what is wrong. The decoder must not be used further.
    pub fn step(&mut self, input: &mut &[u8]) -> Result<Event> {
        let len = input.len();
        let outcome = self.advance(input);
        self.taken = self.taken.saturating_add((len - input.len()) as u64);
        outcome.map_err(|kind| Error::Gzip { kind, at: self.position() })
    }

    /// Whether the layer may end here.
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
        loop {
            match &mut self.state {
                State::BetweenMembers => self.state = State::Header(HeaderReader::default()),
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
                    Stop::BlockEnd { last: false } => return Ok(Event::Candidate),
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

/// Where a decoder can go on.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The first bit that is not used yet.
    pub position: BitOffset,
    /// The byte that bit lies in; not looked at where it is the byte's first bit.
    pub first: u8,
    /// The output before.
    pub window: &'a Window,
    /// How much of it distances may reach: none of what other members made.
    pub history_len: usize,
    /// What begins there.
    pub next: Next,
}

/// What the next bits of a layer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A block's header.
    Block,
    /// The rest of a byte, then a member's trailer.
    Trailer,
    /// A member's header, or the end of the layer.
    Member,
}

/// RFC 1952 §2.3.1, what a member says of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trailer {
    /// CRC32.
    pub crc: u32,
    /// ISIZE.
    pub isize: u32,
}

/// What a member's trailer is checked against.
#[derive(Debug, Clone, Default)]
pub struct MemberCheck {
    crc: crc32fast::Hasher,
    len: u32,
}

impl MemberCheck {
    /// A check of no output.
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

    /// Adds output that another check has seen.
    pub fn append(&mut self, next: &Self) {
        self.crc.combine(&next.crc);
        self.len = self.len.wrapping_add(next.len);
    }

    /// Compares all output with the trailer, the checksum first.
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

/// The length of the header of the gzip member that `bytes` begin with; `None` if they are not the
/// beginning of one, or end inside the header.
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

/// RFC 1952 §2.3, a member's header, byte by byte.
#[derive(Debug, Clone, Default)]
struct HeaderReader {
    field: Field,
    flags: u8,
    /// Bytes seen of the current field.
    seen: u32,
    extra_len: u32,
    stored_crc: u16,
    crc: crc32fast::Hasher,
}

/// Fields in the order in which they are stored; all but the first are optional.
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

    /// Takes the next byte; whether the header is complete.
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
                // Few headers have a checksum, so it is begun only here.
                if byte & FHCRC != 0 {
                    self.crc.update(&[MAGIC[0], MAGIC[1], DEFLATE, byte]);
                }
            }
            Self::FIXED_LEN => self.next(Field::ExtraLen),
            _ => {}
        }
        Ok(())
    }

    /// Goes to `field`, or the first field after it that the flags announce.
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
