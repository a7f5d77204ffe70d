//! The zinfo: the packed checkpoints in a zTOC, and the rules that they must satisfy.
//!
//! Source: docs/format.md#zinfo.

use super::flat::{Builder, Reader};
use crate::bytes::SharedBytes;
use crate::checkpoint::{Checkpoint, WINDOW_LEN, Window};
use crate::error::{Error, Result, ZtocError};
use crate::span::{CompressedOffset, SpanId, UncompressedOffset};

/// Checkpoint count (int32) and span size (int64).
const HEADER_LEN: usize = 12;
/// Offset of the window in a checkpoint, after the compressed offset, uncompressed offset and bits.
const WINDOW_AT: usize = 8 + 8 + 1;
/// Length of a checkpoint including its window.
const CHECKPOINT_LEN: usize = WINDOW_AT + WINDOW_LEN;
/// The only version of a plain tar's zinfo.
const TAR_VERSION: i32 = 2;
/// Offset of the implied first checkpoint of version 1: the end of a gzip header without optional
/// fields.
const BARE_GZIP_HEADER: CompressedOffset = CompressedOffset(10);

/// How a layer is divided into spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zinfo {
    /// A gzip layer: spans start at checkpoints.
    Gzip(GzipZinfo),
    /// A plain tar: spans have equal sizes.
    Tar(TarZinfo),
}

/// The checkpoints of a gzip layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GzipZinfo {
    /// How the checkpoints are packed.
    pub version: ZinfoVersion,
    /// Minimum uncompressed bytes between checkpoints, as requested when the zTOC was built.
    pub span_size: u64,
    /// One checkpoint for each span, in stream order; never empty.
    pub checkpoints: Vec<Checkpoint>,
}

/// How checkpoints are packed. The version is not stored; it follows from the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ZinfoVersion {
    /// Without the first checkpoint, which is at compressed byte 10. New zTOCs do not use it, but
    /// it can be read, and is written back unchanged.
    V1,
    /// With all checkpoints.
    #[default]
    V2,
}

/// How a plain tar is divided into spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TarZinfo {
    /// Size of every span but the last, in bytes.
    pub span_size: u64,
    /// Size of the layer, in bytes.
    pub size: u64,
}

impl GzipZinfo {
    /// Creates a zinfo of version 2.
    #[must_use]
    pub const fn new(span_size: u64, checkpoints: Vec<Checkpoint>) -> Self {
        Self { version: ZinfoVersion::V2, span_size, checkpoints }
    }

    /// The packed checkpoints.
    ///
    /// # Errors
    /// `Error::Ztoc` if a rule of [`super::Ztoc::to_bytes`] about checkpoints is broken.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check(0)?;
        let mut bytes = vec![0; self.packed_len()];
        self.pack(&mut bytes);
        Ok(bytes)
    }

    /// Unpacks checkpoints; the length decides the version.
    ///
    /// # Errors
    /// `Error::Ztoc` if the length matches no version, or a rule of [`super::Ztoc::from_bytes`]
    /// about checkpoints is broken.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let zinfo = Self::unpack(bytes, 0)?;
        zinfo.check(0)?;
        Ok(zinfo)
    }

    /// Checks the rules about checkpoints. The packed bytes are at `zinfo_at` in the blob.
    pub(super) fn check(&self, zinfo_at: u64) -> Result<()> {
        let error = |kind, span_id| {
            let at = zinfo_at.saturating_add(self.packed_position(span_id));
            Error::Ztoc { kind, at }
        };
        let wrong = |span_id, what| error(ZtocError::Checkpoint { span_id, what }, span_id);
        int64("span size", self.span_size)?;
        let Some(first) = self.checkpoints.first() else {
            let kind = ZtocError::Value { what: "checkpoint count", value: 0 };
            return Err(Error::Ztoc { kind, at: zinfo_at });
        };
        if first.uncompressed.0 != 0 {
            return Err(wrong(SpanId(0), "is not at the start of the tar"));
        }
        if self.version == ZinfoVersion::V1 && !is_implied(first) {
            return Err(wrong(SpanId(0), "is not the one that zinfo version 1 implies"));
        }
        let mut before = first;
        for (span_id, checkpoint) in (0..).map(SpanId).zip(&self.checkpoints) {
            if checkpoint.bits > 7 {
                return Err(wrong(span_id, "has more than 7 bits"));
            }
            if checkpoint.bits != 0 && checkpoint.compressed.0 == 0 {
                return Err(wrong(span_id, "has bits before the start of the layer"));
            }
            if first_bit(checkpoint) < first_bit(before)
                || checkpoint.uncompressed < before.uncompressed
            {
                return Err(error(ZtocError::NotMonotonic { span_id }, span_id));
            }
            int64("checkpoint uncompressed offset", checkpoint.uncompressed.0)?;
            before = checkpoint;
        }
        Ok(())
    }

    /// The checkpoints that are stored.
    fn stored(&self) -> &[Checkpoint] {
        match self.version {
            ZinfoVersion::V1 => self.checkpoints.get(1..).unwrap_or_default(),
            ZinfoVersion::V2 => &self.checkpoints,
        }
    }

    /// The offset of a span's checkpoint in the packed bytes; 0 if it is not stored.
    pub(super) fn packed_position(&self, span_id: SpanId) -> u64 {
        let index = match self.version {
            ZinfoVersion::V1 => u64::from(span_id.0).checked_sub(1),
            ZinfoVersion::V2 => Some(u64::from(span_id.0)),
        };
        index.map_or(0, |index| HEADER_LEN as u64 + index * CHECKPOINT_LEN as u64)
    }

    pub(super) fn packed_len(&self) -> usize {
        HEADER_LEN.saturating_add(self.stored().len().saturating_mul(CHECKPOINT_LEN))
    }

    /// Packs into `out`, which must have `packed_len` bytes.
    pub(super) fn pack(&self, out: &mut [u8]) {
        // The reference stores the count as an int32; `packed_len` reaches the limit of 1 GiB long
        // before that overflows.
        let count = i32::try_from(self.checkpoints.len()).unwrap_or(i32::MAX);
        let (header, rest) = out.split_at_mut(HEADER_LEN);
        header[..4].copy_from_slice(&count.to_le_bytes());
        header[4..].copy_from_slice(&self.span_size.to_le_bytes());
        for (checkpoint, out) in self.stored().iter().zip(rest.chunks_exact_mut(CHECKPOINT_LEN)) {
            out[..8].copy_from_slice(&checkpoint.compressed.0.to_le_bytes());
            out[8..16].copy_from_slice(&checkpoint.uncompressed.0.to_le_bytes());
            out[16] = checkpoint.bits;
            out[WINDOW_AT..].copy_from_slice(checkpoint.window.as_bytes());
        }
    }

    /// Unpacks bytes that are at `at` in the blob, without checking the checkpoints.
    pub(super) fn unpack(bytes: &[u8], at: u64) -> Result<Self> {
        let shared = SharedBytes::copied(bytes);
        Self::unpack_shared(bytes, at, &shared, 0)
    }

    /// Like `unpack`, but does not copy windows: `bytes` are at `offset` in `shared`.
    pub(super) fn unpack_shared(
        bytes: &[u8],
        at: u64,
        shared: &SharedBytes,
        offset: usize,
    ) -> Result<Self> {
        let wrong_len = |checkpoints| {
            let kind = ZtocError::ZinfoLength { len: bytes.len() as u64, checkpoints };
            Error::Ztoc { kind, at }
        };
        let (Some(count), Some(span_size)) = (i32_at(bytes, 0), i64_at(bytes, 4)) else {
            return Err(wrong_len(0));
        };
        if count <= 0 {
            // The reference's length rule accepts a count of 0, but its lookup of a span then
            // fails.
            let kind = ZtocError::Value { what: "checkpoint count", value: i64::from(count) };
            return Err(Error::Ztoc { kind, at });
        }
        let packed = bytes.get(HEADER_LEN..).unwrap_or_default();
        let (stored, rest) = packed.as_chunks::<CHECKPOINT_LEN>();
        let version = match i64::try_from(stored.len()).map(|stored| i64::from(count) - stored) {
            Ok(0) if rest.is_empty() => ZinfoVersion::V2,
            Ok(1) if rest.is_empty() => ZinfoVersion::V1,
            _ => return Err(wrong_len(i64::from(count))),
        };
        let span_size = natural("span size", span_size, at.saturating_add(4))?;
        let mut checkpoints = Vec::with_capacity(stored.len() + 1);
        if version == ZinfoVersion::V1 {
            checkpoints.push(implied_checkpoint());
        }
        for (index, bytes) in stored.iter().enumerate() {
            let from = HEADER_LEN + index * CHECKPOINT_LEN;
            let window = Window::shared(shared, offset.saturating_add(from + WINDOW_AT));
            checkpoints.push(unpack_checkpoint(bytes, window, at.saturating_add(from as u64))?);
        }
        Ok(Self { version, span_size, checkpoints })
    }
}

/// The bit offset of a checkpoint's block. It has 128 bits, since 8 times an untrusted offset may
/// not fit in 64. Cannot underflow: `check` has verified that the bits are inside the layer.
fn first_bit(checkpoint: &Checkpoint) -> u128 {
    u128::from(checkpoint.compressed.0) * 8 - u128::from(checkpoint.bits)
}

/// Whether version 1 can omit this first checkpoint, because reading implies it.
fn is_implied(first: &Checkpoint) -> bool {
    first.compressed == BARE_GZIP_HEADER
        && first.uncompressed.0 == 0
        && first.bits == 0
        && first.window.as_bytes().iter().all(|byte| *byte == 0)
}

/// The first checkpoint of a version 1 zinfo, which is not stored.
fn implied_checkpoint() -> Checkpoint {
    Checkpoint {
        compressed: BARE_GZIP_HEADER,
        uncompressed: UncompressedOffset(0),
        bits: 0,
        window: Window::zeros(),
    }
}

fn unpack_checkpoint(
    bytes: &[u8; CHECKPOINT_LEN],
    window: Option<Window>,
    at: u64,
) -> Result<Checkpoint> {
    let int64 = |from| i64_at(bytes, from).unwrap_or_default();
    Ok(Checkpoint {
        compressed: CompressedOffset(natural("checkpoint compressed offset", int64(0), at)?),
        uncompressed: UncompressedOffset(natural("checkpoint uncompressed offset", int64(8), at)?),
        bits: bytes[16],
        window: window.unwrap_or_else(|| Window::ending_with(&bytes[WINDOW_AT..])),
    })
}

impl TarZinfo {
    const VERSION: usize = 0;
    const SPAN_SIZE: usize = 1;
    const SIZE: usize = 2;

    /// The number of spans.
    ///
    /// It is 0 if the layer is empty or the span size is 0.
    #[must_use]
    pub const fn span_count(&self) -> u64 {
        if self.span_size == 0 { 0 } else { self.size.div_ceil(self.span_size) }
    }

    /// The zinfo, which is a small flatbuffer.
    ///
    /// # Errors
    /// `Error::Ztoc` if a size is above 2^63 − 1, or the span size is 0.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check(0)?;
        let mut builder = Builder::with_capacity(64);
        let mut table = builder.table();
        table.int32(Self::VERSION, TAR_VERSION)?;
        table.int64(Self::SPAN_SIZE, int64("span size", self.span_size)?)?;
        table.int64(Self::SIZE, int64("zinfo size", self.size)?)?;
        let root = table.finish()?;
        builder.finish(root)
    }

    /// Reads the flatbuffer.
    ///
    /// # Errors
    /// `Error::Ztoc` if it cannot be parsed, has another version, or has invalid sizes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let zinfo = Self::unpack(bytes, 0)?;
        zinfo.check(0)?;
        Ok(zinfo)
    }

    /// Checks the rules about sizes. The flatbuffer is at `zinfo_at` in the blob.
    pub(super) fn check(&self, zinfo_at: u64) -> Result<()> {
        if self.span_size == 0 {
            let kind = ZtocError::Value { what: "span size", value: 0 };
            return Err(Error::Ztoc { kind, at: zinfo_at });
        }
        int64("span size", self.span_size)?;
        int64("zinfo size", self.size)?;
        Ok(())
    }

    /// Reads the flatbuffer at `at` in the blob, without checking the span size.
    pub(super) fn unpack(bytes: &[u8], at: u64) -> Result<Self> {
        let reader = Reader::new(bytes, at);
        let root = reader.root("zinfo")?;
        let at = root.position();
        let version = root.int32(Self::VERSION, "zinfo version")?;
        if version != TAR_VERSION {
            let kind = ZtocError::Value { what: "zinfo version", value: i64::from(version) };
            return Err(Error::Ztoc { kind, at });
        }
        let span_size = root.int64(Self::SPAN_SIZE, "span size")?;
        let size = root.int64(Self::SIZE, "zinfo size")?;
        Ok(Self {
            span_size: natural("span size", span_size, at)?,
            size: natural("zinfo size", size, at)?,
        })
    }
}

/// Converts a stored int64 that must not be negative.
pub(super) fn natural(what: &'static str, value: i64, at: u64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::Ztoc { kind: ZtocError::Value { what, value }, at })
}

/// Converts a number to be stored as an int64. Above 2^63 − 1 it would be read back as negative.
pub(super) fn int64(what: &'static str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| {
        let kind = ZtocError::Value { what, value: value.cast_signed() };
        Error::Ztoc { kind, at: 0 }
    })
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|chunk| i32::from_le_bytes(*chunk))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().map(|chunk| i64::from_le_bytes(*chunk))
}
