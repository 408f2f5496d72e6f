//! `GET /screen/events` and `GET /screen/poll`: greetings for the screens at doors.
//!
//! The rules are those of `/events` and `/poll`: `hello`, `ping` with the head as its id, `gap`,
//! `Last-Event-ID`, `since`, `last`, `timeout`, `limit`. `?doorno=1,2` chooses the doors (also `door`, or
//! the door column's own name); no other column filters. `?screen=lobby` is a name for the list of
//! screens. What arrives as a row is a greeting:
//!
//! ```json
//! {"ref":"5be0c1d6a9f2e3b47a10","name":"王小明","title":"博士","message":"早上好，王小明博士",
//!  "photo":"/photos/0f3c….jpg","door":"1","greeting":"早上好","lang":"zh","priority":0,
//!  "age_ms":740,"ttl_ms":19260,"show_ms":8000,"sent_ms":1795158900740}
//! ```
//!
//! `title` and `message` may be empty, `photo` may be null, `door` is always a text. `age_ms` and `ttl_ms`
//! are of the moment when it is sent; a page that was asleep can tell by `sent_ms` and the `now_ms` of a
//! ping how long it was under way. A test has `"test":true` and no id: it moves no cursor. In an answer
//! to a poll its id is null: `{"id":null,"row":{…,"test":true}}`.
//!
//! The `hello` also tells the time at the site, `"now_ms":…,"utc_offset_s":28800`: a display's own clock may
//! be wrong.
//!
//! `GET /screen/alive?screen=lobby&doorno=1,2`: a screen that says, at each ping perhaps, that its page is
//! alive. 200 with `{"screens":1}`: how many are known by that name at that address or, where it has none,
//! at those doors. `GET /screen/known` only asks: a launcher does, whose browser may have died with a page
//! that looks alive.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::Method,
    response::Response,
};

use super::{
    App,
    accept::Peer,
    clients,
    error::HttpError,
    events, poll,
    query::Query,
    screens::{Introduction, Kind},
    status,
    view::{Screen, View},
};
use crate::people::People;

/// Names that doors are always asked for by.
const DOORS: [&str; 2] = ["doorno", "door"];

/// Longest name of a screen, in characters.
const NAME_CHARS: usize = 64;

/// Doors that one screen may name.
const MOST_DOORS: usize = 100;

pub(super) async fn screen_events(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, HttpError> {
    let people = people(&app)?;
    let (mut query, who) = read(people, &request, peer)?;
    if request.method() == Method::HEAD {
        return Ok(events::respond(Body::empty()));
    }
    let view = view(&app, people, &mut query, Kind::Events, who);
    Ok(events::stream(app.clone(), query.start, view, clients::Kind::ScreenEvents))
}

pub(super) async fn screen_poll(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, HttpError> {
    let people = people(&app)?;
    let (mut query, who) = read(people, &request, peer)?;
    if request.method() == Method::HEAD {
        return Ok(poll::respond(Body::empty()));
    }
    let view = view(&app, people, &mut query, Kind::Poll, who);
    poll::wait(&app, query, &view, clients::Kind::ScreenPoll).await
}

pub(super) async fn alive(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, HttpError> {
    let (_, who) = read(people(&app)?, &request, peer)?;
    let screens = app.screens.answered(&who);
    Ok(status::uncached(format!("{{\"screens\":{screens}}}")))
}

pub(super) async fn known(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, HttpError> {
    let (_, who) = read(people(&app)?, &request, peer)?;
    let screens = app.screens.connected(&who);
    Ok(status::uncached(format!("{{\"screens\":{screens}}}")))
}

/// The people, if there are any to greet.
pub(super) fn people(app: &App) -> Result<&Arc<People>, HttpError> {
    app.settings.people.as_ref().ok_or_else(|| {
        HttpError::not_enabled("nobody is greeted here: doorcast run needs --people with a file of people")
    })
}

fn view(app: &App, people: &Arc<People>, query: &mut Query, kind: Kind, who: Introduction) -> View {
    let connected = app.screens.connect(kind, who);
    View::Greetings(Screen { people: people.clone(), filter: std::mem::take(&mut query.filter), connected })
}

/// Reads the request. Only doors filter: a screen that could ask for a card would learn whose it is.
fn read(people: &People, request: &Request, peer: Peer) -> Result<(Query, Introduction), HttpError> {
    let column = &people.greeter().columns.door;
    let (mut doors, mut screen) = (Vec::new(), String::new());
    let mut rest = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        match &*name {
            "screen" => screen = value.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect(),
            name if name == &**column || DOORS.contains(&name) => {
                let values = value.split(',').map(str::trim).filter(|door| !door.is_empty());
                doors.extend(values.map(ToOwned::to_owned));
            }
            name => {
                rest.append_pair(name, &value);
            }
        }
    }
    if doors.len() > MOST_DOORS {
        return Err(HttpError::bad_value("bad_doors", column, &format!("at most {MOST_DOORS} doors")));
    }
    if !doors.is_empty() {
        rest.append_pair(column, &doors.join(","));
    }
    let query = Query::read(Some(&rest.finish()), request.headers(), Some(std::slice::from_ref(column)))?;
    doors.sort();
    doors.dedup();
    Ok((query, Introduction { screen, doors, remote: peer.0.ip().to_string() }))
}
