//! The demo's page with a screen and a button for each card, at an address of its own: what a press does
//! is an INSERT, as of the access-control system itself.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{Uri, header};
use axum::routing::post;
use mysql_async::Conn;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::people::people;
use super::swipes::Swipe;

const PAGE: &str = include_str!("demo.html");

/// Presses that wait for the database; further ones are dropped, as by a turnstile.
const PRESSES: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Button {
    listener: TcpListener,
    cards: Vec<String>,
}

#[derive(Debug)]
struct Presses {
    cards: Vec<String>,
    queue: mpsc::Sender<Swipe>,
}

impl Button {
    /// Writes the people and the page into the demo's folder.
    pub(super) async fn prepare(folder: &Path, cards: &[String]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the button")?;
        let (file, named) = people(cards);
        // A press names the place in the list, so that the page holds no card.
        let buttons: String = named
            .iter()
            .enumerate()
            .map(|(place, (_, name))| format!("<button data-place=\"{place}\">{name}</button>\n"))
            .collect();
        let address = format!("http://{}", listener.local_addr()?);
        let page = PAGE.replace("BUTTONS", &buttons).replace("ADDRESS", &address);
        std::fs::create_dir_all(folder.join("www"))?;
        std::fs::write(folder.join("people.csv"), file)?;
        std::fs::write(folder.join("www/demo.html"), page)?;
        Ok(Self { listener, cards: cards.to_vec() })
    }

    /// Swipes at each press, until the database fails.
    pub(super) async fn swipe(self, mut conn: Conn) -> Result<()> {
        let (queue, mut pressed) = mpsc::channel(PRESSES);
        let presses = Arc::new(Presses { cards: self.cards, queue });
        let router = Router::new().route("/{door}/{place}", post(press)).with_state(presses);
        let serve = axum_serve(self.listener, router);
        let insert = async {
            while let Some(swipe) = pressed.recv().await {
                super::insert(&mut conn, &swipe, swipe.wait).await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            outcome = serve => outcome,
            outcome = insert => outcome,
        }
    }
}

async fn press(
    State(presses): State<Arc<Presses>>,
    uri: Uri,
) -> ([(header::HeaderName, &'static str); 1], String) {
    let mut parts = uri.path().split('/').skip(1).map(|part| part.parse::<u32>().ok());
    let (door, place) = (parts.next().flatten(), parts.next().flatten());
    let card = place.and_then(|place| presses.cards.get(place as usize));
    if let (Some(door), Some(card)) = (door, card) {
        let wait = std::time::Duration::ZERO;
        let _ = presses.queue.try_send(Swipe { wait, door, card: card.clone(), opened: true });
    }
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], String::new())
}

/// A connection at a time is enough for one person's presses.
async fn axum_serve(listener: TcpListener, router: Router) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let io = hyper_util::rt::TokioIo::new(stream);
        let one = hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(io, service);
        // A browser that has gone, or says nothing, is no reason to end.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), one).await;
    }
}
