//! Reading the index of a pack, and verifying its frames.

use std::ops::Range;

use super::{
    BLOCK_LEN, Extent, MAGIC, MAX_FRAME_LEN, MAX_INDEX_LEN, MAX_PACK_LEN, MAX_STORED_LEN, PackLayer,
};
use crate::digest::Digest;
use crate::error::{Error, Result, SeekError, SeekPart};
use crate::seek::wire::{Reader, decompress};
use crate::seek::{MAX_LAYER_SIZE, MAX_LAYERS, in_part};

type Checked<T> = std::result::Result<T, SeekError>;

/// The index of a pack.
#[derive(Debug)]
pub struct Pack {
    layers: Vec<PackLayer>,
    frames: Vec<Frame>,
    /// The extents of all frames, in order.
    extents: Vec<Placed>,
    /// For each layer, the numbers of its extents, ascending by offset.
    by_layer: Vec<Vec<u32>>,
    content_len: u64,
}

/// A frame of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes in the pack.
    pub stored: Range<u64>,
    /// The length of its content.
    pub len: u64,
    /// The digest of the frame as stored.
    pub digest: Digest,
    extents: Range<usize>,
}

/// An extent, and where its bytes are.
#[derive(Debug, Clone)]
struct Placed {
    extent: Extent,
    frame: u32,
    /// Offset in the content of the frame.
    at: u64,
}

/// A part of a range that a frame contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The number of the frame.
    pub frame: u32,
    /// The bytes of the layer.
    pub range: Range<u64>,
    /// Where they are in the content of the frame.
    pub at: Range<usize>,
}

impl Pack {
    /// Reads an index, whose digest the caller has verified.
    ///
    /// # Errors
    /// `Error::Seek` if it breaks a rule of docs/pack.md.
    pub fn parse(index: &[u8]) -> Result<Self> {
        Self::read(index).map_err(in_part(SeekPart::PackIndex))
    }

    fn read(index: &[u8]) -> Checked<Self> {
        let mut reader = Reader::new(index);
        if reader.array::<8>("the magic number").is_ok_and(|found| *found != MAGIC) {
            return Err(SeekError::Magic);
        }
        let content = reader.frame(MAX_INDEX_LEN, "the content of the index")?;
        let mut pack = Self {
            layers: Vec::new(),
            frames: Vec::new(),
            extents: Vec::new(),
            by_layer: Vec::new(),
            content_len: 0,
        };
        pack.read_content(&mut Reader::new(&content), reader.remaining())?;
        for frame in &mut pack.frames {
            frame.digest = reader.digest("the digests")?;
        }
        reader.finish()?;
        pack.sort()?;
        Ok(pack)
    }

    fn read_content(&mut self, reader: &mut Reader<'_>, digests_len: usize) -> Checked<()> {
        let count = reader.varint_to(MAX_LAYERS as u64, "number of layers")?;
        for _ in 0..count {
            let digest = reader.digest("the digest of a layer")?;
            let uncompressed_size = reader.varint_to(MAX_LAYER_SIZE, "uncompressed size")?;
            self.layers.push(PackLayer { digest, uncompressed_size });
        }
        let mut ends = vec![0; self.layers.len()];
        // Each frame has a digest.
        let count = reader.varint_to((digests_len / 32) as u64, "number of frames")?;
        let mut stored_end = 0;
        for frame in 0..count {
            let frame = u32::try_from(frame).map_err(|_| SeekError::Truncated("the digests"))?;
            let stored = reader.varint_to(MAX_STORED_LEN, "stored length of a frame")?;
            let extents = reader.varint("the number of extents")?;
            if extents == 0 {
                return Err(SeekError::Value { what: "number of extents", value: 0 });
            }
            let (first, mut len) = (self.extents.len(), 0);
            for _ in 0..extents {
                let extent = self.read_extent(reader, &mut ends, len, first)?;
                let placed = Placed { frame, at: len, extent };
                len += placed.extent.len();
                self.extents.push(placed);
            }
            self.content_len += len;
            if self.content_len > MAX_PACK_LEN {
                let (what, value) = ("size of the pack's content", self.content_len);
                return Err(SeekError::TooLarge { what, value, limit: MAX_PACK_LEN });
            }
            self.frames.push(Frame {
                stored: stored_end..stored_end + stored,
                len,
                digest: Digest::from_bytes([0; 32]),
                extents: first..self.extents.len(),
            });
            stored_end += stored;
        }
        reader.finish()
    }

    /// Reads an extent. `ends`: where the last extent of each layer ended, in blocks. `len`: the length
    /// of the frame so far. `first`: the number of the frame's first extent.
    fn read_extent(
        &self,
        reader: &mut Reader<'_>,
        ends: &mut [u64],
        len: u64,
        first: usize,
    ) -> Checked<Extent> {
        let what = "number of a layer";
        let number = reader.varint_to(u64::from(u32::MAX), what)?;
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let (Some(layer), Some(end)) = (self.layers.get(at), ends.get_mut(at)) else {
            return Err(SeekError::Value { what, value: number });
        };
        let step = reader.varint("the start of an extent")?;
        let blocks = reader.varint_to(MAX_FRAME_LEN / BLOCK_LEN, "length of an extent")?;
        let value = |step: u64| SeekError::Value { what: "start of an extent", value: step };
        let start = end.checked_add_signed(unzigzag(step)).ok_or_else(|| value(step))?;
        let last = start.checked_add(blocks).ok_or_else(|| value(step))?;
        let size = layer.uncompressed_size;
        if last >= size.div_ceil(BLOCK_LEN) {
            return Err(SeekError::TooLarge {
                what: "end of an extent",
                value: last.saturating_add(1).saturating_mul(BLOCK_LEN),
                limit: size,
            });
        }
        *end = last + 1;
        let range = start * BLOCK_LEN..size.min((last + 1) * BLOCK_LEN);
        let extent = Extent { layer: u32::try_from(number).unwrap_or(u32::MAX), range };
        let limit = MAX_FRAME_LEN;
        if len + extent.len() > limit {
            let (what, value) = ("length of a frame", len + extent.len());
            return Err(SeekError::TooLarge { what, value, limit });
        }
        let before = self.extents.get(first..).and_then(<[Placed]>::last);
        if before.is_some_and(|before| {
            before.extent.layer == extent.layer && before.extent.range.end == extent.range.start
        }) {
            return Err(SeekError::Value {
                what: "extent, which continues the one before",
                value: step,
            });
        }
        Ok(extent)
    }

    /// Sorts the extents of each layer, and checks that they do not overlap.
    fn sort(&mut self) -> Checked<()> {
        self.by_layer = vec![Vec::new(); self.layers.len()];
        for (number, placed) in (0..).zip(&self.extents) {
            if let Some(numbers) = self.by_layer.get_mut(placed.extent.layer as usize) {
                numbers.push(number);
            }
        }
        let extents = &self.extents;
        let range = |number: u32| &extents[number as usize].extent.range;
        for numbers in &mut self.by_layer {
            numbers.sort_unstable_by_key(|number| range(*number).start);
            if numbers.windows(2).any(|pair| range(pair[0]).end > range(pair[1]).start) {
                return Err(SeekError::Order("overlapping extents"));
            }
        }
        Ok(())
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[PackLayer] {
        &self.layers
    }

    /// The frames, in the order of their first use.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The size of the pack as stored.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.stored.end)
    }

    /// The length of the content of all frames.
    #[must_use]
    pub const fn content_len(&self) -> u64 {
        self.content_len
    }

    /// The number of extents of all frames.
    #[must_use]
    pub fn extent_count(&self) -> usize {
        self.extents.len()
    }

    /// The extents of a frame, in the order of its content; none if it does not exist.
    pub fn extents(&self, frame: u32) -> impl Iterator<Item = &Extent> {
        let range = self.frames.get(frame as usize).map_or(0..0, |frame| frame.extents.clone());
        self.extents.get(range).unwrap_or_default().iter().map(|placed| &placed.extent)
    }

    /// The parts of a layer's range that the pack contains, ascending.
    pub fn pieces(&self, layer: usize, range: &Range<u64>) -> impl Iterator<Item = Piece> {
        let numbers = self.by_layer.get(layer).map_or(&[][..], |numbers| numbers);
        let placed = |number: &u32| self.extents.get(*number as usize);
        let (start, end) = (range.start, range.end);
        let first = numbers.partition_point(|number| {
            placed(number).is_some_and(|placed| placed.extent.range.end <= start)
        });
        let rest = numbers.iter().skip(first).filter_map(placed);
        rest.take_while(move |placed| placed.extent.range.start < end).map(move |placed| {
            let from = placed.extent.range.start;
            let (start, end) = (start.max(from), end.min(placed.extent.range.end));
            // A frame has at most 1 MiB.
            let at = |offset: u64| usize::try_from(placed.at + offset - from).unwrap_or(usize::MAX);
            Piece { frame: placed.frame, range: start..end, at: at(start)..at(end) }
        })
    }

    /// Whether the pack contains all of a range that is not empty.
    #[must_use]
    pub fn covers(&self, layer: usize, range: &Range<u64>) -> bool {
        let mut at = range.start;
        for piece in self.pieces(layer, range) {
            if piece.range.start != at {
                return false;
            }
            at = piece.range.end;
        }
        at == range.end && !range.is_empty()
    }

    /// The content of a frame, after verifying its digest.
    ///
    /// # Errors
    /// `Error::Verification` if the digest differs; `Error::Seek` if it is not a frame of this length.
    pub fn open_frame(&self, number: u32, stored: &[u8]) -> Result<Vec<u8>> {
        let part = SeekPart::PackFrame(number);
        let Some(frame) = self.frames.get(number as usize) else {
            let (what, value) = ("number of a frame", number.into());
            return Err(in_part(SeekPart::PackIndex)(SeekError::Value { what, value }));
        };
        let actual = Digest::of(stored);
        if actual != frame.digest {
            return Err(Error::Verification {
                what: format!("digest of the seek table's {part}"),
                expected: frame.digest.to_string(),
                actual: actual.to_string(),
            });
        }
        decompress(stored, frame.len, MAX_FRAME_LEN, "content").map_err(in_part(part))
    }
}

/// The signed number with this zigzag encoding.
const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}
