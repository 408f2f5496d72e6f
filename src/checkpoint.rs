//! The position file: where to go on after a restart, and which rows came last.
//!
//! Owns its format, its lock and its safe replacement. Holds positions and keys, no personal data.
//! Knows no server.
//!
//! ```json
//! {"version":1,"checksum":"crc32:1c291ca3","checkpoint":{"server":{…},"table":"access.vdooropen",
//!  "position":{"file":"mysql-bin.000042","offset":1234,"file_began":1700000000,"gtid_set":null},"epoch":1,"greatest_key":300005,
//!  "recent_keys":[[290006,300003],[300005,300005],[300004,300004]],…}}
//! ```

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    id::{Epoch, Key},
    link::Identity,
    tail::position::{FileOffset, Position},
};

/// The format that this version writes and reads.
const VERSION: u32 = 1;

/// What is needed to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The server that `position` belongs to.
    pub server: Identity,
    /// `database.table`.
    pub table: String,
    /// Behind the last commit that was taken over.
    pub position: SavedPosition,
    /// See [`Epoch`].
    pub epoch: Epoch,
    /// The greatest key of the epoch so far.
    pub greatest_key: Option<Key>,
    /// The last keys in commit order, as runs `[first, last]` of neighbouring keys.
    pub recent_keys: Vec<(Key, Key)>,
    /// Keys up to this one that `recent_keys` does not list came earlier.
    pub older_through: Option<Key>,
    /// Which of the keys up to `older_through` did not come; `None` from a doorcast that did not know.
    #[serde(default)]
    pub holes: Option<SavedHoles>,
    /// Nothing was told so far, and what the table has already is not news: a run that began at a chosen
    /// place in the binlog.
    pub begins_with_the_next: bool,
    /// Rows that were read from the table before the binlog came to them.
    pub read_ahead: Option<ReadAhead>,
    /// XA transactions that are prepared and have not ended.
    #[serde(default)]
    pub prepared: Vec<SavedXa>,
    /// Our `server_id` as a replica, when it was chosen by chance.
    pub replica_id: u32,
    /// Of the last rows, to know the table again by.
    #[serde(default)]
    pub sample: Option<Sample>,
    /// A checksum of the layout that the table had at `position`; `None` where that is not known.
    #[serde(default)]
    pub layout: Option<u32>,
    /// The column that the keys are of; `None` from a doorcast that did not say.
    #[serde(default)]
    pub key_column: Option<Box<str>>,
    /// When this was written, in Unix milliseconds.
    pub saved_at_ms: u64,
    /// Nothing was told after this: the process ended in good order.
    #[serde(default)]
    pub at_rest: bool,
    /// Starts from here that ended before anything more had been read.
    #[serde(default)]
    pub starts_in_vain: u32,
    /// When the first of them was, in Unix milliseconds; what counts is how long before `saved_at_ms`.
    #[serde(default)]
    pub vain_since_ms: Option<u64>,
}

/// A [`Position`] as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPosition {
    /// Binlog file.
    pub file: String,
    /// Offset in it, in bytes.
    pub offset: u64,
    /// When the server began the file, in Unix seconds, to tell it from another of the same name.
    pub file_began: Option<u32>,
    /// As the server prints it; `None` on a server without GTIDs.
    pub gtid_set: Option<String>,
}

/// Keys that others overtook, and that have not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHoles {
    /// Which of the keys up to this one came is not known.
    pub floor: Option<Key>,
    /// The keys, as runs in the order of keys.
    pub runs: Vec<(Key, Key)>,
}

/// A prepared XA transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedXa {
    /// Its id, as the binlog has it in text.
    pub xid: String,
    /// The keys of its rows, as runs, as far as they are known.
    pub keys: Vec<(Key, Key)>,
    /// Whether it inserted a row under each of them.
    #[serde(default)]
    pub are_keys_certain: bool,
    /// Whether it may have written to the table.
    pub ours: bool,
    /// Whether it is certain to have inserted rows whose keys are not known.
    pub certain: bool,
}

/// Rows that the binlog will bring again, up to a place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAhead {
    /// Their keys, as runs.
    pub keys: Vec<(Key, Key)>,
    /// Where the binlog ended when they had been read, as `FILE:OFFSET`; `None` if that is not known.
    pub until: Option<String>,
}

/// What the last rows were like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// A checksum of the columns' names.
    pub columns: u32,
    /// Keys, each with so few bits of a checksum of the row's JSON that nothing in it can be told from them.
    pub rows: Vec<(Key, u16)>,
}

/// The file, locked for this process until dropped.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    _lock: File,
}

/// Why there is no checkpoint to go on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another process has the lock.
    #[error(
        "{} is in use by another doorcast. Stop that one, or give this one its own --checkpoint",
        .0.display()
    )]
    InUse(PathBuf),
    /// The folder can't be used.
    #[error("{}: {source}. Give --checkpoint a path in a folder that doorcast may write to", path.display())]
    Unusable {
        /// The file in question.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{path} is damaged ({problem}). If {path}.prev is whole, copy it over {path}: rows since then come again \
         under the same ids. Else remove both and start with --start-from now, or earliest, or FILE:OFFSET",
        path = path.display()
    )]
    Damaged {
        /// The file in question.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// The file's outer object. The checksum is of the bytes of `checkpoint` as they stand in the file.
#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    checksum: String,
    checkpoint: Box<RawValue>,
}

impl CheckpointFile {
    /// Locks `path`, which need not exist yet.
    ///
    /// # Errors
    /// [`CheckpointError::InUse`], or [`CheckpointError::Unusable`].
    pub fn lock(path: &Path) -> Result<CheckpointFile, CheckpointError> {
        let lock_path = beside(path, ".lock");
        let unusable = |source| CheckpointError::Unusable { path: lock_path.clone(), source };
        // Not the file itself: every save puts a new one in its place.
        let lock = OpenOptions::new().create(true).append(true).open(&lock_path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(CheckpointFile { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(CheckpointError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Reads the checkpoint; `None` when there has never been one.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] for anything but what [`CheckpointFile::save`] wrote, and when only
    /// the one before is left.
    pub fn load(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let damaged = |problem: String| CheckpointError::Damaged { path: self.path.clone(), problem };
        match fs::read(&self.path) {
            Ok(bytes) => parse(&bytes).map(Some).map_err(damaged),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                if beside(&self.path, ".prev").exists() {
                    return Err(damaged("it is missing, and the one before is there".into()));
                }
                Ok(None)
            }
            Err(source) => Err(CheckpointError::Unusable { path: self.path.clone(), source }),
        }
    }

    /// Replaces the file, safely against a crash at any moment, and keeps the one before as `.prev`.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// What the system said; the file is then the one before, whole.
    pub fn save(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let temporary = beside(&self.path, ".tmp");
        let previous = beside(&self.path, ".prev");
        let mut file = File::create(&temporary)?;
        file.write_all(&render(checkpoint)?)?;
        file.sync_all()?;
        drop(file);
        if self.path.exists() {
            // A second name for the old file, so that there is a whole one under the first at any moment.
            let _ = fs::remove_file(&previous);
            if fs::hard_link(&self.path, &previous).is_err() {
                fs::copy(&self.path, &previous)?;
            }
        }
        fs::rename(&temporary, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl From<&Position> for SavedPosition {
    fn from(position: &Position) -> Self {
        SavedPosition {
            file: position.at.file.clone(),
            offset: position.at.offset,
            file_began: position.began,
            gtid_set: position.gtid_set.as_ref().map(ToString::to_string),
        }
    }
}

impl SavedPosition {
    /// Back to a [`Position`].
    ///
    /// # Errors
    /// A text that says which part is malformed.
    pub fn parse(&self) -> Result<Position, String> {
        let at = FileOffset { file: self.file.clone(), offset: self.offset };
        let gtid_set = self.gtid_set.as_deref().filter(|set| !set.is_empty()).map(str::parse).transpose();
        Ok(Position {
            at,
            began: self.file_began,
            gtid_set: gtid_set.map_err(|err| format!("gtid_set: {err}"))?,
        })
    }
}

/// Keys in commit order to runs of neighbours.
pub fn to_runs(keys: impl IntoIterator<Item = Key>) -> Vec<(Key, Key)> {
    let mut runs: Vec<(Key, Key)> = Vec::new();
    for key in keys {
        match runs.last_mut() {
            Some(run) if run.1.checked_add(1) == Some(key) => run.1 = key,
            _ => runs.push((key, key)),
        }
    }
    runs
}

/// Runs back to keys, the last `limit` of them.
pub fn from_runs(runs: &[(Key, Key)], limit: usize) -> VecDeque<Key> {
    let mut keys = VecDeque::new();
    for &(first, last) in runs.iter().rev() {
        let mut key = last;
        while key >= first && keys.len() < limit {
            keys.push_front(key);
            let Some(before) = key.checked_sub(1) else { break };
            key = before;
        }
    }
    keys
}

/// The bytes of a checkpoint file, and the same as the content of one whose checksum is right: see
/// [`crate::fuzzing`].
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let _ = parse(data);
    let Ok(body) = serde_json::from_slice::<Box<RawValue>>(data) else { return };
    let envelope = Envelope { version: VERSION, checksum: checksum(&body), checkpoint: body };
    let signed = serde_json::to_vec(&envelope).expect("it is JSON");
    let Ok(checkpoint) = parse(&signed) else { return };
    assert!(from_runs(&checkpoint.recent_keys, 1_000).len() <= 1_000);
    let again = render(&checkpoint).expect("it is JSON");
    assert_eq!(parse(&again), Ok(checkpoint));
}

fn render(checkpoint: &Checkpoint) -> io::Result<Vec<u8>> {
    let body = serde_json::value::to_raw_value(checkpoint)?;
    let envelope = Envelope { version: VERSION, checksum: checksum(&body), checkpoint: body };
    let mut bytes = serde_json::to_vec(&envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, String> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|err| err.to_string())?;
    if envelope.version != VERSION {
        return Err(format!("its version is {}, this doorcast reads {VERSION}", envelope.version));
    }
    if envelope.checksum != checksum(&envelope.checkpoint) {
        return Err("its checksum is wrong".into());
    }
    let checkpoint: Checkpoint =
        serde_json::from_str(envelope.checkpoint.get()).map_err(|err| err.to_string())?;
    checkpoint.position.parse()?;
    Ok(checkpoint)
}

fn checksum(body: &RawValue) -> String {
    format!("crc32:{:08x}", crc32fast::hash(body.get().as_bytes()))
}

/// `path` with something behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::link::Flavour;

    pub(crate) fn sample(greatest: Key) -> Checkpoint {
        Checkpoint {
            server: Identity {
                flavour: Flavour::MariaDb,
                server_uuid: None,
                server_id: 7,
                host: Some("db".into()),
            },
            table: "access.vdooropen".into(),
            position: SavedPosition {
                file: "bin.000001".into(),
                offset: 4,
                file_began: Some(1_700_000_000),
                gtid_set: Some("0-7-12".into()),
            },
            epoch: 3,
            greatest_key: Some(greatest),
            recent_keys: vec![(1, 4), (6, 6), (5, 5)],
            older_through: Some(-3),
            holes: Some(SavedHoles { floor: None, runs: vec![(-7, -5)] }),
            begins_with_the_next: false,
            read_ahead: Some(ReadAhead { keys: vec![(9, 9)], until: Some("bin.000001:90".into()) }),
            prepared: vec![SavedXa {
                xid: "X'61',X'',1".into(),
                keys: vec![(8, 8)],
                are_keys_certain: true,
                ours: true,
                certain: false,
            }],
            replica_id: 1 << 31,
            layout: Some(7),
            key_column: Some("vid".into()),
            saved_at_ms: 1_700_000_000_000,
            at_rest: true,
            starts_in_vain: 2,
            vain_since_ms: Some(1_700_000_000_000),
            sample: Some(Sample { columns: 7, rows: vec![(5, 0xffff)] }),
        }
    }

    fn file(folder: &tempfile::TempDir) -> CheckpointFile {
        CheckpointFile::lock(&folder.path().join("c.json")).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_one_before_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        assert_eq!(file.load().unwrap(), None);
        file.save(&sample(6)).unwrap();
        file.save(&sample(i128::from(u64::MAX))).unwrap();
        assert_eq!(file.load().unwrap(), Some(sample(i128::from(u64::MAX))));
        assert_eq!(parse(&fs::read(folder.path().join("c.json.prev")).unwrap()).unwrap(), sample(6));
    }

    #[test]
    fn one_of_a_doorcast_that_knew_less_is_read() {
        let mut old = serde_json::to_value(sample(6)).unwrap();
        for later in ["holes", "prepared", "sample", "at_rest", "starts_in_vain", "vain_since_ms"] {
            old.as_object_mut().unwrap().remove(later).unwrap();
        }
        let body = serde_json::value::to_raw_value(&old).unwrap();
        let envelope = Envelope { version: VERSION, checksum: checksum(&body), checkpoint: body };
        let read = parse(&serde_json::to_vec(&envelope).unwrap()).unwrap();
        assert_eq!((read.holes, read.prepared, read.recent_keys), (None, vec![], sample(6).recent_keys));
    }

    #[test]
    fn truncated_at_every_byte_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        file.save(&sample(6)).unwrap();
        let whole = fs::read(&file.path).unwrap();
        for len in 0..whole.len() - 1 {
            fs::write(&file.path, &whole[..len]).unwrap();
            assert!(matches!(file.load(), Err(CheckpointError::Damaged { .. })), "{len} bytes");
        }
    }

    #[test]
    fn every_flipped_byte_is_damage_or_the_same() {
        let bytes = render(&sample(6)).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            if let Ok(read) = parse(&flipped) {
                assert_eq!(read, sample(6), "byte {at}");
            }
        }
    }

    #[test]
    fn missing_with_a_previous_one_is_damage_not_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        file.save(&sample(6)).unwrap();
        file.save(&sample(7)).unwrap();
        fs::remove_file(&file.path).unwrap();
        let message = file.load().unwrap_err().to_string();
        assert!(message.contains(".prev") && message.contains("--start-from"), "{message}");
    }

    #[test]
    fn second_lock_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let first = CheckpointFile::lock(&path).unwrap();
        assert!(matches!(CheckpointFile::lock(&path), Err(CheckpointError::InUse(_))));
        drop(first);
        CheckpointFile::lock(&path).unwrap();
    }

    #[test]
    fn runs_keep_commit_order() {
        let keys = [1, 2, 3, 6, 5, 7, 8];
        let runs = to_runs(keys);
        assert_eq!(runs, [(1, 3), (6, 6), (5, 5), (7, 8)]);
        assert_eq!(from_runs(&runs, 100), keys);
        assert_eq!(from_runs(&runs, 3), [5, 7, 8]);
    }

    #[test]
    fn runs_out_of_a_file_may_go_to_the_end_of_what_a_key_can_be() {
        assert_eq!(from_runs(&[(Key::MIN, Key::MIN + 1)], 100), [Key::MIN, Key::MIN + 1]);
        assert_eq!(from_runs(&[(Key::MIN, Key::MAX)], 2), [Key::MAX - 1, Key::MAX]);
        assert_eq!(from_runs(&[(5, 4), (Key::MAX, Key::MIN)], 100), []);
        assert_eq!(to_runs([Key::MAX, Key::MIN]), [(Key::MAX, Key::MAX), (Key::MIN, Key::MIN)]);
    }
}
