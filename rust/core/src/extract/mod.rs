//! Using a zTOC or a seek table: verifies the compressed bytes of one span and inflates them.
//!
//! Nothing is inflated before the span's digest has been verified. gzip's own checksums cover only
//! members that begin within the span, so safety rests on the digest, not on the CRC.

mod cache;
mod decoder;
mod reader;
mod table;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::inflate::MAX_RATIO;
use crate::span::{SpanId, UncompressedOffset};
use crate::tar::{EntryType, FileMetadata};
use decoder::SpanDecoder;

pub use cache::{CachedLayer, SharedSpan, SpanCache, VerifiedFiles};
pub use reader::SpanReader;
pub use table::{Span, SpanStart, SpanTable};

/// Maximum number of bytes allocated before there is output to fill them.
const MAX_RESERVED_LEN: u64 = 64 << 20;

/// Returns all uncompressed bytes of a span. The last span of a gzip layer ends with the stream.
///
/// `compressed` holds the bytes of [`Span::compressed`].
///
/// # Errors
///
/// [`Error::NoSuchSpan`]; [`Error::Verification`] if the length or the digest of `compressed`
/// differs from the table's; [`Error::Gzip`], or [`Error::Seek`] for a seek table, if the bytes
/// cannot be decoded from the checkpoint, which means that the table is wrong.
pub fn inflate_span(
    table: &(impl SpanTable + ?Sized),
    span_id: SpanId,
    compressed: &[u8],
) -> Result<Vec<u8>> {
    let all = UncompressedOffset(0)..UncompressedOffset(u64::MAX);
    read_span(table, span_id, compressed, all)
}

/// Returns the part of a span's uncompressed bytes that lies in `wanted`, and decodes no further.
///
/// # Errors
///
/// Same as [`inflate_span`]; the part of `wanted` beyond the span is not an error.
pub fn read_span(
    table: &(impl SpanTable + ?Sized),
    span_id: SpanId,
    compressed: &[u8],
    wanted: Range<UncompressedOffset>,
) -> Result<Vec<u8>> {
    let span = table.span(span_id)?;
    span.verify(compressed)?;
    let skip = wanted.start.0.saturating_sub(span.start.0);
    let end = span.end.map_or(wanted.end.0, |span_end| wanted.end.0.min(span_end.0));
    let until = end.saturating_sub(span.start.0);
    if skip >= until {
        return Ok(Vec::new());
    }
    match SpanDecoder::new(&span, compressed) {
        None => {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(compressed.len());
            Ok(compressed[place(skip)..place(until)].to_vec())
        }
        Some(decoder) => {
            // Only the last span may have fewer bytes than requested: its end is unknown.
            let is_open = span.end.is_none();
            inflate_from(decoder, compressed, skip..until, is_open)
        }
    }
}

/// The range of an entry's data in the uncompressed layer; empty if the entry is not a regular
/// file.
///
/// # Errors
///
/// [`Error::NoSuchFile`] if the entry's offset or size is impossible.
pub fn data_range(entry: &FileMetadata) -> Result<Range<UncompressedOffset>> {
    let no_such_file = || Error::NoSuchFile { path: entry.name.escape_ascii().to_string() };
    let start = u64::try_from(entry.uncompressed_offset).map_err(|_| no_such_file())?;
    let size = match entry.entry_type {
        EntryType::Regular => u64::try_from(entry.uncompressed_size).map_err(|_| no_such_file())?,
        _ => 0,
    };
    let end = start.checked_add(size).ok_or_else(no_such_file)?;
    Ok(UncompressedOffset(start)..UncompressedOffset(end))
}

/// Inflates and returns the output in `wanted`, which is relative to the start of the span.
fn inflate_from(
    mut decoder: SpanDecoder,
    compressed: &[u8],
    wanted: Range<u64>,
    may_end_early: bool,
) -> Result<Vec<u8>> {
    let possible = (compressed.len() as u64).saturating_mul(MAX_RATIO);
    let len = (wanted.end - wanted.start).min(possible).min(MAX_RESERVED_LEN);
    let mut output = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    let mut done = 0_u64;
    while done < wanted.end {
        let more = decoder.step(compressed, |bytes| {
            let place = |at: u64| {
                usize::try_from(at.saturating_sub(done)).unwrap_or(usize::MAX).min(bytes.len())
            };
            output.extend_from_slice(&bytes[place(wanted.start)..place(wanted.end)]);
            done = done.saturating_add(bytes.len() as u64);
        })?;
        if !more && done < wanted.end {
            if may_end_early && decoder.may_end() {
                break;
            }
            return Err(decoder.truncated());
        }
    }
    Ok(output)
}
