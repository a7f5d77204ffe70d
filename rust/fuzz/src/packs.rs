//! Builds indexes of packs from instructions.

use tocsin_core::digest::Digest;

use crate::instructions::{Instructions, damage};
use crate::support::seek::{frame, varint};

/// An index that may break any rule, the length of its content, and frames with the digests in it.
pub fn index(instructions: &mut Instructions<'_>) -> (Vec<u8>, usize, Vec<Vec<u8>>) {
    if instructions.rarely() {
        return (instructions.rest().to_vec(), 0, Vec::new());
    }
    let layer_count = instructions.below(4);
    let mut content = varint(layer_count as u64);
    for _ in 0..layer_count {
        content.extend([instructions.byte(); 32]);
        content.extend(varint(u64::from(instructions.u16()) << instructions.below(8)));
    }
    let frame_count = instructions.below(4);
    content.extend(varint(frame_count as u64));
    let (mut digests, mut frames) = (Vec::new(), Vec::new());
    for _ in 0..frame_count {
        content.extend(varint(u64::from(instructions.byte())));
        let extents = instructions.below(6);
        content.extend(varint(extents as u64));
        for _ in 0..extents {
            content.extend(varint(instructions.below(4) as u64));
            let step = u64::from(instructions.byte()) >> instructions.below(8);
            let step = if instructions.rarely() { instructions.u64() } else { step };
            content.extend(varint(step));
            content.extend(varint(u64::from(instructions.byte()) >> instructions.below(8)));
        }
        let len = usize::from(instructions.byte()) * 16;
        let stored = zstd::bulk::compress(&vec![instructions.byte(); len], 1).unwrap();
        digests.extend(Digest::of(&stored).as_bytes());
        frames.push(stored);
    }
    if instructions.rarely() {
        damage(&mut content, instructions);
    }
    let len = content.len();
    ([b"TOCSINP1".as_slice(), &frame(&content), &digests].concat(), len, frames)
}
