//! The content of a pack's frames, from its arrival until the spans with the same bytes are on disk.
//!
//! Each extent of a frame is freed as soon as its spans are on disk. There is a limit for all content:
//! frames are *admitted* in their order as long as there is room for them, and the rest is admitted
//! when others have been freed. What is not admitted is not fetched, and read from spans.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use tocsin_core::pack::{Extent, Pack, Piece};

/// The frames of a pack.
#[derive(Debug)]
pub(super) struct Frames {
    states: Vec<State>,
    /// Frames that readers wait for, and since when.
    pub(super) wanted: HashMap<u32, Duration>,
    /// Why the pack has been dropped.
    pub(super) problem: Option<String>,
    /// The number of the first frame that is not admitted.
    admitted: u32,
    /// The length of the content that is here, and of the frames that have been admitted and may arrive.
    len: u64,
    limit: u64,
}

#[derive(Debug, Clone)]
enum State {
    Absent,
    /// The extents that are still needed, by their offsets in the content.
    Here(BTreeMap<usize, Box<[u8]>>),
    /// Not needed, since all spans with its parts are on disk, or since the pack has been dropped.
    Done,
}

/// Where a part of a layer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// From a frame that is missing.
    Coming,
    /// From a frame that is here.
    Here,
    /// From spans.
    Spans,
}

impl Frames {
    /// `limit`: maximum length of the content in memory; one frame is always admitted.
    pub(super) fn new(pack: &Pack, limit: u64) -> Self {
        Self {
            states: vec![State::Absent; pack.frames().len()],
            wanted: HashMap::new(),
            problem: None,
            admitted: 0,
            len: 0,
            limit,
        }
    }

    /// Admits further frames if at least half of the room is free, and returns them.
    pub(super) fn admit(&mut self, pack: &Pack) -> Range<u32> {
        if self.len > self.limit / 2 {
            return 0..0;
        }
        let mut first = None;
        while let Some(state) = self.states.get(self.admitted as usize) {
            if !matches!(state, State::Done) {
                let len = frame_len(pack, self.admitted);
                if self.len > 0 && self.len.saturating_add(len) > self.limit {
                    break;
                }
                self.len += len;
                first.get_or_insert(self.admitted);
            }
            self.admitted += 1;
        }
        first.map_or(0..0, |first| first..self.admitted)
    }

    /// Whether a frame is queued and still missing.
    pub(super) fn is_coming(&self, number: u32) -> bool {
        number < self.admitted && matches!(self.states.get(number as usize), Some(State::Absent))
    }

    /// Where a part of a layer comes from.
    pub(super) fn place(&self, piece: &Piece) -> Place {
        match self.find(piece) {
            Some(_) => Place::Here,
            None if self.is_coming(piece.frame) => Place::Coming,
            None => Place::Spans,
        }
    }

    /// The bytes of a part of a layer, if they are here.
    pub(super) fn find(&self, piece: &Piece) -> Option<&[u8]> {
        let State::Here(parts) = self.states.get(piece.frame as usize)? else { return None };
        let (start, bytes) = parts.range(..=piece.at.start).next_back()?;
        bytes.get(piece.at.start - start..piece.at.end.checked_sub(*start)?)
    }

    /// Keeps the content of a frame that has arrived. It is not needed if it was not admitted.
    pub(super) fn keep(&mut self, pack: &Pack, number: u32, content: &[u8]) {
        if !self.is_coming(number) {
            return self.finish(pack, number);
        }
        let (mut parts, mut rest, mut at) = (BTreeMap::new(), content, 0);
        for extent in pack.extents(number) {
            let len = usize::try_from(extent.len()).unwrap_or(usize::MAX);
            let Some((part, after)) = rest.split_at_checked(len) else { break };
            parts.insert(at, part.into());
            (rest, at) = (after, at + len);
        }
        if let Some(state) = self.states.get_mut(number as usize) {
            *state = State::Here(parts);
        }
    }

    /// Frees the extents of a frame that are on disk. Returns whether nothing of the frame is needed.
    pub(super) fn free(
        &mut self,
        pack: &Pack,
        number: u32,
        is_on_disk: impl Fn(&Extent) -> bool,
    ) -> bool {
        match self.states.get_mut(number as usize) {
            Some(State::Absent) => pack.extents(number).all(is_on_disk),
            Some(State::Here(parts)) => {
                let mut at = 0;
                for extent in pack.extents(number) {
                    if is_on_disk(extent) && parts.remove(&at).is_some() {
                        self.len -= extent.len();
                    }
                    at += usize::try_from(extent.len()).unwrap_or(usize::MAX);
                }
                parts.is_empty()
            }
            Some(State::Done) | None => false,
        }
    }

    /// Frees a frame.
    pub(super) fn finish(&mut self, pack: &Pack, number: u32) {
        let Some(state) = self.states.get_mut(number as usize) else { return };
        self.len -= match std::mem::replace(state, State::Done) {
            State::Absent if number < self.admitted => frame_len(pack, number),
            State::Absent | State::Done => 0,
            State::Here(parts) => len_of(&parts),
        };
        self.wanted.remove(&number);
    }

    /// The number of frames that have arrived or are not needed, and the size of all others as stored.
    pub(super) fn counts(&self, pack: &Pack) -> (u64, u64) {
        let absent = |(state, _): &(&State, _)| matches!(state, State::Absent);
        let frames = self.states.iter().zip(pack.frames());
        let (count, left) = frames.filter(absent).fold((0, 0), |(count, left), (_, frame)| {
            (count + 1, left + (frame.stored.end - frame.stored.start))
        });
        (self.states.len() as u64 - count, left)
    }

    /// The length of the content in memory.
    pub(super) fn memory(&self) -> u64 {
        let here = self.states.iter().filter_map(|state| match state {
            State::Here(parts) => Some(len_of(parts)),
            State::Absent | State::Done => None,
        });
        here.sum()
    }
}

fn frame_len(pack: &Pack, number: u32) -> u64 {
    pack.frames().get(number as usize).map_or(0, |frame| frame.len)
}

fn len_of(parts: &BTreeMap<usize, Box<[u8]>>) -> u64 {
    parts.values().map(|part| part.len() as u64).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at once")]
mod tests {
    use tocsin_core::digest::Digest;
    use tocsin_core::pack::{BLOCK_LEN, Extent, Pack, PackLayer, PackWriter, Piece};

    use super::{Frames, Place};

    /// Length of the content of a frame.
    const LEN: u64 = 4 * BLOCK_LEN;

    /// A pack with four frames, each with two extents of two blocks, and the content of each.
    fn pack() -> (Pack, Vec<Vec<u8>>) {
        let layer = PackLayer { digest: Digest::of(b"layer"), uncompressed_size: 32 * BLOCK_LEN };
        let mut writer = PackWriter::new(vec![layer]).unwrap();
        let contents: Vec<Vec<u8>> =
            (0..4).map(|byte| [[byte; 1024], [9 - byte; 1024]].concat()).collect();
        for (frame, content) in (0..).zip(&contents) {
            let extent =
                |block: u64| Extent { layer: 0, range: block * BLOCK_LEN..(block + 2) * BLOCK_LEN };
            writer.add(vec![extent(8 * frame), extent(8 * frame + 4)], content).unwrap();
        }
        (Pack::parse(&writer.finish().unwrap().0).unwrap(), contents)
    }

    /// The parts of the pack in eight blocks of the layer: those of one frame.
    fn pieces(pack: &Pack, frame: u64) -> Vec<Piece> {
        pack.pieces(0, &(8 * frame * BLOCK_LEN..8 * (frame + 1) * BLOCK_LEN)).collect()
    }

    fn places(frames: &Frames, pack: &Pack, frame: u64) -> Vec<Place> {
        pieces(pack, frame).iter().map(|piece| frames.place(piece)).collect()
    }

    #[test]
    fn admit_when_there_is_no_room_then_frames_wait_until_others_are_freed() {
        let (pack, contents) = pack();
        let mut frames = Frames::new(&pack, 2 * LEN);
        assert_eq!(frames.admit(&pack), 0..2);
        for number in 0..2 {
            assert_eq!(places(&frames, &pack, u64::from(number)), [Place::Coming; 2]);
            frames.keep(&pack, number, &contents[number as usize]);
            assert_eq!(places(&frames, &pack, u64::from(number)), [Place::Here; 2]);
        }
        assert_eq!(frames.memory(), 2 * LEN);
        assert_eq!(frames.admit(&pack), 0..0);
        assert_eq!(places(&frames, &pack, 2), [Place::Spans; 2]);
        assert!(frames.free(&pack, 1, |_| true));
        frames.finish(&pack, 1);
        assert_eq!(frames.memory(), LEN);
        assert_eq!(frames.admit(&pack), 2..3);
        assert_eq!(places(&frames, &pack, 2), [Place::Coming; 2]);
        assert_eq!(places(&frames, &pack, 3), [Place::Spans; 2]);
    }

    #[test]
    fn admit_when_frames_are_finished_before_it_then_they_need_no_room() {
        let (pack, _) = pack();
        let mut frames = Frames::new(&pack, LEN);
        for number in [0, 2] {
            frames.finish(&pack, number);
        }
        assert_eq!(frames.admit(&pack), 1..3, "frame 2 is not needed");
        frames.finish(&pack, 1);
        assert_eq!(frames.admit(&pack), 3..4);
        frames.finish(&pack, 3);
        assert_eq!((frames.len, frames.counts(&pack)), (0, (4, 0)));
    }

    #[test]
    fn admit_when_a_frame_is_larger_than_the_limit_then_one_at_a_time() {
        let (pack, _) = pack();
        let mut frames = Frames::new(&pack, 1);
        assert_eq!(frames.admit(&pack), 0..1);
        assert_eq!(frames.admit(&pack), 0..0);
    }

    #[test]
    fn free_when_one_extent_is_on_disk_then_only_its_content_is_freed() {
        let (pack, contents) = pack();
        let mut frames = Frames::new(&pack, 4 * LEN);
        frames.admit(&pack);
        frames.keep(&pack, 0, &contents[0]);
        assert!(!frames.free(&pack, 0, |extent| extent.range.start == 0));
        assert_eq!(frames.memory(), LEN / 2);
        let [first, second] = pieces(&pack, 0).try_into().unwrap();
        assert_eq!(frames.find(&first), None);
        assert_eq!(frames.find(&second), Some(&contents[0][1024..]));
        assert_eq!(places(&frames, &pack, 0), [Place::Spans, Place::Here]);
        assert!(frames.free(&pack, 0, |_| true));
        assert_eq!(frames.memory(), 0);
    }

    #[test]
    fn keep_when_a_frame_was_not_admitted_then_it_is_read_from_spans() {
        let (pack, contents) = pack();
        let mut frames = Frames::new(&pack, LEN);
        frames.admit(&pack);
        frames.keep(&pack, 3, &contents[3]);
        assert_eq!(places(&frames, &pack, 3), [Place::Spans; 2]);
        assert_eq!(frames.memory(), 0);
    }
}
