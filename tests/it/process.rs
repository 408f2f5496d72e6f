//! doorcast as its users run it: a process, to be killed, stopped and started again.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

use crate::deadline::deadline;

/// A process with a checkpoint folder of its own; ended with its handle.
pub(crate) struct Doorcast {
    arguments: Vec<String>,
    folder: Arc<TempDir>,
    child: Child,
    reader: JoinHandle<()>,
    log: Log,
    /// Where it listens, from the first start on.
    pub(crate) address: String,
    /// Counts the starts, so that a client knows when to try again.
    pub(crate) starts: watch::Sender<u32>,
}

/// The process's log so far, as JSON objects.
#[derive(Clone)]
struct Log(Arc<watch::Sender<Vec<Value>>>);

impl Doorcast {
    /// Starts `doorcast run` on `db`, and waits until it follows: what is inserted from then on is news.
    pub(crate) async fn start(db: &str, arguments: &[&str]) -> Doorcast {
        Doorcast::start_on("127.0.0.1:0", db, arguments).await
    }

    /// The same, listening on an address that it keeps.
    pub(crate) async fn start_on(listen: &str, db: &str, arguments: &[&str]) -> Doorcast {
        Doorcast::begin(listen, tempfile::tempdir().unwrap(), db, arguments).await
    }

    /// The same, in a folder that has a checkpoint.
    pub(crate) async fn start_in(folder: TempDir, db: &str, arguments: &[&str]) -> Doorcast {
        Doorcast::begin("127.0.0.1:0", folder, db, arguments).await
    }

    async fn begin(listen: &str, folder: TempDir, db: &str, arguments: &[&str]) -> Doorcast {
        let folder = Arc::new(folder);
        let mut all = vec!["--db".to_owned(), db.to_owned()];
        all.extend(arguments.iter().map(ToString::to_string));
        let (child, log, reader) = spawn(&all, &folder, listen);
        let address = log.listening().await;
        log.wait_for(|line| line["message"] == "following").await;
        let starts = watch::Sender::new(1);
        Doorcast { arguments: all, folder, child, reader, log, address, starts }
    }

    /// What the next start is given, besides what every start is.
    pub(crate) fn replace_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The folder with the checkpoint and nothing else.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The checkpoint file.
    pub(crate) fn checkpoint(&self) -> std::path::PathBuf {
        self.folder.path().join("checkpoint.json")
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts again, on the same port and checkpoint, after [`Doorcast::kill`] or [`Doorcast::stop`].
    pub(crate) async fn start_again(&mut self) {
        let (child, log, reader) = spawn(&self.arguments, &self.folder, &self.address);
        (self.child, self.log, self.reader) = (child, log, reader);
        self.log.listening().await;
        self.starts.send_modify(|starts| *starts += 1);
    }

    /// Starts again where it must end by itself, and the status it ends with.
    #[allow(dead_code, reason = "the fault suite wants it")]
    pub(crate) async fn start_in_vain(&mut self) -> ExitStatus {
        let (child, log, reader) = spawn(&self.arguments, &self.folder, &self.address);
        (self.child, self.log, self.reader) = (child, log, reader);
        self.ended().await
    }

    /// SIGTERM, and the status it ends with.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.terminate();
        deadline(self.child.wait()).await.unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        deadline(self.child.wait()).await.unwrap()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Any signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
        // On a busy machine its threads go on for a moment.
        while name == "STOP" && !self.is_stopped() {
            std::thread::yield_now();
        }
    }

    /// Whether all its threads are.
    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        threads.flatten().all(|thread| {
            let state = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            state.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits until the log has a line with this message, and returns the first.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        self.log.wait_for(|line| line["message"].as_str() == Some(message)).await
    }

    /// Waits until the log has a line whose `error` has this text in it, or whose `reason` has, or the message of a
    /// process that ends.
    pub(crate) async fn logged_error(&self, text: &str) {
        let says = |value: &Value| value.as_str().is_some_and(|value| value.contains(text));
        let is_last = |line: &Value| line["level"] == "ERROR" && says(&line["message"]);
        self.log.wait_for(|line| says(&line["error"]) || says(&line["reason"]) || is_last(line)).await;
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        let lines: Vec<String> = self.lines().iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    /// The same, line by line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.log.0.borrow().clone()
    }

    /// Waits until `path` answers with `status`, asking again as soon as it has answered otherwise.
    pub(crate) async fn answers(&self, path: &str, status: u16) {
        let client = crate::site::client();
        deadline(async {
            loop {
                if let Ok(answer) = client.get(self.url(path)).send().await
                    && answer.status() == status
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// Runs `doorcast run` with exactly `arguments` to its end: its status, and what it wrote.
pub(crate) async fn run_to_end(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_doorcast"))
        .arg("run")
        .args(arguments)
        .env_remove("RUST_LOG")
        .kill_on_drop(true)
        .output();
    let output = deadline(output).await.unwrap();
    (output.status.code().expect("it ended by itself"), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn spawn(arguments: &[String], folder: &Arc<TempDir>, listen: &str) -> (Child, Log, JoinHandle<()>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorcast"))
        .args(["run", "--log-format", "json", "--listen", listen, "--checkpoint"])
        .arg(folder.path().join("checkpoint.json"))
        .args(arguments)
        .env("RUST_LOG", "doorcast=debug")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let log = Log(Arc::new(watch::Sender::new(Vec::new())));
    let written = log.clone();
    let reader = tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
            written.0.send_modify(|lines| lines.push(line));
        }
    });
    (child, log, reader)
}

impl Log {
    async fn listening(&self) -> String {
        let line = self.wait_for(|line| line["message"] == "listening").await;
        line["address"].as_str().unwrap().to_owned()
    }

    async fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut lines = self.0.subscribe();
        let found = deadline(lines.wait_for(|lines| lines.iter().any(&wanted))).await.unwrap();
        found.iter().find(|line| wanted(line)).cloned().unwrap()
    }
}

impl Drop for Doorcast {
    /// A test that fails shows what the process said.
    fn drop(&mut self) {
        self.reader.abort();
        if std::thread::panicking() {
            let lines = self.log.0.borrow();
            for line in lines.iter().filter(|line| line["message"] != "connection ended").take(60) {
                eprintln!("doorcast: {line}");
            }
        }
    }
}
