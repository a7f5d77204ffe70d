//! Compares blobs of random fields with those of Google's Go builder, which the reference uses.
//!
//! `tests/support/goflat` generates the same fields from the same seeds; its digests are in
//! `tests/golden/flat`.
#![allow(clippy::expect_used, reason = "a test may stop")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "random numbers are truncated as in the Go program"
)]

use std::collections::BTreeMap;

use tocsin_core::digest::{Digest, Hasher};
use tocsin_core::ztoc::raw::{RawEntry, RawZtoc};

const DIGESTS: &str = include_str!("../golden/flat/digests.txt");
const WORDS: [&str; 8] = ["reg", "hardlink", "symlink", "char", "block", "dir", "fifo", ""];

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self, max_len: u64) -> Vec<u8> {
        if self.below(4) == 0 {
            return Vec::new();
        }
        let len = self.below(max_len + 1);
        self.bytes(len)
    }

    fn letters(&mut self, max_len: u64) -> String {
        let len = self.below(max_len + 1);
        (0..len).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }

    fn int64(&mut self) -> i64 {
        match self.below(6) {
            0 | 1 => 0,
            2 => self.below(4096) as i64,
            3 => 1 << self.below(63),
            4 => self.next() as i64,
            _ => -(self.below(100) as i64),
        }
    }

    fn uint32(&mut self) -> u32 {
        match self.below(3) {
            0 => 0,
            1 => self.below(70_000) as u32,
            _ => self.next() as u32,
        }
    }
}

struct Entry {
    texts: [Vec<u8>; 5],
    numbers: RawEntry<'static>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    fn random(random: &mut Random) -> Self {
        let name = random.text(120);
        let entry_type = WORDS[random.below(8) as usize].as_bytes();
        let uncompressed_offset = random.int64();
        let uncompressed_size = random.int64();
        let linkname = random.text(60);
        let mode = random.int64();
        let uid = random.uint32();
        let gid = random.uint32();
        let uname = random.text(12);
        let gname = random.text(12);
        let mod_time = random.text(35);
        let devmajor = random.int64();
        let devminor = random.int64();
        let mut xattrs = BTreeMap::new();
        if random.below(3) == 0 {
            for _ in 0..random.below(6) {
                let key = random.text(30);
                xattrs.insert(key, random.text(50));
            }
        }
        Self {
            texts: [name, linkname, uname, gname, mod_time],
            numbers: RawEntry {
                entry_type,
                uncompressed_offset,
                uncompressed_size,
                mode,
                uid,
                gid,
                devmajor,
                devminor,
                ..RawEntry::default()
            },
            xattrs: xattrs.into_iter().collect(),
        }
    }

    fn raw(&self) -> RawEntry<'_> {
        let [name, linkname, uname, gname, mod_time] = &self.texts;
        RawEntry { name, linkname, uname, gname, mod_time, xattrs: &self.xattrs, ..self.numbers }
    }
}

fn blob(seed: u64) -> Vec<u8> {
    let random = &mut Random(seed);
    let version = random.text(8);
    let build_tool_identifier = random.text(40);
    let compressed_archive_size = random.int64();
    let uncompressed_archive_size = random.int64();
    let limit = [1, 2, 8, 200][random.below(4) as usize];
    let entries: Vec<Entry> = (0..random.below(limit)).map(|_| Entry::random(random)).collect();
    let checkpoints_len = random.below(3000);
    let checkpoints = random.bytes(checkpoints_len);
    let span_digests: Vec<String> = (0..random.below(20)).map(|_| random.letters(72)).collect();
    let ztoc = RawZtoc {
        version: &version,
        build_tool_identifier: &build_tool_identifier,
        compressed_archive_size,
        uncompressed_archive_size,
        compression_algorithm: random.below(4) as i8,
        max_span_id: random.int64() as i32,
        span_digests: &span_digests,
    };
    let toc: Vec<RawEntry<'_>> = entries.iter().map(Entry::raw).collect();
    ztoc.to_bytes(&toc, &checkpoints).expect("far below 1 GiB")
}

#[test]
fn test_raw_blob_when_fields_are_random_then_equals_the_go_builder() {
    let lines: Vec<Vec<&str>> =
        DIGESTS.lines().map(|line| line.split_whitespace().collect()).collect();
    let (total, lines) = lines.split_last().expect("one line for all seeds");
    assert!(lines.len() >= 100);
    for line in lines {
        let blob = blob(line[0].parse().expect("a seed"));
        assert_eq!(blob.len().to_string(), line[1], "size for seed {}", line[0]);
        let digest = Digest::of(&blob).to_string();
        assert_eq!(digest.strip_prefix("sha256:"), Some(line[2]), "seed {}", line[0]);
    }

    let seeds: u64 = total[0].trim_start_matches("0..").parse().expect("a number of seeds");
    let mut hasher = Hasher::new();
    for seed in 0..seeds {
        hasher.update(Digest::of(&blob(seed)).as_bytes());
    }
    assert_eq!(hasher.finish_reset().to_string().strip_prefix("sha256:"), Some(total[2]));
}
