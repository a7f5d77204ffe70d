//! Small valid values for tests of zTOCs.
#![allow(dead_code, reason = "each test crate uses some")]

use tocsin_core::checkpoint::{Checkpoint, Window};
use tocsin_core::digest::Digest;
use tocsin_core::span::{CompressedOffset, UncompressedOffset};
use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::ztoc::{GzipZinfo, TarZinfo, Zinfo, Ztoc};

/// A checkpoint with a zero window.
pub(crate) fn checkpoint(compressed: u64, uncompressed: u64, bits: u8) -> Checkpoint {
    Checkpoint {
        compressed: CompressedOffset(compressed),
        uncompressed: UncompressedOffset(uncompressed),
        bits,
        window: Window::zeros(),
    }
}

/// A regular file.
pub(crate) fn file(name: &str, offset: i64, size: i64) -> FileMetadata {
    FileMetadata {
        name: name.into(),
        entry_type: EntryType::Regular,
        uncompressed_offset: offset,
        uncompressed_size: size,
        linkname: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        uname: Vec::new(),
        gname: Vec::new(),
        mod_time: b"2023-11-14T22:13:20Z".to_vec(),
        devmajor: 0,
        devminor: 0,
        xattrs: Vec::new(),
    }
}

/// An entry of any other type.
pub(crate) fn other(
    entry_type: EntryType,
    name: &str,
    offset: i64,
    linkname: &str,
) -> FileMetadata {
    FileMetadata { entry_type, linkname: linkname.into(), ..file(name, offset, 0) }
}

/// The zTOC of a plain tar without entries.
pub(crate) fn tar_ztoc(layer: &[u8], span_size: u32, uncompressed_archive_size: u64) -> Ztoc {
    Ztoc {
        version: tocsin_core::ztoc::VERSION.into(),
        build_tool_identifier: "AWS SOCI CLI v0.2".into(),
        compressed_archive_size: layer.len() as u64,
        uncompressed_archive_size,
        toc: Vec::new().into(),
        zinfo: Zinfo::Tar(TarZinfo { span_size: span_size.into(), size: layer.len() as u64 }),
        span_digests: layer.chunks(span_size as usize).map(Digest::of).collect(),
    }
}

/// The zTOC of a gzip layer of `size` bytes without entries. The digests are those of empty spans.
pub(crate) fn gzip_ztoc(size: u64, checkpoints: Vec<Checkpoint>) -> Ztoc {
    Ztoc {
        span_digests: vec![Digest::of(b""); checkpoints.len()],
        zinfo: Zinfo::Gzip(GzipZinfo::new(1000, checkpoints)),
        compressed_archive_size: size,
        ..tar_ztoc(b"", 1, 0)
    }
}
