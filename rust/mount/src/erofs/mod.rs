//! Writes the metadata of an image as an EROFS file system whose file data stays where it is, in the
//! uncompressed tars of the layers.
//!
//! The result has the superblock, a slot for each device, all inodes, and then the contents of
//! directories and long link targets. Layer `n` is extra device `n + 1`, and blocks have 512 bytes as
//! in a tar, so that each file is a range of blocks of a device. The result depends on nothing but
//! the arguments.
//!
//! `format` encodes the structures, `chunks` cuts files into ranges of blocks.

mod chunks;
mod format;

use std::collections::BTreeMap;

use thiserror::Error;
use tocsin_core::inodes::{Inode, Inodes, ROOT};
use tocsin_core::tar::EntryType;

use chunks::Chunks;
pub use chunks::Extent;
use format::{
    BLOCK_LEN, CHUNK_INDEX_LEN, DEVICE_SLOT_LEN, DEVICES_START, DIRENT_LEN, INODE_LEN, Layout,
    NULL_BLOCK, Placed, SUPERBLOCK_START,
};

/// Maximum size of a file in bytes, as on ext4 with blocks of 4 KiB.
const MAX_FILE_SIZE: u64 = 16 << 40;
/// The result is padded to this, since readers map pages of it.
const PADDING: u64 = 4096;
/// Maximum length of the result. 10 million files take a quarter of it.
const MAX_LEN: u64 = 4 << 30;

/// Why EROFS cannot represent an image. FUSE may still serve it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ErofsError {
    /// A file that it cannot represent.
    #[error("{}: {what}", String::from_utf8_lossy(path))]
    File {
        /// Its path, without a leading slash.
        path: Vec<u8>,
        /// What is wrong.
        what: &'static str,
    },
    /// There are more layers than device numbers.
    #[error("too many layers for EROFS (found {0}, at most 65534 allowed)")]
    Layers(usize),
    /// A layer has more blocks than block numbers.
    #[error("layer {layer} is too large for EROFS (found {size} bytes, at most 2 TiB allowed)")]
    Layer {
        /// The index of the layer.
        layer: usize,
        /// Its uncompressed size in bytes.
        size: u64,
    },
    /// The metadata is too long.
    #[error("too many files for EROFS (their metadata takes more than 4 GiB)")]
    Metadata,
}

type Result<T> = std::result::Result<T, ErofsError>;

/// The metadata of an image whose uncompressed layers have these sizes in bytes. The devices must be
/// padded to a multiple of 512 bytes.
///
/// `extents`: for the number of a sparse file its data, ascending; `None` for any other file. What is
/// in no extent is zeros.
///
/// # Errors
/// [`ErofsError`] if EROFS cannot represent the image. Also if the data of a file ends after its
/// layer or overlaps that of another file: then it is sparse, or the index lies.
pub fn image(
    inodes: &Inodes,
    layer_sizes: &[u64],
    extents: impl Fn(u64) -> Option<Vec<Extent>>,
) -> Result<Vec<u8>> {
    let device_blocks = device_blocks(layer_sizes)?;
    let sparse = check_files(inodes, layer_sizes, extents)?;
    let writer = Writer { inodes, sparse, device_blocks };
    let layouts = writer.lay_out()?;
    writer.write(&layouts)
}

/// The number of blocks of each layer.
fn device_blocks(layer_sizes: &[u64]) -> Result<Vec<u32>> {
    // Device 0 is the image itself.
    if layer_sizes.len() >= usize::from(u16::MAX) {
        return Err(ErofsError::Layers(layer_sizes.len()));
    }
    let blocks = layer_sizes.iter().enumerate().map(|(layer, size)| {
        let blocks = u32::try_from(size.div_ceil(BLOCK_LEN)).ok();
        let blocks = blocks.filter(|blocks| *blocks < NULL_BLOCK);
        blocks.ok_or(ErofsError::Layer { layer, size: *size })
    });
    blocks.collect()
}

fn numbered(inodes: &Inodes) -> impl Iterator<Item = (u64, &Inode)> {
    (ROOT..).map_while(|number| Some((number, inodes.get(number)?)))
}

/// Checks where the data of all files is, and returns the chunks of sparse files.
fn check_files(
    inodes: &Inodes,
    layer_sizes: &[u64],
    extents: impl Fn(u64) -> Option<Vec<Extent>>,
) -> Result<BTreeMap<u64, Chunks>> {
    let mut sparse = BTreeMap::new();
    let mut ranges = Vec::new();
    for (number, inode) in numbered(inodes) {
        let Some(place) = inode.data else { continue };
        let error = |what| ErofsError::File { path: inodes.path(number), what };
        if inode.size > MAX_FILE_SIZE {
            return Err(error("too large for EROFS (more than 16 TiB)"));
        }
        let extents = extents(number);
        let whole = [Extent { start: 0, len: inode.size, offset: place.offset }];
        let layer_size = layer_sizes.get(place.layer as usize).copied().unwrap_or(0);
        for extent in extents.as_deref().unwrap_or(&whole) {
            let end = extent.offset.checked_add(extent.len);
            if end.is_none_or(|end| end > layer_size) {
                return Err(error("the data ends after the layer"));
            }
            if !extent.offset.is_multiple_of(BLOCK_LEN) {
                return Err(error("the data is not at a multiple of 512 bytes"));
            }
        }
        let len = if extents.is_some() { 0 } else { inode.size };
        ranges.push((place.layer, place.offset, place.offset.saturating_add(len), number));
        if let Some(extents) = extents {
            let chunks = Chunks::sparse(inode.size, place.layer, &extents).map_err(error)?;
            sparse.insert(number, chunks);
        }
    }
    // An index does not say whether a file is sparse. If it is, its size is larger than its data.
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let [(layer, _, end, number), (next_layer, next, ..)] = pair else { continue };
        if layer == next_layer && *end > next.saturating_sub(BLOCK_LEN) {
            let what = "the data overlaps that of another file";
            return Err(ErofsError::File { path: inodes.path(*number), what });
        }
    }
    Ok(sparse)
}

struct Writer<'a> {
    inodes: &'a Inodes,
    sparse: BTreeMap<u64, Chunks>,
    /// The number of blocks of each layer.
    device_blocks: Vec<u32>,
}

struct Layouts {
    placed: Vec<Placed>,
    /// Length of the result in blocks.
    blocks: u32,
}

impl Writer<'_> {
    fn lay_out(&self) -> Result<Layouts> {
        let mut at = (DEVICES_START + self.device_blocks.len() * DEVICE_SLOT_LEN) as u64;
        let mut placed = Vec::with_capacity(self.inodes.len());
        for (number, inode) in numbered(self.inodes) {
            at = format::next_inode(at);
            let fixed = (INODE_LEN + self.xattrs(number)?.len()) as u64;
            let index_len = CHUNK_INDEX_LEN as u64;
            let (layout, len, size) = match inode.kind {
                EntryType::Regular if inode.data.is_some() => {
                    let count = self.chunks(number, inode).places.len() as u64;
                    let len = fixed.next_multiple_of(index_len) + count * index_len;
                    (Layout::Chunks, len, inode.size)
                }
                EntryType::SymLink if fixed + inode.size <= BLOCK_LEN => {
                    let len = fixed + inode.size;
                    // The kernel requires a target after its inode to be in the same block.
                    if at % BLOCK_LEN + len > BLOCK_LEN {
                        at = at.next_multiple_of(BLOCK_LEN);
                    }
                    (Layout::Inline, len, inode.size)
                }
                EntryType::Directory => (Layout::Plain, fixed, self.directory_len(number)),
                _ => (Layout::Plain, fixed, inode.size),
            };
            placed.push(Placed { layout, at, block: 0, size });
            at += len;
            if at > MAX_LEN {
                return Err(ErofsError::Metadata);
            }
        }
        let mut blocks = at.div_ceil(BLOCK_LEN);
        for placed in &mut placed {
            if placed.layout == Layout::Plain && placed.size > 0 {
                placed.block = blocks;
                blocks += placed.size.div_ceil(BLOCK_LEN);
            }
        }
        let blocks = blocks.next_multiple_of(PADDING / BLOCK_LEN);
        let blocks = u32::try_from(blocks).ok().filter(|_| blocks <= MAX_LEN / BLOCK_LEN);
        Ok(Layouts { placed, blocks: blocks.ok_or(ErofsError::Metadata)? })
    }

    fn chunks(&self, number: u64, inode: &Inode) -> Chunks {
        let found = self.sparse.get(&number).cloned();
        let contiguous = || inode.data.map(|place| Chunks::contiguous(inode.size, place));
        found.or_else(contiguous).unwrap_or_default()
    }

    fn xattrs(&self, number: u64) -> Result<Vec<u8>> {
        let all = self.inodes.xattrs(number).iter();
        format::xattrs(all.map(|(name, value)| (&**name, &**value))).ok_or_else(|| {
            let what = "the extended attributes are too long for EROFS";
            ErofsError::File { path: self.inodes.path(number), what }
        })
    }

    // -- directories -------------------------------------------------------------------------------

    /// The names in a directory and their inodes, sorted by bytes, with `.` and `..` among them.
    fn entries(&self, directory: u64) -> Vec<(&[u8], u64)> {
        let children = self.inodes.children(directory).iter();
        let mut entries: Vec<(&[u8], u64)> =
            children.map(|child| (self.inodes.name(child), child.inode.into())).collect();
        for (name, inode) in [(&b"."[..], directory), (b"..", self.inodes.parent(directory))] {
            let at = entries.partition_point(|(other, _)| *other < name);
            entries.insert(at, (name, inode));
        }
        entries
    }

    fn directory_len(&self, directory: u64) -> u64 {
        let (mut full, mut last) = (0, 0);
        for entry_len in self.entries(directory).iter().map(|(name, _)| dirent_len(name)) {
            if last + entry_len > BLOCK_LEN {
                full += 1;
                last = 0;
            }
            last += entry_len;
        }
        full * BLOCK_LEN + last
    }

    fn directory(&self, directory: u64, placed: &[Placed]) -> Vec<u8> {
        let (mut contents, mut block, mut len) = (Vec::new(), Vec::new(), 0);
        for (name, number) in self.entries(directory) {
            if len + dirent_len(name) > BLOCK_LEN {
                contents.extend(format::directory_block(&block));
                contents.resize(contents.len().next_multiple_of(index(BLOCK_LEN)), 0);
                block.clear();
                len = 0;
            }
            len += dirent_len(name);
            let kind = self.inodes.get(number).map_or(EntryType::Directory, |inode| inode.kind);
            block.push((name, placed[index(number - ROOT)], kind));
        }
        contents.extend(format::directory_block(&block));
        contents
    }

    // -- the result --------------------------------------------------------------------------------

    fn write(&self, Layouts { placed, blocks }: &Layouts) -> Result<Vec<u8>> {
        let mut image = Image(vec![0; index(u64::from(*blocks) * BLOCK_LEN)]);
        let device_count = u16::try_from(self.device_blocks.len()).unwrap_or(u16::MAX);
        let inode_count = self.inodes.len() as u64;
        let superblock = format::superblock(*blocks, inode_count, placed[0], device_count);
        image.put(SUPERBLOCK_START as u64, &superblock);
        for (layer, blocks) in self.device_blocks.iter().enumerate() {
            let at = DEVICES_START + layer * DEVICE_SLOT_LEN;
            image.put(at as u64, &format::device_slot(layer, *blocks));
        }
        for ((number, inode), here) in numbered(self.inodes).zip(placed) {
            let xattrs = self.xattrs(number)?;
            let has_chunks = here.layout == Layout::Chunks;
            let chunks = has_chunks.then(|| self.chunks(number, inode));
            let small = u32::try_from(number).unwrap_or(u32::MAX);
            image.put(here.at, &format::inode(small, inode, *here, &xattrs, chunks.as_ref()));
            let xattrs_at = here.at + INODE_LEN as u64;
            image.put(xattrs_at, &xattrs);
            let after = xattrs_at + xattrs.len() as u64;
            if let Some(chunks) = chunks {
                let places = chunks.places.iter();
                let indexes: Vec<u8> =
                    places.flat_map(|place| format::chunk_index(*place)).collect();
                image.put(after.next_multiple_of(CHUNK_INDEX_LEN as u64), &indexes);
            }
            let contents_at =
                if here.layout == Layout::Inline { after } else { here.block * BLOCK_LEN };
            match inode.kind {
                EntryType::Directory => {
                    image.put(contents_at, &self.directory(number, placed));
                }
                EntryType::SymLink => image.put(contents_at, self.inodes.target(number)),
                _ => {}
            }
        }
        Ok(image.0)
    }
}

/// Length of a directory entry and its name.
const fn dirent_len(name: &[u8]) -> u64 {
    (DIRENT_LEN + name.len()) as u64
}

/// A number that is less than `MAX_LEN` as an index.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = index(at);
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
