//! Indexing any bytes with any options does not panic, does not depend on the pieces, and makes a
//! zTOC that survives being written and read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::Error;
use tocsin_core::digest::Digest;
use tocsin_core::error::ZtocError;
use tocsin_core::indexer::{IndexOptions, IndexedLayer, LayerFormat, LayerIndexer};
use tocsin_core::tar::{Hazard, HazardReason};
use tocsin_core::ztoc::Ztoc;
use tocsin_fuzz::instructions::{Instructions, pieces};
use tocsin_fuzz::{archives, layers, zlib};

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    let cuts = instructions.take(13);
    let options = IndexOptions {
        format: instructions.pick(&[None, None, Some(LayerFormat::Gzip), Some(LayerFormat::Tar)]),
        span_size: match instructions.below(12) {
            0 => instructions.u64(),
            index => [0, 0, 1, 7, 100, 512, 513, 4096, 65_536, 4 << 20, u64::MAX >> 1][index - 1],
        },
        build_tool_identifier: "\0any".repeat(instructions.below(3)),
        diff_id: instructions.flag(),
        reference_identical: instructions.flag(),
        ..IndexOptions::default()
    };
    let layer = if instructions.flag() {
        archives::any(&mut instructions)
    } else {
        layers::any(&mut instructions)
    };

    let whole = index([&layer[..]], &options);
    let pieces = pieces(&layer, &mut Instructions::new(cuts));
    let split = index(pieces.iter().map(|piece| &piece[..]), &options);
    assert_eq!(split, whole, "in pieces and at once");
    if layer.len() < 3000 {
        assert_eq!(index(layer.chunks(1), &options), whole, "byte by byte and at once");
    }

    let Ok(indexed) = whole else { return };
    assert_eq!(indexed.digest, Digest::of(&layer));
    assert_eq!(indexed.size, layer.len() as u64);
    let uncompressed = match indexed.format {
        LayerFormat::Gzip => zlib::gunzip(&layer).expect("zlib accepts it too"),
        LayerFormat::Tar => layer,
    };
    assert_eq!(indexed.uncompressed_size, uncompressed.len() as u64);
    let is_requested = options.diff_id || indexed.format == LayerFormat::Tar;
    assert_eq!(indexed.diff_id, is_requested.then(|| Digest::of(&uncompressed)));
    match indexed.ztoc.to_bytes() {
        Ok(blob) => assert_eq!(Ztoc::from_bytes(&blob), Ok(indexed.ztoc), "read back"),
        // Go's reader accepts a negative size for types without data. A zTOC must not contain it,
        // and the layer's hazards list it.
        Err(Error::Ztoc { kind: ZtocError::TocEntry { index, .. }, .. }) => {
            assert!(
                indexed
                    .ztoc
                    .toc
                    .get(index as usize)
                    .is_some_and(|entry| entry.uncompressed_size < 0)
            );
            let reason = HazardReason::SizeWithoutData;
            let hazard = Hazard { entry_index: index as usize, reason };
            assert!(indexed.hazards.contains(&hazard));
        }
        Err(error) => panic!("{error}"),
    }
});

fn index<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    options: &IndexOptions,
) -> Result<IndexedLayer, Error> {
    let mut indexer = LayerIndexer::new(options.clone())?;
    for piece in pieces {
        if let Err(error) = indexer.push(piece) {
            assert_eq!(indexer.push(b""), Err(Error::AlreadyFinished));
            assert_eq!(indexer.finish(), Err(Error::AlreadyFinished));
            return Err(error);
        }
    }
    indexer.finish()
}
