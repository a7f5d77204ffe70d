//! Packs: what is found in them, and what goes into them.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::sync::Arc;

use proptest::prelude::*;
use tocsin_core::Error;
use tocsin_core::digest::Digest;
use tocsin_core::inodes::Inodes;
use tocsin_core::pack::{BLOCK_LEN, Extent, MAX_PACK_LEN, Pack, PackLayer, PackWriter, Plan, plan};

use crate::inode_tables::{inodes, ztoc_of};
use crate::ztoc_values::file;

const SIZE: u64 = 100 * BLOCK_LEN + 300;

fn layers() -> Vec<PackLayer> {
    let layer = |byte| PackLayer { digest: Digest::of(&[byte]), uncompressed_size: SIZE };
    vec![layer(0), layer(1)]
}

/// The byte of a layer at an offset.
fn byte(layer: u32, at: u64) -> u8 {
    (at * 7 + at / BLOCK_LEN + u64::from(layer)) as u8
}

fn content(extents: &[Extent]) -> Vec<u8> {
    let bytes = |extent: &Extent| {
        let layer = extent.layer;
        extent.range.clone().map(move |at| byte(layer, at))
    };
    extents.iter().flat_map(bytes).collect()
}

/// A pack with the blocks for which `frame_of` has a frame, in their order.
fn pack(frame_of: &[Option<u32>]) -> (Pack, Vec<u8>) {
    let mut writer = PackWriter::new(layers()).unwrap();
    for frame in 0..3 {
        let mut extents: Vec<Extent> = Vec::new();
        for (number, _) in (0..).zip(frame_of).filter(|(_, of)| **of == Some(frame)) {
            let (layer, block) = (number / 101, u64::from(number % 101));
            let range = block * BLOCK_LEN..SIZE.min((block + 1) * BLOCK_LEN);
            match extents.last_mut() {
                Some(last) if last.layer == layer && last.range.end == range.start => {
                    last.range.end = range.end;
                }
                _ => extents.push(Extent { layer, range }),
            }
        }
        if !extents.is_empty() {
            let bytes = content(&extents);
            writer.add(extents, &bytes).unwrap();
        }
    }
    let (index, blob) = writer.finish().unwrap();
    (Pack::parse(&index).unwrap(), blob)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pieces_when_a_range_is_looked_up_then_as_in_a_map_of_blocks(
        frame_of in proptest::collection::vec(proptest::option::weighted(0.8, 0..3_u32), 202),
        layer in 0..2_u32,
        start in 0..SIZE,
        len in 0..20_000_u64,
    ) {
        let (pack, blob) = pack(&frame_of);
        let frames: Vec<Vec<u8>> = (0..).zip(pack.frames()).map(|(number, frame)| {
            let stored = &blob[frame.stored.start as usize..frame.stored.end as usize];
            pack.open_frame(number, stored).unwrap()
        }).collect();
        let end = SIZE.min(start + len);
        let is_packed = |at: u64| frame_of[(u64::from(layer) * 101 + at / BLOCK_LEN) as usize].is_some();
        let (mut covered, mut last) = (0, start);
        for piece in pack.pieces(layer as usize, &(start..end)) {
            prop_assert!(last <= piece.range.start && piece.range.end <= end);
            let found = &frames[piece.frame as usize][piece.at.clone()];
            let expected: Vec<u8> = piece.range.clone().map(|at| byte(layer, at)).collect();
            prop_assert_eq!(found, &expected[..]);
            covered += piece.range.end - piece.range.start;
            last = piece.range.end;
        }
        let expected = (start..end).filter(|at| is_packed(*at)).count() as u64;
        prop_assert_eq!(covered, expected);
        prop_assert_eq!(pack.covers(layer as usize, &(start..end)), start < end && expected == end - start);
    }
}

#[test]
fn pieces_when_the_layer_does_not_exist_then_none() {
    let (pack, _) = pack(&[Some(0); 202]);
    assert_eq!(pack.pieces(2, &(0..10)).count(), 0);
    assert!(!pack.covers(2, &(0..10)));
    assert!(!pack.covers(0, &(10..10)));
}

#[test]
fn writer_when_an_extent_is_not_in_the_layer_then_error() {
    for (layer, range) in [(2, 0..512), (0, SIZE..SIZE + 512), (0, 0..0), (0, 100..200)] {
        let mut writer = PackWriter::new(layers()).unwrap();
        let len = (range.end - range.start) as usize;
        writer.add(vec![Extent { layer, range }], &vec![0; len]).unwrap();
        assert!(matches!(writer.finish(), Err(Error::Seek { .. })), "layer {layer}");
    }
}

// -- what goes into a pack ---------------------------------------------------------------------------

/// An image with one layer of files of these sizes, each after one block of headers; and the size of the
/// layer.
fn image(sizes: &[u64]) -> (Inodes, u64) {
    let mut at = 0;
    let entries = sizes.iter().enumerate().map(|(number, size)| {
        at += BLOCK_LEN;
        let entry = file(&format!("f{number}"), at.cast_signed(), size.cast_signed());
        at += size.next_multiple_of(BLOCK_LEN);
        entry
    });
    let ztoc = Arc::new(ztoc_of(entries.collect()));
    (inodes(&[ztoc]), at + 2 * BLOCK_LEN)
}

fn planned(sizes: &[u64], reads: &[(&str, u64, u64)]) -> Plan {
    let (inodes, size) = image(sizes);
    let reads: Vec<_> =
        reads.iter().map(|(path, start, end)| (path.as_bytes().to_vec(), *start, *end)).collect();
    plan(&inodes, &[Some(size)], &reads)
}

fn ranges(plan: &Plan) -> Vec<Vec<(u64, u64)>> {
    let range = |extent: &Extent| (extent.range.start, extent.range.end);
    plan.frames.iter().map(|frame| frame.iter().map(range).collect()).collect()
}

/// Ranges are widened to multiples of this.
const WINDOW: u64 = 256 << 10;

#[test]
fn plan_when_small_files_are_read_then_headers_and_whole_files_in_order() {
    let found = planned(&[5000, 700], &[("f1", 600, 700), ("f0", 100, 1100), ("f1", 0, 10)]);
    // f0: headers at 0, data at 512; f1: headers at 5632, data at 6144.
    assert_eq!(ranges(&found), [[(5632, 7168), (0, 5632)]]);
    assert_eq!((found.unknown, found.unusable, found.left_out), (0, 0, 0));
}

#[test]
fn plan_when_reads_repeat_or_overlap_then_each_window_once() {
    let reads = [
        ("f0", WINDOW + 1, 2 * WINDOW),
        ("f0", 5, WINDOW + 5),
        ("f0", 10, 20),
        ("f0", 3 * WINDOW - 1, 3 * WINDOW + 1),
    ];
    let found = planned(&[4 * WINDOW - 700], &reads);
    let data = |windows: u64| 512 + windows * WINDOW;
    let all: Vec<(u64, u64)> = ranges(&found).concat();
    let end = (data(4) - 700).next_multiple_of(BLOCK_LEN);
    assert_eq!(all[..3], [(0, 512), (data(1), data(2)), (data(0), data(1) - 512)]);
    // The frame ends here.
    assert_eq!(all[3..], [(data(1) - 512, data(1)), (data(2), end)]);
}

#[test]
fn plan_when_a_read_is_after_the_end_of_its_file_then_cut() {
    let found = planned(&[100, 100], &[("f0", 0, 1 << 50), ("f0", 1 << 40, 1 << 50)]);
    assert_eq!(ranges(&found), [[(0, 1024)]]);
}

#[test]
fn plan_when_files_are_missing_or_layers_unusable_then_counted() {
    let (inodes, _) = image(&[100]);
    let reads = [(b"f0".to_vec(), 0, 10), (b"none".to_vec(), 0, 10), (b"".to_vec(), 0, 10)];
    let found = plan(&inodes, &[None], &reads);
    assert_eq!((found.unknown, found.unusable, found.frames.len()), (1, 1, 0));
}

#[test]
fn plan_when_a_file_is_long_then_in_frames_of_512_kib() {
    let found = planned(&[2 << 20], &[("f0", 0, 2 << 20)]);
    let lens: Vec<u64> =
        found.frames.iter().map(|frame| frame.iter().map(Extent::len).sum()).collect();
    assert_eq!(lens, [512 << 10, 512 << 10, 512 << 10, 512 << 10, 512]);
}

#[test]
fn plan_when_more_is_read_than_fits_then_the_rest_is_counted() {
    let size = MAX_PACK_LEN + 10_000;
    let found = planned(&[size, 100], &[("f0", 0, size), ("f1", 0, 100)]);
    let len: u64 = found.frames.iter().flatten().map(Extent::len).sum();
    assert_eq!(len, MAX_PACK_LEN);
    // The headers of the first file are in the pack; those of the second, and its data, are not.
    assert_eq!(found.left_out, size.next_multiple_of(BLOCK_LEN) + BLOCK_LEN - MAX_PACK_LEN + 1024);
}
