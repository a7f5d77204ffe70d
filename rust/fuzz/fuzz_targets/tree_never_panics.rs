//! Merging layers with any names does not panic, gives a consistent tree that does not depend on
//! the step size, and takes memory in proportion to its input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tocsin_core::tree::Location;
use tocsin_fuzz::instructions::Instructions;
use tocsin_fuzz::trees;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes per entry for nodes, the table and cached links: an entry may take 16 steps through links,
/// each of which may create a directory.
const ENTRY_FACTOR: usize = 4096;
/// Bytes per byte of input: names that have to be cleaned are copied into a vector that doubles.
const BYTE_FACTOR: usize = 8;
/// Bytes for the steps that any image may take, each of which may create a directory.
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
            assert_eq!(tree.resolve(path, follow), found, "from the cache");
            if let Ok(location) = found {
                assert_eq!(tree.locate(&tree.path(location)), Some(location));
            }
        }
    }

    let other = trees::tree(again, step);
    let (mut one, mut two) = (tree.walk(Location::ROOT), other.walk(Location::ROOT));
    loop {
        let (found, same) = (tree.next(&mut one), other.next(&mut two));
        assert_eq!((found, one.path()), (same, two.path()), "at once and in steps of {step}");
        let Some(location) = found else { break };
        assert_eq!(tree.source(location), other.source(location));
    }
    assert_eq!(tree.left_out(), other.left_out());
});
