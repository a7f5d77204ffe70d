//! The structures of EROFS, field by field.
//!
//! Source: torvalds/linux, fs/erofs/erofs_fs.h.

use tocsin_core::inodes::Inode;
use tocsin_core::tar::EntryType;

use super::chunks::Chunks;

/// Size of a block in bytes, and its logarithm.
pub(super) const BLOCK_LEN: u64 = 512;
pub(super) const BLOCK_BITS: u8 = 9;
/// Inode numbers of EROFS are offsets in this unit.
const SLOT_LEN: u64 = 32;
pub(super) const SUPERBLOCK_START: usize = 1024;
const SUPERBLOCK_LEN: usize = 128;
const MAGIC: u32 = 0xE0F5_E1E2;
/// Times of inodes are modification times.
const COMPAT_MTIME: u32 = 0x2;
const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;
const VOLUME_NAME: [u8; 16] = *b"tocsin\0\0\0\0\0\0\0\0\0\0";
/// Device slots follow the superblock.
pub(super) const DEVICES_START: usize = SUPERBLOCK_START + SUPERBLOCK_LEN;
pub(super) const DEVICE_SLOT_LEN: usize = 128;
const DEVICE_TAG_LEN: usize = 64;
/// Length of an inode in its extended form.
pub(super) const INODE_LEN: usize = 64;
const EXTENDED: u16 = 1;
/// Length of the header before the extended attributes of an inode.
const XATTR_HEADER_LEN: usize = 12;
const XATTR_UNIT: usize = 4;
/// Length of a directory entry without its name.
pub(super) const DIRENT_LEN: usize = 12;
/// Length of a chunk index, and the alignment of the first one.
pub(super) const CHUNK_INDEX_LEN: usize = 8;
/// Chunk indexes follow the inode, instead of block addresses alone.
const CHUNK_INDEXES: u32 = 0x20;
/// Largest logarithm of the number of blocks in a chunk.
pub(super) const MAX_CHUNK_BITS: u32 = 31;
/// The block of a hole.
pub(super) const NULL_BLOCK: u32 = u32::MAX;

/// The prefixes of extended attributes and their numbers.
const XATTR_PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// How the data of an inode is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks of the image; also inodes without data.
    Plain = 0,
    /// After the inode.
    Inline = 2,
    /// In chunks of devices.
    Chunks = 4,
}

/// Where an inode and its contents are in the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) layout: Layout,
    /// Offset of the inode in bytes, a multiple of 32.
    pub(super) at: u64,
    /// The first block of its contents, if they are in blocks of the image.
    pub(super) block: u64,
    /// Length of its contents: of a directory's entries, or of a file or link target.
    pub(super) size: u64,
}

impl Placed {
    /// The inode number.
    const fn nid(self) -> u64 {
        self.at / SLOT_LEN
    }
}

/// The offset of the next inode if the last one ends at `at`. The kernel would have to copy an inode
/// that is in two blocks.
pub(super) const fn next_inode(at: u64) -> u64 {
    let at = at.next_multiple_of(SLOT_LEN);
    let is_inside = at % BLOCK_LEN + INODE_LEN as u64 <= BLOCK_LEN;
    if is_inside { at } else { at.next_multiple_of(BLOCK_LEN) }
}

/// A buffer for the fields of a structure.
#[derive(Debug, Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn put<const LEN: usize>(mut self, bytes: [u8; LEN]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u16(self, number: u16) -> Self {
        self.put(number.to_le_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.put(number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.put(number.to_le_bytes())
    }

    /// Everything else is 0.
    fn zeros_to(mut self, len: usize) -> Vec<u8> {
        self.0.resize(len, 0);
        self.0
    }
}

/// The superblock of an image of `blocks` blocks.
pub(super) fn superblock(blocks: u32, inode_count: u64, root: Placed, devices: u16) -> Vec<u8> {
    let devices_start = u16::try_from(DEVICES_START / DEVICE_SLOT_LEN).unwrap_or(0);
    // The root is the first inode, and 65,535 devices end before slot 65,536.
    let root = u16::try_from(root.nid()).unwrap_or(0);
    Fields::default()
        .u32(MAGIC)
        .u32(0) // checksum: there is none
        .u32(COMPAT_MTIME)
        .put([BLOCK_BITS, 0]) // no additional slots of the superblock
        .u16(root)
        .u64(inode_count)
        .put([0; 12]) // time of the build
        .u32(blocks)
        .put([0; 8]) // first blocks of inodes and of shared attributes
        .put([0; 16]) // UUID
        .put(VOLUME_NAME)
        .u32(INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE)
        .u16(0) // compression
        .u16(devices)
        .u16(devices_start)
        .zeros_to(SUPERBLOCK_LEN)
}

/// The slot of a device with `blocks` blocks.
pub(super) fn device_slot(layer: usize, blocks: u32) -> Vec<u8> {
    // The kernel requires a tag or a mount option for each device.
    let mut tag = format!("layer{layer}").into_bytes();
    tag.resize(DEVICE_TAG_LEN, 0);
    tag.extend(blocks.to_le_bytes());
    tag.resize(DEVICE_SLOT_LEN, 0);
    tag
}

/// An inode without what follows it. `number` is that of the table.
pub(super) fn inode(
    number: u32,
    inode: &Inode,
    placed: Placed,
    xattrs: &[u8],
    chunks: Option<&Chunks>,
) -> Vec<u8> {
    let (major, minor) = inode.device;
    let place = match (inode.kind, chunks) {
        (EntryType::CharDevice | EntryType::BlockDevice, _) => {
            (minor & 0xFF) | major << 8 | (minor & !0xFF) << 12
        }
        (_, Some(chunks)) => CHUNK_INDEXES | chunks.bits,
        (_, None) => u32::try_from(placed.block).unwrap_or(0),
    };
    let (seconds, nanoseconds) = inode.mtime;
    Fields::default()
        .u16(EXTENDED | (placed.layout as u16) << 1)
        .u16(xattr_count(xattrs).unwrap_or(0))
        .u16(type_bits(inode.kind) | inode.mode)
        .u16(0)
        .u64(placed.size)
        .u32(place)
        .u32(number)
        .u32(inode.uid)
        .u32(inode.gid)
        .u64(seconds.cast_unsigned())
        .u32(nanoseconds)
        .u32(inode.nlink)
        .zeros_to(INODE_LEN)
}

const fn type_bits(kind: EntryType) -> u16 {
    match kind {
        EntryType::Regular | EntryType::HardLink => 0o10_0000,
        EntryType::SymLink => 0o12_0000,
        EntryType::CharDevice => 0o02_0000,
        EntryType::BlockDevice => 0o06_0000,
        EntryType::Directory => 0o04_0000,
        EntryType::Fifo => 0o01_0000,
    }
}

/// The extended attributes that follow an inode; empty if it has none, `None` if they are too long.
pub(super) fn xattrs<'a>(all: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for (name, value) in all {
        let prefix = XATTR_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        let Some((prefix, number)) = prefix else { continue };
        let name = &name[prefix.len()..];
        if body.is_empty() {
            body.resize(XATTR_HEADER_LEN, 0); // no filter of names, no shared attributes
        }
        body.extend([u8::try_from(name.len()).ok()?, *number]);
        body.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
        body.extend_from_slice(name);
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(XATTR_UNIT), 0);
    }
    xattr_count(&body).map(|_| body)
}

/// The length of extended attributes as an inode has it: 1 for the header, and 1 for each unit after
/// it.
fn xattr_count(xattrs: &[u8]) -> Option<u16> {
    match xattrs.len().checked_sub(XATTR_HEADER_LEN) {
        Some(len) => u16::try_from(1 + len / XATTR_UNIT).ok(),
        None => Some(0),
    }
}

/// The index of a chunk: the layer and its first block, `None` for a hole.
pub(super) fn chunk_index(place: Option<(u32, u64)>) -> [u8; CHUNK_INDEX_LEN] {
    let (device, block) = match place {
        // Device 0 is the image itself.
        Some((layer, block)) => {
            (u16::try_from(layer + 1).unwrap_or(0), u32::try_from(block).unwrap_or(NULL_BLOCK))
        }
        None => (0, NULL_BLOCK),
    };
    let index = u64::from(device) << 16 | u64::from(block) << 32;
    index.to_le_bytes()
}

/// A block of a directory, not padded.
pub(super) fn directory_block(entries: &[(&[u8], Placed, EntryType)]) -> Vec<u8> {
    let mut fields = Fields::default();
    let mut name_at = DIRENT_LEN * entries.len();
    for (name, placed, kind) in entries {
        fields = fields.u64(placed.nid()).u16(u16::try_from(name_at).unwrap_or(0));
        fields = fields.put([file_type(*kind), 0]);
        name_at += name.len();
    }
    let mut block = fields.0;
    entries.iter().for_each(|(name, ..)| block.extend_from_slice(name));
    block
}

/// The type of a directory entry. Source: torvalds/linux, include/linux/fs_types.h.
const fn file_type(kind: EntryType) -> u8 {
    match kind {
        EntryType::Regular | EntryType::HardLink => 1,
        EntryType::Directory => 2,
        EntryType::CharDevice => 3,
        EntryType::BlockDevice => 4,
        EntryType::Fifo => 5,
        EntryType::SymLink => 7,
    }
}
