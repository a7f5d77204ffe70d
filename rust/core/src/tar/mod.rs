//! Reading tar: push uncompressed bytes to list a layer's entries, or read the headers of one
//! entry.
//!
//! `header` parses header blocks, `pax` (and `walk`, for GNU long names) the pseudo entries that
//! describe the next entry, `sparse` sparse maps, `time` times and `number` numbers; `hazard` finds
//! entries that readers of the zTOC reject. `walk` is the parser that combines them, and
//! [`TocScanner`] and [`read_headers`] are its two interfaces. File data is skipped without being
//! read.
//!
//! A zTOC must be byte-identical to the reference's, whose entries are those that `Next` of Go's
//! `archive/tar` returns. So this is the dialect of that reader (V7, ustar, PAX, GNU, star, and the
//! bugs of old Go versions), including what it treats as the end of the archive or as an error.

mod entries;
mod entry;
mod hazard;
mod header;
mod headers;
mod number;
mod pax;
mod rfc3339;
mod sparse;
mod time;
mod toc;
mod walk;

pub use entries::Entries;
pub use entry::{EntryType, FileMetadata};
pub(crate) use entry::{clean_path, is_opaque_mark, is_sparse, is_xattr};
pub use hazard::{Hazard, HazardReason};
pub use headers::{EntryHeaders, read_headers};
pub(crate) use rfc3339::time_parts;
pub use sparse::Region;
pub use toc::Toc;
use toc::TocBuilder;
use walk::Walk;

use crate::error::{self, Error, TarError};
use crate::span::UncompressedOffset;

/// Why an archive is read, which decides how to handle entries of types that a zTOC cannot
/// represent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Purpose {
    /// To index a layer: they are errors, as in the reference.
    #[default]
    Index,
    /// To read a layer: PAX global headers are ignored and other types are errors, as in
    /// containerd.
    Read,
    /// To find the members of an image archive: as `Read`, but types unknown to POSIX are regular
    /// files, as POSIX requires. Old GNU sparse files are errors.
    Archive,
}

/// Builds the table of contents of a tar archive that arrives in pieces of any size.
///
/// Whatever the archive contains, it holds only the TOC, a payload of up to 1 MiB and one block.
#[derive(Debug)]
pub struct TocScanner {
    walk: Walk,
    toc: TocBuilder,
    failure: Option<Error>,
}

impl Default for TocScanner {
    fn default() -> Self {
        Self::new(Purpose::default())
    }
}

impl TocScanner {
    /// A scanner at the start of an archive.
    #[must_use]
    pub fn new(purpose: Purpose) -> Self {
        Self { walk: Walk::new(purpose, 0), toc: TocBuilder::new(), failure: None }
    }

    /// Takes the next uncompressed bytes. The result does not depend on how the archive is cut into
    /// pieces.
    ///
    /// Bytes after the end of the archive (two zero blocks) are ignored.
    ///
    /// # Errors
    ///
    /// `Error::Tar` with the offset of the invalid block, if the archive cannot be read for this
    /// purpose. Every later call returns the same error.
    pub fn push(&mut self, bytes: &[u8]) -> error::Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.take(bytes).map_err(|kind| {
            let failure = Error::Tar { kind, at: UncompressedOffset(self.walk.block_offset()) };
            self.failure = Some(failure.clone());
            failure
        })
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while let Some(entry) = self.walk.next_entry(&mut bytes)? {
            self.toc.add(entry, self.walk.position())?;
        }
        Ok(())
    }

    /// The number of bytes that can be skipped: the rest of a file's data and its padding, or all
    /// bytes (`u64::MAX`) after the end of the archive.
    #[must_use]
    pub const fn skippable(&self) -> u64 {
        self.walk.skippable()
    }

    /// Skips the next `len` bytes, but at most [`Self::skippable`], and returns the number of bytes
    /// skipped. Equivalent to pushing those bytes.
    pub fn skip(&mut self, len: u64) -> u64 {
        self.walk.skip(len)
    }

    /// The number of entries found so far.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.toc.len()
    }

    /// Ends the archive and returns its table of contents.
    ///
    /// Besides after two zero blocks, an archive may end at any block boundary where a header could
    /// start, after a single zero block, and inside the padding of a file.
    ///
    /// # Errors
    ///
    /// `Error::Tar` if it ends anywhere else, or the error that an earlier `push` returned.
    pub fn finish(self) -> error::Result<Toc> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.walk.unfinished() {
            None => Ok(self.toc.finish(self.walk.position())),
            Some((place, at)) => {
                Err(Error::Tar { kind: TarError::Truncated(place), at: UncompressedOffset(at) })
            }
        }
    }
}
