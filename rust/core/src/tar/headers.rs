//! Reading the headers of a single entry.

use super::Purpose;
use super::entry::FileMetadata;
use super::sparse::Region;
use super::walk::{Walk, padding_after};
use crate::error::{Error, Result, TarError};
use crate::span::UncompressedOffset;

/// The parsed headers of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeaders {
    /// The entry as a zTOC lists it; its data begins at `uncompressed_offset`.
    pub entry: FileMetadata,
    /// Bytes of data that the archive holds for the entry: 0 unless it is a regular file, and
    /// without the holes of a sparse file.
    pub stored_size: u64,
    /// The regions of a sparse file that these bytes belong to, in order; `None` for any other
    /// entry. Their total length may differ from `stored_size`.
    pub regions: Option<Vec<Region>>,
}

impl EntryHeaders {
    /// Where the headers end and the data begins.
    #[must_use]
    pub fn data_offset(&self) -> UncompressedOffset {
        UncompressedOffset(self.entry.uncompressed_offset.unsigned_abs())
    }

    /// Where the entry ends, including padding: the next entry's headers begin there.
    #[must_use]
    pub fn end(&self) -> UncompressedOffset {
        let padded = self.stored_size.saturating_add(padding_after(self.stored_size));
        UncompressedOffset(self.data_offset().0.saturating_add(padded))
    }
}

/// Reads the headers of the entry at the beginning of `stretch`. These are uncompressed bytes from
/// offset `start` of the layer, where the previous entry ends.
///
/// Bytes after the headers are ignored. The headers are parsed as by a [`super::TocScanner`] for
/// [`Purpose::Read`].
///
/// # Errors
///
/// `Error::Tar` if the bytes are not the complete headers of an entry.
pub fn read_headers(stretch: &[u8], start: UncompressedOffset) -> Result<EntryHeaders> {
    let mut walk = Walk::new(Purpose::Read, start.0);
    let mut rest = stretch;
    match walk.next_entry(&mut rest) {
        Ok(Some(mut draft)) => {
            let (stored_size, regions) = (draft.stored_size, draft.regions.take());
            let mod_time = draft.attributes.mtime.to_rfc3339();
            let entry = draft.into_metadata(walk.position(), mod_time);
            Ok(EntryHeaders { entry, stored_size, regions })
        }
        Ok(None) => Err(Error::Tar { kind: TarError::NoEntry, at: start }),
        Err(kind) => Err(Error::Tar { kind, at: UncompressedOffset(walk.block_offset()) }),
    }
}
