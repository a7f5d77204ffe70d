//! Entries that the reference indexes but that its reader, soci-snapshotter, rejects.
//!
//! The reader derives the start of an entry's header from the end of the previous entry, compares
//! headers field by field, and resolves hard links in archive order. Each hazard defeats one of
//! these steps.
//!
//! Source: docs/format.md#broken-for-readers.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use super::entry::{EntryType, FileMetadata, clean_path};

/// An entry that soci-snapshotter cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hazard {
    /// The entry's index in `Toc::entries`.
    pub entry_index: usize,
    /// What is wrong with the entry.
    pub reason: HazardReason,
}

/// Why soci-snapshotter cannot read an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HazardReason {
    /// A PAX sparse file: the zTOC has its expanded size, so the next header is expected in the
    /// wrong place.
    SparseFile,
    /// A link, directory, device or pipe with a size other than 0, which has the same effect.
    SizeWithoutData,
    /// A regular file whose user or group ID does not fit in 32 bits: it fails verification.
    WideOwner,
    /// A regular file whose modification year is outside 0–9999: it fails verification.
    ImpossibleYear,
    /// A hard link whose target is not an earlier entry: the layer is not mounted.
    LinkTargetNotEarlier,
}

impl HazardReason {
    /// A stable code for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SparseFile => "sparse-file",
            Self::SizeWithoutData => "size-without-data",
            Self::WideOwner => "wide-owner",
            Self::ImpossibleYear => "impossible-year",
            Self::LinkTargetNotEarlier => "link-target-not-earlier",
        }
    }
}

impl fmt::Display for HazardReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SparseFile => "sparse file",
            Self::SizeWithoutData => "entry without data has a non-zero size",
            Self::WideOwner => "user or group ID does not fit in 32 bits",
            Self::ImpossibleYear => "modification year is outside 0–9999",
            Self::LinkTargetNotEarlier => "hard link whose target is not an earlier entry",
        })
    }
}

/// Finds the hard links whose targets are not earlier entries.
///
/// This costs nothing for a layer without hard links. Directories that exist only as part of
/// another entry's path do not count, since a hard link to a directory cannot be created anyway.
pub(super) fn dangling_hard_links(entries: &[FileMetadata]) -> Vec<Hazard> {
    let is_link = |entry: &FileMetadata| entry.entry_type == EntryType::HardLink;
    let Some(last_link) = entries.iter().rposition(is_link) else {
        return Vec::new();
    };
    let mut hazards = Vec::new();
    // The root always exists.
    let mut earlier = HashSet::from([Cow::Borrowed(&b""[..])]);
    for (entry_index, entry) in entries.iter().enumerate().take(last_link + 1) {
        if is_link(entry) && !earlier.contains(&clean_path(&entry.linkname)) {
            let reason = HazardReason::LinkTargetNotEarlier;
            hazards.push(Hazard { entry_index, reason });
        }
        earlier.insert(clean_path(&entry.name));
    }
    hazards
}
