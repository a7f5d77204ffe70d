//! Builds layers of names from instructions. There are only a few names, so that they collide.

use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::tree::{Tree, TreeBuilder};

use crate::instructions::Instructions;
use crate::tree_checks::entry;

const KINDS: [EntryType; 8] = [
    EntryType::Directory,
    EntryType::Directory,
    EntryType::Regular,
    EntryType::Regular,
    EntryType::SymLink,
    EntryType::SymLink,
    EntryType::HardLink,
    EntryType::Fifo,
];
const PARTS: [&[u8]; 16] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"a",
    b"b",
    b"..",
    b".",
    b"",
    b".wh.a",
    b".wh.b",
    b".wh..wh..opq",
    b"\xff",
    b"\xc3\xa9",
    b"\0",
    b".wh..wh.x",
];

pub type Layers = Vec<Vec<FileMetadata>>;

/// Up to five layers, until the instructions run out.
pub fn layers(instructions: &mut Instructions<'_>) -> Layers {
    let mut layers = vec![Vec::new()];
    while !instructions.is_empty() {
        if layers.len() < 5 && instructions.rarely() {
            layers.push(Vec::new());
        }
        let kind = instructions.pick(&KINDS);
        let name = path(instructions);
        let is_link = matches!(kind, EntryType::SymLink | EntryType::HardLink);
        let target = if is_link { path(instructions) } else { Vec::new() };
        layers.last_mut().unwrap().push(entry(kind, &name, &target));
    }
    layers
}

/// A path of a few components. Occasionally one of them is repeated many times, or is long.
pub fn path(instructions: &mut Instructions<'_>) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for _ in 0..=instructions.below(5) {
        let part = instructions.pick(&PARTS);
        if !instructions.rarely() {
            parts.push(part.to_vec());
        } else if instructions.flag() {
            let most = if instructions.rarely() { 2100 } else { 40 };
            parts.extend(vec![part.to_vec(); instructions.below(most)]);
        } else {
            parts.push(part.repeat(instructions.below(300)));
        }
    }
    parts.join(&b'/')
}

/// Builds the tree of the layers, applying `step` entries at a time.
pub fn tree(layers: Layers, step: usize) -> Tree<Vec<FileMetadata>> {
    let mut builder = TreeBuilder::with_capacity(0);
    for layer in layers {
        builder.push_layer(layer);
        while builder.apply(step) {}
    }
    builder.finish()
}

/// Checks the invariants of a tree.
pub fn check(tree: &Tree<Vec<FileMetadata>>) {
    crate::tree_checks::check(tree);
}

/// The total length of names and link targets, and the number of entries.
pub fn size(layers: &Layers) -> (usize, usize) {
    let entries = layers.iter().flatten();
    let bytes = entries.clone().map(|entry| entry.name.len() + entry.linkname.len()).sum();
    (bytes, entries.count())
}
