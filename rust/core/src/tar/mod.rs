//! The tar TOC: push uncompressed bytes, get the layer's entries.
//!
//! In this room: header blocks (`header`), the pseudo entries that speak about the next one (`pax`
//! and, here, GNU long names), sparse maps (`sparse`), times (`time`), numbers (`number`), and what
//! readers of the resulting zTOC will not like (`hazard`). Not here: file data, which is skipped
//! unseen.
//!
//! A zTOC must be byte-identical with the reference's, whose entries are those that `Next` of Go's
//! `archive/tar` returns. So this is that reader's dialect of tar (V7, ustar, PAX, GNU, star, and
//! its own old bugs), including what it takes for an end and what for an error.

mod entry;
mod hazard;
mod header;
mod number;
mod pax;
mod rfc3339;
mod sparse;
mod time;
mod toc;

use std::mem;

pub use entry::{EntryType, FileMetadata};
pub use hazard::{Hazard, HazardReason};
use header::{BLOCK_LEN, Block, Header, Kind, until_nul};
use pax::{Attributes, PaxRecords};
use sparse::{MapPlace, MapReader};
use time::Timestamp;
pub use toc::Toc;
use toc::{Draft, TocBuilder};

use crate::error::{self, Error, TarError};
use crate::span::UncompressedOffset;

/// The largest payload of a pseudo entry, as in Go: 1 MiB.
const MAX_PAYLOAD_LEN: u64 = 1 << 20;

/// Reads a tar archive that comes in pieces of any size and keeps its table of contents.
///
/// Memory is the TOC, a payload of up to 1 MiB and one block, whatever the archive says.
#[derive(Debug)]
pub struct TocScanner {
    walk: Walk,
    /// The beginning of a block that did not come in one piece.
    partial: Block,
    partial_len: usize,
    failure: Option<Error>,
}

/// Where the scanner is in the archive.
#[derive(Debug)]
struct Walk {
    state: State,
    /// Bytes taken so far; stays at the end of the archive.
    position: u64,
    /// Where the block last looked at started.
    block_offset: u64,
    next: Announced,
    payload: Vec<u8>,
    toc: TocBuilder,
}

/// What pseudo entries have said about the next entry.
#[derive(Debug, Default)]
struct Announced {
    records: PaxRecords,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
}

/// What comes next in the archive.
#[derive(Debug)]
enum State {
    /// A header block, or a zero block, or the end.
    Header,
    /// After one zero block: another one, or the end.
    ZeroBlock,
    /// The payload of a pseudo entry, then padding.
    Payload { kind: Kind, left: u64, padding: u64 },
    /// A block of the map in front of a sparse file's data.
    SparseMap(Box<SparseFile>),
    /// File data, then padding.
    Data { left: u64, padding: u64 },
    /// Nothing: two zero blocks have been seen.
    End,
}

/// A sparse file of which the map is being read.
#[derive(Debug)]
struct SparseFile {
    draft: Draft,
    map: MapReader,
    /// Bytes behind the block that is due, or behind the map.
    left: u64,
    padding: u64,
}

impl Default for TocScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl TocScanner {
    /// A scanner at the start of an archive.
    #[must_use]
    pub fn new() -> Self {
        Self {
            walk: Walk {
                state: State::Header,
                position: 0,
                block_offset: 0,
                next: Announced::default(),
                payload: Vec::new(),
                toc: TocBuilder::new(),
            },
            partial: [0; BLOCK_LEN],
            partial_len: 0,
            failure: None,
        }
    }

    /// Take the next uncompressed bytes. How the archive is cut into pieces makes no difference.
    ///
    /// Bytes after the end of the archive (two zero blocks) are ignored.
    ///
    /// # Errors
    ///
    /// `Error::Tar` with the block concerned, if the archive is not one that can be indexed; the
    /// same again from every later call.
    pub fn push(&mut self, bytes: &[u8]) -> error::Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.take(bytes).map_err(|kind| {
            let failure = Error::Tar { kind, at: UncompressedOffset(self.walk.block_offset) };
            self.failure = Some(failure.clone());
            failure
        })
    }

    /// Say that the archive has no more bytes and get its table of contents.
    ///
    /// An archive may end, besides after two zero blocks, at any block boundary where a header is
    /// due, after a single zero block, and inside the padding of a file.
    ///
    /// # Errors
    ///
    /// `Error::Tar` if it ends anywhere else, or what an earlier `push` returned.
    pub fn finish(self) -> error::Result<Toc> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let inside = match self.walk.state {
            _ if self.partial_len > 0 => Some("a block"),
            State::Payload { left: 1.., .. } => Some("a pseudo entry"),
            State::SparseMap(_) => Some("a sparse map"),
            State::Data { left: 1.., .. } => Some("a file"),
            _ => None,
        };
        match inside {
            None => Ok(self.walk.toc.finish(self.walk.position)),
            Some(place) => {
                // A cut block is itself the one concerned.
                let at = match self.partial_len {
                    0 => self.walk.block_offset,
                    len => self.walk.position.saturating_sub(len as u64),
                };
                Err(Error::Tar { kind: TarError::Truncated(place), at: UncompressedOffset(at) })
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() && !matches!(self.walk.state, State::End) {
            if !self.walk.wants_block() {
                bytes = self.walk.stream(bytes)?;
                continue;
            }
            if self.partial_len == 0
                && let Some((block, rest)) = bytes.split_first_chunk()
            {
                bytes = rest;
                self.walk.position = self.walk.position.saturating_add(BLOCK_LEN as u64);
                self.walk.block(block)?;
                continue;
            }
            // The partial block is never full here, so each turn takes at least one byte.
            let free = self.partial.get_mut(self.partial_len..).unwrap_or_default();
            let (part, rest) = bytes.split_at(bytes.len().min(free.len()));
            free[..part.len()].copy_from_slice(part);
            bytes = rest;
            self.walk.position = self.walk.position.saturating_add(part.len() as u64);
            self.partial_len += part.len();
            if self.partial_len == BLOCK_LEN {
                self.partial_len = 0;
                self.walk.block(&self.partial)?;
            }
        }
        Ok(())
    }
}

impl Walk {
    /// Whether the next bytes are looked at a block at a time.
    const fn wants_block(&self) -> bool {
        matches!(self.state, State::Header | State::ZeroBlock | State::SparseMap(_))
    }

    /// Skip data or collect a payload, and return the bytes not used.
    ///
    /// This is the hot path: a piece inside a file costs one subtraction.
    fn stream<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], TarError> {
        let (State::Data { left, padding } | State::Payload { left, padding, .. }) =
            &mut self.state
        else {
            return Ok(bytes);
        };
        let (data, rest) = split_at_most(bytes, left);
        let is_complete = *left == 0;
        let rest = if is_complete { split_at_most(rest, padding).1 } else { rest };
        let padding = *padding;
        self.position = self.position.saturating_add((bytes.len() - rest.len()) as u64);
        if let State::Payload { kind, .. } = self.state {
            self.payload.extend_from_slice(data);
            if is_complete {
                self.end_payload(kind)?;
                self.state = State::Data { left: 0, padding };
            }
        }
        if is_complete && padding == 0 {
            self.state = State::Header;
        }
        Ok(rest)
    }

    /// Take a whole block; `position` is already behind it.
    fn block(&mut self, block: &Block) -> Result<(), TarError> {
        self.block_offset = self.position.saturating_sub(BLOCK_LEN as u64);
        if let State::SparseMap(_) = self.state {
            return self.sparse_map_block(block);
        }
        let is_zero = *block == [0; BLOCK_LEN];
        self.state = match self.state {
            State::ZeroBlock if is_zero => State::End,
            State::ZeroBlock => return Err(TarError::LoneZeroBlock),
            _ if is_zero => State::ZeroBlock,
            _ => self.header(&Header::parse(block)?)?,
        };
        Ok(())
    }

    fn header(&mut self, header: &Header<'_>) -> Result<State, TarError> {
        let what = match header.kind {
            Kind::Entry(entry_type) => return self.entry(header, entry_type),
            Kind::OldRegular => return self.entry(header, EntryType::Regular),
            Kind::PaxRecords => "PAX",
            Kind::LongName => "long name",
            Kind::LongLink => "long link",
        };
        let size = u64::try_from(header.size).map_err(|_| TarError::NegativeSize)?;
        if size > MAX_PAYLOAD_LEN {
            return Err(TarError::PayloadTooLarge { what, size, limit: MAX_PAYLOAD_LEN });
        }
        self.payload.clear();
        if size == 0 {
            self.end_payload(header.kind)?;
        }
        Ok(match size {
            0 => State::Header,
            left => State::Payload { kind: header.kind, left, padding: padding_after(size) },
        })
    }

    /// Use a payload: of several pseudo entries of a kind the last one counts.
    fn end_payload(&mut self, kind: Kind) -> Result<(), TarError> {
        match kind {
            Kind::PaxRecords => self.next.records = PaxRecords::parse(&self.payload)?,
            Kind::LongName => self.next.long_name = until_nul(&self.payload).to_vec(),
            Kind::LongLink => self.next.long_link = until_nul(&self.payload).to_vec(),
            Kind::Entry(_) | Kind::OldRegular => {}
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header<'_>, mut entry_type: EntryType) -> Result<State, TarError> {
        let Announced { records, long_name, long_link } = mem::take(&mut self.next);
        let mut attributes = Attributes {
            name: header.full_name(),
            linkname: header.linkname.to_vec(),
            uname: header.uname.to_vec(),
            gname: header.gname.to_vec(),
            uid: header.uid,
            gid: header.gid,
            size: header.size,
            mtime: Timestamp::from_seconds(header.mtime),
        };
        records.apply(&mut attributes)?;
        if !long_name.is_empty() {
            attributes.name = long_name;
        }
        if !long_link.is_empty() {
            attributes.linkname = long_link;
        }
        if header.kind == Kind::OldRegular && attributes.name.ends_with(b"/") {
            entry_type = EntryType::Directory;
        }
        // Only regular files have data, whatever the size says.
        let has_data = entry_type == EntryType::Regular;
        let stored_size = if has_data { attributes.size } else { 0 };
        let left = u64::try_from(stored_size).map_err(|_| TarError::NegativeSize)?;
        let padding = padding_after(left);

        let map_place = sparse::map_place(&records);
        if map_place.is_some() {
            sparse::apply(&records, &mut attributes)?;
            if !has_data {
                return Err(TarError::Sparse("belongs to an entry without data"));
            }
        }
        if map_place == Some(MapPlace::Records) {
            sparse::check_records(&records, attributes.size)?;
        }
        let draft = Draft {
            entry_type,
            mode: header.mode,
            devmajor: header.devmajor,
            devminor: header.devminor,
            is_sparse: map_place.is_some(),
            attributes,
            records,
        };
        if map_place == Some(MapPlace::Data) {
            let map = MapReader::new(draft.attributes.size);
            return SparseFile { draft, map, left, padding }.next_block();
        }
        self.toc.add(draft, self.position)?;
        Ok(State::after_header(left, padding))
    }

    fn sparse_map_block(&mut self, block: &Block) -> Result<(), TarError> {
        let State::SparseMap(mut file) = mem::replace(&mut self.state, State::Header) else {
            return Ok(());
        };
        self.state = if file.map.block(block)? {
            self.toc.add(file.draft, self.position)?;
            State::after_header(file.left, file.padding)
        } else {
            file.next_block()?
        };
        Ok(())
    }
}

impl SparseFile {
    /// Ask for a block of the map, which is part of the entry's data.
    fn next_block(mut self) -> Result<State, TarError> {
        self.left = self
            .left
            .checked_sub(BLOCK_LEN as u64)
            .ok_or(TarError::Sparse("is longer than the entry's data"))?;
        Ok(State::SparseMap(Box::new(self)))
    }
}

impl State {
    const fn after_header(left: u64, padding: u64) -> Self {
        match (left, padding) {
            (0, 0) => Self::Header,
            (left, padding) => Self::Data { left, padding },
        }
    }
}

/// Cut off at most `left` bytes and count them down.
fn split_at_most<'a>(bytes: &'a [u8], left: &mut u64) -> (&'a [u8], &'a [u8]) {
    let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= len as u64;
    bytes.split_at(len)
}

/// Bytes from the end of data to the next block.
const fn padding_after(size: u64) -> u64 {
    (BLOCK_LEN as u64 - size % BLOCK_LEN as u64) % BLOCK_LEN as u64
}
