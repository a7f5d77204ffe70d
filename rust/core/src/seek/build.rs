//! Makes the root and the file list of an image from its zTOCs and seek blobs.

use std::collections::HashMap;
use std::sync::Arc;

use super::list_chunk::{self, Extra, ListEntry, Owner, Row};
use super::root::{self, MAX_ENTRIES};
use super::{MAX_LAYER_SIZE, SeekLayer, in_part};
use crate::digest::Digest;
use crate::error::{Result, SeekError, SeekPart};
use crate::tar::{Entries, EntryType};
use crate::tree::{Location, Tree, TreeBuilder};
use crate::ztoc::{Entry, IMPLIED_DIRECTORY, Unpacked, Ztoc, header_blocks};

/// Maximum total length of the paths of an image in bytes: all of them are in memory while the list is
/// sorted. Ten million files need about this much, but a single path of 4 KiB can also imply two
/// thousand directories.
const MAX_PATHS_LEN: u64 = 1 << 30;
/// The parts of a seek table besides the seek blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeekTable {
    /// The root.
    pub root: Vec<u8>,
    /// The file list blob: position map and chunks of the file list.
    pub list_blob: Vec<u8>,
}

/// A layer of the image.
#[derive(Debug)]
pub struct LayerParts {
    /// Its zTOC, for the entries.
    pub ztoc: Arc<Ztoc>,
    /// Its seek blob.
    pub seek: SeekLayer,
    /// The digest of the layer as stored.
    pub digest: Digest,
}

/// The entries of a layer, which the tree shares.
#[derive(Debug)]
struct Layer(Arc<Ztoc>);

impl Entries for Layer {
    type Entry<'a> = Entry<'a>;

    fn count(&self) -> usize {
        self.0.toc.count()
    }

    fn entry(&self, index: usize) -> Option<Entry<'_>> {
        self.0.toc.entry(index)
    }

    fn name(&self, index: usize) -> &[u8] {
        self.0.toc.name(index)
    }

    fn linkname(&self, index: usize) -> &[u8] {
        self.0.toc.linkname(index)
    }

    fn entry_type(&self, index: usize) -> EntryType {
        self.0.toc.entry_type(index)
    }
}

/// Makes the seek table of an image from its layers, lowest first.
///
/// # Errors
/// `Error::Seek` if a count or size exceeds what the format allows, if layers have different span
/// sizes, or if a zTOC has an entry with an impossible size or offset.
pub fn build(layers: &[LayerParts]) -> Result<SeekTable> {
    let mut builder =
        TreeBuilder::with_capacity(layers.iter().map(|layer| layer.ztoc.toc.count()).sum());
    for layer in layers {
        builder.push_layer(Layer(Arc::clone(&layer.ztoc)));
        while builder.apply(usize::MAX) {}
    }
    let tree = builder.finish();
    let in_root = in_part(SeekPart::Root);
    let rows = Rows::of(&tree, layers).map_err(&in_root)?;
    // An image without layers still has a root directory.
    let chunks = list_chunk::write(&rows, layers.len().max(1)).map_err(&in_root)?;
    let seek: Vec<_> = layers.iter().map(|layer| (layer.digest, &layer.seek)).collect();
    let (root, list_blob) = root::write(&seek, &chunks)?;
    Ok(SeekTable { root, list_blob })
}

struct Rows<'a> {
    tree: &'a Tree<Layer>,
    /// For each layer, the number of header blocks of each entry.
    header_blocks: Vec<Vec<u32>>,
}

impl Rows<'_> {
    /// The rows of all entries, sorted by directory and name.
    fn of(tree: &Tree<Layer>, layers: &[LayerParts]) -> std::result::Result<Vec<Row>, SeekError> {
        let header_blocks = layers.iter().map(|layer| header_blocks(&layer.ztoc.toc)).collect();
        let rows = Rows { tree, header_blocks };
        let mut found = vec![(rows.row(&[], Location::ROOT)?, None)];
        let mut walk = tree.walk(Location::ROOT);
        let mut paths_len = 0;
        while let Some(location) = tree.next(&mut walk) {
            paths_len += walk.path().len() as u64;
            if paths_len > MAX_PATHS_LEN {
                let (what, value) = ("length of all paths", paths_len);
                return Err(SeekError::TooLarge { what, value, limit: MAX_PATHS_LEN });
            }
            let source = tree.source(location);
            let is_directory = tree.is_directory(location);
            let file = source.entry.filter(|_| !is_directory).map(|entry| (source.layer, entry));
            found.push((rows.row(walk.path(), location)?, file));
        }
        if found.len() as u64 > MAX_ENTRIES {
            let (what, value) = ("number of entries", found.len() as u64);
            return Err(SeekError::TooLarge { what, value, limit: MAX_ENTRIES });
        }
        found.sort_unstable_by(|(a, _), (b, _)| {
            (&a.directory, &a.name).cmp(&(&b.directory, &b.name))
        });
        number_names(&mut found);
        Ok(found.into_iter().map(|(row, _)| row).collect())
    }

    fn row(&self, path: &[u8], location: Location) -> std::result::Result<Row, SeekError> {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (directory, name) = match slash {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&[][..], path),
        };
        let source = self.tree.source(location);
        let listed = self.tree.metadata(location);
        let is_implied = listed.is_none();
        let entry = listed.unwrap_or_else(|| Entry::from(&IMPLIED_DIRECTORY));
        let link = source.entry.and_then(|index| self.tree.links().get(&(source.layer, index)));
        let link = link.and_then(|(layer, index)| self.tree.entry(*layer, *index));
        let unpacked = Unpacked::new(entry, link);
        let kind = entry.entry_type();

        let mut found = ListEntry {
            kind,
            is_implied,
            layer: source.layer,
            mode: unpacked.mode(),
            mtime: unpacked.mod_time_parts().unwrap_or((0, 0)),
            ..ListEntry::default()
        };
        let mut extra = Extra {
            device: (entry.devmajor(), entry.devminor()),
            xattrs: unpacked.xattrs().into_iter().collect(),
            ..Extra::default()
        };
        if kind == EntryType::Regular {
            let positive = |what, value: i64| match u64::try_from(value) {
                Ok(value) if value > MAX_LAYER_SIZE => {
                    Err(SeekError::TooLarge { what, value, limit: MAX_LAYER_SIZE })
                }
                Ok(value) => Ok(value),
                Err(_) => Err(SeekError::Value { what, value: value.cast_unsigned() }),
            };
            found.size = positive("size of a file", entry.uncompressed_size())?;
            found.offset = positive("offset of a file", entry.uncompressed_offset())?;
            let blocks = self.header_blocks.get(source.layer as usize);
            let blocks = blocks.and_then(|blocks| blocks.get(source.entry? as usize));
            found.header_blocks = blocks.copied().unwrap_or(1);
            list_chunk::check_place(&found)?;
            let tar_name = entry.clean_name();
            extra.tar_name = (*tar_name != *path).then(|| tar_name.into_owned());
            let owner = |file: Unpacked<'_>| (file.mode(), file.uid(), file.gid());
            let own = owner(Unpacked::new(entry, None));
            extra.has_link_owner = own != owner(unpacked);
        }
        if matches!(kind, EntryType::SymLink | EntryType::HardLink) {
            found.target = entry.linkname().to_vec();
        }
        found.extra = (extra != Extra::default()).then(|| Box::new(extra));
        let owner = Owner {
            uid: unpacked.uid(),
            gid: unpacked.gid(),
            uname: unpacked.uname().to_vec(),
            gname: unpacked.gname().to_vec(),
        };
        Ok(Row { directory: directory.to_vec(), name: name.to_vec(), owner, entry: found })
    }
}

/// A row, and the layer and entry of its file; `None` for a directory.
type Found = (Row, Option<(u32, u32)>);

/// For each file with several names, records in each of its rows how far back the first one is.
fn number_names(rows: &mut [Found]) {
    let mut names: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
    for (index, (_, file)) in rows.iter().enumerate() {
        if let Some(file) = file {
            names.entry(*file).or_default().push(index);
        }
    }
    for indices in names.values().filter(|indices| indices.len() > 1) {
        for index in indices {
            let extra = rows[*index].0.entry.extra.get_or_insert_default();
            extra.names_before = u32::try_from(index - indices[0]).ok();
        }
    }
}
