//! Reasons why soci-snapshotter rejects zTOCs that tocsin can read.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::HashSet;

use tocsin_core::span::SpanId;
use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::ztoc::{Refusal, Ztoc};

use crate::ztoc_values::{checkpoint, file, gzip_ztoc, other, tar_ztoc};

/// The refusals of a zTOC, which must still be readable.
fn refusals(ztoc: &Ztoc) -> Vec<Refusal> {
    assert_eq!(Ztoc::from_bytes(&ztoc.to_bytes().unwrap()).as_ref(), Ok(ztoc));
    ztoc.reader_refusals()
}

fn with_toc(toc: Vec<FileMetadata>) -> Ztoc {
    Ztoc { toc: toc.into(), ..gzip_ztoc(5000, vec![checkpoint(10, 0, 0)]) }
}

#[test]
fn test_refusals_when_ztoc_is_acceptable_then_none() {
    let toc = vec![
        other(EntryType::Directory, "d/", 512, ""),
        file("d/a", 2048, 700),
        other(EntryType::HardLink, "h", 3584, "./d//x/../a"),
        file("b", 4096, 0),
    ];
    let checkpoints = vec![checkpoint(10, 0, 0), checkpoint(300, 2500, 4)];

    assert_eq!(refusals(&Ztoc { toc: toc.into(), ..gzip_ztoc(500, checkpoints) }), []);
    assert_eq!(refusals(&tar_ztoc(b"", 1000, 0)), []);
}

#[test]
fn test_refusals_when_first_span_starts_inside_the_header_then_listed() {
    assert_eq!(refusals(&gzip_ztoc(50, vec![checkpoint(9, 0, 0)])), [Refusal::GzipHeader]);
    assert_eq!(refusals(&gzip_ztoc(50, vec![checkpoint(10, 0, 1)])), [Refusal::GzipHeader]);
}

/// An empty first member, or a flush before any data; see docs/format.md#broken-for-readers.
#[test]
fn test_refusals_when_checkpoints_share_an_offset_then_span_is_empty() {
    let spans = [checkpoint(10, 0, 0), checkpoint(30, 0, 0), checkpoint(50, 9000, 0)];
    let empty = refusals(&gzip_ztoc(60, spans.into()));

    assert_eq!(
        empty.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["span 0 is empty (no compressed or no uncompressed bytes)"]
    );
    assert!(empty[0].is_of_layer());
    // The last span may be empty: it is not compared with anything.
    let spans = [checkpoint(10, 0, 0), checkpoint(60, 9000, 0)];
    assert_eq!(refusals(&gzip_ztoc(60, spans.into())), []);
}

#[test]
fn test_refusals_when_a_span_has_2_gib_then_listed() {
    let two_gib = 1 << 31;
    let span = |span| Refusal::SpanSize { span_id: SpanId(span) };

    let compressed = gzip_ztoc(10 + two_gib, vec![checkpoint(10, 0, 0)]);
    assert_eq!(refusals(&compressed), [span(0)]);
    let below = gzip_ztoc(9 + two_gib, vec![checkpoint(10, 0, 0)]);
    assert_eq!(refusals(&below), []);
    let uncompressed = vec![checkpoint(10, 0, 0), checkpoint(20, two_gib, 0)];
    let uncompressed =
        Ztoc { uncompressed_archive_size: 2 * two_gib, ..gzip_ztoc(30, uncompressed) };
    assert_eq!(refusals(&uncompressed), [span(0), span(1)]);
}

#[test]
fn test_refusals_when_an_entry_overlaps_the_next_then_the_next_is_listed() {
    let toc = vec![file("b", 2048, 1), file("a", 512, 1025)];
    assert_eq!(refusals(&with_toc(toc)), [Refusal::HeaderPlace { index: 0 }]);
    let toc = vec![file("b", 2048, 1), file("a", 512, 1537)];
    assert_eq!(refusals(&with_toc(toc)), [Refusal::Overlap { index: 0 }]);
    let toc = vec![file("a", 512, i64::MAX), file("b", i64::MAX, i64::MAX)];
    assert_eq!(refusals(&with_toc(toc)), [Refusal::Overlap { index: 1 }]);
}

#[test]
fn test_refusals_when_a_link_has_a_size_then_next_file_is_listed() {
    let link =
        FileMetadata { uncompressed_size: 100, ..other(EntryType::SymLink, "link", 512, "target") };
    let refusal = Refusal::HeaderPlace { index: 1 };
    assert!(!refusal.is_of_layer());
    // The file has one header block, which the reader takes for the link's data, or three, of which
    // it takes the first.
    assert_eq!(
        refusals(&with_toc(vec![link.clone(), file("a", 1024, 5)])),
        std::slice::from_ref(&refusal)
    );
    assert_eq!(refusals(&with_toc(vec![link.clone(), file("a", 2048, 5)])), [refusal]);
    assert_eq!(refusals(&with_toc(vec![link])), []);
}

#[test]
fn test_refusals_when_a_hard_link_has_no_earlier_target_then_listed() {
    let link = |target| other(EntryType::HardLink, "h", 512, target);
    let refused = [Refusal::HardLink { index: 0 }];

    assert_eq!(refusals(&with_toc(vec![link("gone")])), refused);
    assert_eq!(refusals(&with_toc(vec![link("h")])), refused);
    assert_eq!(refusals(&with_toc(vec![link("later"), file("later", 1024, 0)])), refused);
    let earlier = vec![link("../later"), file("./later", 1024, 0)];
    let earlier = earlier
        .into_iter()
        .zip([2048, 512])
        .map(|(entry, offset)| FileMetadata { uncompressed_offset: offset, ..entry });
    assert_eq!(refusals(&with_toc(earlier.collect())), []);
}

#[test]
fn test_refusals_when_a_file_has_no_time_then_listed() {
    let timeless = FileMetadata { mod_time: Vec::new(), ..file("a", 512, 5) };
    assert_eq!(refusals(&with_toc(vec![timeless])), [Refusal::ModTime { index: 0 }]);
}

#[test]
fn test_refusals_when_a_file_is_sparse_then_listed() {
    let record = (b"GNU.sparse.major".to_vec(), b"1".to_vec());
    let sparse = FileMetadata { xattrs: vec![record], ..file("a", 2560, 5) };
    assert_eq!(refusals(&with_toc(vec![sparse])), [Refusal::Sparse { index: 0 }]);
}

#[test]
fn test_refusals_when_a_file_ends_with_the_last_full_span_then_listed() {
    let ztoc = |size, span_size| Ztoc {
        toc: vec![file("a", 512, 512)].into(),
        ..tar_ztoc(&vec![0; size], span_size, 1024)
    };
    assert_eq!(refusals(&ztoc(1024, 256)), [Refusal::EndOfLastSpan { index: 0 }]);
    assert_eq!(refusals(&ztoc(1024, 1000)), []);
    assert_eq!(refusals(&ztoc(2048, 256)), []);
}

#[test]
fn test_refusal_when_created_then_has_a_unique_code_and_its_span_or_entry() {
    let span_id = SpanId(7);
    let about_spans = [Refusal::EmptySpan { span_id }, Refusal::SpanSize { span_id }];
    let about_entries = [
        Refusal::Overlap { index: 3 },
        Refusal::HardLink { index: 3 },
        Refusal::HeaderPlace { index: 3 },
        Refusal::ModTime { index: 3 },
        Refusal::Sparse { index: 3 },
        Refusal::EndOfLastSpan { index: 3 },
    ];
    for found in &about_spans {
        assert_eq!((found.span_id(), found.entry_index()), (Some(span_id), None));
        assert!(found.to_string().starts_with("span 7 "), "{found}");
    }
    for found in &about_entries {
        assert_eq!((found.span_id(), found.entry_index()), (None, Some(3)));
        assert!(found.to_string().starts_with("toc entry 3 "), "{found}");
    }
    let header = Refusal::GzipHeader;
    assert_eq!((header.span_id(), header.entry_index()), (Some(SpanId(0)), None));
    let all = [&[header][..], &about_spans, &about_entries].concat();
    let codes: HashSet<&str> = all.iter().map(Refusal::code).collect();
    assert_eq!(codes.len(), all.len());
}
