//! Hostile zTOCs: each broken rule has its error, and nothing panics.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop")]

use tocsin_core::digest::Digest;
use tocsin_core::error::{Error, ZtocError};
use tocsin_core::span::SpanId;
use tocsin_core::ztoc::raw::{self, RawEntry, RawZtoc};
use tocsin_core::ztoc::{TarZinfo, Ztoc};

use crate::ztoc_patch::{follow, set_u32, shared_entries, table_field, unset_field};
use crate::ztoc_values::{checkpoint, file, gzip_ztoc, tar_ztoc};

/// The stored fields of a valid zTOC: a gzip layer of 500 bytes, two spans, one file.
struct Fields {
    ztoc: RawZtoc<'static>,
    entry: RawEntry<'static>,
    checkpoints: Vec<u8>,
    span_digests: Vec<String>,
}

const CHECKPOINT_LEN: usize = 32_785;

impl Fields {
    fn valid() -> Self {
        let mut checkpoints = vec![0; 12 + 2 * CHECKPOINT_LEN];
        checkpoints[0] = 2;
        checkpoints[12] = 10;
        checkpoints[12 + CHECKPOINT_LEN] = 100;
        checkpoints[12 + CHECKPOINT_LEN + 9] = 50;
        Self {
            ztoc: RawZtoc {
                version: b"0.9",
                build_tool_identifier: b"test",
                compressed_archive_size: 500,
                uncompressed_archive_size: 20_480,
                compression_algorithm: raw::GZIP,
                max_span_id: 1,
                span_digests: &[],
            },
            entry: RawEntry {
                name: b"name",
                entry_type: b"reg",
                uncompressed_offset: 512,
                ..RawEntry::default()
            },
            checkpoints,
            span_digests: vec![Digest::of(b"").to_string(); 2],
        }
    }

    /// The fields of a plain tar of 500 bytes in two spans.
    fn valid_tar() -> Self {
        let mut fields = Self::valid();
        fields.ztoc.compression_algorithm = raw::UNCOMPRESSED;
        fields.checkpoints = TarZinfo { span_size: 400, size: 500 }.to_bytes().unwrap();
        fields
    }

    fn blob(&self) -> Vec<u8> {
        let ztoc = RawZtoc { span_digests: &self.span_digests, ..self.ztoc };
        ztoc.to_bytes(&[self.entry], &self.checkpoints).unwrap()
    }
}

fn kind(blob: &[u8]) -> ZtocError {
    match Ztoc::from_bytes(blob) {
        Err(Error::Ztoc { kind, .. }) => kind,
        other => panic!("not a zTOC error: {other:?}"),
    }
}

/// The error for a valid zTOC after one change.
fn refused(change: impl FnOnce(&mut Fields)) -> ZtocError {
    let mut fields = Fields::valid();
    assert!(Ztoc::from_bytes(&fields.blob()).is_ok());
    change(&mut fields);
    kind(&fields.blob())
}

fn refused_tar(change: impl FnOnce(&mut Fields)) -> ZtocError {
    let mut fields = Fields::valid_tar();
    assert!(Ztoc::from_bytes(&fields.blob()).is_ok());
    change(&mut fields);
    kind(&fields.blob())
}

fn value(what: &'static str, value: i64) -> ZtocError {
    ZtocError::Value { what, value }
}

#[test]
fn test_from_bytes_when_a_size_is_negative_then_fails() {
    assert_eq!(
        refused(|fields| fields.ztoc.compressed_archive_size = -1),
        value("compressed archive size", -1)
    );
    assert_eq!(
        refused(|fields| fields.ztoc.uncompressed_archive_size = i64::MIN),
        value("uncompressed archive size", i64::MIN)
    );
    let negative = ZtocError::TocEntry { index: 0, what: "has a negative size" };
    assert_eq!(refused(|fields| fields.entry.uncompressed_size = -1), negative);
    let negative = ZtocError::TocEntry { index: 0, what: "has a negative offset" };
    assert_eq!(refused(|fields| fields.entry.uncompressed_offset = -1), negative);
    let negative = |fields: &mut Fields| fields.checkpoints[11] = 0x80;
    assert_eq!(refused(negative), value("span size", i64::MIN));
}

#[test]
fn test_from_bytes_when_a_type_or_digest_is_invalid_then_fails() {
    assert_eq!(refused(|fields| fields.ztoc.compression_algorithm = 3), ZtocError::Algorithm(3));
    assert_eq!(
        refused(|fields| fields.entry.entry_type = b"contiguous"),
        ZtocError::EntryType { index: 0, word: "contiguous".into() }
    );
    assert_eq!(refused(|fields| fields.ztoc.version = b"\xff"), ZtocError::NotUtf8("version"));
    assert_eq!(
        refused(|fields| fields.span_digests[1].make_ascii_uppercase()),
        ZtocError::DigestSpelling
    );
}

#[test]
fn test_from_bytes_when_span_counts_differ_then_fails() {
    let counts = |max_span_id, spans, digests| ZtocError::SpanCount { max_span_id, spans, digests };

    assert_eq!(refused(|fields| fields.ztoc.max_span_id = 2), counts(2, 2, 2));
    assert_eq!(refused(|fields| fields.ztoc.max_span_id = -1), counts(-1, 2, 2));
    assert_eq!(refused(|fields| fields.span_digests.truncate(1)), counts(1, 2, 1));
    assert_eq!(refused_tar(|fields| fields.ztoc.max_span_id = 0), counts(0, 2, 2));
    assert_eq!(refused_tar(|fields| fields.span_digests.clear()), counts(1, 2, 0));
}

#[test]
fn test_from_bytes_when_zinfo_length_matches_no_version_then_fails() {
    let length = |len, checkpoints| ZtocError::ZinfoLength { len, checkpoints };

    assert_eq!(refused(|fields| fields.checkpoints.truncate(11)), length(11, 0));
    assert_eq!(refused(|fields| fields.checkpoints.push(0)), length(65_583, 2));
    assert_eq!(refused(|fields| fields.checkpoints[0] = 1), length(65_582, 1));
    assert_eq!(refused(|fields| fields.checkpoints[0] = 4), length(65_582, 4));
    assert_eq!(refused(|fields| fields.checkpoints[..4].fill(0x7f)), length(65_582, 0x7f7f_7f7f));
    assert_eq!(refused(|fields| fields.checkpoints = vec![0; 12]), value("checkpoint count", 0));
    assert_eq!(refused(|fields| fields.checkpoints[..4].fill(0xff)), value("checkpoint count", -1));
}

#[test]
fn test_from_bytes_when_a_checkpoint_is_invalid_then_fails() {
    const SECOND: usize = 12 + CHECKPOINT_LEN;
    let wrong = |span, what| ZtocError::Checkpoint { span_id: SpanId(span), what };

    assert_eq!(
        refused(|fields| fields.checkpoints[12 + 8] = 1),
        wrong(0, "is not at the start of the tar")
    );
    assert_eq!(
        refused(|fields| fields.checkpoints[SECOND + 16] = 8),
        wrong(1, "has more than 7 bits")
    );
    assert_eq!(
        refused(|fields| {
            fields.checkpoints[12] = 0;
            fields.checkpoints[12 + 16] = 1;
        }),
        wrong(0, "has bits before the start of the layer")
    );
    assert_eq!(
        refused(|fields| fields.checkpoints[SECOND + 1] = 2),
        wrong(1, "is outside the layer")
    );
    assert_eq!(
        refused(|fields| fields.checkpoints[SECOND + 7] = 0x80),
        value("checkpoint compressed offset", i64::MIN + 100)
    );
    let back = ZtocError::NotMonotonic { span_id: SpanId(1) };
    assert_eq!(refused(|fields| fields.checkpoints[SECOND] = 9), back);
    // Three bits back in the same byte.
    let bits = |fields: &mut Fields| {
        fields.checkpoints[SECOND] = 10;
        fields.checkpoints[SECOND + 16] = 3;
    };
    assert_eq!(refused(bits), back);

    let spans = vec![checkpoint(10, 0, 0), checkpoint(20, 500, 0), checkpoint(30, 499, 0)];
    let back = ZtocError::NotMonotonic { span_id: SpanId(2) };
    assert_eq!(gzip_ztoc(40, spans).to_bytes(), Err(Error::Ztoc { kind: back, at: 65_582 }));
}

#[test]
fn test_from_bytes_when_spans_of_a_tar_are_invalid_then_fails() {
    let zinfo = |span_size, size| TarZinfo { span_size, size }.to_bytes().unwrap();

    assert_eq!(
        refused_tar(|fields| fields.checkpoints = zinfo(400, 501)),
        value("zinfo size, which differs from the archive size", 501)
    );
    let without = |slot| {
        refused_tar(|fields| {
            let zinfo = follow(&fields.checkpoints, 0);
            unset_field(&mut fields.checkpoints, zinfo, slot);
        })
    };
    assert_eq!(without(0), value("zinfo version", 0));
    assert_eq!(without(1), value("span size", 0));
    assert_eq!(without(2), value("zinfo size, which differs from the archive size", 0));
    let huge = Ztoc {
        compressed_archive_size: u64::MAX,
        zinfo: tocsin_core::ztoc::Zinfo::Tar(TarZinfo { span_size: 1, size: u64::MAX }),
        ..tar_ztoc(b"", 1, 0)
    };
    assert_eq!(huge.to_bytes(), Err(Error::Ztoc { kind: value("zinfo size", -1), at: 0 }));
}

#[test]
fn test_to_bytes_when_pax_records_are_not_sorted_then_fails() {
    let record = |key: &[u8]| (key.to_vec(), b"value".to_vec());
    let what = "has PAX records that are not in ascending order";
    for keys in [[b"b", b"a"], [b"a", b"a"]] {
        let mut entry = file("a", 512, 0);
        entry.xattrs = keys.map(|key| record(key)).into();
        let ztoc = Ztoc { toc: vec![entry].into(), ..gzip_ztoc(20, vec![checkpoint(10, 0, 0)]) };
        let kind = ZtocError::TocEntry { index: 0, what };
        assert_eq!(ztoc.to_bytes(), Err(Error::Ztoc { kind, at: 0 }));
    }
}

#[test]
fn test_from_bytes_when_pax_records_are_not_sorted_then_sorts_them() {
    let record = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let xattrs = [record("b", "1"), record("a", "2"), record("b", "3"), record("c", "4")];
    let mut fields = Fields::valid();
    let blob = {
        let entry = RawEntry { xattrs: &xattrs, ..fields.entry };
        fields.ztoc.span_digests = &[];
        let ztoc = RawZtoc { span_digests: &fields.span_digests, ..fields.ztoc };
        ztoc.to_bytes(&[entry], &fields.checkpoints).unwrap()
    };

    let ztoc = Ztoc::from_bytes(&blob).unwrap();

    let entry = ztoc.toc.get(0).unwrap();
    assert_eq!(entry.xattrs, [record("a", "2"), record("b", "3"), record("c", "4")]);
}

#[test]
fn test_from_bytes_when_a_reference_is_missing_then_error_names_it() {
    let valid = Fields::valid().blob();
    let root = follow(&valid, 0);
    let toc = follow(&valid, table_field(&valid, root, 4));
    let info = follow(&valid, table_field(&valid, root, 5));
    let metadata = follow(&valid, table_field(&valid, toc, 0));
    let entry = follow(&valid, metadata + 4);
    let names = [
        (root, 0, "version"),
        (root, 1, "build tool identifier"),
        (root, 4, "toc"),
        (root, 5, "compression info"),
        (toc, 0, "file metadata"),
        (info, 2, "span digests"),
        (info, 3, "checkpoints"),
        (entry, 0, "name"),
        (entry, 1, "type"),
        (entry, 4, "linkname"),
        (entry, 8, "uname"),
        (entry, 9, "gname"),
        (entry, 10, "mod time"),
        (entry, 13, "xattrs"),
    ];
    for (table, slot, what) in names {
        let mut blob = valid.clone();
        unset_field(&mut blob, table, slot);
        assert_eq!(kind(&blob), ZtocError::Missing(what));

        // A reference to itself, and one beyond the end.
        for distance in [0, 0x7fff_fff0, u32::MAX] {
            let mut blob = valid.clone();
            set_u32(&mut blob, table_field(&valid, table, slot), distance);
            assert_eq!(kind(&blob), ZtocError::OutOfBounds(what), "{distance:#x}");
        }
    }
}

#[test]
fn test_from_bytes_when_a_length_is_huge_then_out_of_bounds() {
    let valid = Fields::valid().blob();
    let root = follow(&valid, 0);
    let toc = follow(&valid, table_field(&valid, root, 4));
    let info = follow(&valid, table_field(&valid, root, 5));
    let claims = [(root, 0, "version"), (toc, 0, "file metadata"), (info, 2, "span digests")];
    for (table, slot, what) in claims {
        for len in [0x2000_0000, 0x7fff_ffff, u32::MAX] {
            let mut blob = valid.clone();
            let at = follow(&valid, table_field(&valid, table, slot));
            set_u32(&mut blob, at, len);
            assert_eq!(kind(&blob), ZtocError::OutOfBounds(what));
        }
    }
}

#[test]
fn test_from_bytes_when_a_string_has_no_nul_then_fails() {
    let mut blob = Fields::valid().blob();
    let at = follow(&blob, table_field(&blob, follow(&blob, 0), 0));
    blob[at + 4 + 3] = b'!';
    assert_eq!(kind(&blob), ZtocError::Unterminated("version"));
}

#[test]
fn test_from_bytes_when_not_a_flatbuffer_then_out_of_bounds() {
    for blob in [&b""[..], b"\x04", b"not a zTOC, only text", &[0; 4096], &[0xff; 4096]] {
        assert_eq!(kind(blob), ZtocError::OutOfBounds("ztoc"));
    }
}

/// Ten thousand entries, all with the same long name, stored once.
#[test]
fn test_from_bytes_when_entries_share_one_long_name_then_amplified() {
    let blob = shared_entries(10_000, 100_000);
    let limit = 4 * blob.len() as u64;
    assert_eq!(kind(&blob), ZtocError::Amplified { limit });
}
