//! The missing spans of a layer that a list has not named yet.

use super::State;

/// Finds the next such span in almost constant time, however often a list names the same spans.
///
/// For each span, the next one that may be missing and not named: itself, or a later one, from which
/// the search goes on. One entry more stands for the end.
#[derive(Debug)]
pub(super) struct Unlisted(Vec<u32>);

impl Unlisted {
    pub(super) fn new(spans: &[State]) -> Self {
        let next = (0..).zip(spans).map(|(span, state)| span + u32::from(*state != State::Absent));
        let count = u32::try_from(spans.len()).unwrap_or(u32::MAX);
        Self(next.chain([count]).collect())
    }

    /// Takes the first span from `span` on, and before `end`.
    pub(super) fn take(&mut self, span: u32, end: u32) -> Option<u32> {
        let found = self.find(span);
        let is_span = (found as usize) + 1 < self.0.len() && found < end;
        if is_span && let Some(next) = self.0.get_mut(found as usize) {
            *next = found + 1;
            return Some(found);
        }
        None
    }

    fn find(&mut self, span: u32) -> u32 {
        let mut at = span;
        while let Some(next) = self.0.get(at as usize).copied().filter(|next| *next != at) {
            // Every second step is shortened, so that long chains become short.
            let after = self.0.get(next as usize).copied().unwrap_or(next);
            if let Some(entry) = self.0.get_mut(at as usize) {
                *entry = after;
            }
            at = after;
        }
        at
    }
}
