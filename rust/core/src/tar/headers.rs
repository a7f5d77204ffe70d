//! The headers of one entry, read on their own.

use super::Purpose;
use super::entry::FileMetadata;
use super::sparse::Region;
use super::walk::{Walk, padding_after};
use crate::error::{Error, Result, TarError};
use crate::span::UncompressedOffset;

/// What the headers of one entry say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeaders {
    /// The entry as a zTOC lists it; its data begins at `uncompressed_offset`.
    pub entry: FileMetadata,
    /// Bytes of data that the archive holds for it: 0 for all but regular files, and for a sparse file
    /// as many as it has data.
    pub stored_size: u64,
    /// Which parts of a sparse file these bytes are, in order; `None` for any other entry. Nothing makes
    /// them as many bytes as are stored.
    pub regions: Option<Vec<Region>>,
}

impl EntryHeaders {
    /// Where the headers end and the data begins.
    #[must_use]
    pub fn data_offset(&self) -> UncompressedOffset {
        UncompressedOffset(self.entry.uncompressed_offset.unsigned_abs())
    }

    /// Where the entry ends, with the padding of its data: there the next entry's headers begin.
    #[must_use]
    pub fn end(&self) -> UncompressedOffset {
        let padded = self.stored_size.saturating_add(padding_after(self.stored_size));
        UncompressedOffset(self.data_offset().0.saturating_add(padded))
    }
}

/// Read the headers of one entry of a layer: of the first in a stretch of its uncompressed bytes that
/// begins, `start` bytes into the layer, where the entry before ends.
///
/// What follows the headers is not looked at. The dialect is that of a [`super::TocScanner`] for
/// [`Purpose::Read`].
///
/// # Errors
///
/// `Error::Tar` if the bytes are not the headers of an entry, or not all of them.
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
