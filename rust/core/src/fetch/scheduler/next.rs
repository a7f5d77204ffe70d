//! Choosing the next fetch.

use core::time::Duration;
use std::ops::Range;

use super::{
    CALM, Fetch, Layer, Limits, MANY_MISSES, Next, Open, Policy, Purpose, QUIET, QueuedChunks,
    STALE, STARVED, Scheduler, State, Table, What,
};

impl Scheduler {
    /// Returns the next fetch, or how long to wait for one.
    pub fn next(&mut self, now: Duration) -> Next {
        let renewal = self.renew(now);
        match self.next_new(now) {
            Next::Wait(wake) => Next::Wait(wake.into_iter().chain(renewal).min()),
            fetch @ Next::Fetch(_) => fetch,
        }
    }

    /// Requeues spans and chunks that readers wait for and whose fetch is too old: its connection may
    /// hang, or it may be a long background fetch. Returns when the next fetch will be too old.
    fn renew(&mut self, now: Duration) -> Option<Duration> {
        let (mut spans, mut chunks, mut again) = (Vec::new(), Vec::new(), None);
        for &(layer, span) in self.by_span.keys() {
            let Some(at) = self.layers.get(layer) else { continue };
            let State::Requested { fetch } = self.state(layer, span) else { continue };
            let chunk = at.table.missing_chunk(span).filter(|chunk| at.chunks.contains(chunk));
            let due = [
                self.open.get(&fetch).map(|open| self.stale_at(open)),
                chunk.and_then(|chunk| self.chunk_stale_at(layer, chunk)),
            ];
            if due[0].is_some_and(|due| due <= now) {
                spans.push((layer, span));
            }
            if let Some(chunk) = chunk.filter(|_| due[1].is_some_and(|due| due <= now)) {
                chunks.push((layer, chunk));
            }
            let later = due.into_iter().flatten().filter(|due| *due > now);
            again = later.chain(again).min();
        }
        spans.sort_unstable();
        for (layer, span) in spans {
            self.set(layer, span, State::Wanted);
            self.demand.push_back((layer, span));
        }
        chunks.sort_unstable();
        chunks.dedup();
        for (layer, chunk) in chunks {
            let run = chunk..chunk + 1;
            let (purpose, not_before) = (Purpose::Demand, Duration::ZERO);
            self.chunks.push_back(QueuedChunks { layer, run, purpose, not_before });
        }
        again
    }

    /// The time from which readers no longer wait for an open fetch.
    fn stale_at(&self, open: &Open) -> Duration {
        open.since
            + match open.fetch.purpose {
                // It is as small as possible, so on a slow connection a second one would not help.
                Purpose::Demand => self.limits.patience / 2,
                Purpose::List | Purpose::Background => STALE.min(self.limits.patience / 3),
            }
    }

    /// As [`Self::stale_at`], for the last fetch of a chunk; `None` if it is queued, or not open.
    fn chunk_stale_at(&self, layer: usize, chunk: u32) -> Option<Duration> {
        if self.chunks.iter().any(|queued| queued.layer == layer && queued.run.contains(&chunk)) {
            return None;
        }
        let holds = |open: &&Open| {
            open.fetch.layer == layer
                && matches!(&open.fetch.what, What::Chunks(run) if run.contains(&chunk))
        };
        self.open.values().filter(holds).map(|open| self.stale_at(open)).max()
    }

    fn next_new(&mut self, now: Duration) -> Next {
        let ahead = self.open.values().filter(|open| open.fetch.purpose != Purpose::Demand).count();
        let is_full = ahead >= self.limits.ahead;
        if let Some(fetch) = self.next_chunks(now, is_full) {
            return Next::Fetch(fetch);
        }
        if let Some(fetch) = self.next_demand(now) {
            return Next::Fetch(fetch);
        }
        if is_full {
            return Next::Wait(self.end_of_pauses(now));
        }
        let list_from = self.list_from();
        if list_from.is_some_and(|from| from <= now)
            && let Some(fetch) = self.next_listed(now)
        {
            return Next::Fetch(fetch);
        }
        match self.next_background(now) {
            Next::Wait(wake) if !self.list.is_empty() => {
                Next::Wait(wake.into_iter().chain(list_from).min())
            }
            next => next,
        }
    }

    /// When the next listed spans are fetched; `None` if that depends on what arrives.
    ///
    /// That is at once, unless the program is not the one for which the list was made: then the list
    /// only uses what the program leaves, since both share the connection.
    fn list_from(&self) -> Option<Duration> {
        if self.misses.count_ones() < MANY_MISSES {
            return Some(Duration::ZERO);
        }
        let is_busy = self.open.values().any(|open| open.fetch.purpose != Purpose::Background);
        let last = self.last_demand.unwrap_or_default();
        (self.readers.is_empty() && !is_busy).then_some(last + QUIET)
    }

    fn next_listed(&mut self, now: Duration) -> Option<Fetch> {
        while let Some((layer, run)) = self.list.pop_front() {
            let absent = |this: &Self, span| this.state(layer, span) == State::Absent;
            let Some(first) = run.clone().find(|span| absent(self, *span)) else { continue };
            let run_end = (first..run.end).find(|span| !absent(self, *span)).unwrap_or(run.end);
            let end = self.fit(layer, first..run_end, self.list_size(layer, first));
            if end < run.end {
                self.list.push_front((layer, end..run.end));
            }
            return Some(self.open_spans(layer, first..end, Purpose::List, now));
        }
        None
    }

    /// Whether a reader waits for queued chunks, which may have been queued before it came.
    fn is_awaited(&self, queued: &QueuedChunks) -> bool {
        let Some(at) = self.layers.get(queued.layer) else { return false };
        let needs = |(layer, span): &(usize, u32)| {
            *layer == queued.layer
                && at.table.missing_chunk(*span).is_some_and(|chunk| queued.run.contains(&chunk))
        };
        queued.purpose == Purpose::Demand || self.by_span.keys().any(needs)
    }

    fn next_chunks(&mut self, now: Duration, only_awaited: bool) -> Option<Fetch> {
        let is_ready = |queued: &QueuedChunks| {
            queued.not_before <= now && (!only_awaited || self.is_awaited(queued))
        };
        let ready = self.chunks.iter().position(is_ready)?;
        let QueuedChunks { layer, run, purpose, .. } = self.chunks.remove(ready)?;
        let table = &self.layers.get(layer)?.table;
        let range = table.chunk_range(run.start).start..table.chunk_range(run.end - 1).end;
        Some(self.open(layer, What::Chunks(run), range, purpose, now))
    }

    fn next_demand(&mut self, now: Duration) -> Option<Fetch> {
        for _ in 0..self.demand.len() {
            let (layer, span) = self.demand.pop_front()?;
            if self.state(layer, span) != State::Wanted {
                continue;
            }
            if self.trouble.get(&(layer, span)).is_some_and(|found| found.not_before > now) {
                self.demand.push_back((layer, span));
                continue;
            }
            let end = self.demand_end(layer, span);
            return Some(self.open_spans(layer, span..end, Purpose::Demand, now));
        }
        None
    }

    /// The end of a fetch for a reader that waits for `span`.
    fn demand_end(&mut self, layer: usize, span: u32) -> u32 {
        let (request, longest) = (self.limits.request, self.limits.longest);
        let Some(at) = self.layers.get_mut(layer) else { return span + 1 };
        // A read that begins where the last fetch ended is probably part of a sequence.
        let size = match at.last {
            Some((end, size)) if end == span => size.saturating_mul(2).min(longest),
            _ => request,
        };
        let is_listed = |span: usize| at.listed.get(span).copied().unwrap_or(false);
        // Where a list says what will be read, a fetch includes nothing else.
        let only_listed = is_listed(span as usize);
        let after =
            at.spans.iter().enumerate().skip(span as usize + 1).take_while(|(at, state)| {
                matches!(state, State::Absent | State::Wanted) && (!only_listed || is_listed(*at))
            });
        let after = after.count();
        let all = span..span.saturating_add(1).saturating_add(u32::try_from(after).unwrap_or(0));
        let end = self.fit(layer, all, size);
        if let Some(at) = self.layers.get_mut(layer) {
            at.last = Some((end, size));
        }
        end
    }

    /// Maximum compressed size of a fetch of listed spans.
    ///
    /// The first frames of a pack are needed at once, so they come in small requests; later ones are
    /// larger, since they use connections better.
    fn list_size(&self, layer: usize, first: u32) -> u64 {
        let Some(Layer { table: Table::Pack(pack), .. }) = self.layers.get(layer) else {
            return 1 << 20;
        };
        let start = pack.frames().get(first as usize).map_or(0, |frame| frame.stored.start);
        ((64 << 10) + start / 4).min(512 << 10)
    }

    /// The end of as many spans as fit in `size` compressed bytes, but at least one.
    fn fit(&self, layer: usize, spans: Range<u32>, size: u64) -> u32 {
        let Some(at) = self.layers.get(layer) else { return spans.end };
        Policy::up_to(size).first_request(spans, |span| at.table.compressed(span))
    }

    fn next_background(&mut self, now: Duration) -> Next {
        let wake = self.end_of_pauses(now);
        if !self.in_background {
            return Next::Wait(wake);
        }
        let sooner = |at: Duration| Next::Wait(Some(wake.map_or(at, |other| other.min(at))));
        let from = self.background_pause.not_before.max(self.background_from);
        if from > now {
            return sooner(from);
        }
        let busy =
            self.open.values().filter(|open| open.fetch.purpose != Purpose::Background).count();
        let running = self.open.len() - busy;
        let request = self.limits.request;
        let quiet_at = self.last_demand.map_or(Duration::ZERO, |last| last + QUIET);
        let is_quiet = busy == 0 && self.readers.is_empty() && now >= quiet_at;
        let is_starved = now.saturating_sub(self.last_background) >= STARVED && running == 0;
        if !is_quiet && !is_starved {
            let starved_at = self.last_background + STARVED;
            let at = if busy == 0 && self.readers.is_empty() { quiet_at } else { starved_at };
            return if running == 0 { sooner(at) } else { Next::Wait(wake) };
        }
        let (size, most) = if is_quiet { self.background_limits(now) } else { (request, 1) };
        if running >= most {
            // More may be opened later, although nothing else changes until then.
            return if most < self.limits.background {
                sooner(now + CALM)
            } else {
                Next::Wait(wake)
            };
        }
        let Some((layer, first)) = self.next_absent() else { return Next::Wait(wake) };
        let Some(at) = self.layers.get(layer) else { return Next::Wait(wake) };
        let mut after = first..at.table.span_count();
        let all = first..after.find(|span| !at.is_wanted_ahead(*span)).unwrap_or(after.end);
        let end = self.fit(layer, all, size);
        self.last_background = now;
        Next::Fetch(self.open_spans(layer, first..end, Purpose::Background, now))
    }

    /// When the first of the pauses after failed fetches ends.
    fn end_of_pauses(&self, now: Duration) -> Option<Duration> {
        let spans =
            self.demand.iter().filter_map(|key| self.trouble.get(key)).map(|t| t.not_before);
        let chunks = self.chunks.iter().map(|queued| queued.not_before);
        spans.chain(chunks).filter(|end| *end > now).min()
    }

    /// The size of a background fetch and the number of them, which grow while no reader comes.
    fn background_limits(&self, now: Duration) -> (u64, usize) {
        let Limits { request, longest, background, .. } = self.limits;
        let Some(last) = self.last_demand else { return (longest, background) };
        let steps = now.saturating_sub(last + QUIET).as_millis() / CALM.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).min(16);
        ((request << steps).min(longest), background.min(1 + steps as usize))
    }

    fn next_absent(&mut self) -> Option<(usize, u32)> {
        while let Some((layer, spans)) = self.used.front() {
            let (layer, mut spans) = (*layer, spans.clone());
            if let Some(first) = spans.find(|span| self.state(layer, *span) == State::Absent) {
                return Some((layer, first));
            }
            self.used.pop_front();
        }
        while let Some(at) = self.layers.get(self.cursor.0) {
            let from = self.cursor.1;
            let mut rest = from..at.table.span_count();
            if let Some(more) = rest.position(|span| at.is_wanted_ahead(span)) {
                self.cursor.1 = from.saturating_add(u32::try_from(more).unwrap_or(0));
                return Some(self.cursor);
            }
            self.cursor = (self.cursor.0 + 1, 0);
        }
        None
    }

    fn open_spans(
        &mut self,
        layer: usize,
        run: Range<u32>,
        purpose: Purpose,
        now: Duration,
    ) -> Fetch {
        let mut chunks = Vec::new();
        let mut range = 0..0;
        if let Some(at) = self.layers.get(layer) {
            range = at.table.compressed(run.start).start..at.table.compressed(run.end - 1).end;
            chunks.extend(
                run.clone().filter_map(|span| at.table.missing_chunk(span)).map(|c| (layer, c)),
            );
        }
        chunks.dedup();
        self.queue_chunks(&chunks, purpose);
        let fetch = self.open(layer, What::Spans(run.clone()), range, purpose, now);
        for span in run {
            self.set(layer, span, State::Requested { fetch: fetch.number });
        }
        fetch
    }

    fn open(
        &mut self,
        layer: usize,
        what: What,
        range: Range<u64>,
        purpose: Purpose,
        now: Duration,
    ) -> Fetch {
        self.numbers += 1;
        let fetch = Fetch { number: self.numbers, layer, what, range, purpose };
        self.open.insert(fetch.number, Open { fetch: fetch.clone(), since: now });
        fetch
    }
}
