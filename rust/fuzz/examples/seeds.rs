//! Writes the seeds: small inputs of every shape, so that a run starts with interesting ones.
//!
//! Run `cargo run --release --example seeds` in this directory. The output is deterministic.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a tool may stop")]

use std::fs;
use std::path::{Path, PathBuf};

use flate2::FlushCompress;
use tocsin_core::indexer::{IndexOptions, LayerIndexer};
use tocsin_core::ztoc::{Zinfo, ZinfoVersion, Ztoc};
use tocsin_fuzz::instructions::Instructions;
use tocsin_fuzz::support::{golden, mixed_data, zlib_gzip};
use tocsin_fuzz::zlib::{Part, deflate};
use tocsin_fuzz::{archives, layers};

/// The instructions for cuts, with which every target with cuts starts: pieces of 7, 0, 1 and 300
/// bytes.
const CUTS: [u8; 13] = [3, 0, 7, 0, 0, 0, 1, 1, 44, 1, 0, 0, 0];

fn main() {
    let golden_layers: Vec<(String, Vec<u8>)> =
        ["empty.zlib6", "runs.zlib6", "runs.smallblocks", "bad.reserved-block"]
            .map(|name| {
                (name.to_owned(), fs::read(golden(&format!("layers/{name}.tar.gz"))).unwrap())
            })
            .into();
    for (name, layer) in &golden_layers {
        write("inflate_matches_oracle", name, &[&[0, 0], layer]);
        if !name.starts_with("runs") {
            // These are half a megabyte each and decoded several times: too slow for this target.
            write("inflate_any_split", name, &[&CUTS, &[0], layer]);
        }
        write("index_any_bytes", name, &[&CUTS, &[0, 6, 1, 1, 0, 0, 0], layer]);
    }
    for (name, level, flush) in [
        ("stored", 0, FlushCompress::None),
        ("fast-sync", 1, FlushCompress::Sync),
        ("best-partial", 9, FlushCompress::Partial),
    ] {
        let data = mixed_data(1500, 4);
        let parts = data.chunks(500).map(|data| Part { data, flush }).collect::<Vec<_>>();
        let stream = deflate(level, &parts);
        write("inflate_matches_oracle", name, &[&[1, 1], &stream]);
        write("inflate_any_split", name, &[&CUTS, &[1, 1], &stream]);
    }
    for seed in 1..=6 {
        let name = format!("instructions-{seed}");
        let instructions = noise(seed, 96 << (seed % 3));
        write("inflate_matches_oracle", &name, &[&[1, 0], &instructions]);
        write("inflate_any_split", &name, &[&instructions]);
        write("resume_at_every_checkpoint", &name, &[&instructions]);
        write("resume_at_every_checkpoint", &format!("long-{seed}"), &[&noise(seed + 10, 1500)]);
        write("index_any_bytes", &name, &[&instructions]);
        write("threads_match_one", &name, &[&instructions]);
        write("tar_never_panics", &name, &[&CUTS, &[seed as u8 + 2], &instructions]);
        write("tree_never_panics", &name, &[&instructions]);
        write("ztoc_never_panics", &name, &[&[2], &instructions]);
    }
    for seed in 20..24 {
        let archive = archives::valid(&mut Instructions::new(&noise(seed, 60))).bytes;
        if archive.len() > 4000 {
            continue;
        }
        let name = format!("archive-{seed}");
        write("tar_never_panics", &name, &[&CUTS, &[2], &archive]);
        write("index_any_bytes", &name, &[&CUTS, &[0, 5, 1, 1, 0, 1, 0], &archive]);
        ztocs(&name, &archive);
    }
}

/// The zTOCs of a plain tar and of a gzip layer.
fn ztocs(name: &str, archive: &[u8]) {
    let plain = index(archive).to_bytes().unwrap();
    write("ztoc_never_panics", &format!("{name}-plain"), &[&[0], &plain]);

    let mut ztoc = index(&zlib_gzip(archive, 6));
    let blob = ztoc.to_bytes().unwrap();
    // The first window is all zeros and far larger than everything else, so it is left out; the
    // target inserts it again.
    let at = blob.windows(32_768).position(|window| window.iter().all(|byte| *byte == 0)).unwrap();
    let (before, after) = (&blob[..at], &blob[at + 32_768..]);
    write(
        "ztoc_never_panics",
        &format!("{name}-v2"),
        &[&[1], &(at as u16).to_le_bytes(), before, after],
    );

    let Zinfo::Gzip(zinfo) = &mut ztoc.zinfo else { unreachable!("a gzip layer") };
    zinfo.version = ZinfoVersion::V1;
    write("ztoc_never_panics", &format!("{name}-v1"), &[&[0], &ztoc.to_bytes().unwrap()]);

    let layer = layers::gzip(archive, &mut Instructions::new(&noise(40, 200)));
    write("index_any_bytes", &format!("{name}-gzip"), &[&CUTS, &[0, 3, 1, 1, 0, 0, 0], &layer]);
}

fn index(layer: &[u8]) -> Ztoc {
    let mut indexer = LayerIndexer::new(IndexOptions::default()).unwrap();
    indexer.push(layer).unwrap();
    indexer.finish().unwrap().ztoc
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn write(target: &str, name: &str, parts: &[&[u8]]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&directory).unwrap();
    let path: PathBuf = directory.join(format!("seed-{name}"));
    fs::write(path, parts.concat()).unwrap();
}
