//! Reading any range with a seek table gives the bytes that reading with a zTOC gives, and both equal
//! zlib's output for the layer. Seek tables do not depend on how the layer is cut into pieces.
#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use tocsin_core::bytes::SharedBytes;
use tocsin_core::extract::{SpanReader, SpanTable, inflate_span, read_span};
use tocsin_core::indexer::{IndexOptions, IndexedLayer, LayerIndexer};
use tocsin_core::seek::{MIN_SEEK_SPAN_SIZE, SeekLayer};
use tocsin_core::span::{SpanId, UncompressedOffset};
use tocsin_fuzz::instructions::{Instructions, pieces};
use tocsin_fuzz::support::layers::tar_of;
use tocsin_fuzz::support::mixed_data;
use tocsin_fuzz::{layers, zlib};

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    let seek_span_size = MIN_SEEK_SPAN_SIZE + u64::from(instructions.byte()) * 64;
    let options = IndexOptions {
        span_size: 100_000,
        seek_span_size: Some(seek_span_size),
        ..IndexOptions::default()
    };
    let len = usize::from(instructions.u16()) * 6;
    let whole = tar_of(&mixed_data(len, instructions.byte().into()));
    let layer = if instructions.rarely() {
        whole.clone()
    } else {
        let layer = layers::gzip(&whole, &mut instructions);
        assert!(zlib::gunzip(&layer).is_some_and(|bytes| bytes == whole), "differs from zlib");
        layer
    };
    let cuts = pieces(&layer, &mut instructions.clone());
    let one = index(options.clone(), [layer.as_slice()].into_iter());
    let cut = index(options, cuts.iter().map(|piece| &**piece));
    let (seek, other) = (one.seek.expect("a seek blob"), cut.seek.expect("a seek blob"));
    assert!(seek.blob() == other.blob(), "depends on cuts");

    let seek = SeekLayer::parse(&SharedBytes::copied(seek.blob())).expect("a valid blob");
    let spans = seek.all_spans().expect("valid chunks");
    let mut joined = Vec::new();
    for span_id in (0..seek.span_count() as u32).map(SpanId) {
        let span = spans.span(span_id).expect("a span");
        assert_eq!(span.start.0, joined.len() as u64);
        assert!(span.needed_end.0 - span.start.0 <= seek_span_size / 4 * 5 + 4, "{span_id}");
        let bytes = compressed(&spans, &layer, span_id);
        joined.extend(inflate_span(&spans, span_id, bytes).expect("span"));
    }
    assert!(joined == whole, "spans joined");

    for _ in 0..8 {
        let start = (usize::from(instructions.u16()) * 7) % (whole.len() + 1);
        let end = start + (usize::from(instructions.u16()) * 3) % (whole.len() - start + 1);
        let range = UncompressedOffset(start as u64)..UncompressedOffset(end as u64);
        let found = spans.positions().spans_in(range.clone());
        let by_seek_table = read(&spans, &layer, found, range.clone());
        assert!(by_seek_table == whole[start..end], "{start}..{end}");
        let first = one.ztoc.span_of(range.start).expect("a span");
        let last = one.ztoc.span_of(range.end).expect("a span");
        let found = first..SpanId(last.0 + 1);
        assert!(read(&one.ztoc, &layer, found, range) == by_seek_table, "{start}..{end}");
    }
});

fn index<'a>(options: IndexOptions, pieces: impl Iterator<Item = &'a [u8]>) -> IndexedLayer {
    let mut indexer = LayerIndexer::new(options).expect("options");
    for piece in pieces {
        indexer.push(piece).expect("a valid layer");
    }
    indexer.finish().expect("a valid layer")
}

fn compressed<'a>(table: &impl SpanTable, layer: &'a [u8], span_id: SpanId) -> &'a [u8] {
    let range = table.span(span_id).expect("a span").compressed;
    &layer[range.start.0 as usize..range.end.0 as usize]
}

fn read(
    table: &impl SpanTable,
    layer: &[u8],
    spans: Range<SpanId>,
    range: Range<UncompressedOffset>,
) -> Vec<u8> {
    let mut output = Vec::new();
    for span_id in (spans.start.0..spans.end.0).map(SpanId) {
        let bytes = compressed(table, layer, span_id);
        let part = read_span(table, span_id, bytes, range.clone()).expect("span");
        // A reader stops at the end of the tar, and padding may follow.
        let mut reader = SpanReader::new(table, span_id, bytes).expect("span");
        let same = reader.read(&range).expect("span");
        assert!(part.starts_with(same), "{span_id}");
        output.extend(part);
    }
    output
}
