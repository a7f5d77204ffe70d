//! Invariants of the tar readers for any input: cuts and skips make no difference, `read_headers`
//! finds each entry of the scanner, and nothing panics.
#![allow(clippy::cast_possible_truncation, reason = "random numbers are truncated to bytes")]

use crate::tar_blocks::{scan, scan_for, scan_pieces};
use crate::tar_generator::{Random, archive};
use crate::tar_reading::HeaderWalk;
use tocsin_core::error::TarError;
use tocsin_core::span::UncompressedOffset;
use tocsin_core::tar::{Purpose, Toc, TocScanner, read_headers};
use tocsin_core::{Error, Result};

const PURPOSES: [Purpose; 3] = [Purpose::Index, Purpose::Read, Purpose::Archive];

#[test]
fn scan_when_pieces_are_single_bytes_then_same_result() {
    for seed in 0..400 {
        let archive = archive(&mut Random::new(seed));
        assert_eq!(scan_pieces(archive.chunks(1)), scan(&archive), "seed {seed}");
    }
}

#[test]
fn scan_when_split_anywhere_then_same_result() {
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

/// Scans an archive, skipping some of the bytes that can be skipped.
fn scan_with_skips(archive: &[u8], purpose: Purpose, random: &mut Random) -> Result<Toc> {
    let longest = random.pick(&[3, 512, 5_000]);
    let mut scanner = TocScanner::new(purpose);
    let mut rest = archive;
    while !rest.is_empty() {
        let len = random.below(longest + 1).min(rest.len());
        let (piece, after) = if random.once_in(2) {
            let skipped = scanner.skip(len as u64);
            (&[][..], &rest[usize::try_from(skipped).unwrap_or_default()..])
        } else {
            rest.split_at(len)
        };
        scanner.push(piece)?;
        rest = after;
    }
    scanner.finish()
}

#[test]
fn scan_when_data_is_skipped_then_same_result() {
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let archive = archive(&mut random);
        for purpose in PURPOSES {
            let skipped = scan_with_skips(&archive, purpose, &mut random);
            assert_eq!(skipped, scan_for(&archive, purpose), "seed {seed} {purpose:?}");
        }
    }
}

#[test]
fn headers_when_read_between_two_entries_then_equal_the_scanners() {
    let mut found = 0;
    for seed in 0..4_000 {
        let archive = archive(&mut Random::new(seed));
        let Ok(toc) = scan_for(&archive, Purpose::Read) else { continue };
        let mut walk = HeaderWalk::new(&archive);
        for entry in &toc.entries {
            let (start, stretch) = (UncompressedOffset(walk.start), walk.stretch(entry));
            let one_less = stretch.len().checked_sub(1).map(|end| &stretch[..end]);
            let headers = walk.next(entry);
            assert_eq!(headers.as_ref().map(|found| &found.entry), Ok(entry), "seed {seed}");
            // Bytes after the headers make no difference, and no byte of the headers may be
            // missing.
            let all = archive.get(usize::try_from(start.0).unwrap_or_default()..);
            assert_eq!(read_headers(all.unwrap_or_default(), start), headers, "seed {seed}");
            let cut = read_headers(one_less.unwrap_or_default(), start);
            let is_refused = matches!(cut, Err(Error::Tar { kind: TarError::NoEntry, .. }));
            assert!(is_refused, "seed {seed}: {cut:?}");
            found += 1;
        }
    }
    // Otherwise the generator is no longer useful.
    assert!(found > 2_000, "{found} entries");
}

#[test]
fn headers_when_bytes_are_random_then_no_panic_and_no_overrun() {
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let archive = archive(&mut random);
        let start = UncompressedOffset(random.pick(&[0, 7, 1 << 63, u64::MAX]));
        let from = random.below(archive.len() + 1);
        for stretch in [&archive[from..], &archive[from / 512 * 512..]] {
            if let Ok(found) = read_headers(stretch, start) {
                let end = start.0.saturating_add(stretch.len() as u64);
                assert!(found.data_offset().0 <= end, "seed {seed}");
            }
        }
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
fn push_when_it_has_failed_then_returns_the_same_error() {
    for seed in 0..500 {
        let archive = archive(&mut Random::new(seed));
        let mut scanner = TocScanner::default();
        if let Err(failure) = scanner.push(&archive) {
            assert_eq!(scanner.push(b""), Err(failure.clone()), "seed {seed}");
            assert_eq!(scanner.push(&[0; 1024]), Err(failure.clone()), "seed {seed}");
            assert_eq!(scanner.finish(), Err(failure), "seed {seed}");
        }
    }
}
