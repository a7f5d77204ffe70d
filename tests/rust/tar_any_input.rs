//! What must hold for the tar scanner whatever it is fed: the cut into pieces makes no difference,
//! and nothing makes it panic.
#![allow(clippy::cast_possible_truncation, reason = "random bytes are cut on purpose")]

use crate::tar_blocks::{scan, scan_pieces};
use crate::tar_generator::{Random, archive};

#[test]
fn scan_when_fed_a_byte_at_a_time_then_the_same() {
    for seed in 0..400 {
        let archive = archive(&mut Random::new(seed));
        assert_eq!(scan_pieces(archive.chunks(1)), scan(&archive), "seed {seed}");
    }
}

#[test]
fn scan_when_cut_anywhere_then_the_same() {
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let archive = archive(&mut random);
        let whole = scan(&archive);
        let longest = random.pick(&[3, 100, 511, 512, 513, 5_000]);
        let mut pieces = Vec::new();
        let mut rest = &archive[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.below(longest + 1).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(scan_pieces(pieces), whole, "seed {seed}");
    }
}

#[test]
fn scan_when_bytes_are_random_then_no_panic() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let len = random.below(3_000);
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let _ = scan(&bytes);
    }
}

#[test]
fn push_when_it_has_failed_then_fails_again_in_the_same_way() {
    for seed in 0..500 {
        let archive = archive(&mut Random::new(seed));
        let mut scanner = tocsin_core::tar::TocScanner::new();
        if let Err(failure) = scanner.push(&archive) {
            assert_eq!(scanner.push(b""), Err(failure.clone()), "seed {seed}");
            assert_eq!(scanner.push(&[0; 1024]), Err(failure.clone()), "seed {seed}");
            assert_eq!(scanner.finish(), Err(failure), "seed {seed}");
        }
    }
}
