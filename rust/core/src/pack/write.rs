//! Making a pack.

use super::{BLOCK_LEN, Extent, MAGIC, MAX_INDEX_LEN, MAX_PACK_LEN, Pack, PackLayer};
use crate::digest::Digest;
use crate::error::{Result, SeekError, SeekPart};
use crate::seek::in_part;
use crate::seek::wire::{Compressor, put_varint};

/// Compression level: a pack is made once, and fetched before each start.
const LEVEL: i32 = 19;

/// Collects the frames of a pack.
#[derive(Debug)]
pub struct PackWriter {
    layers: Vec<PackLayer>,
    frames: Vec<Written>,
    blob: Vec<u8>,
    content_len: u64,
    compressor: Compressor,
}

#[derive(Debug)]
struct Written {
    stored_len: u64,
    digest: Digest,
    extents: Vec<Extent>,
}

impl PackWriter {
    /// Starts a pack for an image with these layers, lowest first.
    ///
    /// # Errors
    /// libzstd fails.
    pub fn new(layers: Vec<PackLayer>) -> Result<Self> {
        let compressor = Compressor::new(LEVEL).map_err(in_part(SeekPart::PackIndex))?;
        Ok(Self { layers, frames: Vec::new(), blob: Vec::new(), content_len: 0, compressor })
    }

    /// Adds a frame with the bytes of these extents, one after the other.
    ///
    /// # Errors
    /// `Error::Seek` if there are not as many bytes, or the pack gets too large.
    pub fn add(&mut self, extents: Vec<Extent>, content: &[u8]) -> Result<()> {
        let part = SeekPart::PackFrame(u32::try_from(self.frames.len()).unwrap_or(u32::MAX));
        let expected: u64 = extents.iter().map(Extent::len).sum();
        let value = content.len() as u64;
        if value != expected {
            return Err(in_part(part)(SeekError::Value { what: "length of a frame", value }));
        }
        self.content_len = self.content_len.saturating_add(value);
        if self.content_len > MAX_PACK_LEN {
            let (what, value) = ("size of the pack's content", self.content_len);
            return Err(in_part(part)(SeekError::TooLarge { what, value, limit: MAX_PACK_LEN }));
        }
        let stored = self.compressor.compress(content).map_err(in_part(part))?;
        self.blob.extend_from_slice(&stored);
        let digest = Digest::of(&stored);
        self.frames.push(Written { stored_len: stored.len() as u64, digest, extents });
        Ok(())
    }

    /// The index and the frames of the pack.
    ///
    /// # Errors
    /// `Error::Seek` if an extent breaks a rule of the format.
    pub fn finish(mut self) -> Result<(Vec<u8>, Vec<u8>)> {
        let in_index = in_part(SeekPart::PackIndex);
        let mut content = Vec::new();
        put_varint(&mut content, self.layers.len() as u64);
        for layer in &self.layers {
            content.extend_from_slice(layer.digest.as_bytes());
            put_varint(&mut content, layer.uncompressed_size);
        }
        put_varint(&mut content, self.frames.len() as u64);
        let mut ends = vec![0_u64; self.layers.len()];
        for frame in &self.frames {
            put_varint(&mut content, frame.stored_len);
            put_varint(&mut content, frame.extents.len() as u64);
            for extent in &frame.extents {
                let what = "number of a layer";
                let value = extent.layer.into();
                let end = ends.get_mut(extent.layer as usize);
                let end = end.ok_or_else(|| in_index(SeekError::Value { what, value }))?;
                let (start, after) =
                    (extent.range.start / BLOCK_LEN, extent.range.end.div_ceil(BLOCK_LEN));
                put_varint(&mut content, value);
                put_varint(
                    &mut content,
                    zigzag(start.cast_signed().wrapping_sub(end.cast_signed())),
                );
                put_varint(&mut content, after.saturating_sub(start).saturating_sub(1));
                *end = after;
            }
        }
        let value = content.len() as u64;
        if value > MAX_INDEX_LEN {
            let (what, limit) = ("length of the index", MAX_INDEX_LEN);
            return Err(in_index(SeekError::TooLarge { what, value, limit }));
        }
        let mut index = MAGIC.to_vec();
        self.compressor.put_frame(&mut index, &content).map_err(&in_index)?;
        self.frames.iter().for_each(|frame| index.extend_from_slice(frame.digest.as_bytes()));
        // The rules of the format are written down once, in the reader.
        let pack = Pack::parse(&index)?;
        for (number, frame) in (0..).zip(&self.frames) {
            if !pack.extents(number).eq(&frame.extents) {
                // Empty, or not whole blocks.
                let (what, value) = ("extent in frame", number.into());
                return Err(in_index(SeekError::Value { what, value }));
            }
        }
        Ok((index, self.blob))
    }
}

/// The zigzag encoding of a signed number.
const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}
