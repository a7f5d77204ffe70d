//! The rules that a zTOC must satisfy to be safe to use, for writing and for reading.
//!
//! They are weaker than those of the reference's reader, which rejects some zTOCs that its own
//! writer makes. Rules about the zinfo alone are in `zinfo`.

use super::Ztoc;
use super::zinfo::{self, GzipZinfo, Zinfo};
use crate::error::{Error, Result, ZtocError};
use crate::span::SpanId;

/// Checks all rules. `zinfo_at` is the position of the zinfo in the blob, 0 if there is no blob
/// yet.
pub(super) fn check(ztoc: &Ztoc, zinfo_at: u64) -> Result<()> {
    // Entries in a blob were checked when they were read.
    for (index, entry) in (0..).zip(ztoc.toc.listed()) {
        check_place(index, entry.uncompressed_offset, entry.uncompressed_size)?;
        if !is_ascending(&entry.xattrs) {
            return Err(entry_error(index, "has PAX records that are not in ascending order"));
        }
    }
    check_spans(ztoc, zinfo_at)
}

/// Checks where the data of an entry is.
pub(super) fn check_place(index: u64, offset: i64, size: i64) -> Result<()> {
    if offset < 0 {
        return Err(entry_error(index, "has a negative offset"));
    }
    if size < 0 { Err(entry_error(index, "has a negative size")) } else { Ok(()) }
}

const fn entry_error(index: u64, what: &'static str) -> Error {
    Error::Ztoc { kind: ZtocError::TocEntry { index, what }, at: 0 }
}

/// Checks all rules except those for entries.
pub(super) fn check_spans(ztoc: &Ztoc, zinfo_at: u64) -> Result<()> {
    match &ztoc.zinfo {
        Zinfo::Gzip(zinfo) => {
            zinfo.check(zinfo_at)?;
            check_inside(ztoc, zinfo, zinfo_at)?;
        }
        Zinfo::Tar(zinfo) => {
            zinfo.check(zinfo_at)?;
            if zinfo.size != ztoc.compressed_archive_size {
                let value = zinfo::int64("zinfo size", zinfo.size)?;
                let kind = ZtocError::Value {
                    what: "zinfo size, which differs from the archive size",
                    value,
                };
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

/// Whether the keys are in strictly ascending order.
pub(super) fn is_ascending<T: Ord>(xattrs: &[(T, T)]) -> bool {
    xattrs.is_sorted_by(|(a, _), (b, _)| a < b)
}

/// Checks that no span ends after the layer. Each checkpoint's compressed offset is the end of a
/// span.
fn check_inside(ztoc: &Ztoc, zinfo: &GzipZinfo, zinfo_at: u64) -> Result<()> {
    let size = ztoc.compressed_archive_size;
    for (span_id, checkpoint) in (0..).map(SpanId).zip(&zinfo.checkpoints) {
        if checkpoint.compressed.0 > size {
            let kind = ZtocError::Checkpoint { span_id, what: "is outside the layer" };
            let at = zinfo_at.saturating_add(zinfo.packed_position(span_id));
            return Err(Error::Ztoc { kind, at });
        }
    }
    Ok(())
}

/// `max_span_id` as an int32, which is how it is stored.
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
