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
