//! Reading any bytes as a zTOC does not panic and takes memory in proportion to their number. A
//! zTOC that is accepted can be written, queried, and used to read spans of any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tocsin_core::Error;
use tocsin_core::digest::Digest;
use tocsin_core::extract::{data_range, inflate_span, read_span};
use tocsin_core::span::{SpanId, UncompressedOffset};
use tocsin_core::ztoc::Ztoc;
use tocsin_fuzz::instructions::Instructions;
use tocsin_fuzz::ztocs;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Maximum bytes allocated per byte of the blob: a copy of the blob, digests of the same size, and
/// the PAX records of an entry that fills the blob (112 bytes for every 26, twice that while they
/// are sorted).
const FACTOR: usize = 12;
/// Bytes allocated for any blob: the window that version 1 omits, and the text of an error.
const ALLOWANCE: usize = 34 << 10;
/// Maximum compressed size of a span to inflate, in bytes.
const MAX_SPAN_LEN: u64 = 4096;

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    let blob = ztocs::blob(&mut instructions);

    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let read = Ztoc::from_bytes(&blob);
    let taken = MEMORY.peak_usage() - before;
    assert!(taken <= FACTOR * blob.len() + ALLOWANCE, "{taken} bytes for {}", blob.len());
    let Ok(mut ztoc) = read else { return };

    let again = ztoc.to_bytes().expect("what was read can be written");
    assert_eq!(Ztoc::from_bytes(&again).as_ref(), Ok(&ztoc), "read, written and read");
    let _ = ztoc.reader_refusals();
    query(&ztoc);

    // If the blob used up all instructions, start over: any bytes will do.
    let mut bytes = if instructions.is_empty() { Instructions::new(data) } else { instructions };
    for span_id in [0, 1, 2, bytes.u16().into(), u32::MAX].map(SpanId) {
        use_span(&mut ztoc, span_id, &mut bytes);
    }
});

fn query(ztoc: &Ztoc) {
    for entry in ztoc.toc.iter() {
        let spans = ztoc.spans_for(&entry);
        assert!(u64::from(spans.end.0) <= ztoc.span_count());
        assert!(ztoc.entry(&entry.name).is_some());
        let _ = data_range(&entry);
        let _ = entry.mod_time_parts();
    }
    for at in [0, 1, 511, 1 << 32, u64::MAX >> 1, u64::MAX].map(UncompressedOffset) {
        match ztoc.span_of(at) {
            Some(span_id) => {
                let (start, _) = ztoc.span_uncompressed_range(span_id).expect("the span there");
                assert!(start <= at);
            }
            None => assert_eq!(ztoc.span_count(), 0),
        }
    }
}

/// Reads the span from wrong bytes, first with the zTOC's digest, then with a matching one.
fn use_span(ztoc: &mut Ztoc, span_id: SpanId, instructions: &mut Instructions<'_>) {
    let Ok(range) = ztoc.span_compressed_range(span_id) else {
        let refusal = inflate_span(ztoc, span_id, b"");
        assert!(matches!(refusal, Err(Error::NoSuchSpan { .. })), "{refusal:?}");
        return;
    };
    assert!(range.end.0 <= ztoc.compressed_archive_size);
    let len = range.end.0.saturating_sub(range.start.0);
    if len > MAX_SPAN_LEN {
        let refusal = inflate_span(ztoc, span_id, b"");
        assert!(matches!(refusal, Err(Error::Verification { .. })), "{refusal:?}");
        return;
    }
    let mut bytes = instructions.take(len as usize).to_vec();
    bytes.resize(len as usize, 0x55);
    let digest = Digest::of(&bytes);
    if ztoc.span_digests[span_id.0 as usize] != digest {
        let refusal = inflate_span(ztoc, span_id, &bytes);
        assert!(matches!(refusal, Err(Error::Verification { .. })), "{refusal:?}");
    }
    ztoc.span_digests[span_id.0 as usize] = digest;
    let (start, end) = ztoc.span_uncompressed_range(span_id).expect("a span");
    if let (Ok(output), Some(end)) = (inflate_span(ztoc, span_id, &bytes), end) {
        assert_eq!(output.len() as u64, end.0 - start.0, "{span_id}");
    }
    let wanted = start.0.saturating_add(instructions.byte().into())..instructions.u64();
    let wanted = UncompressedOffset(wanted.start)..UncompressedOffset(wanted.end);
    let _ = read_span(ztoc, span_id, &bytes, wanted);
}
