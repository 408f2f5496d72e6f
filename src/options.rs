//! The command line, the environment and the options file, in this order of precedence.
//!
//! clap describes each option once. The file's values take the place of the defaults, so that a flag or
//! a variable goes before them.

mod screen;

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind,
};

pub use self::screen::ScreenOptions;
use crate::{
    demo::DemoOptions,
    follow::{OnLostPosition, StartFrom},
    link::SslMode,
};

/// Push the INSERTs of one MySQL or MariaDB table to browsers, from the binlog.
#[derive(Debug, Parser)]
#[command(
    name = "doorcast",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow a table and serve it.
    ///
    /// Needs an account with REPLICATION SLAVE and REPLICATION CLIENT on *.* and SELECT on the table, and a
    /// server that writes its binlog, best with binlog_format=ROW. Writes nothing to the database.
    #[command(after_help = RUN_HELP)]
    Run(Box<RunOptions>),
    /// Try it out: a private server in a temporary folder, with cards being swiped.
    Demo(DemoOptions),
}

const RUN_HELP: &str = "\
Example:
  doorcast run --db mysql://doorcast@127.0.0.1:3306/access --password-file /etc/doorcast/password
  curl -N http://127.0.0.1:8080/events

Every option is also an environment variable (DOORCAST_DB, DOORCAST_TABLE, …) and a key of the file that
--config names (db = \"mysql://…\", ssl-mode = \"required\"). A flag goes before the environment, the
environment before the file, the file before the default.

Exit status: 0 asked to stop, 1 unexpected, 2 bad usage or configuration, 3 the database needs a person.
Log level: RUST_LOG=debug, or for instance doorcast=debug,info.";

/// Options of `doorcast run`.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// The server: mysql://user@host:port/database, also with ?socket=/path. Best without the password: see
    /// --password-file
    #[arg(long, env = "DOORCAST_DB", value_name = "URL", hide_env_values = true)]
    pub db: String,

    /// A file with nothing but the password in it. Without it: `doorcast.password` among systemd's
    /// credentials, if there is one
    #[arg(long, env = "DOORCAST_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// The table to follow, [database.]table. Its key must be a single integer column
    #[arg(long, env = "DOORCAST_TABLE", value_name = "TABLE", default_value = "vdooropen")]
    pub table: String,

    /// Address and port to listen on; port 0 takes a free one, and the log says which
    #[arg(long, env = "DOORCAST_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Listen on an address that others can reach, though anybody there can read the card ids
    #[arg(long, env = "DOORCAST_ALLOW_ANONYMOUS")]
    pub allow_anonymous: bool,

    /// The file that keeps the position across restarts
    #[arg(
        long,
        env = "DOORCAST_CHECKPOINT",
        value_name = "FILE",
        default_value = "doorcast.checkpoint.json"
    )]
    pub checkpoint: PathBuf,

    /// Where to begin: checkpoint (the first time: now), now, earliest, FILE:OFFSET, or a GTID set
    #[arg(long, env = "DOORCAST_START_FROM", value_name = "WHERE", default_value = "checkpoint")]
    pub start_from: StartFrom,

    /// What to do when the server does not have the position any more
    #[arg(
        long,
        env = "DOORCAST_ON_LOST_POSITION",
        value_name = "WHAT",
        value_enum,
        default_value = "catch-up"
    )]
    pub on_lost_position: OnLostPosition,

    /// Rows kept in memory for clients that come back
    #[arg(long, env = "DOORCAST_HISTORY", value_name = "ROWS", default_value_t = 10_000)]
    pub history: usize,

    /// Bytes that those rows may take
    #[arg(long, env = "DOORCAST_HISTORY_BYTES", value_name = "BYTES", default_value_t = 64 << 20)]
    pub history_bytes: usize,

    /// Rows that a client which was away for longer gets from the table, before it is told of a gap
    #[arg(long, env = "DOORCAST_RESUME_LIMIT", value_name = "ROWS", default_value_t = 1_000)]
    pub resume_limit: usize,

    /// TLS to the server
    #[arg(long, env = "DOORCAST_SSL_MODE", value_name = "MODE", value_enum, default_value = "preferred")]
    pub ssl_mode: SslMode,

    /// The certificate of the authority that signed the server's, PEM
    #[arg(long, env = "DOORCAST_SSL_CA", value_name = "FILE")]
    pub ssl_ca: Option<PathBuf>,

    /// Our server_id as a replica. Without it: one chosen by chance the first time, kept in the checkpoint
    #[arg(long, env = "DOORCAST_SERVER_ID", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub server_id: Option<u32>,

    /// The server must say at least this often, in seconds, that it is alive; after three times as long
    /// without a word the link counts as cut
    #[arg(long, env = "DOORCAST_DB_HEARTBEAT", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub db_heartbeat: Duration,

    /// Pause, in seconds, before what only a person can mend is tried again; up to twice as long, by chance
    #[arg(long, hide = true, env = "DOORCAST_DB_RETRY", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub db_retry: Duration,

    /// Clients hear from us at least this often, in seconds
    #[arg(long, env = "DOORCAST_HEARTBEAT", value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub heartbeat: Duration,

    /// Clients at a time; more are told to come back later
    #[arg(long, env = "DOORCAST_MAX_CLIENTS", value_name = "NUMBER", default_value_t = 10_000)]
    pub max_clients: usize,

    /// The old page's request ends empty after this many seconds, with a cookie to go on by. Without it, it
    /// waits without limit
    #[arg(long, env = "DOORCAST_OLD_PAGE_TIMEOUT", value_name = "SECONDS", value_parser = seconds)]
    pub old_page_timeout: Option<Duration>,

    /// A folder of the site's own pages, served at /
    #[arg(long, env = "DOORCAST_WWW_DIR", value_name = "FOLDER")]
    pub www_dir: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub screen: ScreenOptions,

    /// How log lines look
    #[arg(long, env = "DOORCAST_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// A TOML file with any of these options
    #[arg(long, env = "DOORCAST_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Cli {
    /// Reads arguments, environment and options file.
    ///
    /// # Errors
    /// clap's own, which prints itself and knows its exit status; an unreadable or wrong file likewise.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut command = Cli::command();
        let runs = arguments.iter().skip(1).any(|argument| argument == "run");
        if let Some(path) = config_path(&arguments).filter(|_| runs) {
            command = with_file(command, &path)?;
        }
        let matches: ArgMatches = command.try_get_matches_from(arguments)?;
        Cli::from_arg_matches(&matches)
    }
}

impl RunOptions {
    /// The defaults, with what has none.
    ///
    /// # Errors
    /// clap's, for instance when a variable of the environment holds something wrong.
    pub fn new(db: &str, table: &str, checkpoint: &Path) -> Result<RunOptions, clap::Error> {
        let command = RunOptions::augment_args(clap::Command::new("run"));
        let arguments: [&OsStr; 7] = [
            "run".as_ref(),
            "--db".as_ref(),
            db.as_ref(),
            "--table".as_ref(),
            table.as_ref(),
            "--checkpoint".as_ref(),
            checkpoint.as_ref(),
        ];
        RunOptions::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    /// The password, from wherever it is given; `None` leaves the URL's own.
    ///
    /// # Errors
    /// The text names the file.
    pub fn password(&self) -> Result<Option<String>, String> {
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| PathBuf::from(folder).join("doorcast.password"))
            .filter(|path| path.exists());
        let Some(path) = self.password_file.clone().or(credential) else { return Ok(None) };
        let text =
            fs::read_to_string(&path).map_err(|err| format!("--password-file {}: {err}", path.display()))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// Where `--config` or the environment says the file is.
fn config_path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("DOORCAST_CONFIG").map(PathBuf::from)
}

/// Puts the file's values in the place of the defaults.
fn with_file(mut command: clap::Command, path: &Path) -> Result<clap::Command, clap::Error> {
    let fail = |command: &mut clap::Command, problem: String| {
        command.error(ErrorKind::InvalidValue, format!("--config {}: {problem}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|err| fail(&mut command, err.to_string()))?;
    with_text(command, &text, path)
}

fn with_text(mut command: clap::Command, text: &str, path: &Path) -> Result<clap::Command, clap::Error> {
    let fail = |command: &mut clap::Command, problem: String| {
        command.error(ErrorKind::InvalidValue, format!("--config {}: {problem}", path.display()))
    };
    let table: toml::Table =
        text.parse().map_err(|err: toml::de::Error| fail(&mut command, err.to_string()))?;
    for (key, value) in table {
        let long = key.replace('_', "-");
        let known = command.find_subcommand("run").and_then(|run| {
            run.get_arguments().find(|arg| arg.get_long() == Some(&long) && long != "config")
        });
        let Some(id) = known.map(|arg| arg.get_id().clone()) else {
            return Err(fail(
                &mut command,
                format!("unknown option {key:?}; the names are those of doorcast run --help"),
            ));
        };
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            other => {
                return Err(fail(
                    &mut command,
                    format!("{key} must be a text or a number, not {}", other.type_str()),
                ));
            }
        };
        command = command
            .mut_subcommand("run", |run| run.mut_arg(id, |arg| arg.default_value(text).required(false)));
    }
    Ok(command)
}

/// The text of an options file: see [`crate::fuzzing`].
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(command) = with_text(Cli::command(), text, Path::new("doorcast.toml")) else { return };
    if let Ok(matches) = command.try_get_matches_from(["doorcast", "run"]) {
        let _ = Cli::from_arg_matches(&matches);
    }
}

/// A number of seconds, also 0.5, greater than 0 and at most a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "a number of seconds is wanted".to_owned())?;
    if !(0.001..=86_400.0).contains(&number) {
        return Err("between 0.001 and 86400 seconds".into());
    }
    Ok(Duration::from_secs_f64(number))
}

impl FromStr for StartFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "checkpoint" => return Ok(StartFrom::Checkpoint),
            "now" => return Ok(StartFrom::Now),
            "earliest" => return Ok(StartFrom::Earliest),
            _ => {}
        }
        if let Ok(at) = text.parse() {
            return Ok(StartFrom::File(at));
        }
        text.parse().map(StartFrom::Gtid).map_err(|err| {
            format!("neither checkpoint, now, earliest, nor FILE:OFFSET (mysql-bin.000042:4), and {err}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::position::FileOffset;

    fn read(arguments: &[&str]) -> Result<RunOptions, clap::Error> {
        let arguments = ["doorcast", "run"].iter().chain(arguments).map(OsString::from);
        match Cli::read(arguments)?.command {
            Command::Run(options) => Ok(*options),
            Command::Demo(_) => panic!("run was asked for"),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let file = file("db = 'mysql://a@b/c'\nhistory = 5\nssl_mode = 'required'\nallow-anonymous = true\n");
        let config = format!("--config={}", file.path().display());
        let options = read(&[&config, "--history", "7"]).unwrap();
        assert_eq!(options.db, "mysql://a@b/c");
        assert_eq!(options.history, 7);
        assert_eq!(options.ssl_mode, SslMode::Required);
        assert!(options.allow_anonymous);
        assert_eq!(options.table, "vdooropen");
    }

    #[test]
    fn an_unknown_key_or_a_wrong_value_in_the_file_is_named() {
        for (text, word) in [
            ("hystory = 5", "hystory"),
            ("history = 'x'", "history"),
            ("history = [1]", "array"),
            ("=", "config"),
        ] {
            let file = file(text);
            let err =
                read(&["--db", "mysql://a@b/c", "--config", file.path().to_str().unwrap()]).unwrap_err();
            assert!(err.to_string().contains(word), "{err}");
            assert_eq!(err.exit_code(), 2);
        }
    }

    #[test]
    fn start_from_reads_every_form() {
        let at = FileOffset { file: "bin.000002".into(), offset: 4 };
        for (text, expected) in [
            ("now", StartFrom::Now),
            ("earliest", StartFrom::Earliest),
            ("checkpoint", StartFrom::Checkpoint),
            ("bin.000002:4", StartFrom::File(at)),
            ("0-1-5", StartFrom::Gtid("0-1-5".parse().unwrap())),
            (
                "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5",
                StartFrom::Gtid("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap()),
            ),
        ] {
            assert_eq!(text.parse::<StartFrom>(), Ok(expected));
        }
        assert!("yesterday".parse::<StartFrom>().unwrap_err().contains("FILE:OFFSET"));
    }
}
