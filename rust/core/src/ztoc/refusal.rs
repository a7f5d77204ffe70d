//! What the reference's reader, soci-snapshotter, would not take although it is in order otherwise.
//!
//! Only what the zTOC alone shows: a wrong digest, or a header that contradicts its entry, needs the
//! layer.
//!
//! Source: docs/format.md#acceptance-rules; docs/format.md#broken-for-readers.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use thiserror::Error;

use super::{Zinfo, Ztoc};
use crate::span::{SpanId, UncompressedOffset};
use crate::tar::{Entries, EntryType, FileMetadata};

/// Tar headers and data start at multiples of this.
const BLOCK: u64 = 512;
/// The fixed part of a gzip header (RFC 1952 §2.3).
const GZIP_HEADER_MIN_LEN: u64 = 10;
/// The reader keeps span sizes in C's `int`.
const SPAN_LIMIT: u64 = 1 << 31;
/// Reasons of each kind that are kept: a hostile zTOC has millions, and nobody reads them.
pub const MAX_REFUSALS: usize = 10_000;

/// One reason for the reference's reader to refuse a layer or one of its files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not enough bytes before the first span for the gzip header it looks for there.
    #[error("span 0 starts before a gzip header could end")]
    GzipHeader,
    /// Offsets must grow from span to span: an empty first member or an early flush breaks that.
    #[error("{span_id} is empty on one ruler")]
    EmptySpan {
        /// The empty span.
        span_id: SpanId,
    },
    /// A span of 2 GiB or more.
    #[error("{span_id} is not smaller than 2 GiB")]
    SpanSize {
        /// The large span.
        span_id: SpanId,
    },
    /// The end of the entry before, rounded up to a block, lies beyond the entry's data.
    #[error("toc entry {index} overlaps the one before it")]
    Overlap {
        /// Its number in the stored order.
        index: usize,
    },
    /// A hard link to something that does not come earlier.
    #[error("toc entry {index} is a hard link to no earlier entry")]
    HardLink {
        /// Its number in the stored order.
        index: usize,
    },
    /// The file's header is not where the entry before it seems to end.
    #[error("toc entry {index} has no header after the end of the entry before it")]
    HeaderPlace {
        /// Its number in the stored order.
        index: usize,
    },
    /// The file's time is missing, so it never equals the header's.
    #[error("toc entry {index} has no modification time")]
    ModTime {
        /// Its number in the stored order.
        index: usize,
    },
    /// The size is that of the expanded file, of which the layer holds only parts.
    #[error("toc entry {index} is a sparse file")]
    Sparse {
        /// Its number in the stored order.
        index: usize,
    },
    /// The data ends a plain tar and its last, full span: the reader looks for one more.
    #[error("toc entry {index} ends where the last span does")]
    EndOfLastSpan {
        /// Its number in the stored order.
        index: usize,
    },
}

impl Refusal {
    /// A stable word for programs.
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

    /// The span it is about; `None` where it is about an entry.
    #[must_use]
    pub const fn span_id(&self) -> Option<SpanId> {
        match self {
            Self::GzipHeader => Some(SpanId(0)),
            Self::EmptySpan { span_id } | Self::SpanSize { span_id } => Some(*span_id),
            _ => None,
        }
    }

    /// The entry it is about, by its number in the stored order; `None` where it is about a span.
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

    /// Whether the whole layer is refused, and unpacked as if it had no zTOC; otherwise one file
    /// cannot be read, or not rightly.
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
#[derive(Debug, Default)]
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
    /// The reasons the zTOC itself gives the reference's reader to refuse it, at most
    /// [`MAX_REFUSALS`] about the whole layer and as many about files; none if all is well.
    #[must_use]
    pub fn reader_refusals(&self) -> Vec<Refusal> {
        let mut refusals = Refusals::default();
        self.refuse_spans(&mut refusals);
        // The reader sorts; the derived place of a header depends on it.
        let offsets = self.toc.iter().map(|entry| entry.uncompressed_offset);
        if offsets.clone().is_sorted() {
            self.refuse_toc(0..self.toc.len(), &mut refusals);
        } else {
            // A blob of less than 1 GiB has fewer entries than fit 32 bits.
            let mut order: Vec<(i64, u32)> = offsets.zip(0..).collect();
            order.sort_unstable();
            self.refuse_toc(order.iter().map(|(_, index)| *index as usize), &mut refusals);
        }
        refusals.found
    }

    fn refuse_toc(&self, order: impl Iterator<Item = usize> + Clone, refusals: &mut Refusals) {
        self.refuse_entries(order.clone(), refusals);
        self.refuse_hard_links(order, refusals);
    }

    fn refuse_spans(&self, refusals: &mut Refusals) {
        if let Zinfo::Gzip(zinfo) = &self.zinfo
            && zinfo.checkpoints.first().is_some_and(|c| c.first_byte().0 < GZIP_HEADER_MIN_LEN)
        {
            refusals.push(Refusal::GzipHeader);
        }
        // One digest for each span, and unlike a plain tar's span count they are really there.
        for (span_id, _) in (0..).map(SpanId).zip(&self.span_digests) {
            let (Ok(compressed), Ok((start, end))) =
                (self.span_compressed_range(span_id), self.span_uncompressed_range(span_id))
            else {
                return;
            };
            // The last span of a gzip layer has no known end; the tar's is the least it can have.
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

    fn refuse_entries(&self, order: impl Iterator<Item = usize>, refusals: &mut Refusals) {
        let mut header = 0;
        let mut is_before_sized = false;
        for index in order {
            let Some(entry) = self.toc.get(index) else { return };
            let offset = entry.uncompressed_offset.unsigned_abs();
            if header > offset {
                refusals.push(Refusal::Overlap { index });
            } else if entry.entry_type == EntryType::Regular
                && (offset - header < BLOCK
                    || !(offset - header).is_multiple_of(BLOCK)
                    || is_before_sized)
            {
                refusals.push(Refusal::HeaderPlace { index });
            }
            if entry.entry_type == EntryType::Regular {
                self.refuse_file(index, &entry, refusals);
            }
            header = end_of_data(&entry).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
            is_before_sized = is_sized_without_data(&entry);
        }
    }

    fn refuse_file(&self, index: usize, entry: &FileMetadata, refusals: &mut Refusals) {
        if entry.mod_time.is_empty() {
            refusals.push(Refusal::ModTime { index });
        }
        let sparse = [b"GNU.sparse.major".as_slice(), b"GNU.sparse.map"];
        if entry.xattrs.iter().any(|(key, _)| sparse.contains(&key.as_slice())) {
            refusals.push(Refusal::Sparse { index });
        }
        if let Zinfo::Tar(zinfo) = &self.zinfo
            && entry.uncompressed_size > 0
            && end_of_data(entry) == zinfo.size
            && zinfo.size.checked_rem(zinfo.span_size) == Some(0)
        {
            refusals.push(Refusal::EndOfLastSpan { index });
        }
    }

    fn refuse_hard_links(
        &self,
        order: impl Iterator<Item = usize> + Clone,
        refusals: &mut Refusals,
    ) {
        let is_link = |index: usize| self.toc.entry_type(index) == EntryType::HardLink;
        if !order.clone().any(is_link) {
            return;
        }
        // Hashes with a key that nobody knows instead of names, which would take far more memory.
        let hasher = RandomState::new();
        let mut earlier = HashSet::new();
        for index in order {
            let target = || hasher.hash_one(clean(self.toc.linkname(index)));
            if is_link(index) && !earlier.contains(&target()) {
                refusals.push(Refusal::HardLink { index });
            }
            earlier.insert(hasher.hash_one(clean(self.toc.name(index))));
        }
    }
}

fn is_large(range: Range<u64>) -> bool {
    range.end.saturating_sub(range.start) >= SPAN_LIMIT
}

/// A link, directory or device whose header gives a size: no data follows, the reader thinks it
/// does.
fn is_sized_without_data(entry: &FileMetadata) -> bool {
    entry.entry_type != EntryType::Regular && entry.uncompressed_size > 0
}

/// Neither number is negative, so the sum of two int64 fits.
fn end_of_data(entry: &FileMetadata) -> u64 {
    entry.uncompressed_offset.unsigned_abs().saturating_add(entry.uncompressed_size.unsigned_abs())
}

/// The names on the way from the root, without `.`, `..` and empty ones: as the reader compares
/// paths, `..` never leading above the root.
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
