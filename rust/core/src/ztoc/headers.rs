//! Where the tar headers of each entry are, which a zTOC does not say.

use super::Entry;
use crate::tar::{Entries, EntryType};

/// Size of a tar block.
const BLOCK_LEN: i64 = 512;
/// Maximum length of the headers of one entry, in blocks: 8 MiB.
pub(crate) const MAX_HEADER_BLOCKS: u32 = 16 << 10;

/// The number of blocks from the first header of each entry to its data.
///
/// Headers begin where the previous entry ends. A sparse file ends earlier than its size says, so
/// what follows it gets the usual 1, and readers look for the header if it is elsewhere.
pub(crate) fn header_blocks<L>(layer: &L) -> Vec<u32>
where
    L: for<'a> Entries<Entry<'a> = Entry<'a>> + 'static,
{
    let count = layer.count();
    let entry = |index: usize| layer.entry(index);
    let offset = |index: usize| entry(index).map_or(0, Entry::uncompressed_offset);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|index| offset(*index));
    let mut blocks = vec![1; count];
    let mut end = Some(0_i64);
    for index in order {
        let Some(entry) = entry(index) else { continue };
        let at = entry.uncompressed_offset();
        let len = end.and_then(|end| at.checked_sub(end)).filter(|len| len % BLOCK_LEN == 0);
        let found = len
            .map(|len| len / BLOCK_LEN)
            .filter(|len| (1..=MAX_HEADER_BLOCKS.into()).contains(len));
        blocks[index] = found.and_then(|found| u32::try_from(found).ok()).unwrap_or(1);
        let size =
            if entry.entry_type() == EntryType::Regular { entry.uncompressed_size() } else { 0 };
        end = at
            .checked_add(size)
            .and_then(|end| end.checked_add(end.wrapping_neg() & (BLOCK_LEN - 1)));
        if entry.is_sparse() {
            end = None;
        }
    }
    blocks
}
