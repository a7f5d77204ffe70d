//! Inode tables of made-up layers, made from both indexes.
#![allow(dead_code, reason = "each test crate uses some")]
#![allow(clippy::expect_used, reason = "a test may stop at once")]

use std::sync::Arc;

use tocsin_core::Result;
use tocsin_core::digest::Digest;
use tocsin_core::inodes::{Inodes, ROOT};
use tocsin_core::seek::{
    self, FileList, LayerCompression, LayerParts, MIN_SEEK_SPAN_SIZE, Root, SeekLayer, SeekTable,
};
use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::tree::{Tree, TreeBuilder};
use tocsin_core::ztoc::{Toc, Ztoc};

use crate::ztoc_values::tar_ztoc;

const BLOCK_LEN: i64 = 512;

/// The zTOC of a tar with these entries, whose offsets are set as if each had one block of headers.
pub(crate) fn ztoc_of(mut entries: Vec<FileMetadata>) -> Ztoc {
    let mut end = 0;
    for entry in &mut entries {
        entry.uncompressed_offset = end + BLOCK_LEN;
        end = entry.uncompressed_offset;
        if entry.entry_type == EntryType::Regular {
            end += (entry.uncompressed_size + BLOCK_LEN - 1) / BLOCK_LEN * BLOCK_LEN;
        }
    }
    ztoc_as_is(entries)
}

/// The zTOC of these entries.
pub(crate) fn ztoc_as_is(entries: Vec<FileMetadata>) -> Ztoc {
    Ztoc { toc: entries.into(), ..tar_ztoc(b"layer", 1 << 20, 1 << 40) }
}

pub(crate) fn tree(layers: &[Arc<Ztoc>]) -> Tree<Toc> {
    let mut builder = TreeBuilder::with_capacity(0);
    for layer in layers {
        builder.push_layer(layer.toc.clone());
        while builder.apply(usize::MAX) {}
    }
    builder.finish()
}

pub(crate) fn from_tree(layers: &[Arc<Ztoc>]) -> Result<Inodes> {
    Inodes::from_tree(&tree(layers))
}

/// The seek table of these layers.
fn seek_table(layers: &[Arc<Ztoc>]) -> SeekTable {
    let parts: Vec<LayerParts> = layers
        .iter()
        .map(|ztoc| {
            let (size, len) = (ztoc.compressed_archive_size, ztoc.uncompressed_archive_size);
            let seek = SeekLayer::whole(LayerCompression::Zstd, size, len, MIN_SEEK_SPAN_SIZE);
            let seek = seek.expect("a seek blob");
            LayerParts { ztoc: Arc::clone(ztoc), seek, digest: Digest::of(b"layer") }
        })
        .collect();
    seek::build(&parts).expect("a seek table")
}

/// The file list of these layers without any chunk.
pub(crate) fn empty_list(layers: &[Arc<Ztoc>]) -> FileList {
    FileList::new(Arc::new(Root::parse(&seek_table(layers).root).expect("a root")))
}

/// The complete file list of these layers.
pub(crate) fn list(layers: &[Arc<Ztoc>]) -> FileList {
    let table = seek_table(layers);
    let list = FileList::new(Arc::new(Root::parse(&table.root).expect("a root")));
    for chunk in list.missing_chunks() {
        let range = list.root().list_chunk_range(chunk).expect("a chunk");
        let place = |at: u64| usize::try_from(at).expect("a small blob");
        let stored = &table.list_blob[place(range.start)..place(range.end)];
        list.add_chunk(chunk, stored).expect("a valid chunk");
    }
    list
}

/// The table of these layers, which is the same from both indexes.
pub(crate) fn inodes(layers: &[Arc<Ztoc>]) -> Inodes {
    let inodes = from_tree(layers).expect("a table");
    assert_same(&inodes, &Inodes::from_list(&list(layers)).expect("a table"));
    inodes
}

/// Checks that two tables are the same, except that a file list does not have the owner in the
/// headers of a file that a hard link changed.
fn assert_same(from_tree: &Inodes, from_list: &Inodes) {
    assert_eq!(from_tree.len(), from_list.len());
    assert_eq!(from_tree.left_out(), from_list.left_out());
    for inode in ROOT..=from_tree.len() as u64 {
        assert_eq!(from_tree.get(inode), from_list.get(inode), "{inode}");
        assert_eq!(from_tree.children(inode), from_list.children(inode), "{inode}");
        for child in from_tree.children(inode) {
            assert_eq!(from_tree.name(child), from_list.name(child), "{inode}");
        }
        assert_eq!(from_tree.target(inode), from_list.target(inode), "{inode}");
        assert_eq!(from_tree.xattrs(inode), from_list.xattrs(inode), "{inode}");
        assert_eq!(from_tree.path(inode), from_list.path(inode), "{inode}");
        assert_eq!(from_tree.parent(inode), from_list.parent(inode), "{inode}");
        let (mut claims, other) = (from_tree.claims(inode), from_list.claims(inode));
        assert!(claims.has_owner, "{inode}");
        if !other.has_owner {
            claims.mode = other.mode;
            (claims.uid, claims.gid, claims.has_owner) = (other.uid, other.gid, false);
        }
        assert_eq!(claims, other, "{inode}");
    }
}

/// Checks what is true of any table.
pub(crate) fn check(inodes: &Inodes) {
    let mut names = vec![0; inodes.len() + 1];
    let mut subdirectories = vec![0; inodes.len() + 1];
    assert_eq!((inodes.parent(ROOT), inodes.path(ROOT)), (ROOT, Vec::new()));
    for directory in ROOT..=inodes.len() as u64 {
        let children = inodes.children(directory);
        assert!(children.is_sorted_by(|a, b| inodes.name(a) < inodes.name(b)));
        for child in children {
            let (number, name) = (u64::from(child.inode), inodes.name(child));
            assert!(!name.is_empty() && name.len() <= 255 && !name.contains(&b'/'));
            assert_eq!(inodes.child(directory, name), Some(number));
            let path = [&inodes.path(directory)[..], name].join(&b'/');
            assert_eq!(inodes.find(&path), Some(number));
            names[child.inode as usize] += 1;
            if inodes.get(number).map(|inode| inode.kind) == Some(EntryType::Directory) {
                subdirectories[usize::try_from(directory).expect("a number")] += 1;
                assert_eq!(inodes.parent(number), directory);
            }
        }
        assert_eq!(inodes.child(directory, b"no such name"), None);
    }
    for (number, inode) in (ROOT..).zip((ROOT..).map_while(|number| inodes.get(number))) {
        let index = usize::try_from(number).expect("a number");
        assert_ne!(inode.kind, EntryType::HardLink);
        if inode.kind == EntryType::Directory {
            assert_eq!(names[index], u32::from(number != ROOT));
            assert_eq!(inode.nlink, 2 + subdirectories[index]);
        } else {
            assert!(names[index] > 0);
            assert_eq!((inode.nlink, subdirectories[index]), (names[index], 0));
        }
        assert_eq!(inodes.find(&inodes.path(number)), Some(number));
        let has_data = inode.kind == EntryType::Regular && inode.size > 0;
        assert_eq!(inode.data.is_some(), has_data);
        if inode.kind == EntryType::SymLink {
            assert_eq!(inodes.target(number).len() as u64, inode.size);
        } else {
            assert_eq!(inodes.target(number), b"");
        }
    }
}
