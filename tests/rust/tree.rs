//! Tests of the parts of `tocsin_core::tree` that its Python interface does not expose: locations,
//! and invariants for layers of any shape. `tests/unit/reading/test_tree.py` checks that layers are
//! merged as unpackers merge them, and `tests/property/test_tree_equals_plain.py` compares with a
//! simple tree.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::tree::{Failure, Location, MAX_PATH_LEN, Reason, Tree, TreeBuilder};

use crate::trees::{self, check, entry, tree_of};

type Layer = Vec<FileMetadata>;

fn file(name: &str) -> FileMetadata {
    entry(EntryType::Regular, name.as_bytes(), b"")
}

fn directory(name: &str) -> FileMetadata {
    entry(EntryType::Directory, name.as_bytes(), b"")
}

fn link(name: &str, target: &str) -> FileMetadata {
    entry(EntryType::SymLink, name.as_bytes(), target.as_bytes())
}

fn location(tree: &Tree<Layer>, path: &str) -> Location {
    tree.locate(path.as_bytes()).expect("in the tree")
}

#[test]
fn location_when_inside_a_chain_of_directories_then_behaves_like_others() {
    let tree = tree_of(vec![vec![file("a/b/c/f")]]);
    let b = location(&tree, "a/b");
    assert_eq!(tree.name(b), b"b");
    assert_eq!(tree.path(b), b"a/b");
    assert_eq!(tree.parent(b), location(&tree, "a"));
    assert_eq!(tree.parent(location(&tree, "a")), Location::ROOT);
    assert_eq!(tree.children(b), [location(&tree, "a/b/c")]);
    assert_eq!(tree.child(b, b"c"), Some(location(&tree, "a/b/c")));
    assert_eq!(tree.child(b, b"f"), None);
    assert_eq!(tree.kind(b), EntryType::Directory);
    assert_eq!(tree.metadata(b), None);
    assert_eq!(tree.children(location(&tree, "a/b/c/f")), []);
}

#[test]
fn location_when_looked_up_by_number_then_the_same() {
    let tree = tree_of(vec![vec![file("a/b/c/f"), directory("a/b"), link("l", "a")]]);
    for path in ["", "a", "a/b", "a/b/c", "a/b/c/f", "l"] {
        let found = location(&tree, path);
        assert_eq!(tree.location(found.number()), Some(found), "{path}");
        assert!(found.number() < 1 << 40);
    }
    assert_eq!(Location::ROOT.number(), 0);
    assert_eq!(tree.location(u64::MAX), None);
    assert_eq!(tree.location(1000 << 12), None);
}

#[test]
fn root_when_empty_then_a_directory() {
    for layers in [vec![], vec![vec![]], vec![vec![directory("./")]]] {
        let listed = layers.iter().flatten().count() == 1;
        let tree = tree_of(layers);
        assert_eq!(tree.resolve(b"/..//.", true), Ok(Location::ROOT));
        assert_eq!(tree.children(Location::ROOT), []);
        assert_eq!(tree.path(Location::ROOT), b"");
        assert_eq!(tree.name(Location::ROOT), b"");
        assert_eq!(tree.parent(Location::ROOT), Location::ROOT);
        assert_eq!(tree.metadata(Location::ROOT).is_some(), listed);
        assert_eq!(tree.next(&mut tree.walk(Location::ROOT)), None);
    }
}

#[test]
fn inode_when_files_differ_then_numbers_differ() {
    let hard = entry(EntryType::HardLink, b"d/b", b"a");
    let tree = tree_of(vec![vec![file("a"), hard], vec![file("a"), file("x/y/z/f")]]);
    let inode = |path| tree.inode(location(&tree, path));
    assert_eq!(tree.source(location(&tree, "d/b")).layer, 0);
    assert_ne!(inode("a"), inode("d/b"));
    let of_directories = ["", "d", "x", "x/y", "x/y/z"].map(inode);
    assert_eq!(HashSet::from(of_directories).len(), of_directories.len());
    assert!(of_directories.iter().all(|inode| (1..1 << 40).contains(inode)));
}

#[test]
fn resolve_when_a_component_is_not_a_directory_then_returns_it() {
    let tree = tree_of(vec![vec![file("a/f"), link("l", "a/f/x")]]);
    let wrong = Err(Failure::NotDirectory(location(&tree, "a/f")));
    assert_eq!(tree.resolve(b"a/f/x/y", true), wrong);
    assert_eq!(tree.resolve(b"l", true), wrong);
    assert_eq!(tree.resolve(b"l", true), wrong, "from the cache");
    assert_eq!(tree.resolve(b"a/f/", false), wrong);
    assert_eq!(tree.resolve(b"l", false), Ok(location(&tree, "l")));
    assert_eq!(tree.resolve(b"l/../f", true), wrong);
}

#[test]
fn layers_when_applied_in_small_steps_then_the_same_tree() {
    let layers = || {
        let first = vec![file("a/b"), link("c", "a"), file("c/d"), file("e")];
        vec![first, vec![file("a/.wh.b"), file("a/new"), file(".wh.e")]]
    };
    let whole = tree_of(layers());
    let mut builder = TreeBuilder::with_capacity(0);
    for layer in layers() {
        builder.push_layer(layer);
        while builder.apply(1) {}
    }
    let tree = builder.finish();
    assert_eq!(trees::paths(&tree), trees::paths(&whole));
    assert_eq!(
        trees::paths(&tree),
        ["a", "a/d", "a/new", "c"].map(|path| path.as_bytes().to_vec())
    );
}

#[test]
fn left_out_when_reasons_differ_then_each_has_its_own() {
    let long = "n/".repeat(2049);
    let layer = vec![file("a"), file(&long), link("s", &"t".repeat(4096)), file("a\0b")];
    let tree = tree_of(vec![vec![], layer]);
    let found: Vec<_> =
        tree.left_out().iter().map(|each| (each.reason, each.layer, each.entry)).collect();
    let reasons = [Reason::PathTooLong, Reason::TargetTooLong, Reason::NulByte];
    assert_eq!(found, [(reasons[0], 1, 1), (reasons[1], 1, 2), (reasons[2], 1, 3)]);
    assert_eq!(tree.entry(1, 2).unwrap().name, b"s");
    assert_eq!(tree.entry(1, 9), None);
    assert_eq!(tree.entry(2, 0), None);
    assert_eq!(trees::paths(&tree), [b"a"]);
}

#[test]
fn links_when_a_file_has_several_then_maps_to_the_last_one() {
    let hard =
        |name: &str, target: &str| entry(EntryType::HardLink, name.as_bytes(), target.as_bytes());
    let upper = vec![hard("d", "b"), file(".wh.d")];
    let tree = tree_of(vec![vec![file("a"), hard("b", "a"), hard("c", "gone")], upper]);
    assert_eq!(tree.links().iter().collect::<Vec<_>>(), [(&(0, 0), &(1, 0))]);
}

#[test]
fn names_when_links_lead_deeper_then_no_path_exceeds_the_linux_limit() {
    // Each link leads into the deepest directory created by the previous one.
    let mut layer = vec![link("s0", &"d/".repeat(1000))];
    for number in 1..50 {
        let above = number - 1;
        layer.push(link(&format!("s{above}/t"), &"e/".repeat(1000)));
        layer.push(link(&format!("s{number}"), &format!("s{above}/t")));
        layer.push(file(&format!("s{number}/f")));
    }
    let tree = tree_of(vec![layer]);
    check(&tree);
    assert!(trees::paths(&tree).iter().any(|path| path.len() > MAX_PATH_LEN - 200));
    assert_eq!(tree.left_out()[0].reason, Reason::PathTooLong);
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c"]).prop_map(|name| name.as_bytes().to_vec()),
        2 => prop::sample::select(vec![".", "..", "", "\u{e9}", ".wh.a", ".wh.b", ".wh..wh..opq"])
            .prop_map(|name| name.as_bytes().to_vec()),
        1 => Just(b"\xff".to_vec()),
        1 => Just(vec![b'n'; 250]),
    ]
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(part(), 1..6).prop_map(|parts| parts.join(&b'/'))
}

fn kind() -> impl Strategy<Value = EntryType> {
    use EntryType::{Directory, Fifo, HardLink, Regular, SymLink};
    prop::sample::select(vec![Directory, Directory, Regular, Regular, SymLink, HardLink, Fifo])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tree_when_layers_have_any_shape_then_invariants_hold(
        layers in vec(
            vec((kind(), path(), path()).prop_map(|(kind, name, target)| entry(kind, &name, &target)), 0..30),
            0..4,
        ),
        asked in vec(path(), 0..8),
    ) {
        let tree = tree_of(layers);
        check(&tree);
        for path in asked {
            if let Ok(found) = tree.resolve(&path, true) {
                assert_eq!(tree.locate(&tree.path(found)), Some(found));
            }
        }
    }
}
