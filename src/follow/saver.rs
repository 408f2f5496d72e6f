//! Writes checkpoints beside the stream, so that a slow disk holds no row up.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tracing::{error, info, warn};

use crate::{
    checkpoint::{Checkpoint, CheckpointFile},
    status::{Status, now_ms},
};

/// At most one write in this time, unless rows wait for it.
const INTERVAL: Duration = Duration::from_secs(1);

/// Rows wait no longer than this for a checkpoint: a disk that is slower is in trouble, and then promptness
/// goes before their order after a crash.
const ROWS_WAIT: Duration = Duration::from_secs(5);

/// The task that writes, and the newest checkpoint that waits for it.
#[derive(Debug)]
pub(super) struct Saver {
    newest: watch::Sender<Option<Offer>>,
    offers: u64,
    /// The latest offer that rows waited for in vain.
    overdue: u64,
    hurry: Arc<Notify>,
    task: JoinHandle<()>,
    done: watch::Receiver<Done>,
}

/// A checkpoint and its number.
#[derive(Debug, Clone)]
struct Offer {
    number: u64,
    checkpoint: Checkpoint,
}

/// Attempts to write so far, whether or not they succeeded.
#[derive(Debug, Default)]
struct Done {
    attempts: u64,
    /// The newest offer among them.
    offer: u64,
}

impl Saver {
    /// Starts the task.
    pub(super) fn start(file: CheckpointFile, status: Arc<Status>) -> Saver {
        let (newest, waiting) = watch::channel(None);
        let (attempted, done) = watch::channel(Done::default());
        let hurry = Arc::new(Notify::new());
        let writer = Writer { file: Arc::new(file), status, waiting, hurry: Arc::clone(&hurry), attempted };
        Saver { newest, offers: 0, overdue: 0, hurry, task: tokio::spawn(writer.run()), done }
    }

    /// Hands in a checkpoint; one that waits is replaced.
    pub(super) fn offer(&mut self, checkpoint: Option<Checkpoint>) {
        if let Some(checkpoint) = checkpoint {
            self.offers += 1;
            self.newest.send_replace(Some(Offer { number: self.offers, checkpoint }));
        }
    }

    /// Waits until an attempt to write has been made, whether or not it succeeded.
    pub(super) async fn attempted(&mut self) {
        let _ = self.done.wait_for(|done| done.attempts > 0).await;
    }

    /// Writes a checkpoint now. Returns when that has succeeded, failed, or taken too long.
    pub(super) async fn save(&mut self, checkpoint: Option<Checkpoint>) {
        self.offer(checkpoint);
        self.hurry.notify_one();
        let number = self.offers;
        // Behind one that takes too long the next does not wait.
        if self.done.borrow().offer >= self.overdue {
            let written = self.done.wait_for(|done| done.offer >= number);
            if timeout(ROWS_WAIT, written).await.is_err() {
                self.overdue = number;
                warn!(
                    waited_s = ROWS_WAIT.as_secs(),
                    "writing the checkpoint takes long: rows are pushed all the same, but after a crash some may come \
                     twice. Is the disk overloaded?"
                );
            }
        }
    }

    /// Writes what waits, and ends.
    pub(super) async fn finish(self) {
        drop(self.newest);
        if let Err(err) = self.task.await {
            error!(error = %err, "the checkpoint writer failed");
        }
    }
}

/// The task's own side.
struct Writer {
    file: Arc<CheckpointFile>,
    status: Arc<Status>,
    waiting: watch::Receiver<Option<Offer>>,
    hurry: Arc<Notify>,
    attempted: watch::Sender<Done>,
}

impl Writer {
    async fn run(mut self) {
        let mut failing = false;
        loop {
            // An offer that still waits is seen before the end is.
            if self.waiting.changed().await.is_err() {
                return;
            }
            let offer = self.waiting.borrow_and_update().clone();
            if let Some(Offer { number, checkpoint }) = offer {
                let file = Arc::clone(&self.file);
                let saved = tokio::task::spawn_blocking(move || file.save(&checkpoint)).await;
                let saved = saved.unwrap_or_else(|err| Err(io::Error::other(err)));
                report(&self.status, &saved, &mut failing);
                if saved.is_err() && self.waiting.has_changed().is_ok() {
                    self.waiting.mark_changed(); // again, though nothing newer came
                }
                self.attempted.send_modify(|done| {
                    done.attempts += 1;
                    done.offer = number;
                });
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = closed(&self.waiting) => {}
                () = self.hurry.notified() => {}
            }
        }
    }
}

/// Returns when the sender is gone.
async fn closed(waiting: &watch::Receiver<Option<Offer>>) {
    let mut waiting = waiting.clone();
    while waiting.changed().await.is_ok() {
        waiting.mark_unchanged();
    }
}

fn report(status: &Status, saved: &io::Result<()>, failing: &mut bool) {
    match saved {
        Ok(()) => {
            if std::mem::take(failing) {
                info!("the checkpoint is written again");
            }
            status.update(|source| {
                source.checkpoint_saved_ms = Some(now_ms());
                source.checkpoint_problem = None;
            });
        }
        Err(err) => {
            if !std::mem::replace(failing, true) {
                error!(
                    error = %err,
                    "the checkpoint can't be written: rows are pushed all the same, but a restart would go on from \
                     the last one that was. Make room, or the folder writable; it is tried again every second"
                );
            }
            status.checkpoint_failures.add(1);
            status.update(|source| source.checkpoint_problem = Some(err.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};

    use futures_util::FutureExt;

    use super::*;
    use crate::checkpoint::SavedPosition;

    fn sample(offset: u64) -> Checkpoint {
        let sample = crate::checkpoint::tests::sample(1);
        Checkpoint { position: SavedPosition { offset, ..sample.position.clone() }, ..sample }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_checkpoint_offered_is_on_disk_at_the_end_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let mut saver =
            Saver::start(CheckpointFile::lock(&path).unwrap(), Arc::new(Status::new("a.b".into())));
        let start = tokio::time::Instant::now();
        saver.offer(Some(sample(4)));
        saver.attempted().await;
        for offset in 5..100 {
            saver.offer(Some(sample(offset)));
        }
        saver.finish().await;
        assert!(start.elapsed() < INTERVAL, "{:?}", start.elapsed());
        assert_eq!(CheckpointFile::lock(&path).unwrap().load().unwrap(), Some(sample(99)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_comes_back_is_written_to_again() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("state");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("c.json");
        let status = Arc::new(Status::new("a.b".into()));
        let mut saver = Saver::start(CheckpointFile::lock(&path).unwrap(), Arc::clone(&status));
        std::fs::remove_dir_all(&inner).unwrap();
        saver.offer(Some(sample(4)));
        let mut done = saver.done.clone();
        done.wait_for(|done| done.attempts >= 2).await.unwrap();
        assert!(status.checkpoint_failures.get() >= 2);
        assert!(status.source().checkpoint_problem.is_some());
        std::fs::create_dir(&inner).unwrap();
        done.wait_for(|_| status.source().checkpoint_problem.is_none()).await.unwrap();
        saver.finish().await;
    }

    #[tokio::test(start_paused = true)]
    async fn over_a_day_it_writes_at_most_once_a_second_and_always_what_came_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let status = Arc::new(Status::new("a.b".into()));
        let mut saver = Saver::start(CheckpointFile::lock(&path).unwrap(), Arc::clone(&status));
        let done = saver.done.clone();
        let start = tokio::time::Instant::now();
        let mut offset = 4;
        for quarter in 0..24 * 4 {
            let before = done.borrow().attempts;
            for _ in 0..10 {
                offset += 1;
                saver.offer(Some(sample(offset)));
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            tokio::time::sleep(Duration::from_millis(897_500)).await;
            let writes = done.borrow().attempts - before;
            assert!((3..=4).contains(&writes), "{writes} in 2.5 s, in quarter {quarter}");
            let saved = std::fs::read_to_string(&path).unwrap();
            assert!(saved.contains(&format!("\"offset\":{offset},")), "{quarter}: {saved}");
        }
        assert_eq!(start.elapsed().as_secs(), 24 * 3600);
        assert_eq!(status.checkpoint_failures.get(), 0);
        saver.finish().await;
    }

    /// The time in a checkpoint does not decide whether it is written.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_does_not_keep_a_checkpoint_from_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let file = CheckpointFile::lock(&path).unwrap();
        let mut saver = Saver::start(file, Arc::new(Status::new("a.b".into())));
        for (offset, saved_at_ms) in [(5, 1_800_000_000_000), (6, 1_700_000_000_000), (7, 0)] {
            let checkpoint = Checkpoint { saved_at_ms, ..sample(offset) };
            saver.save(Some(checkpoint.clone())).await;
            let saved = std::fs::read_to_string(&path).unwrap();
            assert!(saved.contains(&format!("\"offset\":{offset},")), "{saved}");
        }
        saver.finish().await;
        let loaded = CheckpointFile::lock(&path).unwrap().load().unwrap().unwrap();
        assert_eq!((loaded.position.offset, loaded.saved_at_ms), (7, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_rows_wait_for_is_on_disk_at_once_and_a_failure_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("state");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("c.json");
        let status = Arc::new(Status::new("a.b".into()));
        let mut saver = Saver::start(CheckpointFile::lock(&path).unwrap(), Arc::clone(&status));
        let start = tokio::time::Instant::now();
        for offset in 4..20 {
            saver.save(Some(sample(offset))).await;
            assert!(std::fs::read_to_string(&path).unwrap().contains(&format!("\"offset\":{offset},")));
        }
        assert!(start.elapsed() < INTERVAL, "{:?}", start.elapsed());
        std::fs::remove_dir_all(&inner).unwrap();
        saver.save(Some(sample(20))).await;
        assert!(status.checkpoint_failures.get() > 0);
        saver.finish().await;
    }

    /// A full pipe stands for the disk: whoever writes to it waits, until nobody can read it any more.
    #[tokio::test(start_paused = true)]
    async fn rows_wait_once_for_a_disk_that_hangs_and_again_when_it_has_come_back() {
        const O_NONBLOCK: i32 = 0o4000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let pipe = folder.path().join("c.json.tmp");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut options = std::fs::OpenOptions::new();
        let mut disk = options.read(true).write(true).custom_flags(O_NONBLOCK).open(&pipe).unwrap();
        while disk.write(&[0; 4096]).is_ok() {}
        let status = Arc::new(Status::new("a.b".into()));
        let mut saver = Saver::start(CheckpointFile::lock(&path).unwrap(), status);
        {
            let mut first = std::pin::pin!(saver.save(Some(sample(4))));
            assert!(first.as_mut().now_or_never().is_none());
            tokio::time::advance(ROWS_WAIT - Duration::from_millis(1)).await;
            assert!(first.as_mut().now_or_never().is_none());
            tokio::time::advance(Duration::from_millis(2)).await;
            assert!(first.as_mut().now_or_never().is_some());
        }
        assert!(saver.save(Some(sample(5))).now_or_never().is_some(), "behind it no other row waits");

        std::fs::remove_file(&pipe).unwrap();
        drop(disk);
        let newest = saver.offers;
        saver.done.wait_for(|done| done.offer >= newest).await.unwrap();
        saver.save(Some(sample(6))).await;
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"offset\":6,"));
        saver.finish().await;
    }
}
