//! What a merged tree takes, at most, beside the zTOCs that it shares.

use tocsin_core::tar::{EntryType, FileMetadata};

use crate::trees::{entry, tree_of};
use crate::{peak_of, take_turn};

/// Bytes an entry, whatever it is.
const FACTOR: usize = 200;
/// What is allocated once.
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
fn tree_when_names_are_of_any_kind_then_its_memory_follows_the_entries() {
    let _turn = take_turn();
    check("flat", vec![files(50_000, |n| format!("usr/share/d{}/file-{n}", n / 1000))]);
    check("as tar spells them", vec![files(50_000, |n| format!("./usr/d{}/f{n}", n / 1000))]);
    // Names of 4,090 bytes: a directory a byte or two, none of them shared.
    check("deep", vec![files(400, |n| format!("{n:05}/{}f", "a/".repeat(2041)))]);
    // Every layer replaces the same names.
    check("again", (0..20).map(|_| files(2_000, |n| format!("a/f{n}"))).collect());
    // A directory with much in it gives way, and comes again.
    let churn = (0..200).flat_map(|_| {
        let mut layer = files(50, |n| format!("d/e/f/{n}"));
        layer.push(entry(EntryType::Regular, b"d", b""));
        layer
    });
    check("churn", vec![churn.collect()]);
    // Many names of one link, each making its target's 2,047 directories in another place.
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
