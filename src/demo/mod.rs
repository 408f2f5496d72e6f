//! `doorcast demo`: a private server with swipes, and doorcast beside it, to try it all out.
//!
//! Owns the made-up doors and people. What follows the table is handed in: it gets what any
//! operator would give it, a URL of a user with least rights, and no more.

use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::Duration;

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params, params};
use tokio::net::TcpListener;
use tracing::info;

use self::binary::{ServerBinary, program};
use self::button::Button;
use self::server::PrivateServer;
use self::swipes::{Building, Swipe};

pub mod binary;
mod button;
mod people;
pub mod server;
mod supervised;
mod swipes;

/// How to try it out.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// The mariadbd or mysqld to start a private copy of [default: the one installed]
    #[arg(long, value_name = "PATH", env = "DOORCAST_SERVER")]
    pub server: Option<PathBuf>,

    /// Address and port for browsers; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", env = "DOORCAST_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// Swipes per minute, on average
    #[arg(long, value_name = "N", env = "DOORCAST_RATE", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub rate: u32,
}

/// What there is to follow, and where to serve it.
#[derive(Debug)]
pub struct Followed {
    /// The server, as a user who can only read: `mysql://…?socket=…`.
    pub db_url: String,
    /// The table, without its database.
    pub table: &'static str,
    /// Where the position file may be; the folder goes with the demo.
    pub checkpoint: PathBuf,
    /// The people who are greeted.
    pub people: PathBuf,
    /// Pages of the demo's own.
    pub www_dir: PathBuf,
    /// Bound already.
    pub listener: TcpListener,
}

const DATABASE: &str = "doors";
const TABLE: &str = include_str!("../../migrations/0001_vdooropen.up.sql");
const USER: &str = include_str!("../../migrations/0002_doorcast_user.up.sql");

const SWIPES_BEFORE: usize = 24;

/// Starts a server, lets people swipe their cards in it, and runs `follow` until `shutdown`, which
/// `follow` is handed so that it can end in its own time. The server and its folder go in any case.
///
/// # Errors
/// No server is found or it does not start, the address is taken, or `follow` fails.
pub async fn run<S, F>(options: DemoOptions, shutdown: S, follow: F) -> Result<()>
where
    S: Future<Output = ()>,
    F: AsyncFnOnce(Followed, Pin<&mut S>) -> Result<()>,
{
    let mut shutdown = pin!(shutdown);
    let listener = TcpListener::bind(&options.listen)
        .await
        .with_context(|| format!("can't listen on {}", options.listen))?;
    let address = listener.local_addr()?;

    let prepared = async {
        let binary = server_binary(options.server.as_deref())?;
        say(&format!("Starting a private {binary} ..."));
        // No port: root has no password here, and the socket's folder is open to its owner alone.
        let server = PrivateServer::start(binary, &["--skip-networking"]).await?;
        let db_url = migrate(&server).await?;
        let mut conn = server.root(Some(DATABASE)).await?;
        let mut building = Building::new(fastrand::Rng::new());
        swipe_earlier(&mut conn, &mut building, options.rate).await?;
        let folder = server.data().with_file_name("site");
        let button = Button::prepare(&folder, building.cards()).await?;
        anyhow::Ok((server, db_url, conn, building, folder, button))
    };
    let (server, db_url, conn, building, folder, button) = tokio::select! {
        prepared = prepared => prepared?,
        () = &mut shutdown => return Ok(()),
    };

    say(&format!("People swipe their cards. Watch them at http://{address}/"));
    say(&format!("Swipe a card and see who is greeted: http://{address}/demo.html"));
    say(&format!("The welcome screen of door 1: http://{address}/screen?doorno=1"));
    say(&format!("Who is greeted, and how: http://{address}/reception"));
    say(&format!("All swipes as they come: curl -N http://{address}/events"));
    if let Some(client) = program("mariadb").or_else(|| program("mysql")) {
        say(&format!("Swipe one yourself: {}", swipe_command(&client, &server.socket())));
    }
    say("Control-C ends it all and leaves nothing behind.");
    let checkpoint = server.data().with_file_name("doorcast.checkpoint.json");
    let (people, www_dir) = (folder.join("people.csv"), folder.join("www"));
    let followed = Followed { db_url, table: "vdooropen", checkpoint, people, www_dir, listener };
    let pressed = server.root(Some(DATABASE)).await?;
    let outcome = tokio::select! {
        outcome = follow(followed, shutdown) => outcome,
        outcome = button.swipe(pressed) => outcome.context("the private server is gone"),
        outcome = swipe_cards(conn, building, options.rate) => outcome.context("the private server is gone"),
    };
    drop(server);
    info!("private server and its folder removed");
    outcome
}

fn server_binary(path: Option<&Path>) -> Result<ServerBinary> {
    match path {
        Some(path) => ServerBinary::at(path),
        None => ServerBinary::installed().context(
            "neither mariadbd nor mysqld is installed; install the package mariadb-server-core, \
             or name the program with --server",
        ),
    }
}

/// Makes the table and the user as a DBA would, from the files in `migrations/`.
async fn migrate(server: &PrivateServer) -> Result<String> {
    let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(24).collect();
    let mut root = server.root(None).await?;
    for sql in [
        &format!("CREATE DATABASE {DATABASE}"),
        &format!("USE {DATABASE}"),
        TABLE,
        &USER.replace("CHANGE-ME", &password),
    ] {
        root.query_drop(sql).await?;
    }
    root.disconnect().await?;
    let socket = server.socket();
    Ok(format!("mysql://doorcast:{password}@localhost/{DATABASE}?socket={}", socket.display()))
}

/// So that there are rows to look at from the start.
async fn swipe_earlier(conn: &mut Conn, building: &mut Building, rate: u32) -> Result<()> {
    let swipes: Vec<_> =
        std::iter::repeat_with(|| building.arrivals(rate)).flatten().take(SWIPES_BEFORE).collect();
    let mut ago: Duration = swipes.iter().map(|swipe| swipe.wait).sum();
    for swipe in swipes {
        insert(conn, &swipe, ago).await?;
        ago = ago.saturating_sub(swipe.wait);
    }
    Ok(())
}

/// Swipes until something breaks, such as the server's end.
async fn swipe_cards(mut conn: Conn, mut building: Building, rate: u32) -> Result<()> {
    loop {
        for swipe in building.arrivals(rate) {
            tokio::time::sleep(swipe.wait).await;
            insert(&mut conn, &swipe, Duration::ZERO).await?;
        }
    }
}

async fn insert(conn: &mut Conn, swipe: &Swipe, ago: Duration) -> Result<()> {
    let values: Params = params! {
        "door" => swipe.door,
        "card" => &swipe.card,
        "ago" => ago.as_secs(),
        "opened" => if swipe.opened { "Y" } else { "N" },
    };
    conn.exec_drop(
        "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) \
         VALUES (:door, :card, DATE_FORMAT(NOW() - INTERVAL :ago SECOND, '%Y%m%d %H%i%s'), :opened)",
        values,
    )
    .await?;
    Ok(())
}

fn swipe_command(client: &Path, socket: &Path) -> String {
    format!(
        "{} -u root -S {} {DATABASE} -e \"INSERT INTO vdooropen VALUES (NULL, 1, 'MYCARD', '20261120 071500', 'Y')\"",
        client.display(),
        socket.display()
    )
}

#[expect(clippy::print_stdout, reason = "for the person who started the demo; the log is for operators")]
fn say(line: &str) {
    println!("{line}");
}
