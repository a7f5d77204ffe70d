//! The compressed bytes that workers read: a range of the layer, in shared units.

use std::sync::Arc;

use crate::error::Result;
use crate::gzip::{Event, GzipDecoder};
use crate::span::BitOffset;

/// Consecutive units of the layer. All have the same length, except the last unit of the layer.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    /// Bytes of the layer before the first unit.
    start: u64,
    unit_len: usize,
    units: Vec<Arc<Vec<u8>>>,
}

impl Stretch {
    pub(super) const fn new(start: u64, unit_len: usize, units: Vec<Arc<Vec<u8>>>) -> Self {
        Self { start, unit_len, units }
    }

    /// The bytes from `at` to the end of its unit; empty outside the stretch.
    pub(super) fn bytes_at(&self, at: u64) -> &[u8] {
        let Some(Ok(offset)) = at.checked_sub(self.start).map(usize::try_from) else { return &[] };
        let unit = self.units.get(offset / self.unit_len);
        unit.and_then(|unit| unit.get(offset % self.unit_len..)).unwrap_or_default()
    }

    /// The byte that contains a bit; 0 outside the stretch.
    pub(super) fn byte_of(&self, at: BitOffset) -> u8 {
        self.bytes_at(at.byte().0).first().copied().unwrap_or(0)
    }

    /// Eight bytes from `at` on, little-endian, with zeros beyond the stretch.
    pub(super) fn word_at(&self, at: u64) -> u64 {
        let bytes = self.bytes_at(at);
        if let Some(word) = bytes.first_chunk::<8>() {
            return u64::from_le_bytes(*word);
        }
        let mut word = [0; 8];
        for (byte, at) in word.iter_mut().zip(at..) {
            *byte = self.bytes_at(at).first().copied().unwrap_or(0);
        }
        u64::from_le_bytes(word)
    }

    /// Whether the stretch contains the byte at `at`.
    pub(super) fn has(&self, at: u64) -> bool {
        !self.bytes_at(at).is_empty()
    }

    /// Calls [`GzipDecoder::step`] across units: it returns [`Event::NeedInput`] only at the end of
    /// the stretch.
    pub(super) fn step(&self, decoder: &mut GzipDecoder) -> Result<Event> {
        loop {
            let mut input = self.bytes_at(decoder.taken());
            let was_empty = input.is_empty();
            match decoder.step(&mut input)? {
                Event::NeedInput if !was_empty => {}
                event => return Ok(event),
            }
        }
    }
}
