//! What the feed promises, claim by claim. [`model`] checks the whole by random histories.

mod model;

use std::sync::Arc;

use futures_util::future::FutureExt;
use tokio::sync::mpsc;

use super::{history::HistoryRequest, *};

fn row(key: Key) -> EncodedRow {
    let json = format!("{{\"vid\":{key}}}");
    let values = Box::new([(7, json.len() as u32 - 1)]);
    EncodedRow { key, json: json.into_bytes(), values, columns: Arc::new(["vid".into()]), replaced: 0 }
}

fn id(epoch: Epoch, key: Key) -> EventId {
    EventId { epoch, key }
}

fn feed(limits: Limits) -> (Feed, mpsc::Receiver<HistoryRequest>) {
    let (history, requests) = History::channel();
    (Feed::new(limits, history), requests)
}

fn now<F: Future>(future: F) -> Option<F::Output> {
    future.now_or_never()
}

fn after(feed: &Feed, cursor: &str) -> Subscriber {
    now(feed.subscribe(Start::After(cursor.parse().unwrap()), |_| true)).unwrap()
}

fn keys(next: Option<Result<Next, HistoryUnavailable>>) -> Vec<Key> {
    match next {
        Some(Ok(Next::Rows(rows))) => rows.iter().map(|row| row.id().key).collect(),
        other => panic!("rows, not {other:?}"),
    }
}

#[test]
fn no_cursor_is_looked_up_before_the_feed_is_ready() {
    let (feed, _requests) = feed(Limits::default());
    let mut early = Box::pin(feed.subscribe(Start::After("1-2".parse().unwrap()), |_| true));
    assert!(now(early.as_mut()).is_none());
    // Read again after a kill: the id that the client holds was not in the checkpoint yet.
    feed.publish(1, None, vec![row(1), row(2), row(3)]);
    assert!(now(early.as_mut()).is_none());
    feed.set_ready();
    let mut early = now(early).unwrap();
    assert_eq!(keys(now(early.next(10))), [3]);
}

#[test]
fn the_rows_of_a_transaction_become_visible_together() {
    let (feed, _requests) = feed(Limits::default());
    feed.set_ready();
    let mut reader = now(feed.subscribe(Start::Now, |_| true)).unwrap();
    feed.publish(1, None, vec![row(2), row(1), row(3)]);
    assert_eq!(keys(now(reader.next(10))), [2, 1, 3]);
    assert!(now(reader.next(10)).is_none());
    assert_eq!(reader.cursor(), Some(Cursor::Id(id(1, 3))));
}

#[test]
fn a_row_committed_late_comes_to_a_client_that_has_a_greater_key() {
    let (feed, _requests) = feed(Limits::default());
    feed.set_ready();
    feed.publish(1, None, vec![row(6)]);
    feed.publish(1, None, vec![row(5)]);
    assert_eq!(keys(now(after(&feed, "1-6").next(10))), [5]);
    assert!(now(after(&feed, "1-5").next(10)).is_none());
}

#[test]
fn a_key_that_comes_again_makes_no_client_miss_a_row() {
    let (feed, _requests) = feed(Limits { rows: 4, ..Limits::default() });
    feed.set_ready();
    feed.publish(1, None, vec![row(1), row(2), row(1), row(3)]);
    assert_eq!(keys(now(after(&feed, "1-1").next(10))), [2, 1, 3]);
    // Also when the first of them has left the ring.
    feed.publish(1, None, vec![row(4)]);
    assert_eq!(keys(now(after(&feed, "1-1").next(10))), [2, 1, 3, 4]);
    feed.publish(1, None, vec![row(5), row(6), row(7), row(8)]);
    assert_eq!(feed.state().oldest, Some(id(1, 5)));
}

#[test]
fn a_client_that_has_the_row_that_came_again_goes_on_behind_it() {
    let (feed, _requests) = feed(Limits::default());
    feed.set_ready();
    feed.publish(1, None, vec![row(1), row(2), row(1)]);
    let mut reader = after(&feed, "1-1");
    assert_eq!(keys(now(reader.next(10))), [2, 1]);
    let cursor = reader.cursor().unwrap().to_string();
    let head = now(feed.subscribe(Start::Now, |_| true)).unwrap().cursor().unwrap();
    assert_eq!(head.to_string(), cursor);
    feed.publish(1, None, vec![row(3)]);
    assert_eq!(keys(now(after(&feed, &cursor).next(10))), [3]);
    // A number of another process, or of a row with another id, says nothing.
    let (_, number) = cursor.split_once('@').unwrap();
    assert_eq!(keys(now(after(&feed, "1-1@7").next(10))), [2, 1, 3]);
    assert_eq!(keys(now(after(&feed, &format!("1-2@{number}")).next(10))), [1, 3]);
}

#[test]
fn a_key_that_came_before_all_that_the_ring_holds_makes_no_client_miss_a_row() {
    let (feed, _requests) = feed(Limits { rows: 2, ..Limits::default() });
    feed.set_ready();
    feed.publish(1, None, vec![row(1), row(2), row(3)]);
    let mut reader = now(feed.subscribe(Start::Now, |_| true)).unwrap();
    feed.publish_some_again(1, None, vec![row(1)], |key| key == 1);
    assert_eq!(keys(now(reader.next(10))), [1]);
    // Who has the one of long ago must be told that something lies between.
    assert!(matches!(now(after(&feed, "1-1").next(10)), Some(Ok(Next::Gap(_)))));
    let cursor = reader.cursor().unwrap().to_string();
    feed.publish(1, None, vec![row(4)]);
    assert_eq!(keys(now(after(&feed, &cursor).next(10))), [4]);
}

#[test]
fn the_head_of_an_empty_feed_is_where_its_epoch_begins() {
    let (feed, _requests) = feed(Limits::default());
    feed.set_ready();
    assert_eq!(feed.head(), id(1, 0));
    assert_eq!(feed.state().oldest, None);
    feed.begin_epoch(2);
    let mut reader = after(&feed, "2-0");
    assert!(now(reader.next(1)).is_none());
    feed.publish(2, None, vec![row(-4)]);
    assert_eq!(keys(now(reader.next(1))), [-4]);
    assert_eq!(keys(now(after(&feed, "2-0").next(1))), [-4]);
    assert_eq!(keys(now(after(&feed, "0").next(1))), [-4]);
}

#[test]
fn older_rows_alone_make_a_head_that_is_a_cursor() {
    let (feed, mut requests) = feed(Limits::default());
    feed.mark_older(300);
    feed.set_ready();
    assert_eq!(feed.head(), id(1, 300));
    let mut reader = after(&feed, "1-300");
    assert!(now(reader.next(1)).is_none());
    assert!(requests.try_recv().is_err(), "there is nothing to read");
    feed.publish(1, None, vec![row(301)]);
    assert_eq!(keys(now(reader.next(1))), [301]);
}

#[test]
fn an_old_epoch_that_the_ring_holds_goes_on_exactly() {
    let (feed, _requests) = feed(Limits::default());
    feed.set_ready();
    feed.publish(1, None, vec![row(7), row(8)]);
    feed.publish(2, None, vec![row(1)]);
    assert_eq!(keys(now(after(&feed, "1-7").next(10))), [8, 1]);
    let gap = now(after(&feed, "1-5").next(10));
    assert!(matches!(gap, Some(Ok(Next::Gap(gap))) if gap.resumes_at == id(1, 7)));
}

#[test]
fn an_old_epoch_s_id_above_all_that_the_ring_has_of_it_goes_on_with_the_next_epoch() {
    let (feed, _requests) = feed(Limits::default());
    feed.publish(1, None, vec![row(7), row(8)]);
    feed.begin_epoch(2);
    feed.mark_older(8);
    feed.publish(2, None, vec![row(9), row(10)]);
    feed.set_ready();
    let mut reader = after(&feed, "1-10");
    let gap = now(reader.next(10));
    assert!(matches!(gap, Some(Ok(Next::Gap(gap))) if gap.resumes_at == id(2, 9)));
    assert_eq!(keys(now(reader.next(10))), [9, 10]);
    // One that has only what both epochs share goes on without a gap.
    assert_eq!(keys(now(after(&feed, "1-8").next(10))), [9, 10]);
}

#[test]
fn an_id_below_a_new_epoch_s_first_row_does_not_lead_back_to_the_epoch_before() {
    let (feed, mut requests) = feed(Limits::default());
    feed.publish(1, None, vec![row(7), row(8)]);
    feed.begin_epoch(2);
    feed.mark_older(8);
    feed.set_ready();
    assert_eq!(feed.head(), id(2, 8));
    let mut reader = after(&feed, "2-8");
    assert!(now(reader.next(10)).is_none());
    feed.publish(2, None, vec![row(9)]);
    assert_eq!(keys(now(reader.next(10))), [9]);
    assert_eq!(keys(now(after(&feed, "2-8").next(10))), [9]);
    assert!(requests.try_recv().is_err(), "there is nothing to read");
}

#[test]
fn a_marked_gap_is_told_to_those_who_cross_it_only() {
    let (feed, _requests) = feed(Limits::default());
    feed.set_ready();
    feed.publish(1, None, vec![row(1)]);
    let mut before = now(feed.subscribe(Start::Now, |_| true)).unwrap();
    feed.mark_gap("the binlog was purged".into());
    let mut behind = now(feed.subscribe(Start::Now, |_| true)).unwrap();
    let Some(Ok(Next::Gap(gap))) = now(before.next(1)) else { panic!("a gap") };
    assert_eq!(
        (gap.after, gap.resumes_at, &*gap.reason),
        (Some(id(1, 1)), id(1, 1), "the binlog was purged")
    );
    feed.publish(1, None, vec![row(9)]);
    assert_eq!(keys(now(before.next(1))), [9]);
    assert_eq!(keys(now(behind.next(1))), [9]);
    let Some(Ok(Next::Gap(gap))) = now(after(&feed, "1-1").next(1)) else { panic!("a gap") };
    assert_eq!(gap.resumes_at, id(1, 9));
}

#[test]
fn the_latest_rows_are_those_that_are_wanted() {
    let (feed, _requests) = feed(Limits::default());
    feed.set_ready();
    feed.publish(1, None, (1..=2_000).map(row).collect());
    let mut latest = now(feed.subscribe(Start::Latest(3), |row| row.id().key % 600 == 0)).unwrap();
    assert_eq!(keys(now(latest.next(1))), [600]);
    let mut all = now(feed.subscribe(Start::Latest(5_000), |_| true)).unwrap();
    assert_eq!(keys(now(all.next(1))), [1]);
    let mut none = now(feed.subscribe(Start::Latest(0), |_| true)).unwrap();
    assert!(now(none.next(1)).is_none());
}

#[test]
fn the_bytes_of_the_ring_are_bounded_too() {
    let (feed, _requests) = feed(Limits { bytes: 10_000, ..Limits::default() });
    feed.publish(1, None, (1..=1_000).map(row).collect());
    let state = feed.state();
    assert!(state.bytes <= 10_000 && state.rows > 10, "{state:?}");
    let long = EncodedRow { json: vec![b' '; 20_000], ..row(1_001) };
    feed.publish(1, None, vec![long]);
    assert_eq!((feed.state().rows, feed.head()), (1, id(1, 1_001)));
}

#[test]
fn a_question_to_the_table_outlives_the_wait_of_its_client() {
    let (feed, mut requests) = feed(Limits::default());
    feed.mark_older(5);
    feed.publish(1, None, vec![row(6)]);
    feed.set_ready();
    let mut reader = after(&feed, "1-3");
    assert!(now(reader.next(10)).is_none());
    assert!(now(reader.next(10)).is_none(), "the first wait was given up");
    let HistoryRequest { after, through, reply, .. } = requests.try_recv().unwrap();
    assert_eq!((after, through), (3, 5));
    reply.send(Ok(vec![row(4), row(5)])).unwrap();
    assert_eq!(keys(now(reader.next(10))), [4, 5]);
    assert_eq!(keys(now(reader.next(10))), [6]);
    assert!(requests.try_recv().is_err(), "one question was enough");
}

#[test]
fn large_rows_below_the_ring_come_in_small_answers_and_none_is_left_out() {
    let (feed, mut requests) = feed(Limits::default());
    feed.mark_older(5);
    feed.publish(1, None, vec![row(6)]);
    feed.set_ready();
    let mut reader = after(&feed, "1-1");
    // Key 5 was deleted.
    for (from, there, told) in [(1, vec![2, 3], vec![2, 3]), (3, vec![4], vec![4]), (4, vec![], vec![6])] {
        assert!(now(reader.next(10)).is_none());
        let request = requests.try_recv().unwrap();
        assert_eq!((request.after, request.through), (from, 5));
        request.reply.send(Ok(there.into_iter().map(row).collect())).unwrap();
        assert_eq!(keys(now(reader.next(10))), told);
    }
}

#[test]
fn too_many_rows_below_the_ring_become_one_gap() {
    let (feed, mut requests) = feed(Limits { resume_limit: 3, ..Limits::default() });
    feed.mark_older(100);
    feed.publish(1, None, vec![row(101)]);
    feed.set_ready();
    // Keys 10 to 100 may be four rows or ninety: it is asked, and three are not too many.
    for (there, told) in [(3, false), (4, true)] {
        let mut reader = after(&feed, "1-10");
        assert!(now(reader.next(10)).is_none());
        let request = requests.try_recv().unwrap();
        assert_eq!(request.limit, 4);
        request.reply.send(Ok((50..50 + there).map(row).collect())).unwrap();
        match now(reader.next(10)) {
            None => assert!(!told),
            Some(Ok(Next::Gap(gap))) => {
                assert!(told);
                assert_eq!((gap.after, gap.resumes_at), (Some(id(1, 10)), id(1, 101)));
                assert_eq!(keys(now(reader.next(10))), [101]);
            }
            other => panic!("{other:?}"),
        }
        while requests.try_recv().is_ok() {}
    }
}

#[test]
fn the_table_is_asked_for_few_rows_and_bytes_at_a_time() {
    let (feed, mut requests) = feed(Limits { resume_limit: 2_000, ..Limits::default() });
    feed.mark_older(100_000);
    feed.publish(1, None, vec![row(100_001)]);
    feed.set_ready();
    let mut near = after(&feed, "1-99000");
    assert!(now(near.next(usize::MAX)).is_none());
    let request = requests.try_recv().unwrap();
    assert!(request.limit <= 250 && request.max_bytes <= 256 << 10, "{request:?}");
    // Whether it is too much is counted, which reads for one client at a time.
    let mut far = after(&feed, "1-1");
    assert!(now(far.next(usize::MAX)).is_none());
    let request = requests.try_recv().unwrap();
    assert!(request.limit == 2_001 && request.max_bytes <= 64 << 20, "{request:?}");
}

#[test]
fn late_rows_far_apart_are_read_by_few_queries_at_a_time() {
    const LATE: Key = 1_000;
    let (feed, mut requests) = feed(Limits { rows: 1, resume_limit: 10_000, ..Limits::default() });
    let all = [1_000_000].into_iter().chain((1..=LATE).map(|late| 100 * late)).chain([1_000_001]);
    feed.publish(1, None, all.map(row).collect());
    feed.set_ready();
    let mut reader = after(&feed, "1-1000000");
    let (mut told, mut asked) = (Vec::new(), 0);
    while told.len() < LATE as usize {
        match now(reader.next(usize::MAX)) {
            None => {
                asked += 1;
                assert!(asked <= 33, "queries for one step");
                let request = requests.try_recv().unwrap();
                let there = (1..=LATE).map(|late| 100 * late);
                let there = there.filter(|key| request.after < *key && *key <= request.through);
                request.reply.send(Ok(there.map(row).collect())).unwrap();
            }
            next => {
                told.extend(keys(next));
                asked = 0;
            }
        }
    }
    assert!(told.iter().copied().eq((1..=LATE).map(|late| 100 * late)), "{told:?}");
}
