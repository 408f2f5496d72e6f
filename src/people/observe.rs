//! What becomes of each swipe as it comes: counted once, whatever screens there are; and the cards that
//! are nobody's, for a receptionist to choose from.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep},
};
use tracing::warn;

use super::{Card, Counts, Greeter, People, Unshown};
use crate::{
    feed::{Feed, HistoryUnavailable, Next, Row, Start},
    status::now_ms,
};

/// Cards that are remembered: as many as somebody would look through.
const REMEMBERED: usize = 50;

/// Rows that are taken from the feed in one step.
const BATCH: usize = 250;

/// How long to wait where older rows can't be read.
const PAUSE: Duration = Duration::from_secs(5);

/// How often to say in the log that swipes are old.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// A card that is nobody's, as a receptionist sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownCard {
    /// Stands for the card.
    pub handle: Box<str>,
    /// Masked.
    pub card: String,
    /// Where it was swiped last.
    pub door: String,
    /// When, as Unix milliseconds.
    pub seen_ms: u64,
    /// How often since it is remembered.
    pub times: u32,
}

/// The cards that were swiped last and are nobody's, in memory only; the latest first.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<(Card, UnknownCard)>>);

impl Recent {
    fn remember(&self, card: Card, seen: UnknownCard) {
        let mut recent = self.lock();
        let known = recent.iter().position(|(known, _)| *known == card).and_then(|at| recent.remove(at));
        let times = known.map_or(1, |(_, known)| known.times.saturating_add(1));
        recent.push_front((card, UnknownCard { times, ..seen }));
        recent.truncate(REMEMBERED);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Card, UnknownCard)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl People {
    /// Looks at each row that comes, until `stopped`.
    pub async fn observe(self: Arc<Self>, feed: Feed, mut stopped: watch::Receiver<bool>) {
        let observe = async {
            let mut subscriber = feed.subscribe(Start::Now, |_| true).await;
            let mut said = None;
            loop {
                match subscriber.next(BATCH).await {
                    Ok(Next::Rows(rows)) => rows.iter().for_each(|row| self.look_at(row, &mut said)),
                    // What was missed is not counted.
                    Ok(Next::Gap(_)) => {}
                    Err(HistoryUnavailable) => sleep(PAUSE).await,
                }
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = observe => {}
        }
    }

    /// The cards that were swiped last and are nobody's, the latest first.
    pub fn unknown_cards(&self) -> Vec<UnknownCard> {
        let roster = self.roster();
        let recent = self.recent.lock();
        let unknown = recent.iter().filter(|(card, _)| roster.by_card(card).is_none());
        unknown.map(|(_, seen)| seen.clone()).collect()
    }

    /// The card that a handle stands for.
    pub(super) fn unknown_card(&self, handle: &str) -> Option<Card> {
        let recent = self.recent.lock();
        recent.iter().find(|(_, seen)| *seen.handle == *handle).map(|(card, _)| card.clone())
    }

    fn look_at(&self, row: &Row, said: &mut Option<Instant>) {
        let greeter = self.greeter();
        let Some(card) = greeter.card(row) else { return };
        let now_ms = now_ms();
        let swipe = greeter.swipe(row);
        let Some(person) = self.roster().by_card(&card).cloned() else {
            if self.settings.remember_unknown {
                let handle = self.secret.reference(&card);
                let masked = card.mask();
                let seen = UnknownCard { handle, card: masked, door: swipe.door, seen_ms: now_ms, times: 1 };
                self.recent.remember(card, seen);
            }
            return;
        };
        if swipe.is_time_unreadable() {
            self.counts.unreadable_time.add(1);
        }
        let due = greeter.is_due(&person, &swipe, now_ms);
        let outcome = due.and_then(|()| greeter.age_ms(&swipe, now_ms));
        self.counts.count(outcome.err());
        if outcome == Err(Unshown::OldSwipe) && said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
            *said = Some(Instant::now());
            warn!(
                old_swipe = self.counts.old_swipe.get(),
                "committed now and made long ago: if this goes on, check --timezone and the controllers' clocks"
            );
        }
    }
}

impl Counts {
    fn count(&self, why_not: Option<Unshown>) {
        let counter = match why_not {
            None => &self.greetings,
            Some(Unshown::Ordinary | Unshown::OtherDoor) => return,
            Some(Unshown::OtherDay) => &self.other_day,
            Some(Unshown::OldCommit) => &self.old_commit,
            Some(Unshown::OldSwipe) => &self.old_swipe,
            Some(Unshown::UnknownAge) => &self.unknown_age,
        };
        counter.add(1);
    }

    /// Counts a greeting that one screen did not get, if it was fresh once.
    pub fn count_late(&self, greeter: &Greeter, row: &Row, why_not: Unshown) {
        if matches!(why_not, Unshown::OldCommit | Unshown::OldSwipe) && greeter.was_fresh(row) {
            self.late.add(1);
        }
    }
}
