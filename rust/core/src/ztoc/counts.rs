//! Statistics of a zTOC, computed in one pass without keeping entries in memory.

use super::Ztoc;
use crate::span::SpanId;
use crate::tar::EntryType;

/// Statistics of a zTOC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The number of entries of each type.
    pub types: [(EntryType, u64); 7],
    /// The number of files with data in more than one span.
    pub multi_span_files: u64,
    /// Compressed size of the largest span in bytes.
    pub largest_span: u64,
}

impl Ztoc {
    /// Counts entries and measures spans.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut types = [
            EntryType::Regular,
            EntryType::Directory,
            EntryType::SymLink,
            EntryType::HardLink,
            EntryType::CharDevice,
            EntryType::BlockDevice,
            EntryType::Fifo,
        ]
        .map(|kind| (kind, 0));
        let mut multi_span_files = 0;
        for entry in self.toc.entries() {
            let entry_type = entry.entry_type();
            if let Some((_, count)) = types.iter_mut().find(|(kind, _)| *kind == entry_type) {
                *count += 1;
            }
            let spans = self.spans_for(entry);
            multi_span_files += u64::from(spans.end.0 - spans.start.0 > 1);
        }
        let spans = (0..).map(SpanId).zip(&self.span_digests);
        let sizes = spans.filter_map(|(span_id, _)| self.span_compressed_range(span_id).ok());
        let largest_span = sizes.map(|range| range.end.0.saturating_sub(range.start.0)).max();
        Counts { types, multi_span_files, largest_span: largest_span.unwrap_or(0) }
    }
}
