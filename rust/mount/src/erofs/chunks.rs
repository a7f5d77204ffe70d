//! How the data of a file is cut into chunks, each a range of blocks of a device.

use tocsin_core::inodes::DataPlace;

use super::format::{BLOCK_BITS, BLOCK_LEN, MAX_CHUNK_BITS};

/// Maximum number of chunks of a sparse file, whose indexes take 512 KiB. Other files have at most 16.
const MAX_CHUNKS: u64 = 1 << 16;

/// A range of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
    /// Offset in the uncompressed layer.
    pub offset: u64,
}

/// Where the data of a file is, cut into chunks of equal size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Logarithm of the number of blocks in a chunk.
    pub(super) bits: u32,
    /// The layer of each chunk and its first block; `None` for a hole.
    pub(super) places: Vec<Option<(u32, u64)>>,
}

impl Chunks {
    /// Those of a file that is not sparse: as few as possible.
    pub(super) fn contiguous(size: u64, place: DataPlace) -> Self {
        let blocks = size.div_ceil(BLOCK_LEN);
        let bits = blocks.next_power_of_two().trailing_zeros().min(MAX_CHUNK_BITS);
        let first = place.offset / BLOCK_LEN;
        let starts = (0..blocks.div_ceil(1 << bits)).map(|index| first + (index << bits));
        Self { bits, places: starts.map(|start| Some((place.layer, start))).collect() }
    }

    /// Those of a sparse file: as large as the boundaries of its data allow.
    pub(super) fn sparse(size: u64, layer: u32, extents: &[Extent]) -> Result<Self, &'static str> {
        let extents = extents.iter().filter(|extent| extent.len > 0);
        // The bits of all boundaries.
        let mut aligned = 0;
        let mut at = 0;
        for extent in extents.clone() {
            let end = extent.start.checked_add(extent.len).filter(|end| *end <= size);
            let end = end
                .filter(|_| extent.start >= at)
                .ok_or("the map of the sparse file is invalid")?;
            // Blocks are padded at the end of the file, nowhere else.
            aligned |= extent.start | if end == size { 0 } else { end };
            at = end;
        }
        if !aligned.is_multiple_of(BLOCK_LEN) {
            return Err("the holes are not at multiples of 512 bytes");
        }
        let bits = (aligned.trailing_zeros() - u32::from(BLOCK_BITS)).min(MAX_CHUNK_BITS);
        let count = size.div_ceil(BLOCK_LEN << bits);
        if count > MAX_CHUNKS {
            return Err("the holes cut it into too many pieces for EROFS");
        }
        let mut places = vec![None; usize::try_from(count).unwrap_or(0)];
        for extent in extents {
            let first = (extent.start / BLOCK_LEN) >> bits;
            let last = (extent.start + extent.len).div_ceil(BLOCK_LEN << bits);
            // Inside, since the extent ends in the file.
            let index = |chunk| usize::try_from(chunk).unwrap_or(usize::MAX);
            for (place, number) in places[index(first)..index(last)].iter_mut().zip(0..) {
                *place = Some((layer, extent.offset / BLOCK_LEN + (number << bits)));
            }
        }
        Ok(Self { bits, places })
    }
}
