//! Which spans share a request.

use std::ops::Range;

use proptest::prelude::*;
use tocsin_core::fetch::{Policy, Request};

fn ranges(policy: Policy, spans: &[u32], places: &[Range<u64>]) -> Vec<Request> {
    policy.requests(spans.iter().copied(), |span| places[span as usize].clone())
}

#[test]
fn requests_when_the_gap_is_small_then_fetched_together() {
    let places = [0..10, 10..20, 20..30];
    let policy = Policy { gap: 10, longest: 30 };
    let together = Request { spans: vec![0, 2], range: 0..30 };
    assert_eq!(ranges(policy, &[0, 2], &places), [together]);
}

#[test]
fn requests_when_the_gap_is_too_large_then_fetched_apart() {
    let places = [0..10, 10..20, 20..30];
    let policy = Policy { gap: 9, longest: 30 };
    let apart =
        [Request { spans: vec![0], range: 0..10 }, Request { spans: vec![2], range: 20..30 }];
    assert_eq!(ranges(policy, &[0, 2], &places), apart);
}

#[test]
fn requests_when_neighbours_share_a_byte_then_it_counts_once() {
    let places = [0..10, 9..20];
    let policy = Policy { gap: 0, longest: 20 };
    let together = Request { spans: vec![0, 1], range: 0..20 };
    assert_eq!(ranges(policy, &[0, 1], &places), [together]);
}

#[test]
fn requests_when_one_span_is_longer_than_a_request_then_it_is_fetched_alone() {
    let places = [0..10, 10..100, 100..110];
    let policy = Policy { gap: 0, longest: 50 };
    let spans: Vec<_> = ranges(policy, &[0, 1, 2], &places).into_iter().map(|r| r.spans).collect();
    assert_eq!(spans, [[0], [1], [2]]);
}

#[test]
fn first_request_when_spans_fit_exactly_then_they_are_all_in_it() {
    let place = |span: u32| u64::from(span) * 10..u64::from(span) * 10 + 10;
    assert_eq!(Policy::up_to(30).first_request(4..9, place), 7);
    assert_eq!(Policy::up_to(29).first_request(4..9, place), 6);
    assert_eq!(Policy::up_to(1000).first_request(4..9, place), 9);
    assert_eq!(Policy::up_to(0).first_request(4..9, place), 5);
    assert_eq!(Policy::up_to(30).first_request(u32::MAX..u32::MAX, place), u32::MAX);
}

/// Ranges of consecutive spans, neighbours of which may share a byte, and which of them are needed.
fn layers() -> impl Strategy<Value = (Vec<Range<u64>>, Vec<u32>)> {
    prop::collection::vec((0_u64..200, any::<bool>(), any::<bool>()), 0..60).prop_map(|spans| {
        let (mut places, mut wanted, mut at) = (Vec::new(), Vec::new(), 0_u64);
        for (number, (len, shares_byte, is_wanted)) in (0..).zip(spans) {
            let start = at.saturating_sub(u64::from(shares_byte));
            at = start + len.max(1);
            places.push(start..at);
            wanted.extend(is_wanted.then_some(number));
        }
        (places, wanted)
    })
}

proptest! {
    #[test]
    fn requests_when_of_any_layer_then_each_span_once_within_the_limits(
        (places, wanted) in layers(),
        gap in 0_u64..300,
        longest in 0_u64..2000,
    ) {
        let place = |span: u32| places[span as usize].clone();
        let requests = ranges(Policy { gap, longest }, &wanted, &places);
        let fetched: Vec<u32> = requests.iter().flat_map(|each| each.spans.clone()).collect();
        prop_assert_eq!(&fetched, &wanted);
        for Request { spans, range } in &requests {
            let (first, last) = (place(spans[0]), place(spans[spans.len() - 1]));
            prop_assert_eq!(range, &(first.start..last.end));
            prop_assert!(range.end - range.start <= longest || spans.len() == 1);
            for pair in spans.windows(2) {
                prop_assert!(place(pair[1]).start.saturating_sub(place(pair[0]).end) <= gap);
            }
        }
        // No two neighbours could have been one request.
        for pair in requests.windows(2) {
            let next = place(pair[1].spans[0]);
            let is_far = next.start.saturating_sub(pair[0].range.end) > gap;
            prop_assert!(is_far || next.end - pair[0].range.start > longest);
        }
    }

    #[test]
    fn first_request_when_of_all_spans_then_as_the_first_of_all_requests(
        (places, _) in layers(),
        longest in 0_u64..2000,
    ) {
        let count = u32::try_from(places.len()).expect("few spans");
        let policy = Policy::up_to(longest);
        let place = |span: u32| places[span as usize].clone();
        if let Some(first) = policy.requests(0..count, place).first() {
            prop_assert_eq!(policy.first_request(0..count, place) as usize, first.spans.len());
        }
    }
}
