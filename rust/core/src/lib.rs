//! The core of tocsin: compressed layer bytes go in and a SOCI zTOC comes out; spans are turned
//! back into bytes.
//!
//! It uses no files, sockets, clock, environment variables or globals: callers push bytes and get
//! values. Imports go one way: `indexer, extract, pack → inodes → seek → tree → parallel, ztoc, tar → gzip →
//! trace → inflate, zstd, checkpoint → span, bytes, digest, recent → error`.

pub mod bytes;
pub mod checkpoint;
pub mod digest;
pub mod error;
pub mod extract;
pub mod fetch;
pub mod gzip;
pub mod indexer;
pub mod inflate;
pub mod inodes;
pub mod pack;
pub mod parallel;
pub mod recent;
pub mod seek;
pub mod span;
pub mod tar;
pub mod trace;
pub mod tree;
pub mod zstd;
pub mod ztoc;

pub use error::{Error, Result};

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
