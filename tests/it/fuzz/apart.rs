//! The mutations in a process apart: its memory is limited, and it is ended when it hangs.
//!
//! It is this binary once more. What it is about to read stands in a file, so that an input that ends it, or that it
//! never comes back from, is known.

use std::{
    env, fs,
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// The folder with the corpus, which the process apart is told.
const CORPUS: &str = "DOORCAST_TEST_FUZZ_APART";

/// All that it may map, its program and its stacks too: some ten times what it needs.
const MEMORY_KIB: u32 = 1 << 20;

/// Longer than it takes to begin and to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The corpus, if this is the process apart.
pub(super) fn corpus() -> Option<PathBuf> {
    env::var_os(CORPUS).map(PathBuf::from)
}

/// Runs `test` of this binary on the corpus in `folder`, which is to take no longer than `at_most`.
pub(super) async fn run(test: &str, folder: &Path, at_most: Duration) {
    let child = Command::new("sh")
        .args(["-c", "ulimit -v \"$1\"; shift; exec \"$@\"", "sh", &MEMORY_KIB.to_string()])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(CORPUS, folder)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let Ok(output) = timeout(at_most + PATIENCE, child.wait_with_output()).await else {
        panic!("it hangs: {}", last_input(folder));
    };
    let Output { status, stdout, stderr } = output.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let passed = status.success() && stdout.contains("1 passed");
    assert!(passed, "{status}, {}\n{stdout}\n{stderr}", last_input(folder));
    let _ = write!(std::io::stderr(), "{stderr}");
}

/// Keeps the last input of a run that did not end well, and says where and of which target.
fn last_input(folder: &Path) -> String {
    let Ok(input) = fs::read(folder.join(LAST)) else { return "it read nothing".into() };
    let Some((end, rest)) = input.split_first_chunk::<8>() else { return "it read nothing".into() };
    let end = usize::try_from(u64::from_le_bytes(*end)).unwrap_or_default();
    let (name, rest) = rest.split_at_checked(NAME_BYTES).unwrap_or_default();
    let name = String::from_utf8_lossy(name).trim().to_owned();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-last"));
    fs::write(&kept, &rest[..end.min(rest.len())]).unwrap();
    format!("{name}: the input is {}", kept.display())
}

const LAST: &str = "last-input";
const NAME_BYTES: usize = 16;

/// What the process apart is about to read.
pub(super) struct Last(File);

impl Last {
    pub(super) fn create(folder: &Path) -> Last {
        Last(File::create(folder.join(LAST)).unwrap())
    }

    /// One write, over what was there: the length, the target's name and the input.
    pub(super) fn set(&self, name: &str, data: &[u8]) {
        let mut input = (data.len() as u64).to_le_bytes().to_vec();
        input.extend(format!("{name:NAME_BYTES$}").bytes());
        input.extend(data);
        self.0.write_all_at(&input, 0).unwrap();
    }
}
