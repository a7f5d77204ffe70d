//! Indexing a layer on many threads, in units of any size, gives the same result or error as on
//! one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::Result;
use tocsin_core::indexer::{IndexOptions, IndexedLayer, LayerFormat, LayerIndexer};
use tocsin_fuzz::instructions::{Instructions, damage, pieces};
use tocsin_fuzz::support::mixed_data;
use tocsin_fuzz::{archives, layers, streams};

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    let cuts = instructions.take(13);
    let threads = 2 + instructions.below(7);
    // Unit boundaries in every block of a small layer, or a few in a large one.
    let unit_len = match instructions.below(3) {
        0 => 1 + instructions.below(64),
        1 => 1 + instructions.below(4096),
        _ => 1 + instructions.below(65_536),
    };
    let options = IndexOptions {
        format: Some(LayerFormat::Gzip),
        span_size: instructions.pick(&[0, 0, 1, 513, 20_000, 4 << 20]),
        diff_id: instructions.flag(),
        reference_identical: instructions.flag(),
        ..IndexOptions::default()
    };
    let layer = layer(&mut instructions);

    let alone = index([&layer[..]], options.clone());
    let pieces = pieces(&layer, &mut Instructions::new(cuts));
    let together = IndexOptions { threads, unit_len, ..options };
    let found = index(pieces.iter().map(|piece| &piece[..]), together);
    assert_eq!(found.as_ref().err(), alone.as_ref().err(), "{threads} threads and one");
    assert!(found == alone, "{threads} threads and one differ");
});

/// Builds a layer, usually with more than 32 KiB of output, since speculations are accepted only
/// after that much.
fn layer(instructions: &mut Instructions<'_>) -> Vec<u8> {
    let seed = 1 + u64::from(instructions.byte());
    match instructions.below(4) {
        0 => layers::any(instructions),
        1 => {
            let archive = archives::any(&mut instructions.clone());
            layers::gzip(&archive, instructions)
        }
        _ => {
            let mut data = mixed_data(33_000 + 8 * instructions.below(20_000), seed);
            for _ in 0..instructions.below(4) {
                data.extend(streams::data(instructions));
                data.extend_from_within(data.len().saturating_sub(40_000)..);
            }
            let mut layer = layers::gzip(&data, instructions);
            if instructions.rarely() {
                damage(&mut layer, instructions);
            }
            layer
        }
    }
}

fn index<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    options: IndexOptions,
) -> Result<IndexedLayer> {
    let mut indexer = LayerIndexer::new(options)?;
    pieces.into_iter().try_for_each(|piece| indexer.push(piece))?;
    indexer.finish()
}
