//! An upper bound for the memory of a merged tree, besides the zTOCs that it shares.

use tocsin_core::tar::{EntryType, FileMetadata};

use crate::trees::{entry, tree_of};
use crate::{peak_of, take_turn};

/// Maximum bytes per entry.
const FACTOR: usize = 200;
/// Bytes allocated whatever the number of entries.
const ALLOWANCE: usize = 64 << 10;

fn check(what: &str, layers: Vec<Vec<FileMetadata>>) {
    let count: usize = layers.iter().map(Vec::len).sum();
    let (taken, tree) = peak_of(|| tree_of(layers));
    assert!(taken <= FACTOR * count + ALLOWANCE, "{what}: {taken} bytes for {count} entries");
    drop(tree);
}

fn files(count: usize, name: impl Fn(usize) -> String) -> Vec<FileMetadata> {
    (0..count).map(|number| entry(EntryType::Regular, name(number).as_bytes(), b"")).collect()
}

#[test]
fn tree_when_names_are_unusual_then_memory_is_bounded_by_entry_count() {
    let _turn = take_turn();
    check("flat", vec![files(50_000, |n| format!("usr/share/d{}/file-{n}", n / 1000))]);
    check("as tar spells them", vec![files(50_000, |n| format!("./usr/d{}/f{n}", n / 1000))]);
    // Names of 4,090 bytes: one directory for every two bytes, none of them shared.
    check("deep", vec![files(400, |n| format!("{n:05}/{}f", "a/".repeat(2041)))]);
    // Every layer replaces the same names.
    check("again", (0..20).map(|_| files(2_000, |n| format!("a/f{n}"))).collect());
    // A directory with many files is replaced and then created again.
    let churn = (0..200).flat_map(|_| {
        let mut layer = files(50, |n| format!("d/e/f/{n}"));
        layer.push(entry(EntryType::Regular, b"d", b""));
        layer
    });
    check("churn", vec![churn.collect()]);
    // Many names of one link, each of which creates the 2,030 directories of its target elsewhere.
    let target = "a/".repeat(2030);
    let mut links = vec![entry(EntryType::SymLink, b"s", target.as_bytes())];
    for number in 0..2_000 {
        let name = format!("{number}/s");
        links.push(entry(EntryType::HardLink, name.as_bytes(), b"s"));
        links.push(entry(EntryType::Regular, format!("{name}/f").as_bytes(), b""));
    }
    check("linked", vec![links]);
    let hard = |n: usize| entry(EntryType::HardLink, format!("h{n}").as_bytes(), b"f0");
    check("hard links", vec![files(1, |n| format!("f{n}")), (0..50_000).map(hard).collect()]);
}
