//! What a zTOC must say so that nobody who reads it is led astray; the same for making and reading.
//!
//! Weaker than what the reference's reader asks for: it makes zTOCs that it then refuses.

use super::Ztoc;
use super::zinfo::{self, GzipZinfo, TarZinfo, Zinfo, ZinfoVersion};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, ZtocError};
use crate::span::SpanId;

/// Checks all rules; `zinfo_at` is where the zinfo lies in the blob, 0 if there is none yet.
pub(super) fn check(ztoc: &Ztoc, zinfo_at: u64) -> Result<()> {
    for (index, entry) in ztoc.toc.iter().enumerate() {
        let what = if entry.uncompressed_offset < 0 {
            "has a negative offset"
        } else if entry.uncompressed_size < 0 {
            "has a negative size"
        } else if !is_ascending(&entry.xattrs) {
            "has PAX records that are not in ascending order"
        } else {
            continue;
        };
        let kind = ZtocError::TocEntry { index: index as u64, what };
        return Err(Error::Ztoc { kind, at: 0 });
    }
    match &ztoc.zinfo {
        Zinfo::Gzip(zinfo) => {
            check_gzip_zinfo(zinfo, zinfo_at)?;
            check_inside(ztoc, zinfo, zinfo_at)?;
        }
        Zinfo::Tar(zinfo) => {
            check_tar_zinfo(zinfo, zinfo_at)?;
            if zinfo.size != ztoc.compressed_archive_size {
                let value = zinfo::int64("zinfo size", zinfo.size)?;
                let kind = ZtocError::Value { what: "zinfo size, not the archive's,", value };
                return Err(Error::Ztoc { kind, at: zinfo_at });
            }
        }
    }
    if ztoc.span_count() != ztoc.span_digests.len() as u64 {
        let kind = span_count_error(ztoc, ztoc.max_span_id());
        return Err(Error::Ztoc { kind, at: 0 });
    }
    Ok(())
}

/// Whether keys ascend, each once.
pub(super) fn is_ascending(xattrs: &[(Vec<u8>, Vec<u8>)]) -> bool {
    xattrs.is_sorted_by(|(a, _), (b, _)| a < b)
}

/// The rules of a gzip zinfo that lies at `zinfo_at`.
pub(super) fn check_gzip_zinfo(zinfo: &GzipZinfo, zinfo_at: u64) -> Result<()> {
    let error = |kind, span_id| {
        let at = zinfo_at.saturating_add(zinfo.packed_position(span_id));
        Error::Ztoc { kind, at }
    };
    let wrong = |span_id, what| error(ZtocError::Checkpoint { span_id, what }, span_id);
    zinfo::int64("span size", zinfo.span_size)?;
    let Some(first) = zinfo.checkpoints.first() else {
        let kind = ZtocError::Value { what: "checkpoint count", value: 0 };
        return Err(Error::Ztoc { kind, at: zinfo_at });
    };
    if first.uncompressed.0 != 0 {
        return Err(wrong(SpanId(0), "is not at the start of the tar"));
    }
    if zinfo.version == ZinfoVersion::V1 && !zinfo::is_implied(first) {
        return Err(wrong(SpanId(0), "cannot be left out as version 1 does"));
    }
    let mut before = first;
    for (span_id, checkpoint) in (0..).map(SpanId).zip(&zinfo.checkpoints) {
        if checkpoint.bits > 7 {
            return Err(wrong(span_id, "has more than 7 bits"));
        }
        if checkpoint.bits != 0 && checkpoint.compressed.0 == 0 {
            return Err(wrong(span_id, "has bits in a byte before the layer"));
        }
        if first_bit(checkpoint) < first_bit(before)
            || checkpoint.uncompressed < before.uncompressed
        {
            return Err(error(ZtocError::NotMonotonic { span_id }, span_id));
        }
        zinfo::int64("checkpoint uncompressed offset", checkpoint.uncompressed.0)?;
        before = checkpoint;
    }
    Ok(())
}

/// The first bit of a checkpoint's block. Wide, since a stranger's offset times 8 may not fit 64
/// bits; the bits lie in the layer, that is checked before.
fn first_bit(checkpoint: &Checkpoint) -> u128 {
    u128::from(checkpoint.compressed.0) * 8 - u128::from(checkpoint.bits)
}

/// No span may end after the layer: the compressed offset of each checkpoint ends a span.
fn check_inside(ztoc: &Ztoc, zinfo: &GzipZinfo, zinfo_at: u64) -> Result<()> {
    let size = ztoc.compressed_archive_size;
    for (span_id, checkpoint) in (0..).map(SpanId).zip(&zinfo.checkpoints) {
        if checkpoint.compressed.0 > size {
            let kind = ZtocError::Checkpoint { span_id, what: "lies outside the layer" };
            let at = zinfo_at.saturating_add(zinfo.packed_position(span_id));
            return Err(Error::Ztoc { kind, at });
        }
    }
    Ok(())
}

/// The rules of a plain tar's zinfo that lies at `zinfo_at`.
pub(super) fn check_tar_zinfo(zinfo: &TarZinfo, zinfo_at: u64) -> Result<()> {
    if zinfo.span_size == 0 {
        let kind = ZtocError::Value { what: "span size", value: 0 };
        return Err(Error::Ztoc { kind, at: zinfo_at });
    }
    zinfo::int64("span size", zinfo.span_size)?;
    zinfo::int64("zinfo size", zinfo.size)?;
    Ok(())
}

/// `max_span_id` as it is stored.
pub(super) fn stored_max_span_id(ztoc: &Ztoc) -> Result<i32> {
    let max_span_id = ztoc.max_span_id();
    i32::try_from(max_span_id).map_err(|_| {
        let kind = ZtocError::Value { what: "max span id", value: max_span_id };
        Error::Ztoc { kind, at: 0 }
    })
}

pub(super) fn span_count_error(ztoc: &Ztoc, max_span_id: i64) -> ZtocError {
    let digests = ztoc.span_digests.len() as u64;
    ZtocError::SpanCount { max_span_id, spans: ztoc.span_count(), digests }
}
