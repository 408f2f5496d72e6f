//! A program that never outlives this process, with a folder that goes when it goes. Knows no
//! server.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep};

/// How long a program may take to do what it was asked. A machine under load has taken 20 seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look whether it has.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the program in the process that [`Child`] stands for, so that killing and waiting need no
/// pid. What stays behind in the background reads a pipe: a line means that the program has ended;
/// the end of the pipe means that this process has, so that program and folder have to go too.
const SUPERVISOR: &str = r#"
folder=$1; shift
exec 3<&0 </dev/null
(
  trap '' INT TERM HUP
  read -r ended <&3 && exit
  kill -KILL $$
  for try in 1 2 3 4 5 6 7 8 9; do rm -rf "$folder" && break; sleep 0.1; done
) &
exec 3<&- 2>&1 "$@"
"#;

/// A running program, and the pipe that keeps it alive.
#[derive(Debug)]
pub(super) struct Supervised {
    program: Child,
    supervisor: ChildStdin,
}

impl Supervised {
    /// Runs `command` in a process group of its own: Control-C in a terminal goes to the whole
    /// group, and a server must not stop before us. `output` gets all it prints.
    pub(super) fn spawn(folder: &Path, command: &Command, output: impl Into<Stdio>) -> Result<Self> {
        let mut program = Command::new("sh")
            .args(["-c", SUPERVISOR, "sh"])
            .arg(folder)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("sh does not run")?;
        let supervisor = program.stdin.take().context("no pipe to the supervisor")?;
        Ok(Self { program, supervisor })
    }

    pub(super) fn signal(&self, name: &str) -> Result<()> {
        let pid = self.program.id().to_string();
        let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid]).status()?;
        ensure!(status.success(), "SIG{name} could not be sent");
        Ok(())
    }

    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.program.try_wait()
    }

    pub(super) async fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("still running after {PATIENCE:?}");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Kills the program if it has not ended. The folder stays.
    pub(super) fn kill(mut self) {
        // An error means that it has ended, or that the kernel is the wrong one to ask.
        let _ = self.program.kill();
        let _ = self.program.wait();
        let _ = writeln!(self.supervisor, "ended");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn program_and_folder_go_when_the_process_is_killed() {
        let folder = tempfile::tempdir().unwrap().keep();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let Supervised { mut program, supervisor } =
            Supervised::spawn(&folder, &sleep, Stdio::piped()).unwrap();
        let mut held_by_both = program.stdout.take().unwrap();

        // The kernel closes the pipe of a process that is killed.
        drop(supervisor);
        assert_eq!(program.wait().unwrap().signal(), Some(9));
        held_by_both.read_to_end(&mut Vec::new()).unwrap();
        assert!(!folder.exists());
    }
}
