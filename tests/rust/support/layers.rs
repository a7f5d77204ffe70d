//! Indexing layers, and the spans of a layer.

use tocsin_core::indexer::{IndexOptions, LayerIndexer};
use tocsin_core::span::SpanId;
use tocsin_core::ztoc::Ztoc;

pub fn index(layer: &[u8], options: IndexOptions) -> Ztoc {
    let mut indexer = LayerIndexer::new(options).unwrap();
    indexer.push(layer).unwrap();
    indexer.finish().unwrap().ztoc
}

pub fn span_bytes<'a>(ztoc: &Ztoc, layer: &'a [u8], span_id: SpanId) -> &'a [u8] {
    let range = ztoc.span_compressed_range(span_id).unwrap();
    &layer[range.start.0 as usize..range.end.0 as usize]
}

pub fn span_ids(ztoc: &Ztoc) -> impl Iterator<Item = SpanId> + use<> {
    (0..ztoc.span_count() as u32).map(SpanId)
}

/// A tar of one file with `data`.
pub fn tar_of(data: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..4].copy_from_slice(b"file");
    header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(data);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}
