//! All tests of the core that can share a process, in one binary so that it is linked only once.
//!
//! `memory` is separate since it counts all allocations of its process, and `miri` since it must
//! not link C code.
#![allow(clippy::expect_used, reason = "a test may stop at once")]

#[path = "../support/gotar.rs"]
mod gotar;
mod inode_tables;
mod support;
#[path = "../support/tar_blocks.rs"]
mod tar_blocks;
#[path = "../support/tar_features.rs"]
mod tar_features;
#[path = "../support/tar_generator.rs"]
mod tar_generator;
#[path = "../support/tar_reading.rs"]
mod tar_reading;
#[path = "support/trees.rs"]
mod trees;
mod ztoc_patch;
mod ztoc_values;

mod extract;
mod fetch;
mod fetch_policy;
mod golden;
mod inflate;
mod inodes;
mod pack;
mod parallel;
mod seek_finder;
mod seek_hostile;
mod seek_layer;
mod seek_spans;
mod span_cache;
mod span_reader;
mod tar;
mod tar_any_input;
mod tar_go;
mod tar_headers;
mod tree;
mod zstd;
mod ztoc;
mod ztoc_damage;
mod ztoc_flat;
mod ztoc_hostile;
mod ztoc_refusals;
mod ztoc_round_trip;
