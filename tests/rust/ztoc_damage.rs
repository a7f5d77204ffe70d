//! Damaged zTOCs: changing or cutting off bytes gives a value or an error, never a panic.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use tocsin_core::span::SpanId;
use tocsin_core::ztoc::Ztoc;

use crate::ztoc_patch::{sample_gzip, sample_tar};

/// Uses a zTOC in every way that a reader does. None of them may panic.
fn use_all(ztoc: &Ztoc) {
    assert!(ztoc.to_bytes().is_ok(), "readable, so it must be writable");
    let _ = ztoc.reader_refusals();
    for entry in ztoc.toc.iter() {
        for span in ztoc.spans_for(&entry).start.0..ztoc.spans_for(&entry).end.0 {
            assert!(ztoc.span_compressed_range(SpanId(span)).is_ok());
            assert!(ztoc.span_uncompressed_range(SpanId(span)).is_ok());
        }
    }
}

#[test]
fn test_from_bytes_when_a_byte_is_changed_then_value_or_error() {
    let tar = sample_tar().to_bytes().unwrap();
    for at in 0..tar.len() {
        for change in 1..=u8::MAX {
            let mut blob = tar.clone();
            blob[at] ^= change;
            if let Ok(ztoc) = Ztoc::from_bytes(&blob) {
                use_all(&ztoc);
            }
        }
    }
    let gzip = sample_gzip().to_bytes().unwrap();
    let not_zero = (0..gzip.len()).filter(|&at| at % 997 == 0 || gzip[at] != 0 || at < 400);
    for at in not_zero {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut blob = gzip.clone();
            blob[at] ^= change;
            if let Ok(ztoc) = Ztoc::from_bytes(&blob) {
                use_all(&ztoc);
            }
        }
    }
}

#[test]
fn test_from_bytes_when_truncated_then_value_or_error() {
    let tar = sample_tar().to_bytes().unwrap();
    for len in 0..tar.len() {
        // Only the padding of the last string may be missing.
        let read = Ztoc::from_bytes(&tar[..len]);
        assert!(read.is_err() || len >= tar.len() - 4, "{len} of {}", tar.len());
    }
    let gzip = sample_gzip().to_bytes().unwrap();
    for len in (0..gzip.len() - 4).step_by(97) {
        assert!(Ztoc::from_bytes(&gzip[..len]).is_err());
    }
}
