//! Trees of entries that have only names, and the invariants of any tree.

use std::collections::HashSet;

use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::tree::{Location, MAX_PATH_LEN, Tree, TreeBuilder};

pub(crate) fn entry(entry_type: EntryType, name: &[u8], target: &[u8]) -> FileMetadata {
    FileMetadata {
        name: name.to_vec(),
        entry_type,
        uncompressed_offset: 0,
        uncompressed_size: 0,
        linkname: target.to_vec(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        uname: Vec::new(),
        gname: Vec::new(),
        mod_time: Vec::new(),
        devmajor: 0,
        devminor: 0,
        xattrs: Vec::new(),
    }
}

pub(crate) fn tree_of(layers: Vec<Vec<FileMetadata>>) -> Tree<Vec<FileMetadata>> {
    let mut builder = TreeBuilder::with_capacity(layers.iter().map(Vec::len).sum());
    for layer in layers {
        builder.push_layer(layer);
        while builder.apply(usize::MAX) {}
    }
    builder.finish()
}

/// All paths, in the order of a walk.
pub(crate) fn paths(tree: &Tree<Vec<FileMetadata>>) -> Vec<Vec<u8>> {
    let mut walk = tree.walk(Location::ROOT);
    let mut paths = Vec::new();
    while tree.next(&mut walk).is_some() {
        paths.push(walk.path().to_vec());
    }
    paths
}

/// Checks that a tree is consistent and within the limits of Linux.
pub(crate) fn check(tree: &Tree<Vec<FileMetadata>>) {
    let mut walk = tree.walk(Location::ROOT);
    let (mut numbers, mut implied) = (HashSet::new(), HashSet::from([tree.inode(Location::ROOT)]));
    while let Some(location) = tree.next(&mut walk) {
        let path = walk.path();
        assert!(path.len() <= MAX_PATH_LEN);
        assert_eq!(tree.path(location), path);
        assert_eq!(tree.locate(path), Some(location));
        assert_eq!(tree.resolve(path, false), Ok(location));
        assert_eq!(tree.location(location.number()), Some(location));
        let name = tree.name(location);
        assert!(!name.is_empty() && path.ends_with(name));
        assert!(!name.contains(&b'/') && !name.contains(&0));
        assert!(name != b"." && name != b"..");
        let parent = tree.parent(location);
        assert!(tree.is_directory(parent));
        assert_eq!(tree.child(parent, name), Some(location));
        assert_eq!(tree.is_directory(location), tree.kind(location) == EntryType::Directory);
        if !tree.is_directory(location) {
            assert_eq!(tree.children(location), []);
        }
        match tree.metadata(location) {
            Some(entry) => assert_eq!(entry.entry_type, tree.kind(location)),
            None => assert!(implied.insert(tree.inode(location)), "two directories with one inode"),
        }
        assert!(numbers.insert(location.number()), "returned twice");
    }
}
