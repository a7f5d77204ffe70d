//! The part of FlatBuffers a zTOC needs: tables, strings, vectors, back to front.
//!
//! Nothing here knows what the tables mean. The builder writes the bytes of the Go builder
//! (flatbuffers-go 25); the reader trusts no byte it is given.
//!
//! Source: FlatBuffers, "Internals"; docs/format.md#the-ztoc-blob.

mod builder;
mod known;
mod reader;

pub(super) use builder::{Builder, Mark};
pub(super) use known::{KnownTable, string_at};
pub(super) use reader::{Reader, Table};

/// The Go builder cannot grow past 1 GiB, and needs one byte to spare: a blob is smaller than this.
pub(super) const MAX_LEN: usize = 1 << 30;
