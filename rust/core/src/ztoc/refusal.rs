//! Reasons why the reference's reader, soci-snapshotter, rejects an otherwise valid zTOC.
//!
//! This module finds only reasons that the zTOC itself shows. Finding a wrong digest, or a header
//! that contradicts its entry, requires the layer.
//!
//! Source: docs/format.md#acceptance-rules; docs/format.md#broken-for-readers.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use thiserror::Error;

use super::{Entry, Zinfo, Ztoc};
use crate::span::{SpanId, UncompressedOffset};
use crate::tar::{Entries, EntryType};

/// Size of a tar block; headers and data start at multiples of it.
const BLOCK: u64 = 512;
/// Length of a gzip header without optional fields (RFC 1952 §2.3).
const GZIP_HEADER_MIN_LEN: u64 = 10;
/// The first span size that is too large: the reader stores span sizes in a C `int`.
const SPAN_LIMIT: u64 = 1 << 31;
/// Maximum number of reasons kept about the layer, and about files. A hostile zTOC can have
/// millions.
pub const MAX_REFUSALS: usize = 10_000;

/// A reason why soci-snapshotter rejects a layer or one of its files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There are too few bytes before the first span for the gzip header that the reader expects
    /// there.
    #[error("span 0 starts inside the gzip header")]
    GzipHeader,
    /// Offsets must increase from span to span. An empty first member or an early flush breaks
    /// that.
    #[error("{span_id} is empty (no compressed or no uncompressed bytes)")]
    EmptySpan {
        /// The empty span.
        span_id: SpanId,
    },
    /// A span of 2 GiB or more.
    #[error("{span_id} is 2 GiB or larger")]
    SpanSize {
        /// The large span.
        span_id: SpanId,
    },
    /// The end of the previous entry, rounded up to a block, is after the start of the entry's
    /// data.
    #[error("toc entry {index} overlaps the previous entry")]
    Overlap {
        /// The index of the entry, in stored order.
        index: usize,
    },
    /// The target of a hard link is not an earlier entry.
    #[error("toc entry {index} is a hard link whose target is not an earlier entry")]
    HardLink {
        /// The index of the entry, in stored order.
        index: usize,
    },
    /// The file's header is not where the previous entry seems to end.
    #[error("toc entry {index} does not have its header right after the previous entry")]
    HeaderPlace {
        /// The index of the entry, in stored order.
        index: usize,
    },
    /// The file's modification time is missing, so it never matches the header's.
    #[error("toc entry {index} has no modification time")]
    ModTime {
        /// The index of the entry, in stored order.
        index: usize,
    },
    /// The size is that of the expanded file, but the layer holds only parts of it.
    #[error("toc entry {index} is a sparse file")]
    Sparse {
        /// The index of the entry, in stored order.
        index: usize,
    },
    /// The data ends at the end of a plain tar whose last span is full: the reader looks for one
    /// more span.
    #[error("toc entry {index} ends at the end of the last span")]
    EndOfLastSpan {
        /// The index of the entry, in stored order.
        index: usize,
    },
}

impl Refusal {
    /// A stable code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::GzipHeader => "gzip-header",
            Self::EmptySpan { .. } => "empty-span",
            Self::SpanSize { .. } => "span-size",
            Self::Overlap { .. } => "overlap",
            Self::HardLink { .. } => "hard-link",
            Self::HeaderPlace { .. } => "header-place",
            Self::ModTime { .. } => "modification-time",
            Self::Sparse { .. } => "sparse-file",
            Self::EndOfLastSpan { .. } => "end-of-last-span",
        }
    }

    /// The span concerned; `None` if the reason is about an entry.
    #[must_use]
    pub const fn span_id(&self) -> Option<SpanId> {
        match self {
            Self::GzipHeader => Some(SpanId(0)),
            Self::EmptySpan { span_id } | Self::SpanSize { span_id } => Some(*span_id),
            _ => None,
        }
    }

    /// The index of the entry concerned, in stored order; `None` if the reason is about a span.
    #[must_use]
    pub const fn entry_index(&self) -> Option<usize> {
        match self {
            Self::GzipHeader | Self::EmptySpan { .. } | Self::SpanSize { .. } => None,
            Self::Overlap { index }
            | Self::HardLink { index }
            | Self::HeaderPlace { index }
            | Self::ModTime { index }
            | Self::Sparse { index }
            | Self::EndOfLastSpan { index } => Some(*index),
        }
    }

    /// Whether the reader rejects the whole layer and unpacks it as if it had no zTOC. Otherwise,
    /// one file cannot be read or is read incorrectly.
    #[must_use]
    pub const fn is_of_layer(&self) -> bool {
        match self {
            Self::GzipHeader
            | Self::EmptySpan { .. }
            | Self::SpanSize { .. }
            | Self::Overlap { .. }
            | Self::HardLink { .. } => true,
            Self::HeaderPlace { .. }
            | Self::ModTime { .. }
            | Self::Sparse { .. }
            | Self::EndOfLastSpan { .. } => false,
        }
    }
}

/// Reasons found so far.
#[derive(Debug, Clone, Default)]
struct Refusals {
    found: Vec<Refusal>,
    of_layer: usize,
    of_files: usize,
}

impl Refusals {
    fn push(&mut self, refusal: Refusal) {
        let count = if refusal.is_of_layer() { &mut self.of_layer } else { &mut self.of_files };
        *count = count.saturating_add(1);
        if *count <= MAX_REFUSALS {
            self.found.push(refusal);
        }
    }
}

impl Ztoc {
    /// The reasons in the zTOC itself why soci-snapshotter rejects the layer or a file: at most
    /// [`MAX_REFUSALS`] about the layer, and at most as many about files.
    #[must_use]
    pub fn reader_refusals(&self) -> Vec<Refusal> {
        let mut refusals = Refusals::default();
        self.refuse_spans(&mut refusals);
        // The reader sorts entries by offset, and derives from that order where headers are. Nearly
        // all zTOCs are sorted already, so this tries the stored order first.
        let mut in_order = refusals.clone();
        if self.refuse_toc(self.toc.entries().enumerate(), &mut in_order) {
            return in_order.found;
        }
        // A blob is smaller than 1 GiB, so it has fewer than 2^32 entries.
        let offsets = self.toc.entries().map(Entry::uncompressed_offset);
        let mut order: Vec<(i64, u32)> = offsets.zip(0..).collect();
        order.sort_unstable();
        let indexes = order.iter().map(|(_, index)| *index as usize);
        let entries = indexes.filter_map(|index| Some((index, self.toc.entry(index)?)));
        self.refuse_toc(entries, &mut refusals);
        refusals.found
    }

    /// Checks entries, which must be sorted by offset. If they are not, returns false, and
    /// `refusals` is incomplete.
    fn refuse_toc<'a>(
        &self,
        entries: impl Iterator<Item = (usize, Entry<'a>)> + Clone,
        refusals: &mut Refusals,
    ) -> bool {
        let Some(has_hard_links) = self.refuse_entries(entries.clone(), refusals) else {
            return false;
        };
        if has_hard_links {
            refuse_hard_links(entries, refusals);
        }
        true
    }

    fn refuse_spans(&self, refusals: &mut Refusals) {
        if let Zinfo::Gzip(zinfo) = &self.zinfo
            && zinfo.checkpoints.first().is_some_and(|c| c.first_byte().0 < GZIP_HEADER_MIN_LEN)
        {
            refusals.push(Refusal::GzipHeader);
        }
        // There is one digest per span, and unlike the span count of a plain tar, digests take up
        // space in the blob.
        for (span_id, _) in (0..).map(SpanId).zip(&self.span_digests) {
            let (Ok(compressed), Ok((start, end))) =
                (self.span_compressed_range(span_id), self.span_uncompressed_range(span_id))
            else {
                return;
            };
            // The end of a gzip layer's last span is unknown, but it is not before the end of the
            // tar.
            let open_end = UncompressedOffset(self.uncompressed_archive_size);
            let is_last = i64::from(span_id.0) == self.max_span_id();
            let uncompressed = start..end.unwrap_or(open_end);
            if !is_last && (compressed.is_empty() || uncompressed.is_empty()) {
                refusals.push(Refusal::EmptySpan { span_id });
            }
            if is_large(compressed.start.0..compressed.end.0)
                || is_large(uncompressed.start.0..uncompressed.end.0)
            {
                refusals.push(Refusal::SpanSize { span_id });
            }
        }
    }

    /// Returns whether there are hard links; `None` if the entries are not sorted by offset.
    fn refuse_entries<'a>(
        &self,
        entries: impl Iterator<Item = (usize, Entry<'a>)>,
        refusals: &mut Refusals,
    ) -> Option<bool> {
        let mut previous_offset = i64::MIN;
        let mut header = 0;
        let mut previous_has_size = false;
        let mut has_hard_links = false;
        for (index, entry) in entries {
            if entry.uncompressed_offset() < previous_offset {
                return None;
            }
            previous_offset = entry.uncompressed_offset();
            let kind = entry.entry_type();
            has_hard_links |= kind == EntryType::HardLink;
            let offset = previous_offset.unsigned_abs();
            if header > offset {
                refusals.push(Refusal::Overlap { index });
            } else if kind == EntryType::Regular
                && (offset - header < BLOCK
                    || !(offset - header).is_multiple_of(BLOCK)
                    || previous_has_size)
            {
                refusals.push(Refusal::HeaderPlace { index });
            }
            if kind == EntryType::Regular {
                self.refuse_file(index, entry, refusals);
            }
            header = end_of_data(entry).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
            // If the header of a link, directory or device gives a size, the reader expects data,
            // but none follows.
            previous_has_size = kind != EntryType::Regular && entry.uncompressed_size() > 0;
        }
        Some(has_hard_links)
    }

    fn refuse_file(&self, index: usize, entry: Entry<'_>, refusals: &mut Refusals) {
        if entry.mod_time().is_empty() {
            refusals.push(Refusal::ModTime { index });
        }
        let sparse = [b"GNU.sparse.major".as_slice(), b"GNU.sparse.map"];
        if entry.has_key(|key| sparse.contains(&key)) {
            refusals.push(Refusal::Sparse { index });
        }
        if let Zinfo::Tar(zinfo) = &self.zinfo
            && entry.uncompressed_size() > 0
            && end_of_data(entry) == zinfo.size
            && zinfo.size.checked_rem(zinfo.span_size) == Some(0)
        {
            refusals.push(Refusal::EndOfLastSpan { index });
        }
    }
}

fn refuse_hard_links<'a>(
    entries: impl Iterator<Item = (usize, Entry<'a>)>,
    refusals: &mut Refusals,
) {
    // Hashes, since names would take far more memory. The key is random, so that nobody can
    // choose names with equal hashes.
    let hasher = RandomState::new();
    let mut earlier = HashSet::new();
    for (index, entry) in entries {
        let target = || hasher.hash_one(clean(entry.linkname()));
        if entry.entry_type() == EntryType::HardLink && !earlier.contains(&target()) {
            refusals.push(Refusal::HardLink { index });
        }
        earlier.insert(hasher.hash_one(clean(entry.name())));
    }
}

fn is_large(range: Range<u64>) -> bool {
    range.end.saturating_sub(range.start) >= SPAN_LIMIT
}

/// The offset after an entry's data. Neither number is negative, and the sum of two `i64` fits.
fn end_of_data(entry: Entry<'_>) -> u64 {
    let offset = entry.uncompressed_offset().unsigned_abs();
    offset.saturating_add(entry.uncompressed_size().unsigned_abs())
}

/// The components of a path without `.`, `..` and empty ones, as the reader compares paths. `..`
/// never leads above the root.
fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}
