//! The scheduler of fetches: what comes first, what is fetched together, and what becomes of failures.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tocsin_core::fetch::{Fetch, Limits, Next, Purpose, Scheduler, Table, What};
use tocsin_core::indexer::IndexOptions;

use crate::support::layers::{index, tar_of};
use crate::support::seek;

const SPAN: u64 = 4 << 10;
const SPANS: u32 = 40;
const AHEAD: usize = 6;

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The spans of a plain tar, each of 4 KiB.
fn table(spans: u32) -> Table {
    let data = [7; 4 << 10].repeat(spans as usize).split_off(2048);
    let options = IndexOptions { span_size: SPAN, ..IndexOptions::default() };
    let table = Table::Ztoc(Arc::new(index(&tar_of(&data), options)));
    assert_eq!(table.span_count(), spans);
    table
}

fn scheduler(request: u64) -> Scheduler {
    let longest = 4 * request;
    let limits = Limits { request, longest, background: 2, ahead: AHEAD, patience: at(30_000) };
    Scheduler::new(vec![table(SPANS), table(SPANS)], limits)
}

fn fetch(scheduler: &mut Scheduler, now: Duration) -> Option<Fetch> {
    match scheduler.next(now) {
        Next::Fetch(fetch) => Some(fetch),
        Next::Wait(_) => None,
    }
}

fn spans(fetch: &Fetch) -> Range<u32> {
    let What::Spans(run) = &fetch.what else { unreachable!("a zTOC has no chunks") };
    run.clone()
}

/// The bytes of a fetch arrive; returns the readers that are done.
fn arrive(scheduler: &mut Scheduler, fetch: &Fetch, now: Duration) -> Vec<u64> {
    scheduler.close(fetch.number, now);
    spans(fetch).flat_map(|span| scheduler.arrived(fetch.layer, span)).collect()
}

#[test]
fn wait_for_when_all_spans_are_here_then_no_reader() {
    let mut scheduler = scheduler(SPAN);
    scheduler.arrived(0, 3);
    assert_eq!(scheduler.wait_for(&[(0, 3..4)], at(0)), None);
    assert_eq!(fetch(&mut scheduler, at(0)), None);
}

#[test]
fn next_when_a_reader_waits_then_its_spans_and_what_fits_the_request() {
    let mut scheduler = scheduler(3 * SPAN);
    let reader = scheduler.wait_for(&[(1, 5..7)], at(0)).unwrap();
    let found = fetch(&mut scheduler, at(0)).unwrap();
    assert_eq!((found.layer, spans(&found), found.purpose), (1, 5..8, Purpose::Demand));
    assert_eq!(found.range, 5 * SPAN..8 * SPAN);
    assert_eq!(fetch(&mut scheduler, at(0)), None, "nothing is fetched twice");
    assert_eq!(arrive(&mut scheduler, &found, at(9)), [reader]);
    assert_eq!(scheduler.waiting(), 0);
}

#[test]
fn next_when_spans_have_arrived_and_are_being_inflated_then_they_are_not_fetched_again() {
    let mut scheduler = scheduler(3 * SPAN);
    scheduler.wait_for(&[(1, 5..6)], at(0)).unwrap();
    let found = fetch(&mut scheduler, at(0)).unwrap();
    scheduler.close(found.number, at(9));
    scheduler.arrived(1, 5);
    let reader = scheduler.wait_for(&[(1, 6..8)], at(10)).unwrap();
    assert_eq!(fetch(&mut scheduler, at(10)), None);
    let done: Vec<_> = (6..8).flat_map(|span| scheduler.arrived(1, span)).collect();
    assert_eq!(done, [reader]);
}

#[test]
fn next_when_reads_go_on_in_order_then_requests_grow_to_the_limit() {
    let mut scheduler = scheduler(SPAN);
    let mut sizes = Vec::new();
    let mut span = 0;
    for _ in 0..4 {
        scheduler.wait_for(&[(0, span..span + 1)], at(0)).unwrap();
        let found = fetch(&mut scheduler, at(0)).unwrap();
        sizes.push(spans(&found).len());
        span = spans(&found).end;
        arrive(&mut scheduler, &found, at(0));
    }
    assert_eq!(sizes, [1, 2, 4, 4]);
}

#[test]
fn next_when_readers_and_lists_and_background_then_in_this_order() {
    let mut scheduler = scheduler(SPAN);
    scheduler.set_background(true);
    assert_eq!(scheduler.list([(1, 9..10), (0, 2..4)]), 3 * SPAN);
    scheduler.wait_for(&[(0, 20..21)], at(1000)).unwrap();
    let mut found = Vec::new();
    let mut now = 1000;
    while let Some(next) = fetch(&mut scheduler, at(now)) {
        found.push((next.purpose, next.layer, spans(&next)));
        arrive(&mut scheduler, &next, at(now));
        now += 1000;
        if found.len() == 4 {
            break;
        }
    }
    assert_eq!(
        found,
        [
            (Purpose::Demand, 0, 20..21),
            (Purpose::List, 1, 9..10),
            (Purpose::List, 0, 2..4),
            (Purpose::Background, 0, 0..2),
        ]
    );
}

#[test]
fn next_when_a_reader_needs_a_listed_span_then_only_listed_spans_are_fetched_with_it() {
    let mut scheduler = scheduler(8 * SPAN);
    scheduler.list([(0, 2..4), (0, 20..22)]);
    scheduler.wait_for(&[(0, 20..21)], at(0)).unwrap();
    scheduler.wait_for(&[(0, 30..31)], at(0)).unwrap();
    let found: Vec<_> = std::iter::from_fn(|| fetch(&mut scheduler, at(0))).collect();
    let found: Vec<_> = found.iter().map(|next| (next.purpose, spans(next))).collect();
    assert_eq!(
        found,
        [(Purpose::Demand, 20..22), (Purpose::Demand, 30..38), (Purpose::List, 2..4)]
    );
}

#[test]
fn next_when_a_reader_waits_then_the_background_pauses() {
    let mut scheduler = scheduler(SPAN);
    scheduler.set_background(true);
    scheduler.wait_for(&[(0, 20..21)], at(10)).unwrap();
    let demand = fetch(&mut scheduler, at(10)).unwrap();
    assert_eq!(fetch(&mut scheduler, at(20)), None, "while the reader waits");
    arrive(&mut scheduler, &demand, at(30));
    assert_eq!(fetch(&mut scheduler, at(40)), None, "right after");
    assert_eq!(fetch(&mut scheduler, at(500)).unwrap().purpose, Purpose::Background);
}

#[test]
fn background_when_readers_are_expected_then_fetches_grow_while_none_comes() {
    let mut scheduler = scheduler(2 * SPAN);
    scheduler.set_background(true);
    scheduler.expect_readers(at(0));
    assert_eq!(fetch(&mut scheduler, at(149)), None, "they may come at once");
    let mut sizes = Vec::new();
    for now in [150, 700, 1200] {
        let open: Vec<_> = std::iter::from_fn(|| fetch(&mut scheduler, at(now))).collect();
        sizes.push(open.iter().map(|next| spans(next).len()).collect::<Vec<_>>());
        open.iter().for_each(|next| drop(arrive(&mut scheduler, next, at(now))));
    }
    assert_eq!(sizes, [vec![2], vec![4, 4], vec![8, 8]]);
}

#[test]
fn next_when_more_fetches_may_be_open_later_then_the_caller_is_woken() {
    let mut scheduler = scheduler(SPAN);
    scheduler.set_background(true);
    scheduler.expect_readers(at(0));
    assert!(fetch(&mut scheduler, at(200)).is_some());
    let Next::Wait(Some(wake)) = scheduler.next(at(200)) else { panic!("one is open") };
    assert!(wake <= at(700));
    assert_eq!(fetch(&mut scheduler, at(700)).unwrap().purpose, Purpose::Background);
}

#[test]
fn next_when_readers_leave_no_pause_then_one_background_fetch_in_a_while() {
    let mut scheduler = scheduler(SPAN);
    scheduler.set_background(true);
    scheduler.wait_for(&[(0, 20..21)], at(4000)).unwrap();
    fetch(&mut scheduler, at(4000)).unwrap();
    assert_eq!(fetch(&mut scheduler, at(4001)).unwrap().purpose, Purpose::Background);
    assert_eq!(fetch(&mut scheduler, at(4002)), None);
}

#[test]
fn background_when_a_file_is_in_use_then_the_rest_of_it_comes_first() {
    let mut scheduler = scheduler(SPAN);
    scheduler.set_background(true);
    scheduler.note_use(1, 30..32);
    let found = fetch(&mut scheduler, at(1000)).unwrap();
    assert_eq!((found.layer, spans(&found).start), (1, 30));
}

#[test]
fn failed_when_a_reader_waits_then_again_after_a_growing_pause() {
    let mut scheduler = scheduler(SPAN);
    let reader = scheduler.wait_for(&[(0, 5..6)], at(0)).unwrap();
    let mut now = 0;
    for pause in [100, 200, 400] {
        let found = fetch(&mut scheduler, at(now)).unwrap();
        scheduler.failed(found.number, at(now));
        assert_eq!(scheduler.next(at(now)), Next::Wait(Some(at(now + pause))));
        now += pause;
    }
    let found = fetch(&mut scheduler, at(now)).unwrap();
    assert_eq!(arrive(&mut scheduler, &found, at(now)), [reader]);
}

#[test]
fn expired_when_nothing_arrives_then_the_next_reader_starts_anew() {
    let mut scheduler = scheduler(SPAN);
    let reader = scheduler.wait_for(&[(0, 5..6)], at(0)).unwrap();
    let hanging = fetch(&mut scheduler, at(0)).unwrap();
    assert_eq!(scheduler.next_deadline(), Some(at(30_000)));
    assert!(scheduler.expired(at(29_999)).is_empty());
    assert_eq!(scheduler.expired(at(30_000)), [reader]);
    let second = scheduler.wait_for(&[(0, 5..6)], at(30_001)).unwrap();
    let found = fetch(&mut scheduler, at(30_001)).unwrap();
    assert_ne!(found.number, hanging.number);
    // The bytes of the first fetch are as good.
    assert_eq!(arrive(&mut scheduler, &hanging, at(30_002)), [second]);
}

#[test]
fn wait_for_when_the_fetch_hangs_then_another_one_is_made() {
    let mut scheduler = scheduler(SPAN);
    scheduler.wait_for(&[(0, 5..6)], at(0)).unwrap();
    fetch(&mut scheduler, at(0)).unwrap();
    scheduler.wait_for(&[(0, 5..6)], at(9_000)).unwrap();
    assert_eq!(fetch(&mut scheduler, at(9_000)), None);
    scheduler.wait_for(&[(0, 5..6)], at(11_000)).unwrap();
    assert_eq!(spans(&fetch(&mut scheduler, at(11_000)).unwrap()), 5..6);
}

#[test]
fn next_when_a_background_fetch_is_slow_then_its_reader_gets_another() {
    let mut scheduler = scheduler(SPAN);
    scheduler.set_background(true);
    let slow = fetch(&mut scheduler, at(1000)).unwrap();
    scheduler.wait_for(&[(0, 1..2)], at(1100)).unwrap();
    assert_eq!(scheduler.next(at(1100)), Next::Wait(Some(at(11_000))));
    let found = fetch(&mut scheduler, at(11_000)).unwrap();
    assert!(spans(&slow).contains(&1));
    assert_eq!((spans(&found), found.purpose), (1..2, Purpose::Demand));
}

#[test]
fn next_when_the_fetch_of_a_reader_hangs_then_another_one_is_made_once() {
    let mut scheduler = scheduler(SPAN);
    scheduler.wait_for(&[(0, 5..6)], at(0)).unwrap();
    fetch(&mut scheduler, at(0)).unwrap();
    assert_eq!(scheduler.next(at(1)), Next::Wait(Some(at(15_000))));
    assert_eq!(spans(&fetch(&mut scheduler, at(15_000)).unwrap()), 5..6);
    assert_eq!(scheduler.next(at(15_001)), Next::Wait(Some(at(30_000))));
}

#[test]
fn hold_background_when_held_then_readers_are_served() {
    let mut scheduler = scheduler(SPAN);
    scheduler.set_background(true);
    scheduler.hold_background(at(60_000));
    assert_eq!(scheduler.next(at(1000)), Next::Wait(Some(at(60_000))));
    scheduler.wait_for(&[(0, 5..6)], at(1000)).unwrap();
    assert_eq!(fetch(&mut scheduler, at(1000)).unwrap().purpose, Purpose::Demand);
}

#[test]
fn wait_for_when_others_have_just_given_up_then_it_gives_up_at_once() {
    let mut scheduler = scheduler(SPAN);
    let first = scheduler.wait_for(&[(0, 5..6)], at(0)).unwrap();
    assert_eq!(scheduler.expired(at(30_000)), [first]);
    let second = scheduler.wait_for(&[(0, 5..7)], at(30_001)).unwrap();
    assert_eq!(scheduler.expired(at(30_001)), [second]);
    let third = scheduler.wait_for(&[(0, 5..7)], at(30_101)).unwrap();
    assert!(scheduler.expired(at(60_100)).is_empty());
    assert_eq!(scheduler.expired(at(60_101)), [third]);
}

#[test]
fn mismatch_when_repeated_then_readers_give_up() {
    let mut scheduler = scheduler(SPAN);
    let reader = scheduler.wait_for(&[(0, 5..6)], at(0)).unwrap();
    let mut now = 0;
    let mut given_up = Vec::new();
    for _ in 0..3 {
        let found = fetch(&mut scheduler, at(now)).unwrap();
        scheduler.close(found.number, at(now));
        given_up = scheduler.mismatch(0, 5, found.number, at(now));
        now += 10_000;
    }
    assert_eq!(given_up, [reader]);
    assert_eq!(scheduler.waiting(), 0);
    scheduler.wait_for(&[(0, 5..6)], at(now)).unwrap();
    assert!(fetch(&mut scheduler, at(now)).is_some(), "the next reader tries again");
}

#[test]
fn lost_when_a_span_was_here_then_it_is_fetched_again() {
    let mut scheduler = scheduler(SPAN);
    (0..SPANS).for_each(|span| drop((scheduler.arrived(0, span), scheduler.arrived(1, span))));
    assert!(scheduler.is_complete());
    assert_eq!(scheduler.bytes_left(), 0);
    scheduler.lost(0, 3);
    assert!(!scheduler.is_complete());
    scheduler.set_background(true);
    assert_eq!(spans(&fetch(&mut scheduler, at(1000)).unwrap()), 3..4);
}

/// What may happen, in any order.
#[derive(Debug, Clone)]
enum Step {
    Want { layer: usize, first: u32, len: u32 },
    List { layer: usize, first: u32, len: u32 },
    Fetch,
    Arrive(usize),
    Fail(usize),
    Mismatch(usize),
    Pass(u64),
    Background(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..2_usize, 0..SPANS, 1..6_u32);
    prop_oneof![
        place().prop_map(|(layer, first, len)| Step::Want { layer, first, len }),
        place().prop_map(|(layer, first, len)| Step::List { layer, first, len }),
        Just(Step::Fetch),
        Just(Step::Fetch),
        any::<usize>().prop_map(Step::Arrive),
        any::<usize>().prop_map(Step::Arrive),
        any::<usize>().prop_map(Step::Fail),
        any::<usize>().prop_map(Step::Mismatch),
        (0..2000_u64).prop_map(Step::Pass),
        any::<bool>().prop_map(Step::Background),
    ]
}

/// The purposes of fetches of all the readers and lists, each of which arrives at once.
fn purposes(scheduler: &mut Scheduler, now: Duration) -> Vec<Purpose> {
    let mut found = Vec::new();
    while let Some(next) = fetch(scheduler, now) {
        found.push(next.purpose);
        arrive(scheduler, &next, now);
    }
    found
}

#[test]
fn next_when_a_program_reads_what_is_listed_then_the_list_is_fetched_at_once() {
    let mut scheduler = scheduler(SPAN);
    // Every other span, so that each is a fetch.
    scheduler.list((0..10).map(|span| (0, 2 * span..2 * span + 1)));
    for span in [18, 16, 31, 14, 12] {
        scheduler.wait_for(&[(0, span..span + 1)], at(0)).unwrap();
        let demand = fetch(&mut scheduler, at(0)).unwrap();
        assert_eq!(demand.purpose, Purpose::Demand);
        let list = fetch(&mut scheduler, at(0)).unwrap();
        assert_eq!(list.purpose, Purpose::List, "although a reader waits");
    }
}

#[test]
fn next_when_a_program_reads_other_spans_then_the_list_waits_until_it_is_quiet() {
    let mut scheduler = scheduler(SPAN);
    scheduler.wait_for(&[(1, 20..21)], at(0)).unwrap();
    assert_eq!(purposes(&mut scheduler, at(0)), [Purpose::Demand]);
    scheduler.list((0..10).map(|span| (0, 2 * span..2 * span + 1)));
    let mut open = Vec::new();
    // Backwards, since fetches for reads in order become longer.
    for (span, expected) in
        [39, 37, 35, 33, 31, 29].into_iter().zip([true, true, true, true, false, false])
    {
        scheduler.wait_for(&[(1, span..span + 1)], at(10)).unwrap();
        let demand = fetch(&mut scheduler, at(10)).unwrap();
        assert_eq!(demand.purpose, Purpose::Demand);
        let list = fetch(&mut scheduler, at(10));
        assert_eq!(list.is_some(), expected, "span {span}");
        open.extend(list);
        arrive(&mut scheduler, &demand, at(10));
    }
    for each in open {
        arrive(&mut scheduler, &each, at(11));
    }
    let Next::Wait(Some(wake)) = scheduler.next(at(11)) else { unreachable!("it waits") };
    assert!(at(11) < wake && wake <= at(1000));
    let list = fetch(&mut scheduler, wake).unwrap();
    assert_eq!(list.purpose, Purpose::List);
    assert_eq!(fetch(&mut scheduler, wake), None, "one at a time");
    arrive(&mut scheduler, &list, wake);
    // Whatever the program does, the rest of the list is fetched in the end.
    assert_eq!(purposes(&mut scheduler, wake), [Purpose::List; 5]);
}

#[test]
fn next_when_a_program_follows_the_list_again_then_it_is_fetched_at_once() {
    let mut scheduler = scheduler(SPAN);
    scheduler.list((0..20).map(|span| (0, span..span + 1)));
    for span in 20..26 {
        scheduler.wait_for(&[(1, span..span + 1)], at(0)).unwrap();
    }
    while let Some(next) = fetch(&mut scheduler, at(0)) {
        assert_eq!(next.purpose, Purpose::Demand);
        arrive(&mut scheduler, &next, at(0));
    }
    for span in [5, 8, 11, 14] {
        scheduler.wait_for(&[(0, span..span + 1)], at(0)).unwrap();
    }
    let found = purposes(&mut scheduler, at(0));
    assert!(found.contains(&Purpose::List), "{found:?}");
}

#[test]
fn next_when_everything_is_listed_then_one_connection_is_free_for_a_reader() {
    let mut scheduler = scheduler(SPAN);
    scheduler.list((0..20).map(|span| (0, 2 * span..2 * span + 1)));
    let mut open: Vec<Fetch> = std::iter::from_fn(|| fetch(&mut scheduler, at(0))).collect();
    assert_eq!(open.len(), AHEAD);
    assert_eq!(scheduler.next(at(0)), Next::Wait(None), "something has to arrive first");
    for span in [11, 13, 15] {
        scheduler.wait_for(&[(1, span..span + 1)], at(1)).unwrap();
        let demand = fetch(&mut scheduler, at(1)).unwrap();
        assert_eq!((demand.purpose, spans(&demand).start), (Purpose::Demand, span));
        assert_eq!(fetch(&mut scheduler, at(1)), None);
        arrive(&mut scheduler, &demand, at(2));
    }
    arrive(&mut scheduler, &open.remove(0), at(3));
    assert_eq!(fetch(&mut scheduler, at(3)).map(|next| next.purpose), Some(Purpose::List));
    assert_eq!(fetch(&mut scheduler, at(3)), None);
}

/// The spans of a layer in a seek table, whose chunks have not arrived.
fn seek_table() -> Table {
    let (layer, _) = seek::layer(20, &mut |below| below / 2);
    let chunk = |chunk| layer.chunk_range(chunk).expect("a chunk");
    let chunks = (0..layer.chunk_count()).map(chunk);
    let chunks = chunks.map(|range| range.start as u64..range.end as u64).collect();
    Table::Seek { spans: Arc::new(layer.spans()), chunks }
}

#[test]
fn next_when_nothing_more_is_fetched_ahead_then_chunks_for_readers_are() {
    let limits = Limits { ahead: 1, ..Limits::default() };
    let mut scheduler = Scheduler::new(vec![seek_table(), seek_table()], limits);
    scheduler.list([(0, 0..1), (1, 0..1)]);
    let first = fetch(&mut scheduler, at(0)).unwrap();
    assert_eq!((first.layer, &first.what), (0, &What::Chunks(0..1)));
    assert_eq!(fetch(&mut scheduler, at(0)), None);
    scheduler.wait_for(&[(1, 0..1)], at(0)).unwrap();
    let chunk = fetch(&mut scheduler, at(0)).unwrap();
    assert_eq!((chunk.layer, &chunk.what), (1, &What::Chunks(0..1)));
    let demand = fetch(&mut scheduler, at(0)).unwrap();
    assert_eq!((demand.layer, spans(&demand)), (1, 0..1));
    assert_eq!(fetch(&mut scheduler, at(0)), None);
}

#[test]
fn list_when_spans_are_named_again_then_each_is_fetched_once_in_the_order_of_the_list() {
    let mut scheduler = scheduler(SPAN);
    scheduler.arrived(0, 5);
    let named = [(0, 8..10), (0, 4..12), (0, 0..u32::MAX), (7, 0..9), (1, 39..60), (0, 8..9)];
    let bytes = scheduler.list(named);
    let (mut found, mut fetched) = (Vec::new(), 0);
    while let Some(next) = fetch(&mut scheduler, at(0)) {
        found.push((next.layer, spans(&next)));
        fetched += next.range.end - next.range.start;
        arrive(&mut scheduler, &next, at(0));
    }
    assert_eq!(bytes, fetched);
    let expected =
        [(0, 8..10), (0, 4..5), (0, 6..8), (0, 10..12), (0, 0..4), (0, 12..40), (1, 39..40)];
    assert_eq!(found, expected);
}

#[test]
fn list_when_a_million_ranges_name_everything_then_it_takes_no_time_for_each() {
    let mut scheduler = Scheduler::new(vec![table(4000)], Limits::default());
    // Checked span by span, these are 4 billion steps, which take at least 10 s.
    let begun = std::time::Instant::now();
    scheduler.list(std::iter::repeat_n((0, 0..4000), 1_000_000));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens, each reader gets exactly one outcome: its spans arrive, it gives up, or its
    /// time is up; and in the end everything arrives.
    #[test]
    fn scheduler_when_anything_happens_then_every_reader_is_answered_once(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut scheduler = scheduler(2 * SPAN);
        let (mut open, mut readers): (Vec<Fetch>, HashSet<u64>) = (Vec::new(), HashSet::new());
        let mut now = 0;
        let answered = |readers: &mut HashSet<u64>, numbers: Vec<u64>| {
            numbers.into_iter().for_each(|number| assert!(readers.remove(&number), "once"));
        };
        for step in steps {
            match step {
                Step::Want { layer, first, len } => {
                    let wanted = first..(first + len).min(SPANS);
                    readers.extend(scheduler.wait_for(&[(layer, wanted)], at(now)));
                }
                Step::List { layer, first, len } => {
                    scheduler.list([(layer, first..(first + len).min(SPANS))]);
                }
                Step::Fetch => open.extend(fetch(&mut scheduler, at(now))),
                Step::Arrive(which) if !open.is_empty() => {
                    let found = open.swap_remove(which % open.len());
                    answered(&mut readers, arrive(&mut scheduler, &found, at(now)));
                }
                Step::Fail(which) if !open.is_empty() => {
                    scheduler.failed(open.swap_remove(which % open.len()).number, at(now));
                }
                Step::Mismatch(which) if !open.is_empty() => {
                    let found = open.swap_remove(which % open.len());
                    scheduler.close(found.number, at(now));
                    for span in spans(&found) {
                        let given_up = scheduler.mismatch(found.layer, span, found.number, at(now));
                        answered(&mut readers, given_up);
                    }
                }
                Step::Pass(milliseconds) => {
                    now += milliseconds;
                    answered(&mut readers, scheduler.expired(at(now)));
                }
                Step::Background(on) => scheduler.set_background(on),
                Step::Arrive(_) | Step::Fail(_) | Step::Mismatch(_) => {}
            }
            prop_assert_eq!(scheduler.waiting(), readers.len());
        }
        scheduler.set_background(true);
        for found in open.drain(..) {
            answered(&mut readers, arrive(&mut scheduler, &found, at(now)));
        }
        for _ in 0..10_000 {
            if scheduler.is_complete() {
                break;
            }
            now += 10_000;
            while let Some(found) = fetch(&mut scheduler, at(now)) {
                answered(&mut readers, arrive(&mut scheduler, &found, at(now)));
            }
            answered(&mut readers, scheduler.expired(at(now)));
        }
        prop_assert!(scheduler.is_complete());
        prop_assert!(readers.is_empty());
        prop_assert_eq!(scheduler.bytes_left(), 0);
    }
}
