//! A private database server in a temporary folder, for the demo and the tests.
//!
//! Binlog on in ROW format, root without a password, on loopback only. The server and its folder
//! never outlive this process, even when it is killed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::time::{Instant, sleep, timeout_at};

use super::binary::{ServerBinary, with_path};
use super::supervised::{LOOK_EVERY, PATIENCE, Supervised};

/// A running or stopped server with a folder, a port and a socket of its own.
///
/// Dropping it kills the server and removes the folder.
#[derive(Debug)]
pub struct PrivateServer {
    binary: ServerBinary,
    folder: PathBuf,
    port: u16,
    extra_options: Vec<String>,
    running: Option<Supervised>,
}

/// What every server writes when its port is in use.
const PORT_TAKEN: &str = "server running on port";

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
        server.init().await?;
        server.start_on_a_free_port().await?;
        server.let_root_in().await?;
        Ok(server)
    }

    /// Somebody else may have taken the port since it was chosen.
    async fn start_on_a_free_port(&mut self) -> Result<()> {
        for _ in 0..3 {
            let started = self.start_again().await;
            if started.is_ok() || !self.log().contains(PORT_TAKEN) {
                return started;
            }
            self.port = free_port()?;
        }
        self.start_again().await
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and data.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        self.running = Some(self.spawn(&self.server_command())?);
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
        ended.with_context(|| format!("{} did not stop", self.binary))?;
        Ok(())
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
        fs::read(self.folder.join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
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

    async fn init(&self) -> Result<()> {
        let command = self.binary.init_command(&self.data())?;
        let mut running = self.spawn(&command)?;
        let ended = running.ended().await;
        running.kill();
        let program = command.get_program().display();
        let status = ended.with_context(|| format!("{program} hangs: {}", self.last_words()))?;
        ensure!(status.success(), "{program} made no data folder ({status}): {}", self.last_words());
        Ok(())
    }

    fn server_command(&self) -> Command {
        let mut command = Command::new(self.binary.path());
        command
            .arg("--no-defaults")
            .args(self.binary.location_options(&self.data()))
            .arg(with_path("--socket=", &self.socket()))
            .arg(with_path("--pid-file=", &self.folder.join("pid")))
            .arg(with_path("--tmpdir=", &self.folder))
            .arg(format!("--port={}", self.port))
            .args(self.binary.options())
            .args(&self.extra_options);
        command
    }

    fn spawn(&self, command: &Command) -> Result<Supervised> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        Supervised::spawn(&self.folder, command, log)
    }

    fn signal(&self, name: &str) -> Result<()> {
        self.running.as_ref().with_context(|| format!("{} is not running", self.binary))?.signal(name)
    }

    async fn answering(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Ok(conn)) = timeout_at(deadline, Conn::new(self.socket_options())).await {
                let _ = conn.disconnect().await;
                return Ok(());
            }
            let ended = self.running.as_mut().map(|running| running.try_wait()).transpose()?.flatten();
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
