//! The fast decoder, the plain decoder and zlib give the same output, and agree on whether a stream
//! is valid, for raw DEFLATE and for gzip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::Error;
use tocsin_core::error::GzipError;
use tocsin_core::inflate::Speed;
use tocsin_fuzz::decode::{self, Taking};
use tocsin_fuzz::instructions::Instructions;
use tocsin_fuzz::{layers, streams, zlib};

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    if instructions.flag() {
        check_stream(&streams::stream(&mut instructions));
    } else {
        check_layer(&layers::any(&mut instructions));
    }
});

fn check_stream(stream: &[u8]) {
    let fast = decode::inflate(stream, Speed::Fast);
    let plain = decode::inflate(stream, Speed::Plain);
    assert!(fast.output == plain.output, "fast and plain differ");
    assert_eq!(fast.end, plain.end, "fast, plain");

    let zlib = zlib::inflate(stream);
    assert!(fast.output == zlib.output, "tocsin and zlib differ");
    let stream_len = fast.end.ok().map(|bits| bits.div_ceil(8) as usize);
    assert_eq!(stream_len, zlib.stream_len, "ours {:?}, zlib", fast.end);

    let layer = streams::as_layer(stream, &fast);
    assert_eq!(check_layer(&layer), fast.end.is_ok(), "as a member");
}

/// Whether the layer is valid.
fn check_layer(layer: &[u8]) -> bool {
    let fast = decode::gunzip([layer], Speed::Fast, Taking::Late);
    let plain = decode::gunzip([layer], Speed::Plain, Taking::Late);
    assert!(fast.output == plain.output, "fast and plain differ");
    assert_eq!((&fast.end, fast.candidates), (&plain.end, plain.candidates), "fast, plain");

    match &fast.end {
        Ok(()) => assert!(zlib::gunzip(layer).is_some_and(|output| output == fast.output), "zlib"),
        // Longer than Go's reader accepts; zlib has no limit.
        Err(Error::Gzip { kind: GzipError::HeaderText(_), .. }) => return false,
        Err(error) => {
            assert!(zlib::gunzip(layer).is_none(), "zlib accepts it, tocsin returns {error}")
        }
    }
    fast.end.is_ok()
}
