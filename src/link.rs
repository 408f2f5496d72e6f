//! Connections to the server, and what kind of server it is.
//!
//! Owns the URL, the password, TLS and the sorting of errors into those that pass by themselves and
//! those that a person must mend. Knows no table.

use std::{
    fmt, io,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mysql_async::{Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts, prelude::Queryable};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::tail::{gtid::GtidSet, position::FileOffset, position::Position};

/// How long a connection may take to be made, and one administrative query to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Packets up to MySQL's own maximum are taken: an event over the limit, on whatever table, would end
/// the stream for ever.
const LARGEST_PACKET_BYTES: usize = 1 << 30;

/// TLS, in MySQL's own words (`--ssl-mode` of its clients).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SslMode {
    /// Never.
    Disabled,
    /// Where the server has it; the certificate is not checked.
    #[default]
    Preferred,
    /// Always; the certificate is not checked.
    Required,
    /// Always; the certificate must be signed by `--ssl-ca`. As long as mysql_async 0.37 can't leave the
    /// name aside, it must be for the host in the URL, too.
    VerifyCa,
    /// Always; and it must be for the host in the URL.
    VerifyIdentity,
}

/// How to reach the server. Connects; holds no connection.
pub struct Link {
    opts: Opts,
    database: Option<String>,
    ssl_mode: SslMode,
    ssl_ca: Option<PathBuf>,
    plain_known: AtomicBool,
}

/// MySQL or MariaDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// MySQL, Percona Server and the like.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// Which server this is, to notice another one behind the same address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// See [`Flavour`].
    pub flavour: Flavour,
    /// `@@server_uuid`; MySQL only.
    pub server_uuid: Option<String>,
    /// `@@server_id`.
    pub server_id: u32,
    /// `@@hostname`; `None` on MySQL, where the UUID says it all.
    pub host: Option<String>,
}

/// What a server says about itself.
#[derive(Debug, Clone)]
pub struct Server {
    /// See [`Identity`].
    pub identity: Identity,
    /// The account that is logged in, as `GRANT` wants it: `'user'@'host'`.
    pub account: String,
    /// `@@version`, for people.
    pub version_text: String,
    /// Major, minor, patch.
    pub version: (u16, u16, u16),
    /// Whether it writes a binlog.
    pub log_bin: bool,
    /// `@@binlog_format`: `ROW`, `STATEMENT` or `MIXED`.
    pub binlog_format: String,
}

/// Why the server can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It may pass: the network, a restart, too many connections.
    #[error("{what}")]
    Transient {
        /// What was being done.
        what: &'static str,
        /// What the driver or the server said.
        #[source]
        source: Box<Error>,
    },
    /// No answer in time.
    #[error("{what}: no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent {
        /// What was being done.
        what: &'static str,
    },
    /// A person must act; the text names the remedy.
    #[error("{0}")]
    Definite(String),
}

impl LinkError {
    /// Whether only a person can mend it.
    pub fn is_definite(&self) -> bool {
        matches!(self, LinkError::Definite(_))
    }
}

impl Link {
    /// Reads `mysql://user[:password]@host:port/database[?socket=/path]`. `password` goes before the
    /// URL's own.
    ///
    /// # Errors
    /// The text says what is wrong with the URL, without repeating it: it may hold a password.
    pub fn new(
        url: &str,
        password: Option<String>,
        ssl_mode: SslMode,
        ssl_ca: Option<PathBuf>,
    ) -> Result<Link, String> {
        let example = "mysql://user@host:3306/database";
        let opts = Opts::from_url(url).map_err(|err| format!("--db is not a URL like {example}: {err}"))?;
        if matches!(ssl_mode, SslMode::VerifyCa | SslMode::VerifyIdentity) && ssl_ca.is_none() {
            return Err(
                "--ssl-mode verify-ca and verify-identity need --ssl-ca with the CA's certificate".into()
            );
        }
        if let Some(path) = &ssl_ca {
            std::fs::metadata(path).map_err(|err| format!("--ssl-ca {}: {err}", path.display()))?;
        }
        let (socket, database) = (opts.socket().map(str::to_owned), opts.db_name().map(str::to_owned));
        let password = password.or_else(|| opts.pass().map(str::to_owned));
        let opts = OptsBuilder::from_opts(opts)
            // Not chosen: one that is not open to us would be refused before anybody can say which table it is about.
            .db_name(None::<String>)
            .pass(password)
            .socket(socket)
            .prefer_socket(false)
            .max_allowed_packet(Some(LARGEST_PACKET_BYTES))
            .wait_timeout(Some(28_800))
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .tcp_nodelay(true)
            .stmt_cache_size(16)
            .into();
        Ok(Link { opts, database, ssl_mode, ssl_ca, plain_known: AtomicBool::new(false) })
    }

    /// The database that the URL names.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The account, as `GRANT` wants it; the host part is the server's to know.
    fn account(&self) -> String {
        format!("'{}'@'<host>'", self.opts.user().unwrap_or_default())
    }

    /// Connects. Cancel-safe: an unfinished connection is dropped.
    ///
    /// # Errors
    /// Transient for network errors, a server that starts or is full; definite for a wrong password,
    /// a refused host, or TLS that can't be had as asked.
    pub async fn connect(&self) -> Result<Conn, LinkError> {
        let preferred = self.ssl_mode == SslMode::Preferred;
        if self.ssl_mode == SslMode::Disabled || (preferred && self.plain_known.load(Ordering::Relaxed)) {
            return self.connect_with(None).await;
        }
        match self.connect_with(Some(self.ssl_opts())).await {
            Err(LinkError::Transient { source, .. })
                if tls_is_lacking(&source) || (preferred && tls_may_be_lacking(&source)) =>
            {
                if !preferred {
                    return Err(LinkError::Definite(format!(
                        "no TLS as --ssl-mode asks: {source}. Give the server a certificate that {}, or choose \
                         another --ssl-mode",
                        if self.ssl_ca.is_some() {
                            "--ssl-ca vouches for, with the host of --db as its subjectAltName"
                        } else {
                            "rustls accepts (TLS 1.2 or later)"
                        },
                    )));
                }
                info!(error = %source, "no TLS with this server, going on without, as --ssl-mode preferred allows");
                let conn = self.connect_with(None).await?;
                self.plain_known.store(true, Ordering::Relaxed);
                Ok(conn)
            }
            other => other,
        }
    }

    async fn connect_with(&self, ssl: Option<SslOpts>) -> Result<Conn, LinkError> {
        let opts = OptsBuilder::from_opts(self.opts.clone()).ssl_opts(ssl);
        within("connecting", Conn::new(opts)).await.map_err(|err| self.explain(err))
    }

    fn ssl_opts(&self) -> SslOpts {
        let verify = matches!(self.ssl_mode, SslMode::VerifyCa | SslMode::VerifyIdentity);
        let ca = self.ssl_ca.iter().map(|path| path.clone().into()).collect();
        SslOpts::default()
            .with_root_certs(ca)
            .with_disable_built_in_roots(self.ssl_ca.is_some())
            .with_danger_accept_invalid_certs(!verify)
            .with_danger_skip_domain_validation(self.ssl_mode != SslMode::VerifyIdentity)
    }

    /// Turns what the server said while connecting into what to do.
    fn explain(&self, err: LinkError) -> LinkError {
        let LinkError::Transient { what, source } = err else { return err };
        let account = self.account();
        match &*source {
            Error::Server(server) => match server.code {
                1045 | 1698 => LinkError::Definite(format!(
                    "wrong password or unknown user for {account} ({}). Give the right one in --password-file, or on \
                     the server: ALTER USER {account} IDENTIFIED BY '…';",
                    server.message
                )),
                1130 => LinkError::Definite(format!(
                    "the server takes no connections from this host ({}). On the server: CREATE USER {account} \
                     IDENTIFIED BY '…'; with this machine as <host>",
                    server.message
                )),
                1129 => LinkError::Definite(format!(
                    "the server has blocked this host ({}). On the server: FLUSH HOSTS, or TRUNCATE TABLE \
                     performance_schema.host_cache",
                    server.message
                )),
                _ => LinkError::Transient { what, source },
            },
            Error::Driver(
                driver @ (DriverError::UnknownAuthPlugin { .. } | DriverError::MysqlOldPasswordDisabled),
            ) => LinkError::Definite(format!(
                "{driver}. On the server: ALTER USER {account} IDENTIFIED WITH caching_sha2_password BY '…'; \
                     (mysql_native_password on MariaDB and before MySQL 8.0)"
            )),
            _ => LinkError::Transient { what, source },
        }
    }
}

impl fmt::Debug for Link {
    /// Host and port only: the rest may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("host", &self.opts.ip_or_hostname()).finish_non_exhaustive()
    }
}

/// Whether a connection failed because there is no TLS as it was asked for.
fn tls_is_lacking(err: &Error) -> bool {
    match err {
        Error::Driver(DriverError::NoClientSslFlagFromServer) | Error::Io(IoError::Tls(_)) => true,
        // rustls wraps its own errors in this kind.
        Error::Io(IoError::Io(err)) => err.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Whether a connection may have failed for want of TLS: a server that knows nothing newer than TLS 1.1
/// just closes it. So does one that is going down.
fn tls_may_be_lacking(err: &Error) -> bool {
    match err {
        Error::Driver(DriverError::ConnectionClosed) => true,
        Error::Io(IoError::Io(err)) => matches!(
            err.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
        _ => false,
    }
}

/// Runs `query` with a time limit.
///
/// # Errors
/// As [`LinkError`], never definite: the caller knows what a server error means where it asked.
pub async fn within<T>(
    what: &'static str,
    query: impl Future<Output = Result<T, Error>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(ANSWER_WITHIN, query).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(LinkError::Transient { what, source: Box::new(source) }),
        Err(_) => Err(LinkError::Silent { what }),
    }
}

/// Asks a server what it is. Works from MySQL 5.6 and MariaDB 10.5 on.
///
/// # Errors
/// Transient only.
pub async fn describe(conn: &mut Conn) -> Result<Server, LinkError> {
    let sql = "SELECT @@GLOBAL.version, @@GLOBAL.server_id, @@GLOBAL.log_bin, @@GLOBAL.binlog_format, @@hostname, \
               CURRENT_USER()";
    let row: Option<(String, u32, bool, String, Option<String>, String)> =
        within("asking the server what it is", conn.query_first(sql)).await?;
    let (version_text, server_id, log_bin, binlog_format, host, account) = row.unwrap_or_default();
    let flavour =
        if version_text.to_ascii_lowercase().contains("mariadb") { Flavour::MariaDb } else { Flavour::MySql };
    let server_uuid = match flavour {
        Flavour::MySql => {
            within("asking for server_uuid", conn.query_first("SELECT @@GLOBAL.server_uuid")).await?
        }
        Flavour::MariaDb => None,
    };
    let host = if flavour == Flavour::MariaDb { host } else { None };
    Ok(Server {
        identity: Identity { flavour, server_uuid, server_id, host },
        account: quoted_account(&account),
        version: conn.server_version(),
        version_text,
        log_bin,
        binlog_format,
    })
}

/// Where the server's binlog ends now.
///
/// # Errors
/// Definite without the privilege for it, or without a binlog.
pub async fn binlog_end(conn: &mut Conn, server: &Server) -> Result<Position, LinkError> {
    let renamed = server.identity.flavour == Flavour::MySql && server.version >= (8, 2, 0);
    let sql = if renamed { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let row: Option<mysql_async::Row> =
        within("asking for the end of the binlog", conn.query_first(sql)).await.map_err(|err| {
            lacks_privilege(err, &format!("GRANT REPLICATION CLIENT ON *.* TO {};", server.account))
        })?;
    let Some(row) = row else { return Err(LinkError::Definite(BINLOG_OFF.into())) };
    let file: Option<String> = row.get(0);
    let offset: Option<u64> = row.get(1);
    let (Some(file), Some(offset)) = (file, offset) else {
        return Err(LinkError::Definite(BINLOG_OFF.into()));
    };
    let gtids: Option<String> = match server.identity.flavour {
        // MySQL's fifth column; absent or empty without gtid_mode.
        Flavour::MySql => row.get_opt(4).and_then(Result::ok),
        Flavour::MariaDb => {
            let sql = "SELECT @@GLOBAL.gtid_binlog_pos";
            within("asking for gtid_binlog_pos", conn.query_first(sql)).await?
        }
    };
    let gtid_set = gtids.map(|text| match (text.trim(), server.identity.flavour) {
        ("", Flavour::MySql) => Ok(GtidSet::MySql(Default::default())),
        ("", Flavour::MariaDb) => Ok(GtidSet::MariaDb(Default::default())),
        (text, _) => text.parse::<GtidSet>(),
    });
    let gtid_set = gtid_set.and_then(Result::ok);
    Ok(Position { at: FileOffset { file, offset }, began: None, gtid_set })
}

/// `'user'@'host'` from `user@host`, which is what `CURRENT_USER()` says.
fn quoted_account(account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    format!("'{user}'@'{host}'")
}

/// The message for a server without a binlog.
pub const BINLOG_OFF: &str = "the server writes no binlog. In its my.cnf, under [mysqld]: log_bin=mysql-bin, \
     binlog_format=ROW and server_id=1 (any number that no other server has), then restart it";

/// Turns "access denied" into the grant to give; leaves other errors as they are.
pub fn lacks_privilege(err: LinkError, grant: &str) -> LinkError {
    match err {
        LinkError::Transient { source, .. } if matches!(&*source, Error::Server(server) if matches!(server.code, 1044 | 1045 | 1142 | 1227)) => {
            LinkError::Definite(format!("a privilege is lacking ({source}). On the server: {grant}"))
        }
        other => other,
    }
}
