//! Spans inflated from their checkpoints, joined, equal zlib's output for the layer, and each file
//! is in the spans that its zTOC names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::extract::{SpanReader, data_range, inflate_span, read_span};
use tocsin_core::indexer::{IndexOptions, LayerIndexer};
use tocsin_core::span::{SpanId, UncompressedOffset};
use tocsin_core::tar::EntryType;
use tocsin_core::ztoc::Ztoc;
use tocsin_fuzz::instructions::Instructions;
use tocsin_fuzz::{archives, layers, zlib};

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    let options = IndexOptions {
        span_size: instructions.pick(&[0, 1, 10, 100, 512, 1000, 5000, 40_000]),
        reference_identical: instructions.flag(),
        ..IndexOptions::default()
    };
    let archive = archives::valid(&mut instructions);
    let layer = if instructions.rarely() {
        archive.bytes.clone()
    } else {
        let layer = layers::gzip(&archive.bytes, &mut instructions);
        assert!(
            zlib::gunzip(&layer).is_some_and(|bytes| bytes == archive.bytes),
            "differs from zlib"
        );
        layer
    };
    // A plain tar has no spans of 0 bytes.
    let span_size = if layer.starts_with(&[0x1f, 0x8b]) { options.span_size } else { 777 };

    let mut indexer = LayerIndexer::new(IndexOptions { span_size, ..options }).expect("options");
    indexer.push(&layer).expect("a valid layer");
    let ztoc = indexer.finish().expect("a valid layer").ztoc;

    let mut joined = Vec::new();
    for span_id in span_ids(&ztoc) {
        let (start, end) = ztoc.span_uncompressed_range(span_id).expect("a span");
        assert_eq!(start.0, joined.len() as u64, "start of {span_id}");
        joined.extend(
            inflate_span(&ztoc, span_id, compressed(&ztoc, &layer, span_id)).expect("span"),
        );
        assert!(end.is_none_or(|end| end.0 == joined.len() as u64), "end of {span_id}");
    }
    assert!(joined == archive.bytes, "spans joined");

    let regular = ztoc.toc.iter().filter(|entry| entry.entry_type == EntryType::Regular);
    let mut files = archive.files.iter();
    for entry in regular {
        let (name, data) = files.next().expect("a file for each entry");
        assert_eq!(&entry.name, name);
        let range = data_range(&entry).expect("a range");
        let spans = ztoc.spans_for(&entry);
        let mut read = Vec::new();
        for span_id in (spans.start.0..spans.end.0).map(SpanId) {
            let bytes = compressed(&ztoc, &layer, span_id);
            read.extend(read_span(&ztoc, span_id, bytes, range.clone()).expect("span"));
        }
        assert!(read == *data, "{}", entry.name.escape_ascii());
    }
    assert!(files.next().is_none(), "an entry for each file");

    // Any other range, from all spans, each of which returns only its own part.
    let start = instructions.below(65_536).min(joined.len());
    let end = (start + instructions.below(65_536)).min(joined.len());
    let wanted = UncompressedOffset(start as u64)..UncompressedOffset(end as u64);
    let mut part = Vec::new();
    for span_id in span_ids(&ztoc) {
        let bytes = compressed(&ztoc, &layer, span_id);
        part.extend(read_span(&ztoc, span_id, bytes, wanted.clone()).expect("span"));
    }
    assert!(part == joined[start..end], "{start}..{end}");

    // Many ranges, from readers that continue where they stopped.
    let mut readers: Vec<_> = span_ids(&ztoc)
        .map(|span_id| SpanReader::new(&ztoc, span_id, compressed(&ztoc, &layer, span_id)))
        .map(|reader| reader.expect("span"))
        .collect();
    for _ in 0..8 {
        let start = instructions.below(65_536).min(joined.len());
        let wanted = start..(start + instructions.below(8192)).min(joined.len());
        for reader in &mut readers {
            let clamp = |at: usize| (at as u64).clamp(reader.start().0, reader.end().0) as usize;
            let own = &joined[clamp(wanted.start)..clamp(wanted.end)];
            let range =
                UncompressedOffset(wanted.start as u64)..UncompressedOffset(wanted.end as u64);
            assert!(reader.read(&range).expect("span") == own, "{wanted:?}");
        }
    }
});

fn span_ids(ztoc: &Ztoc) -> impl Iterator<Item = SpanId> + use<> {
    (0..ztoc.span_count() as u32).map(SpanId)
}

fn compressed<'a>(ztoc: &Ztoc, layer: &'a [u8], span_id: SpanId) -> &'a [u8] {
    let range = ztoc.span_compressed_range(span_id).expect("a span");
    &layer[range.start.0 as usize..range.end.0 as usize]
}
