//! Finding and changing fields of a finished blob, for tests of invalid blobs.
#![allow(dead_code, reason = "each test crate uses some")]
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use tocsin_core::tar::EntryType;
use tocsin_core::ztoc::Ztoc;
use tocsin_core::ztoc::raw::{GZIP, RawEntry, RawZtoc};

use crate::ztoc_values::{checkpoint, file, gzip_ztoc, other, tar_ztoc};

fn u32_at(blob: &[u8], at: usize) -> usize {
    u32::from_le_bytes(blob[at..at + 4].try_into().unwrap()) as usize
}

pub(crate) fn set_u32(blob: &mut [u8], at: usize, value: u32) {
    blob[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The target of the reference at `at`.
pub(crate) fn follow(blob: &[u8], at: usize) -> usize {
    at + u32_at(blob, at)
}

/// The offset of a field's entry in the vtable of its table.
fn vtable_entry(blob: &[u8], table: usize, slot: usize) -> usize {
    let distance = i32::from_le_bytes(blob[table..table + 4].try_into().unwrap());
    let vtable = i64::try_from(table).unwrap() - i64::from(distance);
    usize::try_from(vtable).unwrap() + 4 + 2 * slot
}

/// The offset of a field.
pub(crate) fn table_field(blob: &[u8], table: usize, slot: usize) -> usize {
    let entry = vtable_entry(blob, table, slot);
    table + usize::from(u16::from_le_bytes([blob[entry], blob[entry + 1]]))
}

/// Makes a field absent.
pub(crate) fn unset_field(blob: &mut [u8], table: usize, slot: usize) {
    let entry = vtable_entry(blob, table, slot);
    blob[entry..entry + 2].fill(0);
}

/// A blob whose TOC has `count` elements, all of which refer to one entry with a name of `name_len`
/// bytes.
pub(crate) fn shared_entries(count: usize, name_len: usize) -> Vec<u8> {
    let name = vec![b'n'; name_len];
    let entry = RawEntry { name: &name, entry_type: b"reg", ..RawEntry::default() };
    let mut toc = vec![RawEntry { entry_type: b"reg", ..RawEntry::default() }; count];
    toc[0] = entry;
    let ztoc = RawZtoc {
        version: b"0.9",
        build_tool_identifier: b"",
        compressed_archive_size: 500,
        uncompressed_archive_size: 0,
        compression_algorithm: GZIP,
        max_span_id: 0,
        span_digests: &[],
    };
    let mut blob = ztoc.to_bytes(&toc, &[]).unwrap();
    let toc = follow(&blob, table_field(&blob, follow(&blob, 0), 4));
    let elements = follow(&blob, table_field(&blob, toc, 0)) + 4;
    let target = follow(&blob, elements);
    for at in (0..count).map(|index| elements + 4 * index) {
        set_u32(&mut blob, at, u32::try_from(target - at).unwrap());
    }
    blob
}

/// A small zTOC of a plain tar, with several types of entries.
pub(crate) fn sample_tar() -> Ztoc {
    let mut attributed = file("dir/attributed", 2048, 6);
    attributed.uid = 1000;
    attributed.xattrs = vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), Vec::new())];
    let toc = vec![
        other(EntryType::Directory, "dir/", 512, ""),
        attributed,
        other(EntryType::HardLink, "link", 3072, "dir/attributed"),
        file("last", 3584, 700),
    ];
    Ztoc { toc: toc.into(), ..tar_ztoc(&[0; 10_240], 4000, 5376) }
}

/// A zTOC of a gzip layer with two spans.
pub(crate) fn sample_gzip() -> Ztoc {
    let toc = vec![file("name", 512, 12_000)];
    let checkpoints = vec![checkpoint(10, 0, 0), checkpoint(300, 9000, 3)];
    Ztoc { toc: toc.into(), ..gzip_ztoc(500, checkpoints) }
}
