//! Writes checkpoints beside the stream, so that a slow disk holds no row up.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tracing::{error, info};

use crate::{
    checkpoint::{Checkpoint, CheckpointFile},
    status::{Status, now_ms},
};

/// At most one write in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// The task that writes, and the newest checkpoint that waits for it.
#[derive(Debug)]
pub(super) struct Saver {
    newest: watch::Sender<Option<Checkpoint>>,
    task: JoinHandle<()>,
    saved: watch::Receiver<u64>,
}

impl Saver {
    /// Starts the task.
    pub(super) fn start(file: CheckpointFile, status: Arc<Status>) -> Saver {
        let (newest, waiting) = watch::channel(None);
        let (done, saved) = watch::channel(0);
        Saver { newest, task: tokio::spawn(write(Arc::new(file), status, waiting, done)), saved }
    }

    /// Hands in a checkpoint; one that waits is replaced.
    pub(super) fn offer(&self, checkpoint: Option<Checkpoint>) {
        if checkpoint.is_some() {
            self.newest.send_replace(checkpoint);
        }
    }

    /// Waits until an attempt to write has been made, whether or not it succeeded.
    pub(super) async fn attempted(&mut self) {
        let _ = self.saved.wait_for(|attempts| *attempts > 0).await;
    }

    /// Writes what waits, and ends.
    pub(super) async fn finish(self) {
        drop(self.newest);
        if let Err(err) = self.task.await {
            error!(error = %err, "the checkpoint writer failed");
        }
    }
}

async fn write(
    file: Arc<CheckpointFile>,
    status: Arc<Status>,
    mut waiting: watch::Receiver<Option<Checkpoint>>,
    attempts: watch::Sender<u64>,
) {
    let mut failing = false;
    loop {
        // An offer that still waits is seen before the end is.
        if waiting.changed().await.is_err() {
            return;
        }
        let checkpoint = waiting.borrow_and_update().clone();
        if let Some(checkpoint) = checkpoint {
            let file = Arc::clone(&file);
            let saved = tokio::task::spawn_blocking(move || file.save(&checkpoint)).await;
            let saved = saved.unwrap_or_else(|err| Err(io::Error::other(err)));
            report(&status, &saved, &mut failing);
            if saved.is_err() && waiting.has_changed().is_ok() {
                waiting.mark_changed(); // again, though nothing newer came
            }
            attempts.send_modify(|attempts| *attempts += 1);
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = closed(&waiting) => {}
        }
    }
}

/// Returns when the sender is gone.
async fn closed(waiting: &watch::Receiver<Option<Checkpoint>>) {
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
    use super::*;
    use crate::{
        checkpoint::SavedPosition,
        link::{Flavour, Identity},
    };

    fn sample(offset: u64) -> Checkpoint {
        Checkpoint {
            server: Identity { flavour: Flavour::MySql, server_uuid: None, server_id: 1, host: None },
            table: "a.b".into(),
            position: SavedPosition { file: "bin.000001".into(), offset, file_began: None, gtid_set: None },
            epoch: 1,
            greatest_key: None,
            recent_keys: vec![],
            older_through: None,
            begins_with_the_next: false,
            read_ahead: None,
            replica_id: 1,
            saved_at_ms: 0,
        }
    }

    #[tokio::test]
    async fn the_last_checkpoint_offered_is_on_disk_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let saver = Saver::start(CheckpointFile::lock(&path).unwrap(), Arc::new(Status::new("a.b".into())));
        for offset in 4..100 {
            saver.offer(Some(sample(offset)));
        }
        saver.finish().await;
        assert_eq!(CheckpointFile::lock(&path).unwrap().load().unwrap(), Some(sample(99)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_comes_back_is_written_to_again() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("state");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("c.json");
        let status = Arc::new(Status::new("a.b".into()));
        let saver = Saver::start(CheckpointFile::lock(&path).unwrap(), Arc::clone(&status));
        std::fs::remove_dir_all(&inner).unwrap();
        saver.offer(Some(sample(4)));
        let mut attempts = saver.saved.clone();
        attempts.wait_for(|n| *n >= 2).await.unwrap();
        assert!(status.checkpoint_failures.get() >= 2);
        assert!(status.source().checkpoint_problem.is_some());
        std::fs::create_dir(&inner).unwrap();
        let seen = *attempts.borrow();
        attempts.wait_for(|n| *n >= seen + 2).await.unwrap();
        assert_eq!(status.source().checkpoint_problem, None);
        saver.finish().await;
    }
}
