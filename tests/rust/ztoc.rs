//! Comparing zTOC blobs with the reference's bytes, and looking up spans and entries.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use tocsin_core::checkpoint::{Checkpoint, Window};
use tocsin_core::digest::Digest;
use tocsin_core::span::{SpanId, UncompressedOffset};
use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::ztoc::raw::{self, RawEntry, RawZtoc};
use tocsin_core::ztoc::{GzipZinfo, TarZinfo, Zinfo, ZinfoVersion, Ztoc};
use tocsin_core::{Error, error::ZtocError};

use crate::ztoc_values::{checkpoint, file, gzip_ztoc, other, tar_ztoc};

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The blob of the reference's own test `TestWriteZtoc`, whose checkpoints and digests are not
/// those of a real layer.
#[test]
fn test_raw_blob_when_fields_are_the_references_then_digest_is_too() {
    let entry = RawEntry { mod_time: b"0001-01-01T00:00:00Z", ..RawEntry::default() };
    let ztoc = RawZtoc {
        version: b"0.9",
        build_tool_identifier: b"AWS SOCI CLI",
        compressed_archive_size: 2_000_000,
        uncompressed_archive_size: 2_500_000,
        compression_algorithm: raw::GZIP,
        max_span_id: 3,
        span_digests: &[],
    };

    let blob = ztoc.to_bytes(&[entry, entry], &[0; 65_536]).unwrap();

    assert_eq!(blob.len(), 65_928);
    assert_eq!(
        Digest::of(&blob).to_string(),
        "sha256:eba28fdf50b1b57543f57dd051b2468c1d4f57b64d2006c75aa4de1d03e6c7ec"
    );
}

#[test]
fn test_to_bytes_when_tar_has_only_end_blocks_then_equals_reference() {
    let ztoc = tar_ztoc(&[0; 1024], 4 << 20, 1024);
    let blob = hex("
        18000000000000001000280024002000100008001c00040010000000300000000004000000000000
        000400000000000000000000b8000000c0000000d40000000c001000070000000c0008000c000000
        000000025c000000040000000100000004000000470000007368613235363a356637306266313861
        30383630303730313665393438623034616564336238323130336133366265613431373535623663
        6464666166313061636533633665660030000000140000000000000000000a001c0018000c000400
        0a000000000400000000000000004000000000000000000002000000000006000800040006000000
        04000000000000001100000041575320534f434920434c492076302e3200000003000000302e3900
    ");

    assert_eq!(ztoc.to_bytes().unwrap(), blob);
    assert_eq!(Ztoc::from_bytes(&blob).unwrap(), ztoc);
    assert_eq!(
        ztoc.digest().unwrap().to_string(),
        "sha256:b9801d474a9e314e3ea0a153179a0aa36cdc2459861624b9b97d3ff5bf80031d"
    );
}

#[test]
fn test_to_bytes_when_tar_is_empty_then_max_span_id_is_minus_one() {
    let ztoc = tar_ztoc(b"", 4 << 20, 0);

    let blob = ztoc.to_bytes().unwrap();

    assert_eq!(blob.len(), 164);
    assert_eq!(
        Digest::of(&blob).to_string(),
        "sha256:adea60c2769acec3e7efdf8c3a78d809921af5a25afc10e66a57bc7ca2cbac37"
    );
    let read = Ztoc::from_bytes(&blob).unwrap();
    assert_eq!(read, ztoc);
    assert_eq!((read.span_count(), read.max_span_id()), (0, -1));
    assert_eq!(read.span_of(UncompressedOffset(0)), None);
}

#[test]
fn test_to_bytes_when_gzip_is_empty_then_equals_reference() {
    let member = hex("1f8b0800000000000203 0300 0000000000000000");
    let ztoc = Ztoc {
        compressed_archive_size: 20,
        zinfo: Zinfo::Gzip(GzipZinfo::new(4 << 20, vec![checkpoint(10, 0, 0)])),
        span_digests: vec![Digest::of(&member[10..])],
        ..tar_ztoc(b"", 1, 0)
    };

    let blob = ztoc.to_bytes().unwrap();

    assert_eq!(blob.len(), 33_016);
    assert_eq!(
        Digest::of(&blob).to_string(),
        "sha256:73e2aa60cbcb62f11ded7edc2132803cdc65dd146e32d37c6c0aa19ec7d51116"
    );
    assert_eq!(Ztoc::from_bytes(&blob).unwrap(), ztoc);
}

/// The TOC of `tests/golden/vectors/small-pax.tar`: most types, PAX records, and a long name.
fn small_pax_toc() -> Vec<FileMetadata> {
    let record = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let root = |entry| FileMetadata { uname: b"root".to_vec(), gname: b"root".to_vec(), ..entry };
    let long = "L".repeat(120);
    vec![
        root(FileMetadata { mode: 0o755, ..other(EntryType::Directory, "d/", 512, "") }),
        FileMetadata {
            mode: 0o4755,
            uid: 1000,
            gid: 1001,
            uname: b"u".to_vec(),
            gname: b"g".to_vec(),
            mod_time: b"2023-11-14T22:13:20.25Z".to_vec(),
            xattrs: vec![
                record("SCHILY.xattr.security.capability", "c"),
                record("SCHILY.xattr.user.k", "v"),
                record("mtime", "1700000000.25"),
            ],
            ..file("d/a", 2048, 6)
        },
        FileMetadata { mode: 0o777, ..other(EntryType::SymLink, "s", 3072, "d/a") },
        other(EntryType::HardLink, "h", 3584, "d/a"),
        FileMetadata {
            mode: 0o666,
            devmajor: 1,
            devminor: 3,
            ..other(EntryType::CharDevice, "n", 4096, "")
        },
        FileMetadata { xattrs: vec![record("path", &long)], ..file(&long, 5632, 700) },
    ]
}

#[test]
fn test_to_bytes_when_layer_is_the_small_pax_tar_then_equals_reference() {
    let digest = |hex: &str| format!("sha256:{hex}").parse::<Digest>().unwrap();
    let gzip = |span_size| Zinfo::Gzip(GzipZinfo::new(span_size, vec![checkpoint(10, 0, 0)]));
    let tar = Zinfo::Tar(TarZinfo { span_size: 4 << 20, size: 10_240 });
    // Layer size, zinfo, digest of the only span, digest of the zTOC.
    let cases = [
        (
            362,
            gzip(4 << 20),
            "bd025a8653c68e8546e7c2360496ff78a794ef3f1d8bab66429583f04db0b3f2",
            "e6bd3e3af954d2444c9911b03cb97d59522fa52c77f01bf33128871a14e5186b",
        ),
        (
            362,
            gzip(1000),
            "bd025a8653c68e8546e7c2360496ff78a794ef3f1d8bab66429583f04db0b3f2",
            "bae3ab0965b992c81c946f50f2d127615ef968c400c8a7d01068dce3aa398afd",
        ),
        (
            494,
            gzip(4 << 20),
            "ba20e39249e804288f771d8479bb27853088869ac3558811dfb27409dc4855ca",
            "c6f1b5db9e48ef027160e1123886a13712029dc309e8aaa5abd3ab44e448d985",
        ),
        (
            432,
            gzip(4 << 20),
            "15e1c9d0b4d9e7db3a033ccf8910b0b731f227a8a93c7b3d840c916e159d64ce",
            "a079a6f06d6714f1b8763f54338704611dafa99ed262314751f7fdfd9461281c",
        ),
        (
            10_240,
            tar,
            "90068a05b454bc544d55f865cfe34d732f033d6d684d52f43f5102a7a841373d",
            "73798517bc1bb6017be4193258158f056cc9af144c202ef3791cf86fb1422b4b",
        ),
    ];
    for (compressed_archive_size, zinfo, span_digest, ztoc_digest) in cases {
        let ztoc = Ztoc {
            compressed_archive_size,
            uncompressed_archive_size: 7680,
            toc: small_pax_toc().into(),
            zinfo,
            span_digests: vec![digest(span_digest)],
            ..tar_ztoc(b"", 1, 0)
        };
        assert_eq!(ztoc.digest().unwrap(), digest(ztoc_digest));
        assert_eq!(ztoc.reader_refusals(), []);
    }
}

#[test]
fn test_tar_zinfo_when_written_then_equals_reference() {
    let zinfo = TarZinfo { span_size: 4 << 20, size: 10_240 };
    let bytes =
        hex("140000000000000000000a001c0018000c0004000a00000000280000000000000000400000000000
        0000000002000000");

    assert_eq!(zinfo.to_bytes().unwrap(), bytes);
    assert_eq!(TarZinfo::from_bytes(&bytes).unwrap(), zinfo);
}

#[test]
fn test_gzip_zinfo_when_version_1_then_first_checkpoint_is_implied() {
    let mut bytes = vec![0; 12 + 32_785];
    bytes[..4].copy_from_slice(&2i32.to_le_bytes());
    bytes[4..12].copy_from_slice(&1000i64.to_le_bytes());
    bytes[12..20].copy_from_slice(&300i64.to_le_bytes());
    bytes[20..28].copy_from_slice(&5000i64.to_le_bytes());
    bytes[28] = 3;
    bytes[29..].fill(7);

    let zinfo = GzipZinfo::from_bytes(&bytes).unwrap();

    assert_eq!(zinfo.version, ZinfoVersion::V1);
    assert_eq!(zinfo.span_size, 1000);
    assert_eq!(zinfo.checkpoints[0], checkpoint(10, 0, 0));
    assert_eq!(
        zinfo.checkpoints[1],
        Checkpoint { window: Window::ending_with(&[7; 32_768]), ..checkpoint(300, 5000, 3) }
    );
    assert_eq!(zinfo.to_bytes().unwrap(), bytes);

    let one = [1, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0];
    assert_eq!(GzipZinfo::from_bytes(&one).unwrap().checkpoints, [checkpoint(10, 0, 0)]);
    assert_eq!(GzipZinfo::from_bytes(&one).unwrap().to_bytes().unwrap(), one);
}

#[test]
fn test_gzip_zinfo_when_version_1_cannot_imply_the_first_then_fails() {
    let mut zinfo = GzipZinfo::new(1000, vec![checkpoint(12, 0, 0)]);
    zinfo.version = ZinfoVersion::V1;

    let kind = ZtocError::Checkpoint {
        span_id: SpanId(0),
        what: "is not the one that zinfo version 1 implies",
    };
    assert_eq!(zinfo.to_bytes(), Err(Error::Ztoc { kind, at: 0 }));
}

#[test]
fn test_span_ranges_when_gzip_then_may_share_a_byte_and_last_is_open() {
    let checkpoints =
        vec![checkpoint(10, 0, 0), checkpoint(227, 2500, 4), checkpoint(388, 7500, 0)];
    let ztoc = gzip_ztoc(432, checkpoints);
    let compressed = |span| {
        let range = ztoc.span_compressed_range(SpanId(span)).unwrap();
        (range.start.0, range.end.0)
    };
    let uncompressed = |span| {
        let (start, end) = ztoc.span_uncompressed_range(SpanId(span)).unwrap();
        (start.0, end.map(|end| end.0))
    };

    assert_eq!([0, 1, 2].map(compressed), [(10, 227), (226, 388), (388, 432)]);
    assert_eq!([0, 1, 2].map(uncompressed), [(0, Some(2500)), (2500, Some(7500)), (7500, None)]);
    let missing = Error::NoSuchSpan { span_id: SpanId(3), last: 2 };
    assert_eq!(ztoc.span_compressed_range(SpanId(3)), Err(missing.clone()));
    assert_eq!(ztoc.span_uncompressed_range(SpanId(3)), Err(missing));
}

#[test]
fn test_span_ranges_when_tar_then_the_last_ends_with_the_layer() {
    let ztoc = tar_ztoc(&[0; 2500], 1000, 2500);
    let range = ztoc.span_compressed_range(SpanId(2)).unwrap();

    assert_eq!((range.start.0, range.end.0), (2000, 2500));
    assert_eq!(
        ztoc.span_uncompressed_range(SpanId(2)).unwrap(),
        (UncompressedOffset(2000), Some(UncompressedOffset(2500)))
    );
    assert_eq!(
        ztoc.span_compressed_range(SpanId(3)),
        Err(Error::NoSuchSpan { span_id: SpanId(3), last: 2 })
    );
    assert_eq!(ztoc.span_of(UncompressedOffset(1999)), Some(SpanId(1)));
    assert_eq!(ztoc.span_of(UncompressedOffset(9999)), Some(SpanId(2)));
}

#[test]
fn test_span_of_when_checkpoints_share_an_offset_then_returns_the_last() {
    let checkpoints = [(10, 0), (30, 0), (300, 5000), (400, 9000)];
    let ztoc = gzip_ztoc(500, checkpoints.map(|(at, out)| checkpoint(at, out, 0)).into());
    let spans = [0, 1, 4999, 5000, 8999, 9000, u64::MAX].map(UncompressedOffset);

    assert_eq!(spans.map(|at| ztoc.span_of(at).unwrap().0), [1, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn test_spans_for_when_entry_has_no_data_then_empty() {
    let checkpoints = [(10, 0), (300, 5000), (400, 9000)];
    let ztoc = gzip_ztoc(500, checkpoints.map(|(at, out)| checkpoint(at, out, 0)).into());
    let spans = |entry: &FileMetadata| ztoc.spans_for(entry).start.0..ztoc.spans_for(entry).end.0;

    assert_eq!(spans(&file("within one", 512, 4488)), 0..1);
    assert_eq!(spans(&file("one byte more", 512, 4489)), 0..2);
    assert_eq!(spans(&file("all", 512, 90_000)), 0..3);
    assert_eq!(spans(&file("overflow", i64::MAX, i64::MAX)), 2..3);
    assert!(spans(&file("empty", 512, 0)).is_empty());
    let link = FileMetadata { entry_type: EntryType::HardLink, ..file("link", 512, 100) };
    assert!(spans(&link).is_empty());
}

#[test]
fn test_entry_when_a_name_is_repeated_then_returns_the_last() {
    let toc = vec![file("a", 512, 1), file("b", 1536, 2), file("a", 2560, 3)];
    let ztoc = Ztoc { toc: toc.into(), ..tar_ztoc(&[0; 4096], 1000, 4096) };

    assert_eq!(ztoc.entry(b"a").unwrap().uncompressed_size, 3);
    assert_eq!(ztoc.entry(b"/a"), None);
}
