//! Trees of entries that only have names, and what must hold for any tree.

use std::collections::HashSet;

use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::tree::{MAX_PATH_LEN, Place, Tree, TreeBuilder};

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

/// All paths, as a walk comes to them.
pub(crate) fn paths(tree: &Tree<Vec<FileMetadata>>) -> Vec<Vec<u8>> {
    let mut walk = tree.walk(Place::ROOT);
    let mut paths = Vec::new();
    while tree.next(&mut walk).is_some() {
        paths.push(walk.path().to_vec());
    }
    paths
}

/// Checks that what a tree says agrees with itself, and with what Linux allows.
pub(crate) fn check(tree: &Tree<Vec<FileMetadata>>) {
    let mut walk = tree.walk(Place::ROOT);
    let (mut numbers, mut implied) = (HashSet::new(), HashSet::from([tree.inode(Place::ROOT)]));
    while let Some(place) = tree.next(&mut walk) {
        let path = walk.path();
        assert!(path.len() <= MAX_PATH_LEN);
        assert_eq!(tree.path(place), path);
        assert_eq!(tree.locate(path), Some(place));
        assert_eq!(tree.resolve(path, false), Ok(place));
        assert_eq!(tree.place(place.number()), Some(place));
        let name = tree.name(place);
        assert!(!name.is_empty() && path.ends_with(name));
        assert!(!name.contains(&b'/') && !name.contains(&0));
        assert!(name != b"." && name != b"..");
        let parent = tree.parent(place);
        assert!(tree.is_directory(parent));
        assert_eq!(tree.child(parent, name), Some(place));
        assert_eq!(tree.is_directory(place), tree.kind(place) == EntryType::Directory);
        if !tree.is_directory(place) {
            assert_eq!(tree.children(place), []);
        }
        match tree.metadata(place) {
            Some(entry) => assert_eq!(entry.entry_type, tree.kind(place)),
            None => assert!(implied.insert(tree.inode(place)), "two directories, one inode"),
        }
        assert!(numbers.insert(place.number()), "met twice");
    }
}
