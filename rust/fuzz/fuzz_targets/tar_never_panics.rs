//! Scanning any bytes as a tar does not panic, does not depend on cuts and skips, and takes memory
//! in proportion to their number; `read_headers` finds each entry of the scanner.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tocsin_core::span::UncompressedOffset;
use tocsin_core::tar::{Purpose, TocScanner, read_headers};
use tocsin_fuzz::archives;
use tocsin_fuzz::instructions::{Instructions, pieces};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Maximum bytes allocated per byte: a PAX record of 5 bytes makes two vectors, in a vector that
/// doubles.
const FACTOR: usize = 64;
/// Bytes allocated for any archive, such as the scanner itself.
const ALLOWANCE: usize = 16 << 10;

fuzz_target!(|data: &[u8]| {
    let mut instructions = Instructions::new(data);
    let cuts = instructions.take(13);
    let archive = archives::any(&mut instructions);

    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let whole = archives::scan([&archive[..]]);
    let taken = MEMORY.peak_usage() - before;
    assert!(taken <= FACTOR * archive.len() + ALLOWANCE, "{taken} bytes for {}", archive.len());

    let pieces = pieces(&archive, &mut Instructions::new(cuts));
    assert_eq!(
        archives::scan(pieces.iter().map(|piece| &piece[..])),
        whole,
        "in pieces and at once"
    );
    if archive.len() < 5000 {
        assert_eq!(archives::scan(archive.chunks(1)), whole, "byte by byte and at once");
    }

    let which = cuts.iter().map(|cut| usize::from(*cut)).sum::<usize>();
    let purpose = [Purpose::Index, Purpose::Read, Purpose::Archive][which % 3];
    let mut pushed = TocScanner::new(purpose);
    let pushed = pushed.push(&archive).and_then(|()| pushed.finish());
    let mut skipped = TocScanner::new(purpose);
    let mut outcome = Ok(());
    for piece in &pieces {
        let len = skipped.skip(piece.len() as u64) as usize;
        outcome = outcome.and_then(|()| skipped.push(&piece[len..]));
    }
    assert_eq!(outcome.and_then(|()| skipped.finish()), pushed, "with skips and without");

    let _ = read_headers(&archive, UncompressedOffset(u64::MAX));
    let mut start = 0;
    for entry in pushed.iter().filter(|_| purpose != Purpose::Archive).flat_map(|toc| &toc.entries)
    {
        let end = entry.uncompressed_offset as usize;
        let found = read_headers(&archive[start..end], UncompressedOffset(start as u64));
        let found = found.expect("the scanner found it");
        assert_eq!(&found.entry, entry);
        start = found.end().0 as usize;
        let regions = found.regions.unwrap_or_default();
        let stored: u64 = regions.iter().map(|region| region.len).sum();
        assert!(stored <= entry.uncompressed_size as u64, "regions lie inside the file");
    }

    if let Ok(toc) = whole {
        assert!(toc.uncompressed_archive_size <= archive.len() as u64);
        assert!(toc.reader_hazards.iter().all(|hazard| hazard.entry_index < toc.entries.len()));
        let _ = toc.needs_xattrs();
        for entry in &toc.entries {
            assert!(entry.uncompressed_offset <= archive.len() as i64);
            assert_eq!(entry.mod_time_parts().is_some(), !entry.mod_time.is_empty());
        }
    }
});
