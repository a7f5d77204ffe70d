//! The building blocks of a seek table: varints, fixed-size integers and zstd frames.

use std::io::Read;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use zstd::zstd_safe::CParameter;

use crate::digest::Digest;
use crate::error::SeekError;

type Result<T> = std::result::Result<T, SeekError>;

/// Maximum length of a varint: 64 bits, 7 per byte.
const MAX_VARINT_LEN: usize = 10;
/// RFC 8878 §3.1.1.
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// RFC 8878 §3.1.1.1.1: bits of the frame header descriptor.
const SINGLE_SEGMENT_FLAG: u8 = 1 << 5;
/// Unused bit, reserved bit, checksum flag and dictionary ID flag, all of which must be zero. RFC 8878
/// allows any value for the unused bit, but a seek table has only one form.
const FORBIDDEN_FLAGS: u8 = 0b0001_1111;
/// RFC 8878 §3.1.1.1.2: the smallest window.
const MIN_WINDOW_LEN: u64 = 1 << 10;

/// Bytes that are read from front to back. Errors name the field that was being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, len: bytes.len() }
    }

    /// The offset of the next byte.
    pub(crate) const fn position(&self) -> usize {
        self.len - self.bytes.len()
    }

    /// The number of bytes that have not been read.
    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Checks that everything has been read.
    pub(crate) const fn finish(&self) -> Result<()> {
        match self.bytes.len() {
            0 => Ok(()),
            len => Err(SeekError::TrailingBytes(len as u64)),
        }
    }

    pub(crate) fn bytes(&mut self, len: usize, what: &'static str) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(SeekError::Truncated(what))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(SeekError::Truncated(what))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.array(what).map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) fn digest(&mut self, what: &'static str) -> Result<Digest> {
        self.array(what).map(|bytes| Digest::from_bytes(*bytes))
    }

    /// An unsigned LEB128 number of at most 64 bits, in its shortest form.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0_u64;
        for (index, byte) in self.bytes.iter().take(MAX_VARINT_LEN).enumerate() {
            let is_last_possible = index == MAX_VARINT_LEN - 1;
            // The tenth byte holds only one bit of the number.
            if is_last_possible && *byte > 1 {
                return Err(SeekError::Varint(what));
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                // A zero at the end adds nothing, so there is a shorter form.
                if *byte == 0 && index > 0 {
                    return Err(SeekError::Varint(what));
                }
                self.bytes = &self.bytes[index + 1..];
                return Ok(value);
            }
        }
        Err(SeekError::Truncated(what))
    }

    /// A varint of at most `limit`.
    pub(crate) fn varint_to(&mut self, limit: u64, what: &'static str) -> Result<u64> {
        let value = self.varint(what)?;
        if value > limit {
            return Err(SeekError::TooLarge { what, value, limit });
        }
        Ok(value)
    }

    /// Reads two lengths and a zstd frame. Returns its content, which has at most `limit` bytes.
    pub(crate) fn frame(&mut self, limit: u64, what: &'static str) -> Result<Vec<u8>> {
        let stored_len = self.u32(what)?;
        let len = self.u32(what)?;
        let stored = self.bytes(usize::try_from(stored_len).unwrap_or(usize::MAX), what)?;
        decompress(stored, u64::from(len), limit, what)
    }
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    #[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Compresses columns and other parts of a seek table, keeping libzstd's buffers.
pub(crate) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(crate) fn new(level: i32) -> Result<Self> {
        zstd::bulk::Compressor::new(level).map(Self).map_err(failed)
    }

    /// Like [`Self::new`], with other values for some of the level's parameters.
    pub(crate) fn with(level: i32, parameters: &[CParameter]) -> Result<Self> {
        let mut this = Self::new(level)?;
        parameters.iter().try_for_each(|one| this.0.set_parameter(*one)).map_err(failed)?;
        Ok(this)
    }

    /// One frame with its content size, no checksum and no dictionary.
    pub(crate) fn compress(&mut self, content: &[u8]) -> Result<Vec<u8>> {
        self.0.compress(content).map_err(failed)
    }

    /// Appends two lengths and a frame.
    pub(crate) fn put_frame(&mut self, out: &mut Vec<u8>, content: &[u8]) -> Result<()> {
        let stored = self.compress(content)?;
        out.extend(len32(stored.len())?.to_le_bytes());
        out.extend(len32(content.len())?.to_le_bytes());
        out.extend(stored);
        Ok(())
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: std::io::Error) -> SeekError {
    SeekError::Compression(error.to_string())
}

/// A length as it is stored.
pub(crate) fn len32(len: usize) -> Result<u32> {
    let limit = u64::from(u32::MAX);
    u32::try_from(len).map_err(|_| SeekError::TooLarge { what: "length", value: len as u64, limit })
}

/// Decompresses one zstd frame, whose content must have exactly `len` bytes.
///
/// Allocates at most the content, a window of the same size, and the decoder's own buffers.
pub(crate) fn decompress(
    stored: &[u8],
    len: u64,
    limit: u64,
    what: &'static str,
) -> Result<Vec<u8>> {
    if len > limit {
        return Err(SeekError::TooLarge { what, value: len, limit });
    }
    check_header(stored, len)?;
    let broken = |error: &dyn std::fmt::Display| SeekError::Compression(error.to_string());
    let mut frames = FrameDecoder::new();
    frames.set_max_window_size(len.max(MIN_WINDOW_LEN));
    let mut rest = stored;
    frames.reset(&mut rest).map_err(|error| broken(&error))?;
    let len = usize::try_from(len).map_err(|error| broken(&error))?;
    let mut content = vec![0; len];
    let mut filled = 0;
    loop {
        // A block has at most 128 KiB, so a frame with more content than it says is rejected early.
        let one = BlockDecodingStrategy::UptoBlocks(1);
        let ended = frames.decode_blocks(&mut rest, one).map_err(|error| broken(&error))?;
        filled += frames.read(&mut content[filled..]).map_err(|error| broken(&error))?;
        if frames.can_collect() > 0 {
            return Err(SeekError::Compression("more content than stated".to_owned()));
        }
        if ended {
            break;
        }
    }
    if filled < len {
        return Err(SeekError::Compression("less content than stated".to_owned()));
    }
    match rest.len() {
        0 => Ok(content),
        len => Err(SeekError::TrailingBytes(len as u64)),
    }
}

/// Checks the frame's header against the only form that is written: a content size of `len`, no
/// checksum, no dictionary.
fn check_header(stored: &[u8], len: u64) -> Result<()> {
    let what = "a zstd frame";
    let mut header = Reader::new(stored);
    if *header.array::<4>(what)? != ZSTD_MAGIC {
        return Err(SeekError::Compression("not a zstd frame".to_owned()));
    }
    let [descriptor] = *header.array::<1>(what)?;
    let is_single = descriptor & SINGLE_SEGMENT_FLAG != 0;
    let size_len = match descriptor >> 6 {
        0 => usize::from(is_single),
        flag => 1 << flag,
    };
    if descriptor & FORBIDDEN_FLAGS != 0 || size_len == 0 {
        let message = format!("frame header descriptor {descriptor:#04x} is not allowed");
        return Err(SeekError::Compression(message));
    }
    if !is_single {
        header.bytes(1, what)?;
    }
    let mut size = [0; 8];
    size[..size_len].copy_from_slice(header.bytes(size_len, what)?);
    let size = u64::from_le_bytes(size);
    // A field of two bytes holds the size minus 256.
    let size = if size_len == 2 { size + 256 } else { size };
    if size != len {
        let message = format!("wrong content size (found {size}, expected {len})");
        return Err(SeekError::Compression(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_varint_when_written_then_reads_back_from_its_shortest_form_only() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in edges.chain([u64::MAX]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!((reader.varint("x"), reader.finish()), (Ok(value), Ok(())));
            for cut in 0..bytes.len() {
                let error = Reader::new(&bytes[..cut]).varint("x");
                assert_eq!(error, Err(SeekError::Truncated("x")));
            }
            if bytes.len() < MAX_VARINT_LEN {
                let last = bytes.len() - 1;
                bytes[last] |= 0x80;
                bytes.push(0);
                assert_eq!(Reader::new(&bytes).varint("x"), Err(SeekError::Varint("x")));
            }
        }
        for bytes in [[0xff; 11].as_slice(), &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2]] {
            assert_eq!(Reader::new(bytes).varint("x"), Err(SeekError::Varint("x")));
        }
    }

    #[test]
    fn test_decompress_when_size_or_frame_is_wrong_then_error() {
        let mut compressor = Compressor::new(9).unwrap();
        for len in [0_usize, 1, 255, 256, 257, 65_791, 65_792, 300_000, 9 << 20] {
            #[allow(clippy::cast_possible_truncation, reason = "any bytes")]
            let content: Vec<u8> = (0..len).map(|at| ((at * at) >> 7) as u8).collect();
            let stored = compressor.compress(&content).unwrap();
            let limit = len as u64;
            assert_eq!(decompress(&stored, limit, limit, "x").as_ref(), Ok(&content));
            assert!(decompress(&stored, limit + 1, limit + 1, "x").is_err());
            assert!(decompress(&stored[..stored.len() - 1], limit, limit, "x").is_err());
            let longer = [stored.as_slice(), &[0]].concat();
            assert_eq!(decompress(&longer, limit, limit, "x"), Err(SeekError::TrailingBytes(1)));
            if let Some(less) = limit.checked_sub(1) {
                let error = decompress(&stored, limit, less, "x").unwrap_err();
                assert_eq!(error.code(), "seek.too-large");
                assert_eq!(
                    decompress(&stored, less, less, "x").unwrap_err().code(),
                    "seek.compression"
                );
            }
        }
    }
}
