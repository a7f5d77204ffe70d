//! Inodes from the merged tree of an image with zTOCs.

use super::build::{Description, Names, build};
use super::{DataPlace, Inodes};
use crate::error::{Error, Result, ZtocError};
use crate::tar::{Entries, EntryType};
use crate::tree::{Location, Source, Tree};
use crate::ztoc::{Entry, IMPLIED_DIRECTORY, Unpacked, header_blocks};

/// Size of a tar block.
const BLOCK_LEN: u64 = 512;
/// Maximum size and offset of a file in bytes, so that sums of them fit 64 bits; as in seek tables.
const MAX_SIZE: u64 = 1 << 60;

impl Inodes {
    /// The inodes of a tree of zTOC entries.
    ///
    /// # Errors
    /// `Error::Ztoc` if an entry has an impossible size or offset, or if there is more of something
    /// than fits in memory.
    pub fn from_tree<L>(tree: &Tree<L>) -> Result<Self>
    where
        L: for<'a> Entries<Entry<'a> = Entry<'a>> + 'static,
    {
        let header_blocks = tree.layers().iter().map(header_blocks).collect();
        build(&TreeNames { tree, header_blocks })
    }
}

struct TreeNames<'t, L> {
    tree: &'t Tree<L>,
    /// For each layer, the number of header blocks of each entry.
    header_blocks: Vec<Vec<u32>>,
}

impl<L> TreeNames<'_, L>
where
    L: for<'a> Entries<Entry<'a> = Entry<'a>> + 'static,
{
    /// The size of a regular file, and where its data is.
    fn data(&self, source: Source, entry: Entry<'_>) -> Result<(u64, Option<DataPlace>)> {
        let Source { layer, entry: Some(number) } = source else { return Ok((0, None)) };
        let wrong = |what| {
            let kind = ZtocError::TocEntry { index: number.into(), what };
            Error::Ztoc { kind, at: 0 }
        };
        let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value <= MAX_SIZE);
        let size =
            positive(entry.uncompressed_size()).ok_or_else(|| wrong("has an impossible size"))?;
        if size == 0 {
            return Ok((0, None));
        }
        let bad_offset = || wrong("has an impossible offset");
        let offset = positive(entry.uncompressed_offset()).ok_or_else(bad_offset)?;
        let blocks = self.header_blocks.get(layer as usize);
        let blocks = blocks.and_then(|blocks| blocks.get(number as usize)).copied().unwrap_or(1);
        let header_len = u64::from(blocks) * BLOCK_LEN;
        let header_start = offset.checked_sub(header_len).ok_or_else(bad_offset)?;
        Ok((size, Some(DataPlace { layer, header_start, offset })))
    }
}

impl<L> Names for TreeNames<'_, L>
where
    L: for<'a> Entries<Entry<'a> = Entry<'a>> + 'static,
{
    type Place = Location;

    fn count(&self) -> usize {
        self.tree.name_count()
    }

    fn root(&self) -> Result<Location> {
        Ok(Location::ROOT)
    }

    fn children(&self, directory: &Location, _path: &[u8]) -> Result<Vec<Location>> {
        Ok(self.tree.children(*directory))
    }

    fn name<'a>(&'a self, place: &'a Location) -> &'a [u8] {
        self.tree.name(*place)
    }

    fn kind(&self, place: &Location) -> EntryType {
        self.tree.kind(*place)
    }

    fn file(&self, place: &Location) -> Option<u64> {
        let Source { layer, entry } = self.tree.source(*place);
        let has_links = self.tree.links().contains_key(&(layer, entry?));
        has_links.then(|| self.tree.inode(*place))
    }

    fn describe(&self, place: &Location, path: &[u8]) -> Result<Description> {
        let source = self.tree.source(*place);
        let listed = self.tree.metadata(*place);
        let entry = listed.unwrap_or_else(|| Entry::from(&IMPLIED_DIRECTORY));
        let link = source.entry.and_then(|index| self.tree.links().get(&(source.layer, index)));
        let link = link.and_then(|(layer, index)| self.tree.entry(*layer, *index));
        let unpacked = Unpacked::new(entry, link);
        let own = Unpacked::new(entry, None);
        let kind = self.tree.kind(*place);
        let is_file = kind == EntryType::Regular;
        let (size, data) = if is_file { self.data(source, entry)? } else { (0, None) };
        let tar_path = entry.clean_name();
        Ok(Description {
            kind,
            is_implied: listed.is_none(),
            mode: unpacked.mode(),
            uid: unpacked.uid(),
            gid: unpacked.gid(),
            mtime: unpacked.mod_time_parts().unwrap_or((0, 0)),
            size,
            device: (entry.devmajor(), entry.devminor()),
            data,
            target: match kind {
                EntryType::SymLink => entry.linkname().to_vec(),
                _ => Vec::new(),
            },
            xattrs: unpacked.xattrs().into_iter().collect(),
            tar_path: (is_file && *tar_path != *path).then(|| tar_path.into_owned()),
            header_owner: Some((own.mode(), own.uid(), own.gid())),
        })
    }

    fn too_many(&self, what: &'static str, value: u64, _limit: u64) -> Error {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        Error::Ztoc { kind: ZtocError::Value { what, value }, at: 0 }
    }
}
