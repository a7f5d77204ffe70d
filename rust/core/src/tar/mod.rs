//! tar, read one way: push uncompressed bytes and get the layer's entries, or read the headers of one
//! entry.
//!
//! In this room: header blocks (`header`), the pseudo entries that speak about the next one (`pax`
//! and, in `walk`, GNU long names), sparse maps (`sparse`), times (`time`), numbers (`number`), and
//! what readers of the resulting zTOC will not like (`hazard`). `walk` puts them together; [`TocScanner`]
//! and [`read_headers`] are its two faces. Not here: file data, which is skipped unseen.
//!
//! A zTOC must be byte-identical with the reference's, whose entries are those that `Next` of Go's
//! `archive/tar` returns. So this is that reader's dialect of tar (V7, ustar, PAX, GNU, star, and
//! its own old bugs), including what it takes for an end and what for an error.

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
pub(crate) use entry::clean_path;
pub use entry::{EntryType, FileMetadata};
pub use hazard::{Hazard, HazardReason};
pub use headers::{EntryHeaders, read_headers};
pub use sparse::Region;
pub use toc::Toc;
use toc::TocBuilder;
use walk::Walk;

use crate::error::{self, Error, TarError};
use crate::span::UncompressedOffset;

/// What an archive is read for, which decides about entries that a zTOC has no word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Purpose {
    /// To index a layer: they are refused, as by the reference.
    #[default]
    Index,
    /// To read a layer: PAX global headers are ignored, as containerd does; the others are refused, as
    /// containerd does too.
    Read,
    /// To find the members of an image archive: as `Read`, but types that POSIX does not know are
    /// regular files, as it demands. Old GNU sparse files are refused.
    Archive,
}

/// Reads a tar archive that comes in pieces of any size and keeps its table of contents.
///
/// Memory is the TOC, a payload of up to 1 MiB and one block, whatever the archive says.
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

    /// Take the next uncompressed bytes. How the archive is cut into pieces makes no difference.
    ///
    /// Bytes after the end of the archive (two zero blocks) are ignored.
    ///
    /// # Errors
    ///
    /// `Error::Tar` with the block concerned, if the archive is not one that can be read for this
    /// purpose; the same again from every later call.
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

    /// How many of the next bytes need not be looked at: the rest of a file's data and its padding, or
    /// all bytes (`u64::MAX`) after the end of the archive.
    #[must_use]
    pub const fn skippable(&self) -> u64 {
        self.walk.skippable()
    }

    /// Pass over the next `len` bytes, or as many of them as are [`Self::skippable`], and return how
    /// many; the same as pushing them.
    pub fn skip(&mut self, len: u64) -> u64 {
        self.walk.skip(len)
    }

    /// How many entries have been found.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.toc.len()
    }

    /// Say that the archive has no more bytes and get its table of contents.
    ///
    /// An archive may end, besides after two zero blocks, at any block boundary where a header is
    /// due, after a single zero block, and inside the padding of a file.
    ///
    /// # Errors
    ///
    /// `Error::Tar` if it ends anywhere else, or what an earlier `push` returned.
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
