//! The HTTP side: server-sent events, long poll, the old page's protocol, status, and pages.
//!
//! Knows neither MySQL nor the checkpoint: rows come from the [`Feed`], the rest from [`Status`].

mod accept;
mod clients;
mod error;
mod events;
mod metrics;
mod old_page;
mod pause;
mod photos;
mod poll;
mod query;
mod reception;
mod same_site;
mod screen;
mod screens;
mod status;
mod view;
mod www;

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Request,
    http::header,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

#[doc(hidden)]
pub use self::query::fuzz;
pub use self::same_site::Reception;
use self::{clients::Clients, error::HttpError, screens::Screens};
use crate::{feed::Feed, people::People, status::Status};

/// Longest request target that is looked at.
const URI_BYTES: usize = 8 * 1024;

/// How the HTTP side behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time between two pings of an event stream, and between two spaces to an old page.
    pub heartbeat: Duration,
    /// A connection whose write stays blocked this long is ended.
    pub write_stall: Duration,
    /// A connection that has not sent a whole request head by then is ended, also between requests.
    pub header_read: Duration,
    /// How long requests may take to end at shutdown before they are cut.
    pub drain: Duration,
    /// How long an old page is kept waiting; `None`: without limit.
    pub old_page_timeout: Option<Duration>,
    /// A folder of the site's own pages.
    pub www_dir: Option<PathBuf>,
    /// A folder with `screen.css`, the looks of the welcome screen, and what it refers to.
    pub theme_dir: Option<PathBuf>,
    /// Connections at the same time. Further ones are told to come back later.
    pub max_clients: usize,
    /// The people whom screens greet; without them there is nothing at `/screen/*`.
    pub people: Option<Arc<People>>,
    /// Lets a receptionist change them; without it there is nothing at `/reception/api/*`.
    pub reception: Option<Reception>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            heartbeat: Duration::from_secs(15),
            write_stall: Duration::from_secs(30),
            header_read: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            old_page_timeout: None,
            www_dir: None,
            theme_dir: None,
            max_clients: 10_000,
            people: None,
            reception: None,
        }
    }
}

/// What every handler sees.
struct App {
    feed: Feed,
    status: Arc<Status>,
    settings: Settings,
    clients: Clients,
    screens: Screens,
    /// One photo is decoded at a time: each takes as much memory as a thousand clients.
    decoding: Semaphore,
    started: Instant,
    /// Turns true when the process is asked to stop.
    stopping: watch::Receiver<bool>,
}

/// Serves until `shutdown`, then ends streams and answers what waits, within `settings.drain`.
///
/// # Errors
/// None at present: an accept that fails is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    feed: Feed,
    status: Arc<Status>,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let clients = Clients::default();
    let app = Arc::new(App {
        feed,
        status,
        settings,
        clients,
        screens: Screens::default(),
        decoding: Semaphore::new(1),
        started: Instant::now(),
        stopping,
    });
    let routers = accept::Routers { open: open(app.clone()), crowded: crowded(app.clone()) };
    accept::run(listener, &app, routers, stop, shutdown).await;
    Ok(())
}

/// What connections within the limit get.
fn open(app: Arc<App>) -> Router {
    let router = Router::new()
        .route("/events", get(events::events))
        .route("/poll", get(poll::poll))
        .route("/backend.php", get(old_page::backend))
        .route("/screen/events", get(screen::screen_events))
        .route("/screen/poll", get(screen::screen_poll))
        .route("/screen/alive", get(screen::alive))
        .route("/screen/known", get(screen::known))
        .route("/photos/{name}", get(photos::photo))
        .route("/theme/{*path}", get(www::theme))
        .nest("/reception/api", reception_api(&app))
        .fallback(www::page);
    finish(router, app)
}

fn reception_api(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/unknown", get(reception::unknown))
        .route("/people", get(reception::people).post(reception::change))
        .route("/photo", post(reception::photo))
        .route("/screens", get(reception::screens))
        .route("/preview", post(reception::preview))
        .route("/test", post(reception::test))
        .fallback(reception::nothing)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), same_site::guard))
}

/// What connections beyond the limit get: the state of the process, and when to come back.
fn crowded(app: Arc<App>) -> Router {
    let streams = Router::new()
        .route("/events", get(events::come_back))
        .route("/screen/events", get(events::come_back));
    finish(streams.fallback(overloaded), app)
}

fn finish(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    router
        .route("/livez", get(status::livez))
        .route("/readyz", get(status::readyz))
        .route("/api/status", get(status::api_status))
        .route("/metrics", get(status::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(check_and_label))
        .with_state(app)
}

/// Refuses endless URLs, and sets what every answer carries.
async fn check_and_label(request: Request, next: Next) -> Response {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let mut response = match target > URI_BYTES {
        true => HttpError::uri_too_long(URI_BYTES).into_response(),
        false => next.run(request).await,
    };
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

async fn method_not_allowed() -> HttpError {
    HttpError::method_not_allowed()
}

async fn overloaded() -> HttpError {
    HttpError::overloaded()
}
