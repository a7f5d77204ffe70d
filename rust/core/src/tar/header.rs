//! Parsing a 512-byte header block: its checksum, format and fields.
//!
//! Layouts: POSIX ustar interchange format; GNU tar manual, "Basic Tar Format"; star(5). The
//! detection of the format, and what is tolerated, follow Go's `archive/tar`.

use super::Purpose;
use super::entry::EntryType;
use super::number::{numeric, octal};
use crate::error::TarError;

/// Size of a tar block. A header is one block, and data is padded to whole blocks.
pub(super) const BLOCK_LEN: usize = 512;

/// A block.
pub(super) type Block = [u8; BLOCK_LEN];

/// A field of the block: its start, its length, and its name in POSIX.
struct Field<const START: usize, const LEN: usize>(&'static str);

impl<const START: usize, const LEN: usize> Field<START, LEN> {
    fn bytes<'a>(&self, block: &'a Block) -> &'a [u8] {
        const { assert!(START + LEN <= BLOCK_LEN) };
        &block[START..START + LEN]
    }

    /// The text up to the first NUL; a field without a NUL is used in full.
    fn text<'a>(&self, block: &'a Block) -> &'a [u8] {
        until_nul(self.bytes(block))
    }

    fn number(&self, block: &Block) -> Result<i64, TarError> {
        numeric(self.bytes(block)).ok_or(TarError::Field(self.0))
    }
}

// Every format.
const NAME: Field<0, 100> = Field("name");
const MODE: Field<100, 8> = Field("mode");
const UID: Field<108, 8> = Field("uid");
const GID: Field<116, 8> = Field("gid");
const SIZE: Field<124, 12> = Field("size");
const MTIME: Field<136, 12> = Field("mtime");
const CHKSUM: Field<148, 8> = Field("chksum");
const TYPEFLAG: usize = 156;
const LINKNAME: Field<157, 100> = Field("linkname");
// Every format but V7.
const MAGIC: Field<257, 8> = Field("magic");
const UNAME: Field<265, 32> = Field("uname");
const GNAME: Field<297, 32> = Field("gname");
const DEVMAJOR: Field<329, 8> = Field("devmajor");
const DEVMINOR: Field<337, 8> = Field("devminor");
// ustar and PAX.
const PREFIX: Field<345, 155> = Field("prefix");
// star.
const STAR_PREFIX: Field<345, 131> = Field("prefix");
const STAR_ATIME: Field<476, 12> = Field("atime");
const STAR_CTIME: Field<488, 12> = Field("ctime");
const STAR_TRAILER: Field<508, 4> = Field("trailer");
// GNU.
const GNU_ATIME: Field<345, 12> = Field("atime");
const GNU_CTIME: Field<357, 12> = Field("ctime");

/// The format of a header, which determines the layout after the V7 fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// The kind of header, from the type flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry of the TOC.
    Entry(EntryType),
    /// Flag NUL: a regular file, or a directory if its final name ends with a slash.
    OldRegular,
    /// PAX records for the next entry (`x`).
    PaxRecords,
    /// PAX records for all following entries (`g`), which are ignored.
    GlobalRecords,
    /// The next entry's name (GNU `L`).
    LongName,
    /// The next entry's link target (GNU `K`).
    LongLink,
}

/// A parsed header block; text fields borrow from it.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) kind: Kind,
    prefix: &'a [u8],
    name: &'a [u8],
    pub(super) linkname: &'a [u8],
    pub(super) size: i64,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) uname: &'a [u8],
    pub(super) gname: &'a [u8],
    pub(super) mtime: i64,
    pub(super) devmajor: i64,
    pub(super) devminor: i64,
}

impl<'a> Header<'a> {
    /// Parses a block that is not all zeros.
    pub(super) fn parse(block: &'a Block, purpose: Purpose) -> Result<Self, TarError> {
        check_sum(block)?;
        let kind = Kind::from_flag(block[TYPEFLAG], purpose)?;
        let mut header = Self {
            kind,
            prefix: &[],
            name: NAME.text(block),
            linkname: LINKNAME.text(block),
            size: SIZE.number(block)?,
            mode: MODE.number(block)?,
            uid: UID.number(block)?,
            gid: GID.number(block)?,
            uname: &[],
            gname: &[],
            mtime: MTIME.number(block)?,
            devmajor: 0,
            devminor: 0,
        };
        let format = Format::of(block);
        if format != Format::V7 {
            header.uname = UNAME.text(block);
            header.gname = GNAME.text(block);
            header.devmajor = DEVMAJOR.number(block)?;
            header.devminor = DEVMINOR.number(block)?;
        }
        match format {
            Format::V7 => {}
            Format::Ustar => header.prefix = PREFIX.text(block),
            Format::Star => {
                header.prefix = STAR_PREFIX.text(block);
                STAR_ATIME.number(block)?;
                STAR_CTIME.number(block)?;
            }
            Format::Gnu => header.prefix = misplaced_prefix(block),
        }
        // Only entries without data may have a negative size.
        if header.size < 0 && !matches!(kind, Kind::Entry(of) if of != EntryType::Regular) {
            return Err(TarError::NegativeSize);
        }
        Ok(header)
    }

    /// The name, including the prefix.
    pub(super) fn full_name(&self) -> Vec<u8> {
        if self.prefix.is_empty() {
            return self.name.to_vec();
        }
        [self.prefix, b"/", self.name].concat()
    }
}

impl Kind {
    fn from_flag(flag: u8, purpose: Purpose) -> Result<Self, TarError> {
        Ok(match flag {
            b'0' => Self::Entry(EntryType::Regular),
            0 => Self::OldRegular,
            b'1' => Self::Entry(EntryType::HardLink),
            b'2' => Self::Entry(EntryType::SymLink),
            b'3' => Self::Entry(EntryType::CharDevice),
            b'4' => Self::Entry(EntryType::BlockDevice),
            b'5' => Self::Entry(EntryType::Directory),
            b'6' => Self::Entry(EntryType::Fifo),
            b'x' => Self::PaxRecords,
            b'L' => Self::LongName,
            b'K' => Self::LongLink,
            b'g' if purpose != Purpose::Index => Self::GlobalRecords,
            // The map of an old GNU sparse file may continue after its header.
            flag if purpose == Purpose::Archive && flag != b'S' => Self::Entry(EntryType::Regular),
            other => return Err(TarError::UnsupportedType(char::from(other))),
        })
    }
}

impl Format {
    fn of(block: &Block) -> Self {
        match MAGIC.bytes(block) {
            b"ustar  \0" => Self::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] if STAR_TRAILER.bytes(block) == b"tar\0" => {
                Self::Star
            }
            [b'u', b's', b't', b'a', b'r', 0, ..] => Self::Ustar,
            _ => Self::V7,
        }
    }
}

/// The bytes of a field up to its first NUL.
pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    const LOW_BITS: u64 = 0x0101_0101_0101_0101;
    let (words, _) = field.as_chunks();
    // The lowest high bit set marks the first zero byte; marks above it may be wrong.
    let marks = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        word.wrapping_sub(LOW_BITS) & !word & LOW_BITS << 7
    };
    let skipped = words.iter().take_while(|word| marks(word) == 0).count() * 8;
    let rest = field.get(skipped..).unwrap_or_default();
    let nul = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    field.get(..skipped + nul).unwrap_or(field)
}

/// Checks the stored checksum against the sum of the block: unsigned as in POSIX, or signed as in
/// Sun's tar.
fn check_sum(block: &Block) -> Result<(), TarError> {
    let stored = octal(CHKSUM.bytes(block)).ok_or(TarError::Field(CHKSUM.0))?;
    let stored = stored.unsigned_abs();
    let field: u64 = CHKSUM.bytes(block).iter().map(|byte| u64::from(*byte)).sum();
    let actual = byte_sum(block) - field + u64::from(b' ') * 8;
    if stored == actual {
        return Ok(());
    }
    let negatives = |bytes: &[u8]| bytes.iter().filter(|byte| **byte >= 0x80).count() as u64;
    // As a signed number, every byte above 127 is 256 less. A negative sum is never stored.
    let excess = 256 * (negatives(block) - negatives(CHKSUM.bytes(block)));
    if actual.checked_sub(excess) == Some(stored) {
        return Ok(());
    }
    Err(TarError::Checksum { stored, actual })
}

/// The sum of a block's bytes, eight at a time.
fn byte_sum(block: &Block) -> u64 {
    const EVEN_BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    let (words, _) = block.as_chunks();
    // Four 16-bit sums side by side, each over 64 even or 64 odd bytes, so at most 16,320. Wrapping
    // addition only avoids an overflow check that could never fail.
    let (even, odd) = words.iter().fold((0_u64, 0_u64), |(even, odd), word| {
        let word = u64::from_le_bytes(*word);
        (even.wrapping_add(word & EVEN_BYTES), odd.wrapping_add(word >> 8 & EVEN_BYTES))
    });
    let sums = even.wrapping_add(odd);
    (sums & 0xffff) + (sums >> 16 & 0xffff) + (sums >> 32 & 0xffff) + (sums >> 48)
}

/// GNU headers have no prefix, but Go before 1.8 wrote one over atime and ctime. That prefix is used
/// if it is ASCII and those fields are invalid (Go issues 12594 and 21005).
fn misplaced_prefix(block: &Block) -> &[u8] {
    let times = [GNU_ATIME.bytes(block), GNU_CTIME.bytes(block)];
    let is_time = |field: &&[u8]| field.first() == Some(&0) || numeric(field).is_some();
    let prefix = PREFIX.text(block);
    if !times.iter().all(is_time) && prefix.is_ascii() { prefix } else { &[] }
}
