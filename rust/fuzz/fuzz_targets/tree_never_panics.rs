//! Merging layers of any names: no panic, a tree that agrees with itself and does not depend on how its
//! layers are cut, and memory in proportion to what it is made of.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tocsin_core::tree::Place;
use tocsin_fuzz::instructions::Instructions;
use tocsin_fuzz::trees;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Nodes, the table and the notes of links, for an entry: it may take 16 steps through links, each of
/// which may make a directory.
const ENTRY_FACTOR: usize = 4096;
/// Names that have to be cleaned are copied, into a vector that doubles.
const BYTE_FACTOR: usize = 8;
/// The steps that any image may take, a directory each.
const ALLOWANCE: usize = 64 << 20;

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    let step = 1 + instructions.below(4);
    let asked = [trees::path(&mut instructions), trees::path(&mut instructions)];
    let layers = trees::layers(&mut instructions);
    let (bytes, count) = trees::size(&layers);
    let again = layers.clone();

    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let tree = trees::tree(layers, usize::MAX);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let bound = ENTRY_FACTOR * count + BYTE_FACTOR * bytes + ALLOWANCE;
    assert!(taken <= bound, "{taken} bytes for {count} entries of {bytes} bytes");

    trees::check(&tree);
    for path in &asked {
        for follow in [true, false] {
            let found = tree.resolve(path, follow);
            assert_eq!(tree.resolve(path, follow), found, "as it is remembered");
            if let Ok(place) = found {
                assert_eq!(tree.locate(&tree.path(place)), Some(place));
            }
        }
    }

    let other = trees::tree(again, step);
    let (mut one, mut two) = (tree.walk(Place::ROOT), other.walk(Place::ROOT));
    loop {
        let (found, same) = (tree.next(&mut one), other.next(&mut two));
        assert_eq!((found, one.path()), (same, two.path()), "whole, in steps of {step}");
        let Some(place) = found else { break };
        assert_eq!(tree.source(place), other.source(place));
    }
    assert_eq!(tree.left_out(), other.left_out());
});
