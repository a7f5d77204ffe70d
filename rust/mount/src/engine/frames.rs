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
    /// From a frame that has not arrived.
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

    /// Whether a frame has been admitted and has not arrived.
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
        let parts = |state| if let &State::Here(parts) = &state { len_of(parts) } else { 0 };
        self.states.iter().map(parts).sum()
    }
}

fn frame_len(pack: &Pack, number: u32) -> u64 {
    pack.frames().get(number as usize).map_or(0, |frame| frame.len)
}

fn len_of(parts: &BTreeMap<usize, Box<[u8]>>) -> u64 {
    parts.values().map(|part| part.len() as u64).sum()
}
