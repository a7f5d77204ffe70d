//! Sparse files in PAX archives (GNU tar manual, "Storing Sparse Files"): their format, name, size,
//! and the regions that the archive holds.

use super::header::{BLOCK_LEN, Block};
use super::number::{Decimal, decimal};
use super::pax::{Attributes, PaxRecords};
use crate::error::TarError;

/// Maximum size of a map in the data, in blocks: 1 MiB, as in Go.
const MAX_MAP_BLOCKS: usize = (1 << 20) / BLOCK_LEN;

/// A part of a sparse file that the archive holds; the rest of the file is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region {
    /// Offset in the file.
    pub offset: u64,
    /// Length in bytes, possibly 0.
    pub len: u64,
}

/// Where the map of a sparse file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapPlace {
    /// Formats 0.0 and 0.1: in the PAX records.
    Records,
    /// Format 1.0: before the data, in whole blocks.
    Data,
}

/// Determines whether an entry is sparse, and where its map is. `value` returns the value of a PAX
/// record, empty if it is missing.
///
/// Records of another version, or without a map, do not make a file sparse.
pub(super) fn map_place<'a>(value: impl Fn(&[u8]) -> &'a [u8]) -> Option<MapPlace> {
    match (value(b"GNU.sparse.major"), value(b"GNU.sparse.minor")) {
        (b"0", b"0" | b"1") => Some(MapPlace::Records),
        (b"1", b"0") => Some(MapPlace::Data),
        // Early writers did not store a version.
        (b"", b"") if !value(b"GNU.sparse.map").is_empty() => Some(MapPlace::Records),
        _ => None,
    }
}

/// Gives a sparse entry its real name and its expanded size.
pub(super) fn apply(records: &PaxRecords, entry: &mut Attributes) -> Result<(), TarError> {
    let name = records.value(b"GNU.sparse.name");
    if !name.is_empty() {
        entry.name = name.to_vec();
    }
    let size = match records.value(b"GNU.sparse.size") {
        b"" => records.value(b"GNU.sparse.realsize"),
        size => size,
    };
    if !size.is_empty() {
        entry.size = decimal(size).ok_or(TarError::Sparse("has a size that is not a number"))?;
    }
    Ok(())
}

/// Reads the map of formats 0.0 and 0.1 for a file of `size` bytes.
pub(super) fn read_records(records: &PaxRecords, size: i64) -> Result<Vec<Region>, TarError> {
    let announced = region_count(decimal(records.value(b"GNU.sparse.numblocks")))?;
    let mut regions = Regions::new(size, announced)?;
    let map = records.value(b"GNU.sparse.map");
    if !map.is_empty() {
        for number in map.split(|byte| *byte == b',') {
            regions.number(decimal(number))?;
        }
    }
    regions.take_complete().ok_or(TarError::Sparse("has too few regions"))
}

/// Reads a map of format 1.0 block by block. It consists of decimal numbers, each followed by a
/// newline: the number of regions, then the offset and the length of each. The rest of the last
/// block is padding.
#[derive(Debug)]
pub(super) struct MapReader {
    size: i64,
    blocks_left: usize,
    number: Decimal,
    regions: Option<Regions>,
}

impl MapReader {
    /// Starts reading the map of a file of `size` bytes.
    pub(super) fn new(size: i64) -> Self {
        Self { size, blocks_left: MAX_MAP_BLOCKS, number: Decimal::default(), regions: None }
    }

    /// Reads one block; returns the regions if the map is complete.
    pub(super) fn block(&mut self, block: &Block) -> Result<Option<Vec<Region>>, TarError> {
        self.blocks_left =
            self.blocks_left.checked_sub(1).ok_or(TarError::Sparse("is larger than 1 MiB"))?;
        for byte in block {
            if *byte != b'\n' {
                self.number
                    .push(*byte)
                    .ok_or(TarError::Sparse("has a line that is not a number"))?;
                continue;
            }
            let number = std::mem::take(&mut self.number).finish();
            let regions = match &mut self.regions {
                Some(regions) => {
                    regions.number(number)?;
                    regions
                }
                None => self.regions.insert(Regions::new(self.size, region_count(number)?)?),
            };
            if let Some(regions) = regions.take_complete() {
                return Ok(Some(regions));
            }
        }
        Ok(None)
    }
}

fn region_count(number: Option<i64>) -> Result<u64, TarError> {
    number
        .and_then(|count| u64::try_from(count).ok())
        .ok_or(TarError::Sparse("has an invalid number of regions"))
}

/// Regions of data, which must be in order, not overlap, and lie inside the file.
#[derive(Debug)]
struct Regions {
    size: i64,
    left: u64,
    offset: Option<i64>,
    previous_end: i64,
    found: Vec<Region>,
}

impl Regions {
    fn new(size: i64, count: u64) -> Result<Self, TarError> {
        if size < 0 {
            return Err(TarError::NegativeSize);
        }
        Ok(Self { size, left: count, offset: None, previous_end: 0, found: Vec::new() })
    }

    /// Takes the next offset or length.
    fn number(&mut self, number: Option<i64>) -> Result<(), TarError> {
        let number =
            number.ok_or(TarError::Sparse("has an offset or length that is not a number"))?;
        let Some(offset) = self.offset.take() else {
            self.offset = Some(number);
            return Ok(());
        };
        let end = offset.checked_add(number).filter(|end| *end <= self.size);
        let end = end.ok_or(TarError::Sparse("has a region beyond the end of the file"))?;
        // The previous end is never negative, so neither is the offset.
        let region = (u64::try_from(offset).ok())
            .zip(u64::try_from(number).ok())
            .filter(|_| offset >= self.previous_end)
            .map(|(offset, len)| Region { offset, len })
            .ok_or(TarError::Sparse("has regions that overlap or are out of order"))?;
        self.left = self.left.checked_sub(1).ok_or(TarError::Sparse("has too many regions"))?;
        self.previous_end = end;
        self.found.push(region);
        Ok(())
    }

    /// The regions, if all of them have been read.
    fn take_complete(&mut self) -> Option<Vec<Region>> {
        (self.left == 0 && self.offset.is_none()).then(|| std::mem::take(&mut self.found))
    }
}
