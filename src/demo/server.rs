//! A private database server in a temporary folder, for the demo and the tests.
//!
//! Binlog on in ROW format, root without a password, on loopback only. The server and its folder
//! never outlive this process, even when it is killed: a small shell watches a pipe from it.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::time::{Instant, sleep};

use super::binary::{ServerBinary, with_path};

/// How long a server may take to answer or to stop. A machine under load has taken 20 seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts the server in the process that [`Child`] stands for, so that killing and waiting need no
/// pid. What stays behind in the background reads a pipe: a line means that the server has ended;
/// the end of the pipe means that this process has, so that server and folder have to go too.
const SUPERVISOR: &str = r#"
folder=$1; shift
exec 3<&0 </dev/null
(
  trap '' INT TERM HUP
  read -r ended <&3 && exit
  tries=0
  while kill -KILL $$ && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
  rm -rf "$folder"
) 2>/dev/null &
exec 3<&- "$@"
"#;

/// A running or stopped server with a folder, a port and a socket of its own.
///
/// Dropping it kills the server and removes the folder.
#[derive(Debug)]
pub struct PrivateServer {
    binary: ServerBinary,
    folder: PathBuf,
    port: u16,
    extra_options: Vec<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    server: Child,
    supervisor: ChildStdin,
}

impl PrivateServer {
    /// Makes a data folder, starts the server and waits until it answers. `extra_options` come
    /// last on its command line, so they win: `--binlog-format=MIXED`, `--skip-log-bin`.
    ///
    /// # Errors
    /// The folder can't be made, or the server ends or does not answer; its last words are in the
    /// message.
    pub async fn start(binary: ServerBinary, extra_options: &[&str]) -> Result<Self> {
        let folder = private_folder()?;
        let mut server =
            Self { binary, folder, port: free_port()?, extra_options: owned(extra_options), running: None };
        server.binary.init(&server.data())?;
        server.start_again().await?;
        server.let_root_in().await?;
        Ok(server)
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and data.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        self.running = Some(self.spawn()?);
        self.answering().await
    }

    /// Stops it in good order. Does nothing if it is not running.
    ///
    /// # Errors
    /// It does not stop within a minute; it is killed then.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let ended = match running.signal("TERM") {
            Ok(()) => running.ended().await,
            Err(err) => Err(err),
        };
        running.kill();
        ended.with_context(|| format!("{} did not stop", self.binary))
    }

    /// Kills it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// Freezes it: connections stay open and nothing answers, as when its machine hangs.
    ///
    /// # Errors
    /// It is not running.
    pub fn freeze(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// Undoes [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// It is not running.
    pub fn thaw(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// Stops it in good order and starts it again.
    ///
    /// # Errors
    /// As for [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Restarts it with other extra options in the place of those it had.
    ///
    /// # Errors
    /// As for [`restart`](Self::restart).
    pub async fn restart_with(&mut self, extra_options: &[&str]) -> Result<()> {
        self.extra_options = owned(extra_options);
        self.restart().await
    }

    /// Flavour and series: `mariadb-10.11`, `mysql-9.7`.
    #[must_use]
    pub fn name(&self) -> String {
        self.binary.name()
    }

    /// The program it runs.
    #[must_use]
    pub fn binary(&self) -> &ServerBinary {
        &self.binary
    }

    /// Its port on 127.0.0.1, the same for its whole life.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// The data folder, with the binlog files `binlog.000001` and so on.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the server wrote to its error log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// `mysql://root@127.0.0.1:port/database`.
    #[must_use]
    pub fn root_url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection as root, over the socket, to no database. What it does is not replicated
    /// unless it is told to be an ordinary one with `SET sql_log_bin = 1`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn unlogged(&self) -> Result<Conn, mysql_async::Error> {
        let mut conn = Conn::new(self.socket_options()).await?;
        conn.query_drop("SET sql_log_bin = 0").await?;
        Ok(conn)
    }

    /// A connection as root, over the socket.
    ///
    /// # Errors
    /// The server does not answer, or has no such database.
    pub async fn root(&self, database: Option<&str>) -> Result<Conn, mysql_async::Error> {
        let options = OptsBuilder::from_opts(self.socket_options()).db_name(database);
        Conn::new(options).await
    }

    fn spawn(&self) -> Result<Running> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISOR, "sh"])
            .arg(&self.folder)
            .arg(self.binary.path())
            .arg("--no-defaults")
            .args(self.binary.location_options(&self.data()))
            .arg(with_path("--socket=", &self.socket()))
            .arg(with_path("--pid-file=", &self.folder.join("pid")))
            .arg(with_path("--tmpdir=", &self.folder))
            .arg(format!("--port={}", self.port))
            .args(self.binary.options())
            .args(&self.extra_options)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Control-C in a terminal goes to the whole group; the server must not stop before us.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut server = command.spawn().context("sh does not run")?;
        let supervisor = server.stdin.take().context("no pipe to the supervisor")?;
        Ok(Running { server, supervisor })
    }

    fn signal(&self, name: &str) -> Result<()> {
        self.running.as_ref().with_context(|| format!("{} is not running", self.binary))?.signal(name)
    }

    async fn answering(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(conn) = Conn::new(self.socket_options()).await {
                let _ = conn.disconnect().await;
                return Ok(());
            }
            let ended = self.running.as_mut().map(|running| running.server.try_wait()).transpose()?.flatten();
            if let Some(status) = ended {
                self.kill();
                bail!("{} ended ({status}): {}", self.binary, self.last_words());
            }
            if Instant::now() > deadline {
                self.kill();
                bail!("{} did not answer within {PATIENCE:?}: {}", self.binary, self.last_words());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Makes root an account over TCP too: MySQL has only root@localhost, which names the socket
    /// when names are not resolved. Takes away the nameless accounts of old servers, which would
    /// be matched before a user who may come from anywhere.
    async fn let_root_in(&self) -> Result<()> {
        let mut conn = self.unlogged().await?;
        let accounts: Vec<(String, String)> = conn.query("SELECT user, host FROM mysql.user").await?;
        for (_, host) in accounts.iter().filter(|(user, _)| user.is_empty()) {
            conn.query_drop(format!("DROP USER ''@'{host}'")).await?;
        }
        if !accounts.iter().any(|(user, host)| user == "root" && host == "127.0.0.1") {
            conn.query_drop("CREATE USER root@127.0.0.1").await?;
            conn.query_drop("GRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION").await?;
        }
        conn.disconnect().await?;
        Ok(())
    }

    fn socket_options(&self) -> Opts {
        OptsBuilder::default().user(Some("root")).socket(self.socket().to_str()).into()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Running {
    fn signal(&self, name: &str) -> Result<()> {
        let pid = self.server.id().to_string();
        let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid]).status()?;
        ensure!(status.success(), "SIG{name} could not be sent");
        Ok(())
    }

    async fn ended(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.server.try_wait()?.is_some() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("still running after {PATIENCE:?}");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn kill(mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = writeln!(self.supervisor, "ended");
    }
}

/// A folder whose path leaves room for a socket: `sun_path` has 108 bytes.
fn private_folder() -> Result<PathBuf> {
    let temporary = std::env::temp_dir();
    let short = if temporary.as_os_str().len() <= 80 { temporary.as_path() } else { Path::new("/tmp") };
    let folder = tempfile::Builder::new().prefix("doorcast-").tempdir_in(short);
    Ok(folder.with_context(|| format!("no temporary folder in {}", short.display()))?.keep())
}

/// Below the ports that the kernel hands out, so that nobody gets it while the server restarts.
fn free_port() -> Result<u16> {
    (0..100)
        .map(|_| fastrand::u16(10_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port on 127.0.0.1")
}

fn owned(options: &[&str]) -> Vec<String> {
    options.iter().map(ToString::to_string).collect()
}
