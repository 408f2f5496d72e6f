//! Pauses between attempts to read older rows: longer each time, and never the same for two clients.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Pause(SHORTEST)
    }
}

impl Pause {
    /// How long to wait now.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0.mul_f64(0.5 + 0.5 * fastrand::f64());
        self.0 = (self.0 * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_failures_never_leaves_the_bounds() {
        let (mut pause, mut waited, mut last) = (Pause::default(), Duration::ZERO, Duration::ZERO);
        assert!((SHORTEST / 2..=SHORTEST).contains(&pause.next()));
        while waited < Duration::from_secs(24 * 3600) {
            last = pause.next();
            assert!((SHORTEST / 2..=LONGEST).contains(&last), "{last:?} after {waited:?}");
            waited += last;
        }
        assert!(last >= LONGEST / 2);
    }
}
