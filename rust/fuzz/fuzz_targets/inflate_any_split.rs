//! Both decoders give the same output, candidates and error, however a layer is cut into pieces and
//! whenever its output is taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::inflate::Speed;
use tocsin_fuzz::decode::{Decoded, Taking, gunzip};
use tocsin_fuzz::instructions::{Instructions, pieces};
use tocsin_fuzz::layers;

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    // The first instructions are the cuts; the rest build the layer.
    let cuts = instructions.take(13);
    let layer = layers::any(&mut instructions);
    let pieces = pieces(&layer, &mut Instructions::new(cuts));

    let whole = gunzip([&layer[..]], Speed::Plain, Taking::Late);
    let run = |speed, taking| gunzip(pieces.iter().map(|piece| &piece[..]), speed, taking);
    check("fast, in pieces", &run(Speed::Fast, Taking::Late), &whole);
    check("fast, in pieces, taken early", &run(Speed::Fast, Taking::Early), &whole);
    // Skip large layers, since the plain decoder would slow down the fuzzer.
    if whole.output.len() < 64 << 10 {
        check("plain, in pieces", &run(Speed::Plain, Taking::Late), &whole);
    }
});

fn check(how: &str, decoded: &Decoded, whole: &Decoded) {
    assert_eq!(decoded.end, whole.end, "{how}");
    assert_eq!(decoded.candidates, whole.candidates, "{how}");
    assert_eq!(decoded.member_ends, whole.member_ends, "{how}");
    assert!(decoded.output == whole.output, "{how}: output differs");
}
