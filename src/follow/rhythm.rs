//! When the position is saved and the table compared, beside what the stream asks for. Does no I/O.

use std::time::Duration;

use tokio::time::Instant;

/// The checkpoint is handed in at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How often the table is compared with what the binlog brought: rows that were inserted with
/// `sql_log_bin=0` are found by nothing else.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// After more than one start in vain, so many commits are saved one by one, and the end of the binlog too:
/// somebody who kills us again and again is not what ends us, and what does is near, for a checkpoint is a second
/// old at most.
const SAVED_ONE_BY_ONE: u32 = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Rhythm {
    saved: Instant,
    /// There is something new to save.
    moved: bool,
    /// Commits that are still saved one by one.
    one_by_one: u32,
    swept: Instant,
    /// What the first comparison found, a second one tells as soon as the binlog has been read that far.
    tell: bool,
}

impl Rhythm {
    /// Of a connection that begins now.
    pub(super) fn new(one_by_one: bool) -> Self {
        let (saved, swept) = (Instant::now(), Instant::now());
        let one_by_one = if one_by_one { SAVED_ONE_BY_ONE } else { 0 };
        Rhythm { saved, moved: true, one_by_one, swept, tell: false }
    }

    /// There is something new to save.
    pub(super) fn moved(&mut self) {
        self.moved = true;
    }

    /// Whether to save now, once in a while. If so, it is taken for done.
    pub(super) fn is_to_save(&mut self) -> bool {
        let save = self.moved && self.saved.elapsed() >= SAVE_EVERY;
        if save {
            (self.saved, self.moved) = (Instant::now(), false);
        }
        save
    }

    /// The same behind each of the first commits after starts in vain.
    pub(super) fn is_to_save_at_once(&mut self) -> bool {
        let save = self.moved && self.one_by_one > 0;
        if save {
            self.one_by_one -= 1;
            (self.saved, self.moved) = (Instant::now(), false);
        }
        save
    }

    /// The end of the binlog has been read. Whether commits were saved one by one up to here.
    pub(super) fn is_no_longer_one_by_one(&mut self) -> bool {
        std::mem::take(&mut self.one_by_one) > 0
    }

    /// Whether the next comparison can wait for what began then.
    pub(super) fn is_recent(&self, began: Instant) -> bool {
        began.elapsed() < SWEEP_EVERY
    }

    /// Whether it is time to compare the table.
    pub(super) fn is_to_sweep(&self) -> bool {
        self.swept.elapsed() >= SWEEP_EVERY
    }

    /// The table has been compared; `tell` if it was for the first time, and had rows that the binlog did not bring.
    pub(super) fn swept(&mut self, tell: bool) {
        (self.swept, self.tell) = (Instant::now(), tell);
    }

    /// When the first comparison was, if what it found is still to be told.
    pub(super) fn is_to_tell(&self) -> Option<Instant> {
        self.tell.then_some(self.swept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    /// As often as the session asks.
    const TICK: Duration = Duration::from_millis(250);

    #[tokio::test(start_paused = true)]
    async fn over_a_day_the_position_is_saved_once_a_second_while_it_moves_and_the_table_compared_every_ten()
    {
        let mut rhythm = Rhythm::new(false);
        let start = Instant::now();
        let (mut saves, mut sweeps) = (0, 0);
        while start.elapsed() < DAY {
            tokio::time::advance(TICK).await;
            // Nobody swipes at night.
            if start.elapsed() < DAY / 2 {
                rhythm.moved();
            }
            saves += u32::from(rhythm.is_to_save());
            if rhythm.is_to_sweep() {
                rhythm.swept(false);
                sweeps += 1;
            }
        }
        assert_eq!((saves, sweeps), (12 * 3600, 24 * 360));
        assert!(!rhythm.is_to_save_at_once());
    }

    #[tokio::test(start_paused = true)]
    async fn after_starts_in_vain_commits_are_saved_one_by_one_up_to_the_end_of_the_binlog() {
        let mut rhythm = Rhythm::new(true);
        let mut saves = 0;
        for _ in 0..2 * SAVED_ONE_BY_ONE {
            rhythm.moved();
            saves += u32::from(rhythm.is_to_save_at_once());
            assert!(!rhythm.is_to_save_at_once(), "nothing new");
        }
        assert_eq!(saves, SAVED_ONE_BY_ONE);
        assert!(!rhythm.is_no_longer_one_by_one());
        let mut rhythm = Rhythm::new(true);
        assert!(rhythm.is_to_save_at_once() && rhythm.is_no_longer_one_by_one());
        rhythm.moved();
        assert!(!rhythm.is_to_save_at_once() && !rhythm.is_to_save());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_first_comparison_found_is_told_before_the_next_is_due() {
        let mut rhythm = Rhythm::new(false);
        assert_eq!(rhythm.is_to_tell(), None);
        tokio::time::advance(Duration::from_secs(3)).await;
        rhythm.swept(true);
        assert_eq!((rhythm.is_to_tell(), rhythm.is_to_sweep()), (Some(Instant::now()), false));
        rhythm.swept(false);
        assert_eq!(rhythm.is_to_tell(), None);
    }
}
