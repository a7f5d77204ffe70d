//! The part of FlatBuffers that a zTOC needs: tables, strings and vectors.
//!
//! This module does not know what the tables mean. The builder writes the same bytes as the Go
//! builder (flatbuffers-go 25); the reader treats its input as untrusted.
//!
//! Source: FlatBuffers, "Internals"; docs/format.md#the-ztoc-blob.

mod builder;
mod known;
mod reader;

pub(super) use builder::{Builder, Mark};
pub(super) use known::{KnownTable, string_at};
pub(super) use reader::{Reader, Table};

/// Blobs must be smaller than this: the Go builder cannot grow beyond 1 GiB, and needs a spare
/// byte.
pub(super) const MAX_LEN: usize = 1 << 30;
