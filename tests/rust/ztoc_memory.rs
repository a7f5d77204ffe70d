//! Reading a zTOC takes memory in proportion to its size, whatever it contains.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use tocsin_core::checkpoint::WINDOW_LEN;
use tocsin_core::error::{Error, ZtocError};
use tocsin_core::ztoc::{Zinfo, ZinfoVersion, Ztoc};

use crate::ztoc_patch::{follow, sample_tar, set_u32, shared_entries, table_field};
use crate::ztoc_values::{checkpoint, gzip_ztoc};
use crate::{peak_of, take_turn};

/// Maximum bytes allocated per byte of the blob: a copy of the blob, and one entry at a time, which
/// may be most of the blob.
const FACTOR: usize = 4;
/// Bytes allocated for any blob, such as the text of an error.
const ALLOWANCE: usize = 1024;

/// Maximum number of measurements of one blob. The test harness may also allocate when another test
/// starts or ends.
const ATTEMPTS: usize = 3;

/// Reads a blob and checks the memory that this took.
fn read(blob: &[u8]) -> Result<Ztoc, Error> {
    read_within(blob, ALLOWANCE)
}

fn read_within(blob: &[u8], allowance: usize) -> Result<Ztoc, Error> {
    let allowed = FACTOR * blob.len() + allowance;
    let (mut taken, mut result) = peak_of(|| Ztoc::from_bytes(blob));
    for _ in 1..ATTEMPTS {
        if taken > allowed {
            (taken, result) = peak_of(|| Ztoc::from_bytes(blob));
        }
    }
    assert!(taken <= allowed, "{taken} for {}: {result:?}", blob.len());
    result
}

#[test]
fn test_from_bytes_when_blob_is_hostile_then_memory_is_bounded() {
    let _turn = take_turn();
    // References to one small entry are the cheapest way to cause large allocations.
    for (count, name_len) in [(10_000, 0), (10_000, 100_000), (100, 1_000_000)] {
        let blob = shared_entries(count, name_len);
        let kind = read(&blob).map_err(|error| matches!(error, Error::Ztoc { kind, .. }
            if matches!(kind, ZtocError::Amplified { .. } | ZtocError::Value { .. } | ZtocError::ZinfoLength { .. })));
        assert_eq!(kind, Err(true));
    }

    let valid = sample_tar().to_bytes().unwrap();
    let root = follow(&valid, 0);
    let toc = follow(&valid, table_field(&valid, root, 4));
    let lengths = [table_field(&valid, root, 0), table_field(&valid, toc, 0)];
    for at in lengths.map(|at| follow(&valid, at)) {
        for len in [1 << 20, 1 << 30, u32::MAX / 4, u32::MAX] {
            let mut blob = valid.clone();
            set_u32(&mut blob, at, len);
            assert!(read(&blob).is_err());
        }
    }
    for at in 0..valid.len() {
        for change in 1..=u8::MAX {
            let mut blob = valid.clone();
            blob[at] ^= change;
            let _ = read(&blob);
        }
    }

    // Found by ztoc_never_panics: a blob of 216 bytes made the reader allocate two windows for
    // the checkpoint that version 1 omits.
    let mut implied = gzip_ztoc(500, vec![checkpoint(10, 0, 0)]);
    let Zinfo::Gzip(zinfo) = &mut implied.zinfo else { unreachable!("a gzip layer") };
    zinfo.version = ZinfoVersion::V1;
    let blob = implied.to_bytes().unwrap();
    assert!(blob.len() < 500);
    assert_eq!(read_within(&blob, WINDOW_LEN + ALLOWANCE), Ok(implied));
}
