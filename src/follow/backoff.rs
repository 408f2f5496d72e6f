//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double, jittered, from 0.5 s to 30 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait: between half of the step and the whole.
    pub(super) fn next(&mut self) -> Duration {
        let step = FIRST.saturating_mul(2 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// The link was of use: begin at the shortest again.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_failures_never_leaves_the_bounds() {
        let (mut backoff, mut waited, mut waits) = (Backoff::default(), Duration::ZERO, Vec::new());
        while waited < Duration::from_secs(24 * 3600) {
            let wait = backoff.next();
            assert!((FIRST..=LONGEST).contains(&wait), "{wait:?} after {waited:?}");
            waited += wait;
            waits.push(wait);
        }
        // Between one in 15 s and one in 30 s, but for the first ones.
        assert!((2_880..=5_770).contains(&waits.len()), "{}", waits.len());
        let late = waits.split_off(10);
        assert!(late.iter().all(|wait| *wait >= LONGEST / 2));
        let different: std::collections::HashSet<_> = late.iter().collect();
        assert!(different.len() > late.len() / 2, "two that fail together do not come back together");
        // As often as there are numbers for it.
        backoff.attempts = u32::MAX;
        assert!((FIRST..=LONGEST).contains(&backoff.next()));
        assert!((FIRST..=LONGEST).contains(&backoff.next()));
    }

    #[test]
    fn waits_grow_from_half_a_second_to_thirty() {
        let mut backoff = Backoff::default();
        let first = backoff.next();
        assert!((FIRST..=2 * FIRST).contains(&first), "{first:?}");
        for _ in 0..100 {
            let wait = backoff.next();
            assert!((FIRST..=LONGEST).contains(&wait), "{wait:?}");
        }
        assert!(backoff.next() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= 2 * FIRST);
    }

    /// Those that lost the same server do not come back at the same moment, not even the first time.
    #[test]
    fn no_two_wait_alike() {
        let waits = || {
            let mut backoff = Backoff::default();
            [(); 8].map(|()| backoff.next())
        };
        let (one, other) = (waits(), waits());
        assert!(one.iter().zip(&other).all(|(one, other)| one != other), "{one:?} {other:?}");
    }
}
