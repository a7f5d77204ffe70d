//! Reading any bytes as a seek blob, a root, a position map or a chunk of a file list does not
//! panic, and takes memory in proportion to their number. Checkpoints that are accepted can be used
//! to read spans of any bytes.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tocsin_core::Error;
use tocsin_core::bytes::SharedBytes;
use tocsin_core::digest::Digest;
use tocsin_core::extract::{SpanTable, inflate_span, read_span};
use tocsin_core::seek::{FileList, Root, SeekLayer, SeekSpans};
use tocsin_core::span::{SpanId, UncompressedOffset};
use tocsin_fuzz::instructions::Instructions;
use tocsin_fuzz::seek_tables;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Maximum bytes held per byte of a blob.
const FACTOR: usize = 20;
/// Bytes that any blob may allocate: the content of the largest chunk, and the decoder.
const ALLOWANCE: usize = 12 << 20;
/// Maximum compressed size of a span to inflate, in bytes.
const MAX_SPAN_LEN: u64 = 4096;

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    match instructions.below(4) {
        0 => {
            let _ = Root::parse(data);
        }
        1 => file_list(&mut instructions),
        _ => blob(&mut instructions),
    }
});

fn blob(instructions: &mut Instructions<'_>) {
    let blob = seek_tables::blob(instructions);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let spans = SeekLayer::parse(&SharedBytes::copied(&blob)).and_then(|layer| layer.all_spans());
    let taken = MEMORY.peak_usage() - before;
    assert!(taken <= FACTOR * blob.len() + ALLOWANCE, "{taken} bytes for {}", blob.len());
    let spans = match spans {
        Ok(spans) => spans,
        Err(error) => return assert!(matches!(error, Error::Seek { .. }), "{error}"),
    };
    let mut end = UncompressedOffset(0);
    for span_id in (0..spans.positions().span_count() as u32).map(SpanId) {
        let span = spans.span(span_id).expect("a span");
        assert_eq!(span.start, end, "{span_id}");
        end = span.needed_end;
        use_span(&spans, span_id, instructions);
    }
}

/// Reads a span from any bytes, with a digest that matches them.
fn use_span(spans: &SeekSpans, span_id: SpanId, instructions: &mut Instructions<'_>) {
    let span = spans.span(span_id).expect("a span");
    let len = span.compressed.end.0 - span.compressed.start.0;
    if len > MAX_SPAN_LEN {
        let refusal = inflate_span(spans, span_id, b"");
        return assert!(matches!(refusal, Err(Error::Verification { .. })), "{refusal:?}");
    }
    let mut bytes = instructions.take(len as usize).to_vec();
    bytes.resize(len as usize, 0x55);
    let digest = Digest::of(&bytes);
    if digest != span.digest {
        let refusal = inflate_span(spans, span_id, &bytes);
        assert!(matches!(refusal, Err(Error::Verification { .. })), "{refusal:?}");
    }
    let table = WithDigest(spans, digest);
    if let Ok(output) = inflate_span(&table, span_id, &bytes) {
        assert_eq!(output.len() as u64, span.needed_end.0 - span.start.0, "{span_id}");
    }
    let wanted = span.start.0.saturating_add(instructions.byte().into())..instructions.u64();
    let wanted = UncompressedOffset(wanted.start)..UncompressedOffset(wanted.end);
    let _ = read_span(&table, span_id, &bytes, wanted);
}

/// Spans whose digests match whatever is read.
struct WithDigest<'a>(&'a SeekSpans, Digest);

impl SpanTable for WithDigest<'_> {
    fn span(&self, span_id: SpanId) -> tocsin_core::Result<tocsin_core::extract::Span<'_>> {
        let mut span = self.0.span(span_id)?;
        span.digest = self.1;
        Ok(span)
    }
}

fn file_list(instructions: &mut Instructions<'_>) {
    let (root, map, list) = seek_tables::table(instructions);
    let Ok(root) = Root::parse(&root) else { return };
    if let Ok(layers) = root.spans(&map) {
        assert_eq!(layers.len(), root.layers().len());
    }
    let files = FileList::new(Arc::new(root));
    if files.add_chunk(0, &list).is_err() {
        return;
    }
    for path in [b"".as_slice(), b"a", b"a/b", b"a/../b", b"/"] {
        let _ = files.resolve(path, true);
        let _ = files.locate(path);
        let _ = files.children(path);
    }
    for number in 0..files.root().entry_count() {
        let _ = files.named(number);
        let _ = files.entry(number).map(|entry| entry.path());
    }
}
