//! Reading any bytes as the index of a pack does not panic, and takes memory in proportion to their
//! number. Extents that are accepted are inside of their layers, and in at most one frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tocsin_core::Error;
use tocsin_core::pack::{MAX_FRAME_LEN, MAX_PACK_LEN, Pack};
use tocsin_fuzz::instructions::Instructions;
use tocsin_fuzz::packs;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Maximum bytes held per byte of the content of an index: an extent takes at least three.
const FACTOR: usize = 64;
/// Bytes that any index may allocate: the decoder.
const ALLOWANCE: usize = 4 << 20;

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    let (index, content_len, frames) = packs::index(&mut instructions);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let pack = Pack::parse(&index);
    let taken = MEMORY.peak_usage() - before;
    let allowed = FACTOR * (index.len() + content_len) + ALLOWANCE;
    assert!(taken <= allowed, "{taken} bytes for {content_len}");
    let pack = match pack {
        Ok(pack) => pack,
        Err(error) => return assert!(matches!(error, Error::Seek { .. }), "{error}"),
    };
    let mut total = 0;
    for (number, frame) in (0..).zip(pack.frames()) {
        assert!(frame.len <= MAX_FRAME_LEN);
        let mut len = 0;
        for extent in pack.extents(number) {
            let layer = extent.layer as usize;
            assert!(extent.range.end <= pack.layers()[layer].uncompressed_size);
            assert!(pack.covers(layer, &extent.range));
            assert!(pack.pieces(layer, &extent.range).all(|piece| piece.frame == number));
            len += extent.len();
        }
        assert_eq!(len, frame.len);
        total += len;
        let Some(stored) = frames.get(number as usize) else { continue };
        if let Ok(content) = pack.open_frame(number, stored) {
            assert_eq!(content.len() as u64, frame.len);
        }
    }
    assert_eq!(total, pack.content_len());
    assert!(total <= MAX_PACK_LEN);
    let start = instructions.u64() >> 32;
    let range = start..start + u64::from(instructions.u16());
    let pieces: u64 =
        pack.pieces(0, &range).map(|piece| piece.range.end - piece.range.start).sum();
    assert!(pieces <= range.end - range.start);
});
