//! Reading the headers of one entry, the purposes of reading, and skipping, one test per rule.
//!
//! Source of the rules: Go `archive/tar`, GNU tar manual for sparse files, containerd for global headers.
#![allow(clippy::expect_used, reason = "a test may stop")]

use crate::tar_blocks::{Header, Tar, field, filling, record, scan_for};
use tocsin_core::Error;
use tocsin_core::error::TarError;
use tocsin_core::span::UncompressedOffset;
use tocsin_core::tar::{EntryHeaders, EntryType, Purpose, Region, TocScanner, read_headers};

const START: UncompressedOffset = UncompressedOffset(1 << 40);

fn file(name: &str) -> Header {
    Header::ustar(name.as_bytes(), b'0')
}

fn found(tar: &Tar) -> EntryHeaders {
    read_headers(&tar.0, START).expect("headers are valid")
}

fn failure(bytes: &[u8]) -> (TarError, u64) {
    let reason = match read_headers(bytes, START) {
        Err(Error::Tar { kind, at }) => Some((kind, at.0 - START.0)),
        _ => None,
    };
    reason.expect("headers are not valid")
}

fn regions(tar: &Tar) -> Option<Vec<(u64, u64)>> {
    let regions = found(tar).regions?;
    Some(regions.iter().map(|Region { offset, len }| (*offset, *len)).collect())
}

#[test]
fn headers_when_of_a_plain_file_then_equal_the_scanners_entry() {
    let headers = Tar::new().pax(&[("path", "long/name")]).header(file("a").size(700));
    let data = headers.clone().data(&filling(700));
    let found = found(&headers);
    let mut listed = scan_for(&data.clone().end(), Purpose::Index).expect("archive is valid");
    let mut entry = listed.entries.remove(0);
    assert_eq!((entry.uncompressed_offset, entry.uncompressed_size), (1_536, 700));
    entry.uncompressed_offset += i64::try_from(START.0).expect("below 2^63");
    assert_eq!(found.entry, entry);
    assert_eq!((found.data_offset().0, found.stored_size), (START.0 + 1_536, 700));
    assert_eq!(found.regions, None);
    // Bytes after the headers are ignored, whether data or more entries.
    let longer = data.header(file("b")).raw(b"x");
    assert_eq!(read_headers(&longer.0, START), Ok(found));
}

#[test]
fn headers_when_of_an_entry_without_data_then_nothing_is_stored() {
    for flag in *b"123456" {
        let found = found(&Tar::new().header(Header::ustar(b"a", flag).size(700)));
        assert_eq!((found.stored_size, found.entry.uncompressed_size), (0, 700));
    }
    let old_directory = found(&Tar::new().header(Header::v7(b"d/", 0).size(700)));
    assert_eq!(old_directory.entry.entry_type, EntryType::Directory);
    assert_eq!(old_directory.stored_size, 0);
}

#[test]
fn headers_when_pax_gives_the_size_then_stored_size_equals_it() {
    let large = Tar::new().pax(&[("size", "9000000000")]).header(file("a").size(0));
    assert_eq!(found(&large).stored_size, 9_000_000_000);
}

#[test]
fn headers_when_the_file_is_sparse_then_regions_are_in_order() {
    let format_0_0 = [
        ("GNU.sparse.size", "5000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "10"),
        ("GNU.sparse.numbytes", "20"),
        ("GNU.sparse.offset", "4000"),
        ("GNU.sparse.numbytes", "1000"),
    ];
    let tar = Tar::new().pax(&format_0_0).header(file("a").size(1_020));
    assert_eq!(regions(&tar), Some(vec![(10, 20), (4_000, 1_000)]));
    assert_eq!((found(&tar).stored_size, found(&tar).entry.uncompressed_size), (1_020, 5_000));

    let format_0_1 = [
        ("GNU.sparse.size", "5000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.map", "10,20,4000,0"),
    ];
    let tar = Tar::new().pax(&format_0_1).header(file("a").size(20));
    assert_eq!(regions(&tar), Some(vec![(10, 20), (4_000, 0)]));

    let format_1_0 = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.realsize", "20000000000"),
        // After the other record, and too large for the header field.
        ("size", "9000000512"),
    ];
    let map = b"2\n0\n8000000000\n10000000000\n1000000000\n";
    let tar = Tar::new().pax(&format_1_0).header(file("a").size(0)).data(map);
    let large = [(0, 8_000_000_000), (10_000_000_000, 1_000_000_000)];
    assert_eq!(regions(&tar), Some(large.to_vec()));
    let found = found(&tar);
    assert_eq!(found.data_offset().0, START.0 + 2_048, "after the map");
    assert_eq!(found.stored_size, 9_000_000_000, "without the map");
    assert_eq!(found.entry.uncompressed_size, 20_000_000_000);
    assert!(found.entry.is_sparse());
}

#[test]
fn headers_when_sparse_records_have_no_map_then_a_plain_file() {
    for records in [
        vec![("GNU.sparse.name", "real")],
        vec![("GNU.sparse.realsize", "9000")],
        vec![("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")],
        vec![("GNU.sparse.major", "1"), ("GNU.sparse.minor", "1")],
        vec![("GNU.sparse.major", "1"), ("GNU.sparse.map", "0,4")],
    ] {
        let plain = found(&Tar::new().pax(&records).header(file("a").size(4)));
        assert_eq!(plain.regions, None, "{records:?}");
        assert_eq!(plain.entry.name, b"a");
        assert_eq!((plain.stored_size, plain.entry.uncompressed_size), (4, 4));
        assert!(!plain.entry.is_sparse());
    }
}

#[test]
fn headers_when_truncated_then_no_entry() {
    let whole = Tar::new().gnu_long(b'L', b"long").pax(&[("path", "p")]).header(file("a"));
    for end in 0..whole.0.len() {
        assert_eq!(failure(&whole.0[..end]), (TarError::NoEntry, 0), "{end}");
    }
    assert_eq!(failure(&[0; 512]), (TarError::NoEntry, 0), "the end of the archive");
    assert_eq!(failure(&[0; 2_048]), (TarError::NoEntry, 0));
}

#[test]
fn headers_when_invalid_then_error_has_the_block_offset() {
    let (kind, at) = failure(&Tar::new().pax(&[("path", "p")]).data(&filling(700)).0);
    assert!(matches!(kind, TarError::Field("chksum")), "{kind:?}");
    assert_eq!(at, 1_024);
    let (kind, at) = failure(&Tar::new().zero_block().header(file("a")).0);
    assert_eq!((kind, at), (TarError::LoneZeroBlock, 512));
}

// Purposes.

fn global(records: &[u8]) -> Tar {
    Tar::new().file(Header::ustar(b"pax_global_header", b'g'), records)
}

#[test]
fn global_header_when_indexing_then_rejected_else_ignored() {
    let tar = global(&record("path", "everywhere")).file(file("a"), b"data").end();
    let refusal = Error::Tar { kind: TarError::UnsupportedType('g'), at: UncompressedOffset(0) };
    assert_eq!(scan_for(&tar, Purpose::Index), Err(refusal));
    for purpose in [Purpose::Read, Purpose::Archive] {
        let toc = scan_for(&tar, purpose).expect("global headers are ignored");
        assert_eq!(toc.entries.len(), 1);
        assert_eq!(
            (&toc.entries[0].name[..], toc.entries[0].uncompressed_offset),
            (&b"a"[..], 1_536)
        );
        assert_eq!(toc.entries[0].xattrs, []);
    }
    assert_eq!(read_headers(&tar, START).map(|found| found.entry.name), Ok(b"a".to_vec()));
}

#[test]
fn global_header_when_it_follows_records_then_cancels_them() {
    let before = Tar::new().pax(&[("path", "pax")]).gnu_long(b'K', b"long");
    let tar = before.raw(&global(&record("comment", "c")).0).header(file("a"));
    let found = found(&tar);
    assert_eq!((&found.entry.name[..], &found.entry.linkname[..]), (&b"a"[..], &b""[..]));
    assert_eq!(found.entry.xattrs, []);
}

#[test]
fn global_header_when_its_records_are_invalid_then_rejected() {
    let (kind, at) = failure(&global(b"5 a=").header(file("a")).0);
    assert!(matches!(kind, TarError::Pax(_)), "{kind:?}");
    assert_eq!(at, 0);
}

#[test]
fn unknown_types_when_reading_an_image_archive_then_files() {
    for flag in *b"7VMNDAX8 " {
        let tar = Tar::new().file(Header::gnu(b"a", flag), b"data").header(file("b")).end();
        for purpose in [Purpose::Index, Purpose::Read] {
            let kind = TarError::UnsupportedType(char::from(flag));
            let refusal = Error::Tar { kind, at: UncompressedOffset(0) };
            assert_eq!(scan_for(&tar, purpose), Err(refusal));
        }
        let toc = scan_for(&tar, Purpose::Archive).expect("any type is a file");
        assert_eq!(toc.entries[0].entry_type, EntryType::Regular);
        assert_eq!((toc.entries.len(), toc.entries[0].uncompressed_size), (2, 4));
    }
    let sparse = Tar::new().file(Header::gnu(b"a", b'S'), b"data").end();
    let refusal = Error::Tar { kind: TarError::UnsupportedType('S'), at: UncompressedOffset(0) };
    assert_eq!(scan_for(&sparse, Purpose::Archive), Err(refusal));
}

// Skipping.

#[test]
fn skip_when_inside_a_file_then_up_to_the_next_header() {
    let tar = Tar::new().file(file("a"), &filling(700)).file(file("b"), b"data").end();
    let mut scanner = TocScanner::default();
    assert_eq!((scanner.skippable(), scanner.skip(5)), (0, 0), "expects a header");
    scanner.push(&tar[..512]).expect("a header");
    assert_eq!(scanner.skippable(), 1_024, "data and padding");
    assert_eq!(scanner.skip(300), 300);
    scanner.push(&tar[812..822]).expect("some data");
    assert_eq!(scanner.skippable(), 714);
    assert_eq!(scanner.skip(u64::MAX), 714);
    assert_eq!((scanner.skippable(), scanner.entry_count()), (0, 1));
    scanner.push(&tar[1_536..2_000]).expect("a part of a header");
    assert_eq!(scanner.skip(9), 0, "inside a block");
    scanner.push(&tar[2_000..]).expect("the rest");
    assert_eq!(scanner.skippable(), u64::MAX, "everything after the end is ignored");
    assert_eq!(scanner.skip(1 << 50), 1 << 50);
    assert_eq!(scanner.finish(), scan_for(&tar, Purpose::Index));
}

#[test]
fn skip_when_the_archive_ends_there_then_same_as_push() {
    let header = file("a").size(700).sealed();
    for len in [0, 699, 700, 701, 1_024] {
        let mut scanner = TocScanner::default();
        scanner.push(&header).expect("a header");
        assert_eq!(scanner.skip(len), len);
        let archive = [&header[..], &vec![b'.'; usize::try_from(len).expect("small")]].concat();
        assert_eq!(scanner.finish(), scan_for(&archive, Purpose::Index), "{len}");
    }
}

#[test]
fn skip_when_sizes_are_huge_then_no_overflow() {
    let huge = Header::gnu(b"a", b'0').base_256(field::SIZE, i64::MAX);
    let mut scanner = TocScanner::default();
    for _ in 0..3 {
        scanner.push(&huge.clone().sealed()).expect("a header");
        let skippable = scanner.skippable();
        assert_eq!(skippable, 1 << 63, "with one byte of padding");
        assert_eq!(scanner.skip(skippable), skippable);
    }
    assert_eq!(scanner.finish().map(|toc| toc.entries.len()), Ok(3));
}
