//! Builds seek blobs, roots and chunks of file lists from instructions.

use tocsin_core::digest::Digest;

use crate::instructions::{Instructions, damage};
use crate::support::seek::{RawChunk, RawLayer, frame, layer, start, varint};

/// A seek blob that may break any rule.
pub fn blob(instructions: &mut Instructions<'_>) -> Vec<u8> {
    match instructions.below(4) {
        0 => instructions.rest().to_vec(),
        1 => {
            let count = 1 + instructions.below(80) as u64;
            let mut draws = instructions.clone();
            let (layer, _) = layer(count, &mut |limit| draw(&mut draws, limit));
            let mut blob = layer.blob().to_vec();
            damage(&mut blob, instructions);
            blob
        }
        2 => points(instructions).to_bytes(),
        _ => any_fields(instructions).to_bytes(),
    }
}

fn draw(instructions: &mut Instructions<'_>, limit: u64) -> u64 {
    let number = if limit <= 256 {
        u64::from(instructions.byte())
    } else {
        u64::from(instructions.u16()) | u64::from(instructions.byte()) << 16
    };
    number % limit
}

/// Checkpoints that are usually valid.
fn points(instructions: &mut Instructions<'_>) -> RawLayer {
    let count = instructions.below(6);
    let runs: Vec<Vec<(u64, u64)>> = (0..count)
        .map(|_| {
            let mut at = u64::from(instructions.u16()) % 32_768;
            let mut runs = Vec::new();
            for _ in 0..instructions.below(6) {
                let len = 1 + u64::from(instructions.byte());
                runs.push((at, len));
                at += len + u64::from(instructions.byte());
            }
            runs
        })
        .collect();
    let points: Vec<_> = runs
        .iter()
        .map(|runs| {
            let kind = u64::from(instructions.byte());
            let value = if kind & 3 == 1 { 3 + instructions.below(600) } else { 0 };
            let mut header = instructions.take(value.div_ceil(8)).to_vec();
            header.resize(value.div_ceil(8), 0);
            let rare = if instructions.rarely() { instructions.u16().into() } else { value as u64 };
            (start(kind & 3, rare, &header), runs.as_slice())
        })
        .collect();
    let mut raw = RawLayer::of_points(&points);
    for delta in &mut raw.deltas[1..] {
        delta.0 -= u64::from(instructions.u16()) / 2;
        delta.1 = u64::from(instructions.byte() & 0xfc) + 8;
    }
    let end = |of: fn(&(u64, u64)) -> u64| raw.deltas.iter().map(of).sum::<u64>();
    let (uncompressed, bits) = (end(|delta| delta.0), end(|delta| delta.1));
    raw.numbers[3] = bits / 8 + 1 + u64::from(instructions.byte());
    raw.numbers[4] = uncompressed + 1 + u64::from(instructions.u16());
    for column in &mut raw.chunks[0].columns {
        if instructions.rarely() {
            damage(column, instructions);
        }
    }
    raw
}

fn any_fields(instructions: &mut Instructions<'_>) -> RawLayer {
    let mut numbers = [65_536, 64, 0, 0, 0, 0];
    for number in &mut numbers {
        if *number == 0 || instructions.rarely() {
            *number = instructions.u64() >> instructions.below(65).min(63);
        }
    }
    numbers[2] %= 4;
    let deltas = (0..instructions.below(5))
        .map(|_| (instructions.u16().into(), instructions.byte().into()))
        .collect();
    let chunks = (0..instructions.below(3))
        .map(|_| RawChunk {
            columns: std::array::from_fn(|_| {
                let len = instructions.below(40);
                instructions.take(len).to_vec()
            }),
            digests: vec![0; 32 * instructions.below(5)],
        })
        .collect();
    RawLayer { magic: *b"TOCSINL1", numbers, deltas, chunks }
}

/// A root, a position map and a chunk of a file list, each with arbitrary bytes and the right digest.
pub fn table(instructions: &mut Instructions<'_>) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let map = zstd::bulk::compress(instructions.take(16), 1).unwrap();
    let map_len = 16;
    let layer_count = instructions.below(3);
    let mut content = [65_536, 1024, 64, layer_count as u64].map(varint).concat();
    for _ in 0..layer_count {
        content.extend([instructions.byte(); 32]);
        let size = u64::from(instructions.u16());
        let count = instructions.below(4) as u64;
        let numbers = [instructions.below(4) as u64, size, size * 4, count, 40];
        content.extend(numbers.map(varint).concat());
        (0..count.div_ceil(64)).for_each(|_| content.extend(varint(count * 40)));
    }
    let entries = 1 + instructions.below(6) as u64;
    let key = if instructions.rarely() { instructions.take(3) } else { b"\0" };
    let list_content = instructions.rest();
    let list = zstd::bulk::compress(list_content, 1).unwrap();
    content
        .extend([map.len() as u64, map_len, 1, entries, 0, key.len() as u64].map(varint).concat());
    content.extend_from_slice(key);
    content.extend([list.len() as u64, list_content.len() as u64].map(varint).concat());
    let mut root = [b"TOCSINS1".as_slice(), &frame(&content)].concat();
    for part in [&map, &list] {
        root.extend(Digest::of(part).as_bytes());
    }
    root.resize(root.len() + 32 * layer_count, 0);
    (root, map, list)
}
