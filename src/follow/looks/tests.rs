//! When looks come, and what is made of them, on a paused clock.

use super::*;

fn at(offset: u64) -> Position {
    let at = crate::tail::position::FileOffset { file: "bin.000001".into(), offset };
    Position { at, began: None, gtid_set: None }
}

fn one(key: Key) -> Wanted {
    Wanted { keys: vec![key], are_certain: true, may_have_more: false }
}

/// A look on an idle server: the binlog has been read.
fn look(looks: &mut Looks, known: impl Fn(Key) -> bool) -> Outcome {
    looks.seen(&known, |_| false, None);
    looks.looked(Instant::now(), true);
    looks.settled(known)
}

/// Looks whenever one is due; returns how long after `start` each was.
async fn look_on(looks: &mut Looks, start: Instant, known: impl Fn(Key) -> bool) -> Vec<u128> {
    let mut times = Vec::new();
    while let Some(due) = looks.due(false) {
        tokio::time::sleep_until(due).await;
        look(looks, &known);
        times.push(start.elapsed().as_millis());
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_looked_for_until_its_key_is_seen() {
    let mut looks = Looks::default();
    looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
    let start = Instant::now();
    let seen_from = start + Duration::from_millis(20);
    let times = look_on(&mut looks, start, |key| key == 7 && Instant::now() >= seen_from).await;
    assert_eq!(times, [1, 6, 15, 35]);
    assert!(looks.hold().is_none());
}

#[tokio::test(start_paused = true)]
async fn one_with_unknown_keys_is_looked_for_during_a_second() {
    let mut looks = Looks::default();
    looks.ask(Reread::Statement, Wanted::default(), Expected::Nothing, at(4), 1000);
    let times = [1, 6, 15, 35, 70, 120, 300, 1000];
    assert_eq!(look_on(&mut looks, Instant::now(), |_| true).await, times);
}

#[tokio::test(start_paused = true)]
async fn rows_that_no_look_finds_are_lost_once() {
    for (expected, found, outcome) in [
        (Expected::Rows, false, Outcome { in_doubt: true, lost: 1, ..Outcome::default() }),
        (Expected::Rows, true, Outcome { in_doubt: true, ..Outcome::default() }),
        (Expected::Perhaps, false, Outcome { in_doubt: true, found_nothing: 1, ..Outcome::default() }),
        (Expected::Nothing, false, Outcome::default()),
    ] {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, Wanted::default(), expected, at(4), 1000);
        let reach = if expected == Expected::Nothing { Reach::Near } else { Reach::All };
        assert_eq!(looks.reach(Instant::now()), Reach::Most);
        assert_eq!(looks.reach(Instant::now() + Duration::from_secs(1)), reach);
        let mut outcomes = Vec::new();
        while let Some(due) = looks.due(false) {
            tokio::time::sleep_until(due).await;
            if found {
                looks.found([7].into_iter());
            }
            outcomes.push(look(&mut looks, |_| false));
        }
        assert_eq!(outcomes.pop(), Some(outcome));
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::default()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_statements_on_other_tables_cost_few_looks() {
    let mut looks = Looks::default();
    let start = Instant::now();
    let mut count = 0;
    for _ in 0..1000 {
        looks.ask(Reread::OtherStatement, Wanted::default(), Expected::Nothing, at(4), 1000);
        tokio::time::advance(Duration::from_millis(1)).await;
        if looks.due(false).is_some_and(|due| due <= Instant::now()) {
            look(&mut looks, |_| false);
            count += 1;
        }
    }
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert!((5..=20).contains(&count), "{count}");
    assert!(looks.hold().is_none(), "they hold no position");
}

#[tokio::test(start_paused = true)]
async fn looks_that_reach_far_are_few_however_many_wait_for_them() {
    let mut looks = Looks::default();
    let start = Instant::now();
    let (mut asked, mut far) = (0, 0);
    loop {
        if start.elapsed() < Duration::from_secs(3) {
            looks.ask(Reread::Statement, Wanted::default(), Expected::Perhaps, at(4), 1000);
            asked += 1;
        }
        tokio::time::advance(Duration::from_millis(10)).await;
        let Some(due) = looks.due(false) else { break };
        if due <= Instant::now() {
            far += usize::from(looks.reach(Instant::now()) > Reach::Most);
            look(&mut looks, |_| false);
        }
    }
    assert!(asked == 300 && (8..=15).contains(&far), "{far} of {asked}");
    assert!(start.elapsed() < Duration::from_millis(4500), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_was_told_by_its_key_is_complete_with_the_look_behind() {
    let mut looks = Looks::default();
    looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
    tokio::time::advance(Duration::from_millis(2)).await;
    looks.looked_by_key(Instant::now());
    looks.seen(|key| key == 7, |_| false, None);
    assert!(looks.due(true).is_none() && !looks.has_looked_for_all() && !looks.is_to_settle());
    assert!(looks.due(false).is_some_and(|due| due <= Instant::now() + APART_OURS));
    looks.looked(Instant::now(), true);
    assert!(looks.is_to_settle() && looks.has_looked_for_all() && looks.hold().is_some());
    assert_eq!(looks.settled(|_| true), Outcome::default());
    assert!(looks.hold().is_none() && looks.due(false).is_none());
}

#[tokio::test(start_paused = true)]
async fn one_whose_keys_the_last_look_saw_waits_for_nothing_but_holds_the_position() {
    let mut looks = Looks::default();
    looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
    looks.ask(Reread::Statement, one(8), Expected::Nothing, at(8), 1000);
    looks.looked(Instant::now(), true);
    looks.seen(|key| key < 9, |key| key < 9, None);
    assert_eq!(looks.waiting.len(), 1);
    assert_eq!(looks.hold().map(|(position, _)| position.at.offset), Some(4));
    looks.told_all_seen(|_| true);
    assert!(!looks.give_up(), "that look has both");
}

#[tokio::test(start_paused = true)]
async fn a_statement_of_one_row_is_whole_when_that_was_told() {
    for may_have_more in [false, true] {
        let mut looks = Looks::default();
        let wanted = Wanted { may_have_more, ..one(7) };
        looks.ask(Reread::Statement, wanted, Expected::Nothing, at(4), 1000);
        looks.seen(|_| true, |_| false, None);
        assert_eq!(looks.give_up(), may_have_more, "no look saw what else there may be");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_told_whole_stays_so_whatever_becomes_of_the_next_look() {
    for is_settled in [true, false] {
        let mut looks = Looks::default();
        looks.ask(Reread::Altered, one(7), Expected::Perhaps, at(4), 1000);
        if is_settled {
            look(&mut looks, |_| true);
        }
        looks.seen(|_| true, |_| false, None);
        looks.looked(Instant::now(), true);
        looks.look_again(); // of the next table, for instance
        assert_eq!(looks.give_up(), !is_settled);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_found_for_unknown_keys_is_all_when_a_server_would_have_shown_more() {
    for (is_found, looked_for, is_in_vain) in [(true, 300, false), (true, 120, true), (false, 300, true)] {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, Wanted::default(), Expected::Rows, at(4), 1000);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(looked_for) {
            tokio::time::sleep_until(looks.due(false).unwrap()).await;
            look(&mut looks, |_| true);
            if is_found {
                looks.found([9].into_iter());
            }
        }
        assert_eq!(looks.give_up(), is_in_vain, "found: {is_found}, for {looked_for} ms");
    }
}

fn several(key: Key) -> Wanted {
    Wanted { may_have_more: true, ..one(key) }
}

fn several_of_unknown_keys() -> Wanted {
    Wanted { may_have_more: true, ..Wanted::default() }
}

#[tokio::test(start_paused = true)]
async fn what_has_more_rows_may_lose_some_by_what_stands_before_the_look_that_saw_it() {
    let place = |offset| at(offset).at;
    let mut looks = Looks::default();
    looks.ask(Reread::Statement, one(6), Expected::Nothing, at(2), 1000);
    looks.deleted(Some(&place(3)));
    assert_eq!(look(&mut looks, |_| true), Outcome::default(), "it had one row alone");
    for (deleted_at, may_have_lost) in [(place(9), true), (place(20), true), (place(21), false)] {
        looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
        looks.ask(Reread::Statement, several(8), Expected::Nothing, at(6), 1000);
        if deleted_at == place(9) {
            looks.deleted(Some(&deleted_at));
        }
        looks.looked(Instant::now(), true);
        looks.seen(|_| true, |_| true, Some(&place(20)));
        if deleted_at != place(9) {
            looks.deleted(Some(&deleted_at));
        }
        assert_eq!(looks.settled(|_| true).may_have_lost, may_have_lost, "{deleted_at}");
        looks.deleted(None);
        assert_eq!(looks.settled(|_| true), Outcome::default(), "it is said once");
    }
    looks.ask(Reread::Statement, several(9), Expected::Nothing, at(6), 1000);
    looks.deleted(Some(&place(30)));
    assert!(looks.give_up());
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_perhaps_deleted_is_not_forgotten_over_one_that_was_found() {
    for (is_deleted, has_come) in [(true, false), (true, true), (false, false)] {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
        if is_deleted {
            looks.deleted(Some(&at(6).at));
        }
        looks.found([9].into_iter());
        let mut may_have_lost = false;
        while let Some(due) = looks.due(false) {
            tokio::time::sleep_until(due).await;
            may_have_lost |= look(&mut looks, |_| has_come).may_have_lost;
        }
        assert_eq!(may_have_lost, is_deleted && !has_come);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_found_near_the_greatest_key_is_all_once_a_look_left_out_nothing() {
    for saw_all in [false, true] {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, several_of_unknown_keys(), Expected::Rows, at(4), 1000);
        looks.looked(Instant::now(), saw_all);
        looks.found([5001].into_iter());
        looks.settled(|_| true);
        looks.deleted(Some(&at(8).at));
        assert_eq!(looks.may_have_lost(), !saw_all);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_as_one_with_another_or_in_another_may_have_more_rows_than_that() {
    let mut at_once = Looks::default();
    at_once.ask(Reread::Statement, Wanted::default(), Expected::Perhaps, at(4), 1000);
    at_once.ask(Reread::Statement, several_of_unknown_keys(), Expected::Perhaps, at(5), 1000);
    let mut merged = Looks::default();
    for key in 0..=WAITING as Key {
        merged.ask(Reread::Statement, one(key), Expected::Nothing, at(5), 1000);
    }
    for (mut looks, waiting) in [(at_once, 1), (merged, WAITING)] {
        assert_eq!(looks.waiting.len(), waiting);
        looks.deleted(Some(&at(8).at));
        looks.found([5001].into_iter());
        assert!(looks.may_have_lost());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_behind_a_look_that_was_in_vain_may_be_lost() {
    let mut looks = Looks::default();
    looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
    looks.ask(Reread::Statement, several(8), Expected::Nothing, at(6), 1000);
    looks.looked(Instant::now(), true);
    looks.seen(|key| key < 9, |_| true, Some(&at(20).at));
    looks.look_again();
    looks.deleted(Some(&at(30).at));
    assert!(look(&mut looks, |key| key < 9).may_have_lost);
}

/// Its look saw the table emptied, and is in vain when the binlog says so.
#[tokio::test(start_paused = true)]
async fn what_has_more_rows_does_not_become_whole_by_another_that_holds_for_it() {
    for (why, expected) in [(Reread::Altered, Expected::Perhaps), (Reread::Statement, Expected::Nothing)] {
        let mut looks = Looks::default();
        looks.ask(why, one(7), expected, at(4), 1000);
        looks.looked_by_key(Instant::now());
        looks.ask(Reread::Statement, several(8), Expected::Nothing, at(6), 1000);
        looks.seen(|key| key < 9, |_| false, None);
        looks.looked(Instant::now(), true);
        looks.seen(|key| key < 9, |_| false, Some(&at(20).at));
        looks.look_again();
        assert!(looks.give_up(), "{why:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_wait_in_is_not_whole_when_its_own_rows_came() {
    for is_deleted in [true, false] {
        let mut looks = Looks::default();
        looks.ask(Reread::Altered, one(0), Expected::Perhaps, at(4), 1000);
        look(&mut looks, |key| key == 0);
        for key in 1..=WAITING as Key {
            looks.ask(Reread::Statement, several(10 * key), Expected::Nothing, at(5), 1000);
        }
        // All but the one that waits in the first come.
        looks.looked(Instant::now(), true);
        looks.seen(|key| key != 10, |key| key != 10, Some(&at(20).at));
        if is_deleted {
            looks.deleted(Some(&at(30).at));
            assert!(looks.may_have_lost());
        } else {
            looks.settled(|key| key != 10);
            assert!(looks.give_up());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_whole_loses_nothing_on_another_server() {
    let mut looks = Looks::default();
    looks.ask(Reread::Statement, several(7), Expected::Perhaps, at(4), 1000);
    looks.looked_by_key(Instant::now());
    looks.seen(|_| true, |_| false, None);
    looks.looked(Instant::now(), true);
    looks.look_ends_before(&at(20_000).at);
    looks.settled(|_| true);
    looks.look_again();
    looks.forget_places();
    looks.deleted(Some(&at(500).at));
    assert!(!looks.may_have_lost() && !looks.give_up());
}

#[tokio::test(start_paused = true)]
async fn what_makes_one_whole_is_to_be_settled() {
    for (saw_all, is_whole) in [(true, true), (false, false)] {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, several(7), Expected::Rows, at(4), 1000);
        looks.looked_by_key(Instant::now());
        looks.seen(|key| key == 7, |_| false, None);
        looks.found([9].into_iter());
        looks.looked(Instant::now(), saw_all);
        assert_eq!(looks.is_to_settle(), is_whole, "other rows of it may be far below");
        looks.settled(|key| key == 7);
        assert_eq!(looks.give_up(), !is_whole);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_not_settled_holds_the_position_for_a_minute() {
    let mut looks = Looks::default();
    looks.ask(Reread::Statement, Wanted::default(), Expected::Nothing, at(4), 1000);
    looks.looked(Instant::now(), true);
    for key in 0..120 {
        assert_eq!(looks.hold().is_some(), key < 60);
        looks.told([key].into_iter());
        looks.passed();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(looks.told.is_empty());
    // The same where others come all the time: as much is remembered as a restart needs.
    for key in 0..1000 {
        looks.ask(Reread::Statement, Wanted::default(), Expected::Nothing, at(8), 1000);
        looks.told([key].into_iter());
        looks.passed();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!((59..=61).contains(&looks.told.len()), "{}", looks.told.len());
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_are_bounded_and_the_oldest_holds_for_all() {
    let mut looks = Looks::default();
    for key in 0..5000 {
        looks.ask(Reread::Statement, one(key), Expected::Nothing, at(key as u64), 1000);
    }
    assert_eq!((looks.waiting.len(), looks.least_key()), (WAITING, Some(0)));
    assert_eq!(looks.hold().map(|(position, _)| position.at.offset), Some(0));
    looks.seen(|_| true, |_| true, None);
    looks.looked(Instant::now(), true);
    looks.settled(|_| true);
    assert!(looks.hold().is_some(), "for those that are forgotten it is looked to the end");
}

#[tokio::test(start_paused = true)]
async fn a_restart_begins_before_the_oldest_that_waits_and_tells_nothing_twice() {
    let mut looks = Looks::default();
    looks.told([1].into_iter());
    looks.ask(Reread::Statement, one(5), Expected::Nothing, at(100), 1000);
    looks.passed();
    looks.told([2].into_iter());
    looks.ask(Reread::Statement, one(6), Expected::Nothing, at(200), 1000);
    looks.passed();
    looks.told([3].into_iter());
    let (position, told) = looks.hold().unwrap();
    assert_eq!((position.at.offset, told.collect::<Vec<_>>()), (100, vec![2, 3]));
    tokio::time::advance(Duration::from_millis(2)).await;
    look(&mut looks, |key| key == 5);
    let (position, told) = looks.hold().unwrap();
    assert_eq!((position.at.offset, told.collect::<Vec<_>>()), (200, vec![2, 3]));
}
