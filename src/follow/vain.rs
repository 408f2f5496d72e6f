//! Starts that ended before anything had been read: whether to begin there once more. Does no I/O.

use std::time::Duration;

use tokio::time::Instant;

use crate::checkpoint::Checkpoint;

/// A process that ended so often in a row before it had read anything from a place, and never in good order,
/// does not begin there once more. So often, since one that is killed again and again by somebody must lose
/// nothing. What it was about to read may be what ends it: mysql_async 0.37 allocates
/// what the header of a compressed transaction claims, before anybody can look at it.
const STARTS: u32 = 8;

/// And for so long: whoever kills us faster than we can start is not what we read.
const LASTS: Duration = Duration::from_secs(120);

/// From one start to the next so much counts at most. Between them the machine's clock is all there is, and it may
/// be set: back, it only makes it last longer, and forth, it does not make up for the time.
const APART: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Vain {
    /// Starts that ended so, with this one.
    starts: u32,
    /// How long that went on before this start.
    before: Duration,
    began: Instant,
}

impl Default for Vain {
    /// There was none before this one.
    fn default() -> Self {
        Vain { starts: 0, before: Duration::ZERO, began: Instant::now() }
    }
}

impl Vain {
    /// After a start that left this checkpoint, and it is `now_ms` by the machine's clock.
    pub(super) fn after(checkpoint: &Checkpoint, now_ms: u64) -> Vain {
        let ms = Duration::from_millis;
        let before = checkpoint.vain_since_ms.map_or(Duration::ZERO, |since_ms| {
            let apart = ms(now_ms.saturating_sub(checkpoint.saved_at_ms)).min(APART);
            ms(checkpoint.saved_at_ms.saturating_sub(since_ms)).saturating_add(apart)
        });
        Vain { starts: checkpoint.starts_in_vain.saturating_add(1), before, began: Instant::now() }
    }

    /// Something has been read.
    pub(super) fn over(&mut self) {
        self.starts = 0;
    }

    /// Starts that ended so, with this one; 0 once something has been read.
    pub(super) fn starts(&self) -> u32 {
        self.starts
    }

    /// Since when, for a checkpoint that is written at `now_ms`.
    pub(super) fn since_ms(&self, now_ms: u64) -> Option<u64> {
        let lasts_ms = u64::try_from(self.lasts().as_millis()).unwrap_or(u64::MAX);
        (self.starts > 0).then(|| now_ms.saturating_sub(lasts_ms))
    }

    /// Whether it is no use to begin at the position once more.
    pub(super) fn is_enough(&self) -> bool {
        self.starts >= STARTS && self.lasts() >= LASTS
    }

    fn lasts(&self) -> Duration {
        self.before.saturating_add(self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::sample;

    const START_MS: u64 = 1_700_000_000_000;

    fn checkpoint(vain: &Vain, now_ms: u64) -> Checkpoint {
        Checkpoint {
            saved_at_ms: now_ms,
            at_rest: false,
            starts_in_vain: vain.starts(),
            vain_since_ms: vain.since_ms(now_ms),
            ..sample(1)
        }
    }

    /// Starts so often, so long after one another, while the clock goes `set_ms` ahead of the time behind the fourth.
    /// Returns how many starts that were, and how long they lasted, when it was enough.
    async fn enough_after(apart: Duration, set_ms: i64, most: u32) -> Option<(u32, Duration)> {
        let began = Instant::now();
        let now_ms = |start| {
            let passed = i64::try_from(began.elapsed().as_millis()).unwrap();
            START_MS.saturating_add_signed(passed + if start > 4 { set_ms } else { 0 })
        };
        let mut vain = Vain::default();
        for start in 1..=most {
            if vain.is_enough() {
                return Some((start, began.elapsed()));
            }
            let left = checkpoint(&vain, now_ms(start));
            tokio::time::advance(apart).await;
            vain = Vain::after(&left, now_ms(start + 1));
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn two_minutes_and_eight_starts_are_enough_and_neither_is_alone() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let (starts, lasted) = enough_after(second, 0, 1000).await.unwrap();
        assert!(starts > 100 && lasted >= LASTS && lasted < LASTS + 5 * second, "{starts}, {lasted:?}");
        let (starts, lasted) = enough_after(minute, 0, 1000).await.unwrap();
        assert!(starts == STARTS + 1 && lasted == minute * STARTS, "{starts}, {lasted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_forth_gives_nothing_up_early_and_one_that_is_set_back_does_in_the_end() {
        let second = Duration::from_secs(1);
        for hours in [-24, -1, 1, 24] {
            let (_, lasted) = enough_after(second, hours * 3_600_000, 1000).await.unwrap();
            let slack = APART + 5 * second;
            assert!(lasted > LASTS - slack && lasted < LASTS + slack, "{hours} hours: {lasted:?}");
        }
        assert_eq!(enough_after(second, 24 * 3_600_000, 60).await, None, "somebody kills us");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_in_vain_once_something_has_been_read() {
        let mut vain = Vain { starts: 100, before: LASTS, began: Instant::now() };
        assert!(vain.is_enough());
        vain.over();
        assert!(!vain.is_enough());
        let left = checkpoint(&vain, START_MS);
        assert_eq!((left.starts_in_vain, left.vain_since_ms), (0, None));
    }
}
