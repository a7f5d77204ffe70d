//! Code shared by the fuzz targets: instructions from the fuzzer's bytes, inputs built from them,
//! and reference implementations.
//!
//! Each target checks one claim. Its input is either used directly, or as instructions that build a
//! mostly valid stream, archive or zTOC, since random bytes do not pass any checksum.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is a finding")]
#![allow(clippy::cast_possible_truncation, reason = "inputs are small")]
#![allow(missing_docs, missing_debug_implementations, reason = "not for use elsewhere")]

pub mod archives;
pub mod decode;
pub mod instructions;
pub mod layers;
pub mod packs;
pub mod seek_tables;
pub mod streams;
pub mod trees;
pub mod zlib;
pub mod ztocs;

#[path = "../../../tests/rust/support/mod.rs"]
pub mod support;
#[path = "../../../tests/support/tar_blocks.rs"]
#[allow(dead_code, reason = "shared with tests")]
pub(crate) mod tar_blocks;
#[path = "../../../tests/support/tar_generator.rs"]
#[allow(dead_code, reason = "shared with tests")]
pub(crate) mod tar_generator;
#[path = "../../../tests/rust/support/trees.rs"]
#[allow(dead_code, reason = "shared with tests")]
pub(crate) mod tree_checks;
