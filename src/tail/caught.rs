//! Panics of the binlog decoder, caught.
//!
//! mysql_common 0.37 panics on bytes that a sound server does not send: `Event::read` on an event shorter
//! than its header says, `TransactionPayloadEvent` on an unknown compression. Bytes from the network must
//! not end the process, so whoever polls the stream does it in here.

use std::{
    any::Any,
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
};

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is about to be caught and told as an error: for a panic hook, which is
/// called before that.
pub fn is_catching() -> bool {
    CATCHING.get()
}

/// Runs `future`; what it panicked with, if it did. What `future` borrows may be half changed then, and
/// is good for nothing but to be dropped. Cancel-safe if `future` is.
pub(super) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let before = CATCHING.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        CATCHING.set(before);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Err(message(panic.as_ref())).into(),
        }
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_even_after_a_pause() {
        let outcome = caught(async {
            assert!(is_catching());
            tokio::task::yield_now().await;
            panic!("{} bytes are missing", 3);
        });
        assert_eq!(outcome.await, Err::<(), _>("3 bytes are missing".to_owned()));
        assert!(!is_catching());
        assert_eq!(caught(async { 7 }).await, Ok(7));
    }
}
