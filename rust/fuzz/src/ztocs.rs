//! Builds zTOC blobs from instructions, whose fields are usually consistent.

use tocsin_core::digest::Digest;
use tocsin_core::ztoc::TarZinfo;
use tocsin_core::ztoc::raw::{GZIP, RawEntry, RawZtoc, UNCOMPRESSED};

use crate::instructions::{Instructions, damage};

const WINDOW_LEN: usize = 32_768;

/// A blob that may break any rule.
pub fn blob(instructions: &mut Instructions<'_>) -> Vec<u8> {
    match instructions.below(4) {
        0 => instructions.rest().to_vec(),
        1 => with_zero_window(instructions),
        2 => fields(instructions),
        _ => {
            let mut changes = instructions.clone();
            let mut blob = fields(instructions);
            // Everything but the windows is at the two ends.
            let (at_end, len) = (changes.flag(), blob.len().min(4096));
            let start = if at_end { blob.len() - len } else { 0 };
            damage(&mut blob[start..start + len], &mut changes);
            blob
        }
    }
}

/// The instructions with a window of zeros inserted somewhere. A zTOC of one span is then small
/// enough to be changed byte by byte.
fn with_zero_window(instructions: &mut Instructions<'_>) -> Vec<u8> {
    let at = instructions.below(65_536);
    let bytes = instructions.rest();
    let (before, after) = bytes.split_at(at.min(bytes.len()));
    [before, &[0; WINDOW_LEN], after].concat()
}

struct Entry<'a> {
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    raw: RawEntry<'a>,
}

fn fields(instructions: &mut Instructions<'_>) -> Vec<u8> {
    let is_gzip = !instructions.rarely() && instructions.flag();
    let size = offset(instructions);
    let (checkpoints, count) = if is_gzip {
        packed_checkpoints(instructions, size)
    } else {
        let span_size = offset(instructions).max(1);
        let zinfo = TarZinfo { span_size, size };
        let mut packed = zinfo.to_bytes().unwrap_or_default();
        if instructions.rarely() {
            damage(&mut packed, instructions);
        }
        (packed, zinfo.span_count())
    };
    let count = if instructions.rarely() { instructions.u64() } else { count };
    let digest_count = if instructions.rarely() { instructions.below(20) as u64 } else { count };
    let span_digests: Vec<String> = (0..digest_count.min(200))
        .map(|_| {
            let mut text = Digest::of(instructions.take(1)).to_string();
            if instructions.rarely() {
                text.truncate(instructions.below(72));
            }
            text
        })
        .collect();

    let mut entries = Vec::new();
    let mut end = 0_u64;
    for _ in 0..instructions.below(6) {
        entries.push(entry(instructions, &mut end));
    }
    let toc: Vec<RawEntry<'_>> =
        entries.iter().map(|entry| RawEntry { xattrs: &entry.xattrs, ..entry.raw }).collect();
    let ztoc = RawZtoc {
        version: b"0.9",
        build_tool_identifier: text(instructions),
        compressed_archive_size: size.cast_signed(),
        uncompressed_archive_size: offset(instructions).cast_signed(),
        compression_algorithm: match (is_gzip, instructions.rarely()) {
            (_, true) => instructions.byte().cast_signed(),
            (true, _) => GZIP,
            (false, _) => UNCOMPRESSED,
        },
        max_span_id: (count as i32).wrapping_sub(1),
        span_digests: &span_digests,
    };
    ztoc.to_bytes(&toc, &checkpoints).unwrap()
}

/// Checkpoints of a layer of `size` bytes, and their intended number.
fn packed_checkpoints(instructions: &mut Instructions<'_>, size: u64) -> (Vec<u8>, u64) {
    let stored = instructions.below(4);
    let is_v1 = instructions.flag();
    let count = stored + usize::from(is_v1);
    let mut packed = (count as i32).to_le_bytes().to_vec();
    packed.extend(offset(instructions).to_le_bytes());
    let (mut compressed, mut uncompressed) = (10_u64, 0_u64);
    for index in 0..stored {
        if is_v1 || index > 0 {
            compressed = compressed.wrapping_add(offset(instructions));
            uncompressed = uncompressed.wrapping_add(offset(instructions));
        }
        let compressed = if instructions.rarely() { size } else { compressed };
        packed.extend(compressed.to_le_bytes());
        packed.extend(uncompressed.to_le_bytes());
        packed.push(instructions.byte() & 15);
        packed.extend([instructions.byte(); WINDOW_LEN]);
    }
    if instructions.rarely() {
        damage(&mut packed[..12], instructions);
    }
    (packed, count as u64)
}

fn entry<'a>(instructions: &mut Instructions<'a>, end: &mut u64) -> Entry<'a> {
    const TYPES: [&[u8]; 8] =
        [b"reg", b"reg", b"hardlink", b"symlink", b"char", b"block", b"dir", b"fifo"];
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = (0..instructions.below(4))
        .map(|_| (text(instructions).to_vec(), text(instructions).to_vec()))
        .collect();
    if !instructions.rarely() {
        xattrs.sort();
    }
    let start = end.next_multiple_of(512).saturating_add(512);
    let size = offset(instructions);
    *end = start.saturating_add(size).min(1 << 62);
    let raw = RawEntry {
        name: text(instructions),
        entry_type: match instructions.below(9) {
            8 => text(instructions),
            index => TYPES[index],
        },
        uncompressed_offset: if instructions.rarely() { offset(instructions) } else { start }
            .cast_signed(),
        uncompressed_size: size.cast_signed(),
        linkname: text(instructions),
        mode: offset(instructions).cast_signed(),
        uid: u32::from(instructions.u16()),
        gid: 0,
        uname: text(instructions),
        gname: b"",
        mod_time: match instructions.below(4) {
            0 => text(instructions),
            1 => b"2023-11-14T22:13:20.25+05:30",
            _ => b"2023-11-14T22:13:20Z",
        },
        devmajor: i64::from(instructions.byte()),
        devminor: 0,
        xattrs: &[],
    };
    Entry { xattrs, raw }
}

/// A number, usually small.
fn offset(instructions: &mut Instructions<'_>) -> u64 {
    match instructions.below(16) {
        0 => instructions.u64(),
        1 => u64::MAX >> instructions.below(64),
        2..=5 => u64::from(instructions.u16()) * 512,
        _ => u64::from(instructions.byte()),
    }
}

fn text<'a>(instructions: &mut Instructions<'a>) -> &'a [u8] {
    let len = instructions.below(12);
    instructions.take(len)
}
