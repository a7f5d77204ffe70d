//! Comparing the tar headers before a file's data with what the index claims.

use tocsin_core::inodes::Claims;
use tocsin_core::span::UncompressedOffset;
use tocsin_core::tar::{EntryHeaders, EntryType, read_headers};

use crate::erofs::Extent;

/// Length of a block of a tar.
const BLOCK_LEN: usize = 512;

/// What the headers say about the data of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    /// All bytes, from the offset that the index claims.
    Plain,
    /// These parts of a sparse file.
    Sparse(Vec<Extent>),
}

/// Compares the headers that end at `data_offset` with the claims; `None` if they do not match.
///
/// `before` are the bytes before the data, from uncompressed byte `start` on.
pub(crate) fn check(before: &[u8], start: u64, data_offset: u64, claims: &Claims) -> Option<Data> {
    // The headers nearly always begin at the start of `before`.
    if let Some(data) = check_at(before, start, data_offset, claims) {
        return Some(data);
    }
    let end = before.len() - before.len() % BLOCK_LEN;
    let starts = (0..end).rev().step_by(BLOCK_LEN).map(|last| last + 1 - BLOCK_LEN);
    starts
        .map(|from| before.len() - end + from)
        .find_map(|from| check_at(&before[from..], start + from as u64, data_offset, claims))
}

fn check_at(headers: &[u8], start: u64, data_offset: u64, claims: &Claims) -> Option<Data> {
    let found = read_headers(headers, UncompressedOffset(start)).ok()?;
    let entry = &found.entry;
    let is_match = entry.entry_type == EntryType::Regular
        && found.data_offset().0 == data_offset
        && *entry.clean_name() == *claims.path
        && u64::try_from(entry.uncompressed_size) == Ok(claims.size)
        && (!claims.has_owner
            || (entry.mode & 0o7777 == i64::from(claims.mode)
                && entry.uid == claims.uid
                && entry.gid == claims.gid));
    if is_match { data(&found, data_offset) } else { None }
}

fn data(found: &EntryHeaders, data_offset: u64) -> Option<Data> {
    let Some(regions) = &found.regions else { return Some(Data::Plain) };
    let (mut at, mut extents) = (data_offset, Vec::new());
    for region in regions.iter().filter(|region| region.len > 0) {
        extents.push(Extent { start: region.offset, len: region.len, offset: at });
        at = at.checked_add(region.len)?;
    }
    // The parser has checked that the regions are in order and inside the file.
    (at - data_offset == found.stored_size).then_some(Data::Sparse(extents))
}
