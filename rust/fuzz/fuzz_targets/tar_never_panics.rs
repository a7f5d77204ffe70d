//! Scanning any bytes as a tar: no panic, the same answer however they are cut, and memory in
//! proportion to them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tocsin_fuzz::archives;
use tocsin_fuzz::instructions::{Instructions, pieces};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A PAX record of 5 bytes makes two vectors, in a vector that doubles.
const FACTOR: usize = 64;
/// The scanner itself, and what is allocated once.
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
    assert_eq!(archives::scan(pieces.iter().map(|piece| &piece[..])), whole, "in pieces, whole");
    if archive.len() < 5000 {
        assert_eq!(archives::scan(archive.chunks(1)), whole, "byte by byte, whole");
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
