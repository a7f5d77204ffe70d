//! The outcome of a fetch: spans that have arrived, failures, and readers that stop waiting.

use core::time::Duration;

use super::{
    Fetch, GIVEN_UP, MAX_MISMATCHES, Purpose, QueuedChunks, Scheduler, State, Trouble, What, pause,
};

impl Scheduler {
    /// Whether a chunk is being fetched or queued.
    #[must_use]
    pub fn is_chunk_coming(&self, layer: usize, chunk: u32) -> bool {
        self.layers.get(layer).is_some_and(|at| at.chunks.contains(&chunk))
    }

    /// The open fetch with this number.
    #[must_use]
    pub fn fetch(&self, number: u64) -> Option<&Fetch> {
        self.open.get(&number).map(|open| &open.fetch)
    }

    /// Closes a fetch whose bytes have arrived. The caller then reports each of its spans with
    /// [`Self::arrived`], [`Self::mismatch`] or [`Self::give_back`].
    pub fn close(&mut self, number: u64, now: Duration) {
        if let Some(open) = self.open.remove(&number) {
            if open.fetch.purpose == Purpose::Demand {
                self.last_demand = Some(now);
            }
            self.background_pause = Trouble::default();
            if let What::Chunks(run) = open.fetch.what
                && let Some(at) = self.layers.get_mut(open.fetch.layer)
            {
                at.chunks.retain(|chunk| !run.contains(chunk));
            }
        }
    }

    /// Records that a span has arrived; returns the readers that now have all their spans.
    pub fn arrived(&mut self, layer: usize, span: u32) -> Vec<u64> {
        if self.is_here(layer, span) && !self.by_span.contains_key(&(layer, span)) {
            return Vec::new();
        }
        self.set(layer, span, State::Here);
        self.trouble.remove(&(layer, span));
        let mut done = Vec::new();
        for number in self.by_span.remove(&(layer, span)).unwrap_or_default() {
            if let Some(reader) = self.readers.get_mut(&number) {
                reader.spans.remove(&(layer, span));
                if reader.spans.is_empty() {
                    let deadline = reader.deadline;
                    self.readers.remove(&number);
                    self.deadlines.remove(&(deadline, number));
                    done.push(number);
                }
            }
        }
        done
    }

    /// Records that a span is missing again, for example because it was dropped from a cache.
    pub fn lost(&mut self, layer: usize, span: u32) {
        if self.state(layer, span) == State::Here {
            self.set(layer, span, State::Absent);
            if (layer, span) < self.cursor {
                self.cursor = (layer, span);
            }
        }
    }

    /// Closes a fetch that failed. Spans that readers wait for are queued again, after a pause.
    pub fn failed(&mut self, number: u64, now: Duration) {
        let Some(open) = self.open.remove(&number) else { return };
        let Fetch { layer, what, purpose, .. } = open.fetch;
        let spans = match what {
            What::Spans(run) => run,
            What::Chunks(run) => {
                // Spans that have arrived wait for this chunk, so it is fetched again.
                pause(&mut self.background_pause, now);
                let not_before = self.background_pause.not_before;
                self.chunks.push_back(QueuedChunks { layer, run, purpose, not_before });
                return;
            }
        };
        let mut has_reader = false;
        for span in spans.clone() {
            has_reader |= self.again(layer, span, number, now);
        }
        if !has_reader {
            pause(&mut self.background_pause, now);
            match purpose {
                Purpose::List => self.list.push_back((layer, spans)),
                Purpose::Demand | Purpose::Background => {}
            }
        }
    }

    /// Requeues a span that a fetch did not deliver. Returns whether a reader waits for it.
    fn again(&mut self, layer: usize, span: u32, fetch: u64, now: Duration) -> bool {
        if self.state(layer, span) != (State::Requested { fetch }) {
            return false;
        }
        if (layer, span) < self.cursor {
            self.cursor = (layer, span);
        }
        if !self.by_span.contains_key(&(layer, span)) {
            self.set(layer, span, State::Absent);
            return false;
        }
        pause(self.trouble.entry((layer, span)).or_default(), now);
        self.set(layer, span, State::Wanted);
        self.demand.push_back((layer, span));
        true
    }

    /// Returns a span of a closed fetch that could not be used now. If readers wait for it, it is
    /// fetched again after a pause.
    pub fn give_back(&mut self, layer: usize, span: u32, fetch: u64, now: Duration) {
        self.again(layer, span, fetch, now);
    }

    /// Records that the bytes of a span do not match its digest or do not decode. It is fetched again a
    /// limited number of times; returns the readers that give up.
    pub fn mismatch(&mut self, layer: usize, span: u32, fetch: u64, now: Duration) -> Vec<u64> {
        self.again(layer, span, fetch, now);
        pause(&mut self.background_pause, now);
        let Some(trouble) = self.trouble.get_mut(&(layer, span)) else { return Vec::new() };
        trouble.mismatches += 1;
        if trouble.mismatches < MAX_MISMATCHES {
            return Vec::new();
        }
        let readers = self.by_span.get(&(layer, span)).cloned().unwrap_or_default();
        readers.iter().for_each(|number| self.forget(*number, now));
        readers
    }

    /// Removes and returns the readers whose time is up. Their spans count as missing again, so the
    /// next reader requests them again.
    pub fn expired(&mut self, now: Duration) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some(((deadline, number), ())) = self.deadlines.first_key_value() {
            if *deadline > now {
                break;
            }
            let number = *number;
            self.forget(number, now);
            expired.push(number);
        }
        expired
    }

    /// The earliest deadline of a reader.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.keys().next().map(|(deadline, _)| *deadline)
    }

    /// The number of waiting readers.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.readers.len()
    }

    fn forget(&mut self, number: u64, now: Duration) {
        let Some(reader) = self.readers.remove(&number) else { return };
        self.deadlines.remove(&(reader.deadline, number));
        for (layer, span) in reader.spans {
            // Readers that come meanwhile do not prolong this, so that the next attempt is soon.
            self.given_up.entry((layer, span)).or_insert(now + GIVEN_UP);
            let Some(others) = self.by_span.get_mut(&(layer, span)) else { continue };
            others.retain(|other| *other != number);
            if others.is_empty() {
                self.by_span.remove(&(layer, span));
                self.trouble.remove(&(layer, span));
                if self.state(layer, span) != State::Here {
                    self.set(layer, span, State::Absent);
                    if (layer, span) < self.cursor {
                        self.cursor = (layer, span);
                    }
                    if let Some(at) = self.layers.get_mut(layer)
                        && let Some(chunk) = at.table.missing_chunk(span)
                    {
                        at.chunks.remove(&chunk);
                    }
                }
            }
        }
    }
}
