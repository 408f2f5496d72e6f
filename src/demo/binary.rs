//! Finds server programs on this machine and makes data folders for them.
//!
//! Knows how each kind of server wants to be initialised, and with which options it runs small and
//! quiet. Starts none.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

const INIT_MARIADB: &str = include_str!("init-mariadb.sh");

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// MariaDB.
    MariaDb,
    /// MySQL.
    MySql,
}

/// A server program that runs on this machine.
#[derive(Debug, Clone)]
pub struct ServerBinary {
    path: PathBuf,
    flavour: Flavour,
    version: (u32, u32, u32),
    /// A fresh data folder to copy, where somebody made one.
    fresh_data: Option<PathBuf>,
}

impl ServerBinary {
    /// The program at `path`, asked for its version.
    ///
    /// # Errors
    /// It does not run, or does not answer as a MySQL or MariaDB server does.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        // Without --no-defaults a broken my.cnf of the machine's own server would end it here.
        let output = Command::new(&path)
            .args(["--no-defaults", "--version"])
            .output()
            .with_context(|| format!("{} does not run", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version_in(&text)
            .with_context(|| format!("{} says no server version: {}", path.display(), text.trim()))?;
        let flavour = if text.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
        let fresh_data = path.parent().map(|folder| folder.join("data")).filter(|data| data.is_dir());
        Ok(Self { path, flavour, version, fresh_data })
    }

    /// The machine's own `mariadbd` or `mysqld`.
    #[must_use]
    pub fn installed() -> Option<Self> {
        ["mariadbd", "mysqld"].iter().filter_map(|name| program(name)).find_map(|path| Self::at(path).ok())
    }

    /// Every server in a folder that `scripts/servers` filled; none if there is no such folder.
    #[must_use]
    pub fn cached(folder: &Path) -> Vec<Self> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path().join("mysqld")).collect();
        paths.sort();
        paths.into_iter().filter_map(|path| Self::at(path).ok()).collect()
    }

    /// Flavour and series: `mariadb-10.11`, `mysql-9.7`.
    #[must_use]
    pub fn name(&self) -> String {
        let (major, minor, _) = self.version;
        match self.flavour {
            Flavour::MariaDb => format!("mariadb-{major}.{minor}"),
            Flavour::MySql => format!("mysql-{major}.{minor}"),
        }
    }

    /// Whose server it is.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// As the program says: 10.11.18 is `(10, 11, 18)`.
    #[must_use]
    pub fn version(&self) -> (u32, u32, u32) {
        self.version
    }

    /// The program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What makes the data folder `data`, which must not exist: root without a password, nothing
    /// else.
    pub(super) fn init_command(&self, data: &Path) -> Result<Command> {
        let mut command;
        match (&self.fresh_data, self.flavour) {
            (Some(fresh), _) => {
                command = Command::new("cp");
                command.arg("-R").arg(fresh).arg(data);
            }
            (None, Flavour::MariaDb) => {
                command = Command::new("sh");
                command.args(["-c", INIT_MARIADB, "sh"]).arg(&self.path).arg(self.share()?).arg(data);
                command.args(self.run_as(data));
            }
            (None, Flavour::MySql) => {
                command = Command::new(&self.path);
                command.args(["--no-defaults", "--initialize-insecure", "--secure-file-priv="]);
                command.args(self.location_options(data));
            }
        }
        Ok(command)
    }

    /// Where the data is, and as whom to run.
    pub(super) fn location_options(&self, data: &Path) -> Vec<OsString> {
        let run_as = self.run_as(data).map(OsString::from);
        [with_path("--datadir=", data)].into_iter().chain(run_as).collect()
    }

    /// A server refuses to run as root, who owns the folder above `data` then, unless told to.
    fn run_as(&self, data: &Path) -> Option<&'static str> {
        let folder = data.parent().unwrap_or(data);
        fs::metadata(folder).is_ok_and(|folder| folder.uid() == 0).then_some("--user=root")
    }

    /// Small, quiet, on loopback, binlog on: what differs from server to server.
    pub(super) fn options(&self) -> Vec<&'static str> {
        let mut options = vec![
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--server-id=1",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            // A killed server loses no commit, only a machine that loses power would.
            "--sync-binlog=0",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=32M",
            "--performance-schema=OFF",
        ];
        match (self.flavour, self.version) {
            (Flavour::MariaDb, _) => options.push("--innodb-log-file-size=16M"),
            (Flavour::MySql, version) => {
                options.extend(["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
                if version < (5, 7, 0) {
                    options.extend(["--log-slave-updates", "--innodb-log-file-size=32M"]);
                } else {
                    options.extend(["--secure-file-priv=", "--loose-mysqlx=OFF"]);
                    options.push("--loose-innodb-redo-log-capacity=32M");
                }
            }
        }
        options
    }

    /// The folder with MariaDB's SQL scripts, which Debian, tarballs and newer versions name
    /// differently.
    fn share(&self) -> Result<PathBuf> {
        let base = self.path.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
        ["share/mariadb", "share/mysql", "share"]
            .map(|folder| base.join(folder))
            .into_iter()
            .find(|folder| {
                ["mariadb", "mysql"]
                    .iter()
                    .any(|name| folder.join(format!("{name}_system_tables.sql")).is_file())
            })
            .with_context(|| {
                format!("the SQL scripts of {} are not in {}/share", self.path.display(), base.display())
            })
    }
}

impl fmt::Display for ServerBinary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        let flavour = match self.flavour {
            Flavour::MariaDb => "MariaDB",
            Flavour::MySql => "MySQL",
        };
        write!(f, "{flavour} {major}.{minor}.{patch}")
    }
}

/// `prefix` and a path, which need not be UTF-8, as one argument.
pub(super) fn with_path(prefix: &str, path: &Path) -> OsString {
    let mut option = OsString::from(prefix);
    option.push(path);
    option
}

/// A program in `PATH`, or in `/usr/sbin`, where Debian has the servers and a user's `PATH` does not.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// From `mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64`.
fn version_in(text: &str) -> Option<(u32, u32, u32)> {
    let (_, after) = text.split_once(" Ver ")?;
    let digits = after.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = digits.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_each_flavours_answer() {
        for (answer, version) in [
            (
                "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 ()",
                Some((10, 11, 19)),
            ),
            ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", Some((9, 7, 4))),
            ("./mysqld  Ver 5.6.24 for Linux on x86_64 (Source distribution)", Some((5, 6, 24))),
            ("mysqld  Ver 8.4", None),
            ("", None),
        ] {
            assert_eq!(version_in(answer), version, "{answer}");
        }
    }
}
