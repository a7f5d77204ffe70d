//! The rules of the tar scanner, one test per rule, with archives written field by field.
//!
//! Source of the rules: Go `archive/tar`, which the reference indexer uses, and docs/format.md for
//! what a zTOC stores of the headers.
#![allow(clippy::expect_used, reason = "a test may stop")]

use crate::tar_blocks::{Header, Tar, field, record, scan};
use tocsin_core::error::TarError;
use tocsin_core::span::UncompressedOffset;
use tocsin_core::tar::{EntryType, FileMetadata, HazardReason, Toc};
use tocsin_core::{Error, Result};

const NONE: [(&str, &str); 0] = [];

/// The only entry of a valid archive.
fn entry(tar: Tar) -> FileMetadata {
    let mut toc = scan(&tar.end()).expect("archive is valid");
    assert_eq!(toc.entries.len(), 1);
    toc.entries.remove(0)
}

fn failure(tar: &Tar) -> (TarError, u64) {
    reason(scan(&tar.0)).expect("archive is not valid")
}

fn reason(scan: Result<Toc>) -> Option<(TarError, u64)> {
    match scan {
        Err(Error::Tar { kind, at: UncompressedOffset(at) }) => Some((kind, at)),
        _ => None,
    }
}

fn hazards(tar: Tar) -> Vec<(usize, HazardReason)> {
    let toc = scan(&tar.end()).expect("archive is valid");
    toc.reader_hazards.iter().map(|hazard| (hazard.entry_index, hazard.reason)).collect()
}

fn file(name: &str) -> Header {
    Header::ustar(name.as_bytes(), b'0')
}

/// The entries of this tar are also those of the small PAX layers in `ztoc.rs`.
#[test]
fn vector_when_scanned_then_equals_the_references_entries() {
    let toc = scan(include_bytes!("../golden/vectors/small-pax.tar")).expect("vector is valid");
    assert_eq!(toc.uncompressed_archive_size, 7_680);
    assert!(toc.needs_xattrs());
    assert_eq!(toc.reader_hazards, []);
    let long = "L".repeat(120);
    let expected = [
        ("d/", EntryType::Directory, 512, 0, 0o755, "2023-11-14T22:13:20Z"),
        ("d/a", EntryType::Regular, 2_048, 6, 0o4755, "2023-11-14T22:13:20.25Z"),
        ("s", EntryType::SymLink, 3_072, 0, 0o777, "2023-11-14T22:13:20Z"),
        ("h", EntryType::HardLink, 3_584, 0, 0o644, "2023-11-14T22:13:20Z"),
        ("n", EntryType::CharDevice, 4_096, 0, 0o666, "2023-11-14T22:13:20Z"),
        (&long, EntryType::Regular, 5_632, 700, 0o644, "2023-11-14T22:13:20Z"),
    ];
    for (entry, (name, entry_type, offset, size, mode, mod_time)) in
        toc.entries.iter().zip(expected)
    {
        assert_eq!(entry.name, name.as_bytes());
        assert_eq!(entry.entry_type, entry_type, "{name}");
        assert_eq!(entry.uncompressed_offset, offset, "{name}");
        assert_eq!(entry.uncompressed_size, size, "{name}");
        assert_eq!(entry.mode, mode, "{name}");
        assert_eq!(entry.mod_time, mod_time.as_bytes(), "{name}");
    }
    let [d, a, s, h, n, l] = &toc.entries[..] else { panic!("six entries") };
    assert_eq!((&d.uname[..], &d.gname[..]), (&b"root"[..], &b"root"[..]));
    assert_eq!((a.uid, a.gid, &a.uname[..], &a.gname[..]), (1000, 1001, &b"u"[..], &b"g"[..]));
    let keys: Vec<&[u8]> = a.xattrs.iter().map(|(key, _)| &key[..]).collect();
    let expected: [&[u8]; 3] =
        [b"SCHILY.xattr.security.capability", b"SCHILY.xattr.user.k", b"mtime"];
    assert_eq!(keys, expected);
    assert_eq!((&s.linkname[..], &h.linkname[..]), (&b"d/a"[..], &b"d/a"[..]));
    assert_eq!((n.devmajor, n.devminor), (1, 3));
    assert_eq!(l.xattrs, [(b"path".to_vec(), long.into_bytes())]);
}

// Where an archive ends.

#[test]
fn end_when_two_zero_blocks_then_after_them_and_the_rest_is_ignored() {
    let archive = Tar::new().header(file("a")).zero_block().zero_block();
    assert_eq!(scan(&archive.0).map(|toc| toc.uncompressed_archive_size), Ok(1_536));
    let longer = archive.raw(&[0; 8_704]).raw(b"anything").header(file("b"));
    let toc = scan(&longer.0).expect("the rest is ignored");
    assert_eq!((toc.uncompressed_archive_size, toc.entries.len()), (1_536, 1));
}

#[test]
fn end_when_zero_blocks_are_missing_then_where_the_bytes_end() {
    let size = |tar: Tar| scan(&tar.0).expect("a clean end").uncompressed_archive_size;
    assert_eq!(size(Tar::new()), 0);
    assert_eq!(size(Tar::new().zero_block()), 512);
    assert_eq!(size(Tar::new().header(file("a"))), 512);
    assert_eq!(size(Tar::new().header(file("a")).zero_block()), 1_024);
    assert_eq!(size(Tar::new().file(file("a"), b"data")), 1_024);
    // Inside the padding, or without any.
    assert_eq!(size(Tar::new().header(file("a").size(4)).raw(b"data")), 516);
    assert_eq!(size(Tar::new().header(file("a").size(4)).raw(b"data\0\0")), 518);
    // A pseudo entry at the end of the archive is not an error.
    assert_eq!(size(Tar::new().pax(&[("path", "a")])), 1_024);
}

#[test]
fn end_when_inside_anything_else_then_truncated() {
    let header = Tar::new().header(file("a").size(4));
    let cases = [
        (Tar::new().raw(&header.0[..511]), "a block", 0),
        (header.clone().data(b"data").raw(b"x"), "a block", 1_024),
        (Tar::new().zero_block().raw(&[0; 7]), "a block", 512),
        (header.clone(), "a file", 0),
        (header.raw(b"dat"), "a file", 0),
        (Tar::new().header(Header::ustar(b"x", b'x').size(9)).raw(b"9 a"), "a pseudo entry", 0),
    ];
    for (tar, place, at) in cases {
        assert_eq!(failure(&tar), (TarError::Truncated(place), at));
    }
}

#[test]
fn zero_block_when_single_and_data_follows_then_rejected() {
    let tar = Tar::new().zero_block().header(file("a"));
    assert_eq!(failure(&tar), (TarError::LoneZeroBlock, 512));
}

// Header blocks.

#[test]
fn checksum_when_signed_or_unsigned_then_accepted() {
    let mut block = file("caf\u{e9}").sealed();
    assert!(scan(&block).is_ok(), "unsigned, as in POSIX");
    // Two bytes above 127 make the signed sum 512 smaller.
    let unsigned: u64 = block.iter().map(|byte| u64::from(*byte)).sum::<u64>()
        - block[field::CHKSUM].iter().map(|byte| u64::from(*byte)).sum::<u64>()
        + 8 * 32;
    block[field::CHKSUM].copy_from_slice(format!("{:06o}\0 ", unsigned - 512).as_bytes());
    assert!(scan(&block).is_ok(), "signed, as in Sun's tar");
    block[field::CHKSUM].copy_from_slice(format!("{:06o}\0 ", unsigned - 256).as_bytes());
    let expected = TarError::Checksum { stored: unsigned - 256, actual: unsigned };
    assert_eq!(reason(scan(&block)), Some((expected, 0)));
    block[field::CHKSUM].copy_from_slice(b"0x12345 ");
    assert_eq!(reason(scan(&block)), Some((TarError::Field("chksum"), 0)));
}

#[test]
fn names_when_prefixed_then_joined_by_format() {
    let long = [b'n'; 100];
    assert_eq!(entry(Tar::new().header(Header::v7(&long, b'0'))).name, long, "no NUL needed");
    let ustar = file("a").put(field::PREFIX, b"dir/sub");
    assert_eq!(entry(Tar::new().header(ustar)).name, b"dir/sub/a");
    let full = [b'p'; 155];
    let ustar = file("a").put(field::PREFIX, &full);
    assert_eq!(entry(Tar::new().header(ustar)).name, [&full[..], b"/a"].concat());
    // star's prefix is shorter, since access and change time follow it.
    let star = Header::star(b"a", b'0').put(field::STAR_PREFIX, &full);
    assert_eq!(entry(Tar::new().header(star)).name, [&full[..131], b"/a"].concat());
    // V7 has no fields for a prefix, owner names or devices.
    let v7 = Header::v7(b"a", b'0').put(field::PREFIX, b"dir").put(field::UNAME, b"u");
    let v7 = entry(Tar::new().header(v7.octal(field::DEVMAJOR, 1)));
    assert_eq!((&v7.name[..], &v7.uname[..], v7.devmajor), (&b"a"[..], &b""[..], 0));
}

#[test]
fn gnu_prefix_when_times_are_invalid_then_used_as_prefix() {
    let written_by_go_1_7 = Header::gnu(b"a", b'0').put(field::PREFIX, b"some/long/prefix");
    assert_eq!(entry(Tar::new().header(written_by_go_1_7)).name, b"some/long/prefix/a");
    let times = Header::gnu(b"a", b'0').octal(field::GNU_ATIME, 1).octal(field::GNU_CTIME, 2);
    assert_eq!(entry(Tar::new().header(times)).name, b"a");
    let not_ascii = Header::gnu(b"a", b'0').put(field::PREFIX, b"pr\xe9fixe");
    assert_eq!(entry(Tar::new().header(not_ascii)).name, b"a");
}

#[test]
fn numbers_when_base_256_then_read_and_ids_truncated_to_32_bits() {
    let header = Header::gnu(b"a", b'5')
        .base_256(field::UID, 4_294_967_301)
        .base_256(field::GID, -1)
        .base_256(field::MODE, -3)
        .base_256(field::SIZE, i64::MAX)
        .base_256(field::MTIME, -1)
        .base_256(field::DEVMAJOR, 258);
    let entry = entry(Tar::new().header(header));
    assert_eq!((entry.uid, entry.gid, entry.mode), (5, u32::MAX, -3));
    assert_eq!((entry.uncompressed_size, entry.devmajor), (i64::MAX, 258));
    assert_eq!(entry.mod_time, b"1969-12-31T23:59:59Z");
}

#[test]
fn numbers_when_malformed_then_error_names_the_field() {
    let cases = [
        (field::MODE, "mode"),
        (field::UID, "uid"),
        (field::GID, "gid"),
        (field::SIZE, "size"),
        (field::MTIME, "mtime"),
        (field::DEVMAJOR, "devmajor"),
        (field::DEVMINOR, "devminor"),
    ];
    for (range, name) in cases {
        let tar = Tar::new().header(file("ok")).header(file("a").put(range, b"12x"));
        assert_eq!(failure(&tar), (TarError::Field(name), 512));
    }
    let star = Tar::new().header(Header::star(b"a", b'0').put(field::STAR_CTIME, b"12x"));
    assert_eq!(failure(&star), (TarError::Field("ctime"), 0));
}

#[test]
fn types_when_zero_to_six_then_listed_and_others_rejected() {
    let types = [
        (b'0', EntryType::Regular),
        (0, EntryType::Regular),
        (b'1', EntryType::HardLink),
        (b'2', EntryType::SymLink),
        (b'3', EntryType::CharDevice),
        (b'4', EntryType::BlockDevice),
        (b'5', EntryType::Directory),
        (b'6', EntryType::Fifo),
    ];
    for (flag, entry_type) in types {
        assert_eq!(entry(Tar::new().header(Header::ustar(b"a", flag))).entry_type, entry_type);
    }
    for flag in *b"7SgXDMNVA " {
        let tar = Tar::new().header(Header::gnu(b"a", flag));
        assert_eq!(failure(&tar), (TarError::UnsupportedType(char::from(flag)), 0));
    }
}

#[test]
fn old_regular_when_final_name_ends_with_a_slash_then_a_directory() {
    let directory = entry(Tar::new().header(Header::v7(b"d/", 0).size(700)));
    assert_eq!(directory.entry_type, EntryType::Directory);
    assert_eq!(directory.uncompressed_size, 700);
    // The name from the PAX records decides.
    let tar = Tar::new().pax(&[("path", "d/")]).header(Header::v7(b"d", 0));
    assert_eq!(entry(tar).entry_type, EntryType::Directory);
    let tar = Tar::new().pax(&[("path", "d")]).file(Header::v7(b"d/", 0), b"data");
    assert_eq!(entry(tar).entry_type, EntryType::Regular);
    // Flag '0' is a regular file even then.
    assert_eq!(entry(Tar::new().file(file("d/"), b"data")).entry_type, EntryType::Regular);
}

#[test]
fn entries_without_data_when_they_have_a_size_then_no_data_is_skipped() {
    for flag in *b"123456" {
        let tar = Tar::new().header(Header::ustar(b"a", flag).size(5_000)).header(file("b"));
        let toc = scan(&tar.end()).expect("nothing is skipped");
        assert_eq!(toc.entries[0].uncompressed_size, 5_000);
        assert_eq!(toc.entries[1].name, b"b");
    }
}

#[test]
fn size_when_negative_then_only_allowed_without_data() {
    for flag in *b"0\0xLK" {
        let tar = Tar::new().header(Header::gnu(b"a/", flag).base_256(field::SIZE, -1));
        assert_eq!(failure(&tar), (TarError::NegativeSize, 0));
    }
    let directory = Header::gnu(b"a/", b'5').base_256(field::SIZE, -1);
    assert_eq!(entry(Tar::new().header(directory)).uncompressed_size, -1);
    let tar = Tar::new().pax(&[("size", "-1")]).header(file("a"));
    assert_eq!(failure(&tar), (TarError::NegativeSize, 1_024));
    let tar = Tar::new().pax(&[("size", "-1")]).header(Header::ustar(b"a", b'2'));
    assert_eq!(entry(tar).uncompressed_size, -1);
}

#[test]
fn mod_time_when_the_year_is_out_of_range_then_empty() {
    let late = Header::gnu(b"a", b'0').base_256(field::MTIME, 253_402_300_800);
    assert_eq!(entry(Tar::new().header(late)).mod_time, b"");
    let early = Tar::new().pax(&[("mtime", "-62167219200.1")]).header(file("a"));
    assert_eq!(entry(early).mod_time, b"");
}

// PAX records and GNU long names.

#[test]
fn records_when_known_then_merged_and_all_kept_in_order() {
    let records = [
        ("uname", "per\u{e9}"),
        ("size", "3"),
        ("path", "pax/name"),
        ("linkpath", "pax/target"),
        ("gname", "g\nroup=x"),
        ("uid", "4294967301"),
        ("gid", "-1"),
        ("mtime", "-5.25"),
        ("atime", "1.5"),
        ("SCHILY.xattr.user.k", "a\0b"),
        ("my.key", ""),
    ];
    let entry = entry(Tar::new().pax(&records).header(file("a").size(4)).data(b"abc"));
    assert_eq!(entry.name, b"pax/name");
    assert_eq!(entry.linkname, b"pax/target");
    assert_eq!(entry.uname, "per\u{e9}".as_bytes());
    assert_eq!(entry.gname, b"g\nroup=x");
    assert_eq!((entry.uid, entry.gid), (5, u32::MAX));
    assert_eq!(entry.mod_time, b"1969-12-31T23:59:54.75Z");
    assert_eq!(entry.uncompressed_size, 3, "the PAX size determines how much is skipped");
    let mut sorted = records.map(|(key, value)| (key.into(), value.into()));
    sorted.sort();
    assert_eq!(entry.xattrs, sorted);
}

#[test]
fn records_when_empty_then_kept_but_not_merged() {
    let tar = Tar::new().pax(&[("path", ""), ("uname", ""), ("size", ""), ("mtime", "")]);
    let entry = entry(tar.header(file("a")));
    assert_eq!((&entry.name[..], &entry.uname[..]), (&b"a"[..], &b"user"[..]));
    assert_eq!(entry.xattrs.len(), 4);
}

#[test]
fn records_when_repeated_then_the_last_one_wins() {
    let tar = Tar::new().pax(&[("path", "one"), ("comment", "c"), ("path", "two"), ("path", "")]);
    let once = entry(tar.header(file("a")));
    let expected: [(Vec<u8>, Vec<u8>); 2] =
        [(b"comment".to_vec(), b"c".to_vec()), (b"path".to_vec(), b"".to_vec())];
    assert_eq!(once.xattrs, expected);
    assert_eq!(once.name, b"a", "an empty value cancels the previous one");
    // A second header replaces the first.
    let tar = Tar::new().pax(&[("path", "one")]).pax(&[("uname", "two")]).header(file("a"));
    let entry = entry(tar);
    assert_eq!((&entry.name[..], &entry.uname[..]), (&b"a"[..], &b"two"[..]));
    assert_eq!(entry.xattrs, [(b"uname".to_vec(), b"two".to_vec())]);
}

#[test]
fn records_when_used_then_not_used_again() {
    let tar = Tar::new().pax(&[("path", "pax")]).header(file("a")).header(file("b"));
    let toc = scan(&tar.end()).expect("archive is valid");
    assert_eq!(toc.entries[1].name, b"b");
    assert_eq!(toc.entries[1].xattrs, []);
}

#[test]
fn records_when_malformed_then_rejected() {
    let payloads: [&[u8]; 14] = [
        b"5 a=",
        b"6 a=b\n7",
        b"7 a=b\n",
        b"6 a=bc",
        b"6 abc\n",
        b"5 =b\n",
        b"4 =\n",
        b" 6 a=\n",
        b"-6 a=\n",
        b"x a=b\n",
        b"000000000000000000000000005\n",
        &record("a\0", "b"),
        &record("path", "a\0"),
        &record("linkpath", "\0"),
    ];
    for payload in payloads {
        let (kind, at) = failure(&Tar::new().header(file("ok")).pax_payload(payload));
        assert!(matches!(kind, TarError::Pax(_)), "{payload:?}");
        assert_eq!(at, 512);
    }
    for (key, value) in [("uid", "x"), ("gid", "1.5"), ("size", "0x1"), ("mtime", ".5")] {
        let tar = Tar::new().pax(&[(key, value)]).header(file("a"));
        assert!(matches!(failure(&tar), (TarError::Pax(_), 1_024)), "{key}={value}");
    }
    for key in ["atime", "ctime"] {
        let tar = Tar::new().pax(&[(key, "never")]).header(file("a"));
        assert!(matches!(failure(&tar).0, TarError::Pax(_)), "{key} is not kept but checked");
    }
}

#[test]
fn records_when_lengths_have_zeros_or_a_sign_then_accepted() {
    let tar = Tar::new().pax_payload(b"008 a=b\n+6 b=\n").header(file("a"));
    let expected: [(Vec<u8>, Vec<u8>); 2] =
        [(b"a".to_vec(), b"b".to_vec()), (b"b".to_vec(), b"".to_vec())];
    assert_eq!(entry(tar).xattrs, expected);
}

#[test]
fn long_names_when_present_then_override_records_and_end_at_nul() {
    let tar = Tar::new()
        .gnu_long(b'L', b"long/name\0ignored")
        .gnu_long(b'K', b"long/target\0")
        .pax(&[("path", "pax"), ("linkpath", "pax")])
        .header(Header::gnu(b"a", b'2'));
    let link = entry(tar);
    assert_eq!((&link.name[..], &link.linkname[..]), (&b"long/name"[..], &b"long/target"[..]));
    assert_eq!(link.uncompressed_offset, 7 * 512);
    // An empty long name has no effect, but it cancels the previous one.
    let tar = Tar::new().gnu_long(b'L', b"one").gnu_long(b'L', b"\0two").header(file("a"));
    assert_eq!(entry(tar).name, b"a");
}

#[test]
fn payloads_when_larger_than_1_mib_then_rejected() {
    let most = 1 << 20;
    let comment = record("comment", vec![b'c'; most - 17]);
    assert_eq!(comment.len(), most);
    let tar = Tar::new().pax_payload(&comment).header(file("a"));
    assert_eq!(entry(tar).xattrs[0].1.len(), most - 17);
    for (flag, what) in [(b'x', "PAX"), (b'L', "long name"), (b'K', "long link")] {
        let size = most as u64 + 1;
        let tar = Tar::new().header(Header::gnu(b"a", flag).size(size));
        let expected = TarError::PayloadTooLarge { what, size, limit: most as u64 };
        assert_eq!(failure(&tar), (expected, 0));
    }
}

// Sparse files.

const SPARSE_1_0: [(&str, &str); 4] = [
    ("GNU.sparse.major", "1"),
    ("GNU.sparse.minor", "0"),
    ("GNU.sparse.name", "real"),
    ("GNU.sparse.realsize", "5000"),
];

#[test]
fn sparse_when_format_0_0_then_its_pairs_become_one_map() {
    let records = [
        ("GNU.sparse.size", "5000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "0"),
        ("GNU.sparse.numbytes", "10"),
        ("GNU.sparse.offset", "4000"),
        ("GNU.sparse.numbytes", "1"),
    ];
    let tar = Tar::new().pax(&records).file(file("a"), &[b'.'; 11]).header(file("b"));
    let toc = scan(&tar.end()).expect("archive is valid");
    let sparse = &toc.entries[0];
    assert_eq!((sparse.uncompressed_offset, sparse.uncompressed_size), (1_536, 5_000));
    let map = (b"GNU.sparse.map".to_vec(), b"0,10,4000,1".to_vec());
    assert!(sparse.xattrs.contains(&map));
    assert_eq!(sparse.xattrs.len(), 3, "the pairs are removed");
    assert_eq!(toc.entries[1].uncompressed_offset, 2_560, "11 bytes were skipped");
}

#[test]
fn sparse_when_format_0_1_then_map_is_checked_against_the_size() {
    let sparse = |map: &str, blocks: &str, size: &str| {
        let records = [
            ("GNU.sparse.map", map),
            ("GNU.sparse.numblocks", blocks),
            ("GNU.sparse.name", "real/"),
            ("GNU.sparse.size", size),
        ];
        scan(&Tar::new().pax(&records).header(file("a")).0)
    };
    let toc = sparse("0,10,10,0,20,4", "3", "24").expect("map is valid");
    assert_eq!(toc.entries[0].name, b"real/");
    assert_eq!(toc.entries[0].uncompressed_size, 24);
    for (map, blocks, size) in [
        ("0,10,20,4", "1", "24"),
        ("0,10", "2", "24"),
        ("0,10,20", "2", "24"),
        ("0,10,20,5", "2", "24"),
        ("0,10,9,1", "2", "24"),
        ("20,1,0,1", "2", "24"),
        ("-1,1", "1", "24"),
        ("1,-1", "1", "24"),
        ("9223372036854775807,1", "1", "24"),
        ("0,x", "1", "24"),
        ("0,1", "", "24"),
        ("0,1", "-1", "24"),
        ("0,1", "1", "x"),
    ] {
        let kind = reason(sparse(map, blocks, size)).map(|(kind, _)| kind);
        assert!(matches!(kind, Some(TarError::Sparse(_))), "{map} {blocks} {size}: {kind:?}");
    }
    assert_eq!(reason(sparse("0,0", "1", "-1")), Some((TarError::NegativeSize, 1_024)));
}

#[test]
fn sparse_when_format_1_0_then_data_starts_after_the_map() {
    let mut data = b"2\n0\n10\n4990\n10\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(&[b'.'; 20]);
    let tar = Tar::new().pax(&SPARSE_1_0).file(file("a"), &data).header(file("b"));
    let toc = scan(&tar.end()).expect("archive is valid");
    let sparse = &toc.entries[0];
    assert_eq!(sparse.name, b"real");
    assert_eq!((sparse.uncompressed_offset, sparse.uncompressed_size), (2_048, 5_000));
    assert_eq!(toc.entries[1].uncompressed_offset, 3_072);
}

#[test]
fn sparse_when_format_1_0_map_spans_blocks_then_read_in_full() {
    let mut data = b"200\n".to_vec();
    for region in 0..200 {
        data.extend_from_slice(format!("{}\n1\n", region * 10).as_bytes());
    }
    assert_eq!(data.len().next_multiple_of(512), 1_536);
    data.resize(1_536 + 200, b'\n');
    let sparse = entry(Tar::new().pax(&SPARSE_1_0).file(file("a"), &data));
    assert_eq!(sparse.uncompressed_offset, 1_536 + 1_536);
}

#[test]
fn sparse_when_format_1_0_map_is_invalid_then_rejected() {
    let scan_map = |map: &[u8]| failure(&Tar::new().pax(&SPARSE_1_0).file(file("a"), map)).0;
    for map in [&b"1\n0\n"[..], b"", b"1\n0\n5001\n", b"x\n", b"\n", b"-1\n", b"2\n5\n1\n0\n1\n"] {
        let mut data = map.to_vec();
        data.resize(512, b'0');
        let kind = scan_map(&data);
        assert!(matches!(kind, TarError::Sparse(_)), "{map:?}: {kind:?}");
    }
    // The map is longer than the entry, though the archive continues.
    assert!(matches!(scan_map(b"0\n"), TarError::Sparse(_)), "the map consists of whole blocks");
    // Leading zeros are allowed, up to 1 MiB of them.
    let zeros = vec![b'0'; (1 << 20) + 512];
    assert_eq!(scan_map(&zeros), TarError::Sparse("is larger than 1 MiB"));
    let cut = Tar::new().pax(&SPARSE_1_0).header(file("a").size(1_024)).raw(&[b'0'; 512]);
    assert_eq!(failure(&cut), (TarError::Truncated("a sparse map"), 1_536));
}

#[test]
fn sparse_when_the_entry_has_no_data_then_rejected() {
    let tar = Tar::new().pax(&SPARSE_1_0).header(Header::ustar(b"a", b'5'));
    assert!(matches!(failure(&tar), (TarError::Sparse(_), 1_024)));
}

#[test]
fn sparse_when_the_version_is_unknown_then_a_plain_file() {
    let records = [("GNU.sparse.major", "2"), ("GNU.sparse.realsize", "5000")];
    let plain = entry(Tar::new().pax(&records).file(file("a"), b"data"));
    assert_eq!(plain.uncompressed_size, 4);
}

// What readers reject.

#[test]
fn hazards_when_entries_are_plain_then_none() {
    let tar = Tar::new()
        .header(Header::ustar(b"d/", b'5'))
        .file(file("./d/a"), b"data")
        .header(Header::ustar(b"h", b'1').put(field::LINKNAME, b"/d//x/../a"))
        .header(Header::ustar(b"again", b'1').put(field::LINKNAME, b"h"))
        .header(Header::ustar(b"s", b'2').put(field::LINKNAME, b"nowhere"));
    assert_eq!(hazards(tar), []);
}

#[test]
fn hazards_when_entries_are_unusual_then_each_is_listed() {
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    let tar = Tar::new()
        .header(Header::ustar(b"s", b'2').size(1))
        .header(Header::ustar(b"h", b'1').put(field::LINKNAME, b"later"))
        .header(file("later"))
        .pax(&SPARSE_1_0)
        .file(file("sparse"), &map)
        .header(Header::gnu(b"wide", b'0').base_256(field::GID, 1 << 32))
        .header(Header::gnu(b"negative", b'0').base_256(field::UID, -1))
        .header(Header::gnu(b"late", b'0').base_256(field::MTIME, i64::MAX))
        // Readers do not compare a directory's time.
        .header(Header::gnu(b"d", b'5').base_256(field::MTIME, i64::MAX));
    let expected = [
        (0, HazardReason::SizeWithoutData),
        (1, HazardReason::LinkTargetNotEarlier),
        (3, HazardReason::SparseFile),
        (4, HazardReason::WideOwner),
        (5, HazardReason::WideOwner),
        (6, HazardReason::ImpossibleYear),
    ];
    assert_eq!(hazards(tar), expected);
}

#[test]
fn needs_xattrs_when_an_entry_has_some_or_is_an_opaque_marker_then_true() {
    let needs = |tar: Tar| scan(&tar.end()).expect("archive is valid").needs_xattrs();
    assert!(!needs(Tar::new().pax(&NONE).header(file("a"))));
    assert!(!needs(Tar::new().pax(&[("LIBARCHIVE.xattr.user.k", "v")]).header(file("a"))));
    assert!(!needs(Tar::new().header(file(".wh.a"))));
    assert!(needs(Tar::new().header(file("a")).header(file("d/.wh..wh..opq"))));
    assert!(needs(Tar::new().pax(&[("SCHILY.xattr.user.k", "")]).header(file("a"))));
}
