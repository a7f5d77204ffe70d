//! Choosing what goes into a pack: the recorded reads of files, and the headers of these files.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::{BLOCK_LEN, Extent, FRAME_LEN, MAX_PACK_LEN};
use crate::inodes::Inodes;

/// Ranges are widened to multiples of this, within their file. How far the kernel reads ahead depends on
/// the front and on time, and one byte that is missing costs a whole span: with numpy's start, EROFS read
/// three spans that the log of a FUSE mount did not have, and none with this.
const WINDOW_LEN: u64 = 256 << 10;

/// The contents of a pack that has not been made.
#[derive(Debug, Default)]
pub struct Plan {
    /// The extents of each frame.
    pub frames: Vec<Vec<Extent>>,
    /// The number of reads of files that the image does not have.
    pub unknown: u64,
    /// The number of reads of layers that cannot be in a pack.
    pub unusable: u64,
    /// The number of bytes that do not fit.
    pub left_out: u64,
}

/// Chooses the extents for reads, given as path, start and end, in the order of their first use.
///
/// `sizes` has the uncompressed size of each layer; `None` for a layer of which nothing is packed.
///
/// The headers of each file come first, since a mount compares them with the index before it returns
/// the first byte of a file.
#[must_use]
pub fn plan(inodes: &Inodes, sizes: &[Option<u64>], reads: &[(Vec<u8>, u64, u64)]) -> Plan {
    let mut planner = Planner { taken: vec![BTreeMap::new(); sizes.len()], ..Planner::default() };
    let mut seen = HashSet::new();
    for (path, start, end) in reads {
        let Some(number) = inodes.find(path) else {
            planner.plan.unknown += 1;
            continue;
        };
        let Some(place) = inodes.get(number).and_then(|inode| inode.data) else { continue };
        let Some(size) = sizes.get(place.layer as usize).copied().flatten() else {
            planner.plan.unusable += 1;
            continue;
        };
        let file_end = inodes.get(number).map_or(0, |inode| inode.size);
        if seen.insert(number) {
            planner.add(place.layer, &place.header_window(), size);
        }
        let start = start - start % WINDOW_LEN;
        let end = end.checked_next_multiple_of(WINDOW_LEN).unwrap_or(file_end);
        let range = place.offset.saturating_add(start.min(file_end))
            ..place.offset.saturating_add(end.min(file_end));
        planner.add(place.layer, &range, size);
    }
    planner.plan
}

#[derive(Default)]
struct Planner {
    plan: Plan,
    /// For each layer, the ranges that are in the plan: start and end.
    taken: Vec<BTreeMap<u64, u64>>,
    len: u64,
    /// The length of the last frame.
    frame_len: u64,
}

impl Planner {
    /// Adds what is not yet in the plan.
    fn add(&mut self, layer: u32, range: &Range<u64>, size: u64) {
        if range.is_empty() {
            return;
        }
        let start = range.start - range.start % BLOCK_LEN;
        let end = range.end.checked_next_multiple_of(BLOCK_LEN).unwrap_or(size).min(size);
        for gap in self.gaps(layer, start..end) {
            self.put(layer, gap);
        }
    }

    /// The parts of a range that are not in the plan.
    fn gaps(&self, layer: u32, range: Range<u64>) -> Vec<Range<u64>> {
        let Some(taken) = self.taken.get(layer as usize) else { return Vec::new() };
        let (mut at, mut gaps) = (range.start, Vec::new());
        if let Some((_, end)) = taken.range(..=at).next_back() {
            at = at.max(*end);
        }
        for (start, end) in taken.range(range.clone()) {
            if *start > at {
                gaps.push(at..*start);
            }
            at = at.max(*end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    fn put(&mut self, layer: u32, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            if self.frame_len >= FRAME_LEN || self.plan.frames.is_empty() {
                self.plan.frames.push(Vec::new());
                self.frame_len = 0;
            }
            let room = (FRAME_LEN - self.frame_len).min(MAX_PACK_LEN - self.len);
            // Only the last block of a layer can be shorter than a block; after it, too little room is
            // left in the frame for a whole one.
            let room = (room - room % BLOCK_LEN).min(range.end - at);
            if room == 0 && self.len + BLOCK_LEN <= MAX_PACK_LEN {
                self.frame_len = FRAME_LEN;
                continue;
            }
            if room == 0 {
                self.plan.left_out += range.end - at;
                return;
            }
            let end = at + room;
            let Some(frame) = self.plan.frames.last_mut() else { return };
            match frame.last_mut() {
                Some(last) if last.layer == layer && last.range.end == at => last.range.end = end,
                _ => frame.push(Extent { layer, range: at..end }),
            }
            if let Some(taken) = self.taken.get_mut(layer as usize) {
                taken.insert(at, end);
            }
            self.len += room;
            self.frame_len += room;
            at = end;
        }
    }
}
