//! A time limit around everything that a test waits for.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

/// Long enough for a machine that is busy with other tests; only a failure ever waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The outcome of `waiting`; panics, naming the caller's line, when there is none in time.
#[track_caller]
#[expect(clippy::panic, reason = "it is how a test fails")]
pub(crate) fn deadline<F: Future>(waiting: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => panic!("{caller}: nothing came within {PATIENCE:?}"),
        }
    }
}
