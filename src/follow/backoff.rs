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
        self.attempts += 1;
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
