//! A zTOC's entries and spans as fixed-width rows, which numpy views without a Python object per
//! row.
//!
//! The row layouts are those of `FILES_DTYPE` and `SPANS_DTYPE` in `python/tocsin/model/columns.py`.

use tocsin_core::Result;
use tocsin_core::span::SpanId;
use tocsin_core::tar::EntryType;
use tocsin_core::ztoc::{Entry, Zinfo, Ztoc};

/// numpy's NaT ("not a time").
const NOT_A_TIME: i64 = i64::MIN;
/// Maximum length of an entry type, in bytes.
const TYPE_LEN: usize = 8;
/// Bytes of an entry's row.
pub(crate) const FILE_ROW_LEN: usize = 72;

/// Fills one row for each entry, in stored order.
pub(crate) fn files(ztoc: &Ztoc, rows: &mut [u8]) {
    let (rows, _) = rows.as_chunks_mut::<FILE_ROW_LEN>();
    for (row, entry) in rows.iter_mut().zip(ztoc.toc.entries()) {
        let spans = ztoc.spans_for(entry);
        row[..8].copy_from_slice(&word(entry.entry_type()));
        row[8..16].copy_from_slice(&entry.uncompressed_offset().to_le_bytes());
        row[16..24].copy_from_slice(&entry.uncompressed_size().to_le_bytes());
        row[24..28].copy_from_slice(&spans.start.0.to_le_bytes());
        row[28..32].copy_from_slice(&spans.end.0.to_le_bytes());
        row[32..40].copy_from_slice(&entry.mode().to_le_bytes());
        row[40..44].copy_from_slice(&entry.uid().to_le_bytes());
        row[44..48].copy_from_slice(&entry.gid().to_le_bytes());
        row[48..56].copy_from_slice(&entry.devmajor().to_le_bytes());
        row[56..64].copy_from_slice(&entry.devminor().to_le_bytes());
        row[64..].copy_from_slice(&microseconds(entry).to_le_bytes());
    }
}

/// The word for a type, padded with zeros.
fn word(kind: EntryType) -> [u8; TYPE_LEN] {
    let text = kind.as_str().as_bytes();
    std::array::from_fn(|at| text.get(at).copied().unwrap_or(0))
}

fn microseconds(entry: Entry<'_>) -> i64 {
    entry.mod_time_parts().map_or(NOT_A_TIME, |(seconds, nanoseconds)| {
        seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanoseconds / 1000))
    })
}

/// One row per span.
pub(crate) fn spans(ztoc: &Ztoc) -> Result<Vec<u8>> {
    let mut rows = Vec::new();
    for (index, digest) in (0_u32..).zip(&ztoc.span_digests) {
        let span_id = SpanId(index);
        let compressed = ztoc.span_compressed_range(span_id)?;
        let (start, end) = ztoc.span_uncompressed_range(span_id)?;
        let bits = match &ztoc.zinfo {
            Zinfo::Gzip(zinfo) => zinfo.checkpoints.get(span_id.0 as usize).map_or(0, |c| c.bits),
            Zinfo::Tar(_) => 0,
        };
        rows.extend_from_slice(&compressed.start.0.to_le_bytes());
        rows.extend_from_slice(&compressed.end.0.to_le_bytes());
        rows.extend_from_slice(&start.0.to_le_bytes());
        let end = end.and_then(|end| i64::try_from(end.0).ok()).unwrap_or(-1);
        rows.extend_from_slice(&end.to_le_bytes());
        rows.push(bits);
        rows.extend_from_slice(digest.as_bytes());
    }
    Ok(rows)
}
