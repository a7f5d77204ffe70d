//! Which spans share a request.
//!
//! This is the only place that decides it, for reads and for mounts: they differ in the policy, which
//! is a value, and in how they record what is here and what is being fetched.

use std::ops::Range;

/// Limits of a request for several spans, or for several chunks of a seek blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Maximum number of unneeded bytes between two neighbours, which are fetched too.
    pub gap: u64,
    /// Maximum size in bytes, unless one span alone is larger.
    pub longest: u64,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The spans that are needed, in ascending order.
    pub spans: Vec<u32>,
    /// The bytes to fetch.
    pub range: Range<u64>,
}

impl Policy {
    /// A request of this size that starts at a given span and leaves out none of the next spans.
    #[must_use]
    pub const fn up_to(longest: u64) -> Self {
        Self { gap: u64::MAX, longest }
    }

    /// Whether a request for `first` may be extended to the end of `next`, which follows it.
    #[must_use]
    pub const fn joins(&self, first: &Range<u64>, next: &Range<u64>) -> bool {
        next.start.saturating_sub(first.end) <= self.gap
            && next.end.saturating_sub(first.start) <= self.longest
    }

    /// The requests for these spans, which are in ascending order. Each span is in one request, and
    /// each request takes as many spans as it can.
    pub fn requests(
        &self,
        spans: impl IntoIterator<Item = u32>,
        compressed: impl Fn(u32) -> Range<u64>,
    ) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::new();
        for span in spans {
            let range = compressed(span);
            match requests.last_mut() {
                Some(last) if self.joins(&last.range, &range) => {
                    last.spans.push(span);
                    last.range.end = range.end;
                }
                _ => requests.push(Request { spans: vec![span], range }),
            }
        }
        requests
    }

    /// The end of the first spans of `spans` that share a request; it has at least one span.
    pub fn first_request(&self, spans: Range<u32>, compressed: impl Fn(u32) -> Range<u64>) -> u32 {
        let mut request = compressed(spans.start);
        for span in spans.start.saturating_add(1)..spans.end {
            let range = compressed(span);
            if !self.joins(&request, &range) {
                return span;
            }
            request.end = range.end;
        }
        spans.end
    }
}
