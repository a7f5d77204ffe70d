//! Walking an archive block by block: the parser that both interfaces of this module use.

use std::mem;

use super::Purpose;
use super::entry::EntryType;
use super::header::{BLOCK_LEN, Block, Header, Kind, until_nul};
use super::pax::{Attributes, PaxRecords};
use super::sparse::{self, MapPlace, MapReader};
use super::time::Timestamp;
use super::toc::Draft;
use crate::error::TarError;

/// Maximum payload of a pseudo entry, in bytes: 1 MiB, as in Go.
const MAX_PAYLOAD_LEN: u64 = 1 << 20;

/// A position in the archive, with the state of the parser.
///
/// Whatever the archive contains, it holds only a payload of up to 1 MiB, a sparse map of up to 1
/// MiB, and one block.
#[derive(Debug)]
pub(super) struct Walk {
    purpose: Purpose,
    state: State,
    /// Bytes taken so far; no longer advances after the end of the archive.
    position: u64,
    /// The offset of the last block that was parsed.
    block_offset: u64,
    /// The start of a block that is split between pieces.
    partial: Block,
    partial_len: usize,
    next: Announced,
    payload: Vec<u8>,
}

/// What pseudo entries declare about the next entry.
#[derive(Debug, Default)]
struct Announced {
    records: PaxRecords,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
}

/// What comes next in the archive.
#[derive(Debug)]
enum State {
    /// A header block, a zero block, or the end.
    Header,
    /// After one zero block: another one, or the end.
    ZeroBlock,
    /// The payload of a pseudo entry, then padding.
    Payload { kind: Kind, left: u64, padding: u64 },
    /// A block of the map before a sparse file's data.
    SparseMap(Box<SparseFile>),
    /// File data, then padding.
    Data { left: u64, padding: u64 },
    /// Nothing: two zero blocks have been seen.
    End,
}

/// A sparse file whose map is being read.
#[derive(Debug)]
struct SparseFile {
    draft: Draft,
    map: MapReader,
    /// Bytes of the entry after the next block of the map.
    left: u64,
    padding: u64,
}

impl Walk {
    /// Starts `position` bytes into the archive, where an entry's headers may begin.
    pub(super) fn new(purpose: Purpose, position: u64) -> Self {
        Self {
            purpose,
            state: State::Header,
            position,
            block_offset: position,
            partial: [0; BLOCK_LEN],
            partial_len: 0,
            next: Announced::default(),
            payload: Vec::new(),
        }
    }

    /// Bytes of the archive taken so far. Right after an entry was returned, this is where its data
    /// begins.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The block offset to report in errors.
    pub(super) const fn block_offset(&self) -> u64 {
        self.block_offset
    }

    /// Takes bytes up to the end of the next entry's headers and returns the entry, or `None` if all
    /// bytes were taken.
    pub(super) fn next_entry(&mut self, bytes: &mut &[u8]) -> Result<Option<Draft>, TarError> {
        while !bytes.is_empty() && !matches!(self.state, State::End) {
            if !self.wants_block() {
                *bytes = self.stream(bytes)?;
                continue;
            }
            let entry = if self.partial_len == 0
                && let Some((block, rest)) = bytes.split_first_chunk()
            {
                *bytes = rest;
                self.position = self.position.saturating_add(BLOCK_LEN as u64);
                self.block(block)?
            } else if let Some(block) = self.partial_block(bytes) {
                self.block(&block)?
            } else {
                None
            };
            if entry.is_some() {
                return Ok(entry);
            }
        }
        Ok(None)
    }

    /// The number of bytes that can be skipped: the rest of a file's data and its padding, or
    /// everything after the end of the archive.
    pub(super) const fn skippable(&self) -> u64 {
        match self.state {
            State::Data { left, padding } => left.saturating_add(padding),
            State::End => u64::MAX,
            _ => 0,
        }
    }

    /// Skips up to `len` bytes, as far as they are skippable, and returns the number of bytes
    /// skipped.
    pub(super) fn skip(&mut self, len: u64) -> u64 {
        let skipped = len.min(self.skippable());
        if let State::Data { left, padding } = &mut self.state {
            let data = skipped.min(*left);
            *left -= data;
            *padding = padding.saturating_sub(skipped - data);
            self.position = self.position.saturating_add(skipped);
            if (*left, *padding) == (0, 0) {
                self.state = State::Header;
            }
        }
        skipped
    }

    /// The structure that is incomplete if the archive ends here, and its offset; `None` if the
    /// archive may end here.
    pub(super) const fn unfinished(&self) -> Option<(&'static str, u64)> {
        let inside = match self.state {
            // Report the offset of the incomplete block itself.
            _ if self.partial_len > 0 => {
                return Some(("a block", self.position.saturating_sub(self.partial_len as u64)));
            }
            State::Payload { left: 1.., .. } => "a pseudo entry",
            State::SparseMap(_) => "a sparse map",
            State::Data { left: 1.., .. } => "a file",
            _ => return None,
        };
        Some((inside, self.block_offset))
    }

    /// Whether the next bytes are parsed block by block.
    const fn wants_block(&self) -> bool {
        matches!(self.state, State::Header | State::ZeroBlock | State::SparseMap(_))
    }

    /// Collects a block that arrives in pieces; returns `None` until it is complete.
    fn partial_block(&mut self, bytes: &mut &[u8]) -> Option<Block> {
        // The partial block is never full here, so each call takes at least one byte.
        let free = self.partial.get_mut(self.partial_len..).unwrap_or_default();
        let (part, rest) = bytes.split_at(bytes.len().min(free.len()));
        free[..part.len()].copy_from_slice(part);
        *bytes = rest;
        self.position = self.position.saturating_add(part.len() as u64);
        self.partial_len += part.len();
        if self.partial_len < BLOCK_LEN {
            return None;
        }
        self.partial_len = 0;
        Some(self.partial)
    }

    /// Skips data or collects a payload, and returns the remaining bytes.
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

    /// Parses a whole block; `position` is already after it.
    fn block(&mut self, block: &Block) -> Result<Option<Draft>, TarError> {
        self.block_offset = self.position.saturating_sub(BLOCK_LEN as u64);
        if let State::SparseMap(_) = self.state {
            return self.sparse_map_block(block);
        }
        let is_zero = *block == [0; BLOCK_LEN];
        self.state = match self.state {
            State::ZeroBlock if is_zero => State::End,
            State::ZeroBlock => return Err(TarError::LoneZeroBlock),
            _ if is_zero => State::ZeroBlock,
            _ => return self.header(&Header::parse(block, self.purpose)?),
        };
        Ok(None)
    }

    fn header(&mut self, header: &Header<'_>) -> Result<Option<Draft>, TarError> {
        let what = match header.kind {
            Kind::Entry(entry_type) => return self.entry(header, entry_type),
            Kind::OldRegular => return self.entry(header, EntryType::Regular),
            Kind::PaxRecords | Kind::GlobalRecords => "PAX",
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
        self.state = match size {
            0 => State::Header,
            left => State::Payload { kind: header.kind, left, padding: padding_after(size) },
        };
        Ok(None)
    }

    /// Handles a complete payload. If there are several pseudo entries of one kind, the last one wins.
    fn end_payload(&mut self, kind: Kind) -> Result<(), TarError> {
        match kind {
            Kind::PaxRecords => self.next.records = PaxRecords::parse(&self.payload)?,
            // Go treats a global header as an entry, so earlier pseudo entries no longer apply.
            Kind::GlobalRecords => {
                PaxRecords::parse(&self.payload)?;
                self.next = Announced::default();
            }
            Kind::LongName => self.next.long_name = until_nul(&self.payload).to_vec(),
            Kind::LongLink => self.next.long_link = until_nul(&self.payload).to_vec(),
            Kind::Entry(_) | Kind::OldRegular => {}
        }
        Ok(())
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        mut entry_type: EntryType,
    ) -> Result<Option<Draft>, TarError> {
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
        // Only regular files have data, whatever their size field says.
        let has_data = entry_type == EntryType::Regular;
        let stored_size = if has_data { attributes.size } else { 0 };
        let left = u64::try_from(stored_size).map_err(|_| TarError::NegativeSize)?;
        let padding = padding_after(left);

        let map_place =
            if records.is_empty() { None } else { sparse::map_place(|key| records.value(key)) };
        if map_place.is_some() {
            sparse::apply(&records, &mut attributes)?;
            if !has_data {
                return Err(TarError::Sparse("belongs to an entry without data"));
            }
        }
        let regions = match map_place {
            Some(MapPlace::Records) => Some(sparse::read_records(&records, attributes.size)?),
            Some(MapPlace::Data) | None => None,
        };
        let draft = Draft {
            entry_type,
            mode: header.mode,
            devmajor: header.devmajor,
            devminor: header.devminor,
            attributes,
            records,
            stored_size: left,
            regions,
        };
        if map_place == Some(MapPlace::Data) {
            let map = MapReader::new(draft.attributes.size);
            self.state = SparseFile { draft, map, left, padding }.next_block()?;
            return Ok(None);
        }
        self.state = State::after_header(left, padding);
        Ok(Some(draft))
    }

    fn sparse_map_block(&mut self, block: &Block) -> Result<Option<Draft>, TarError> {
        let State::SparseMap(mut file) = mem::replace(&mut self.state, State::Header) else {
            return Ok(None);
        };
        let Some(regions) = file.map.block(block)? else {
            self.state = file.next_block()?;
            return Ok(None);
        };
        self.state = State::after_header(file.left, file.padding);
        Ok(Some(Draft { regions: Some(regions), stored_size: file.left, ..file.draft }))
    }
}

impl SparseFile {
    /// Expects another block of the map, which is part of the entry's data.
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

/// Splits off at most `left` bytes and subtracts their number from `left`.
fn split_at_most<'a>(bytes: &'a [u8], left: &mut u64) -> (&'a [u8], &'a [u8]) {
    let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= len as u64;
    bytes.split_at(len)
}

/// Bytes from the end of the data to the next block.
pub(super) const fn padding_after(size: u64) -> u64 {
    (BLOCK_LEN as u64 - size % BLOCK_LEN as u64) % BLOCK_LEN as u64
}
