//! `/reception/api/*`: what a receptionist's page asks for and does.
//!
//! Every request needs the header `X-Doorcast: 1`, which no other site's page can send, and comes from
//! this site itself. A body is JSON (`content-type: application/json`) but for a photo. Errors are as
//! everywhere: `{"error":{"code":"bad_person","message":"valid_to: …","column":"valid_to"}}`.
//!
//! - `GET unknown` → `{"unknown":[{"handle":"9c…","card":"00A1…F607","door":"1","seen_ms":…,"times":2}]}`:
//!   the cards that were swiped last and are nobody's, the latest first.
//! - `GET people?q=wang` → `{"people":[PERSON],"total":3,"file":{"people":3,"loaded_ms":…,"encoding":"UTF-8",
//!   "problems":[{"line":7,"column":"valid_to","reason":"…"}],"failing_since_ms":null,"warnings":[]}}`. At
//!   most 500 people; `total` counts all that match. `q` is looked for in name, title and message, and
//!   compared with the whole card id.
//! - PERSON: `{"ref":"5b…","card":"00A1…F607","name":"","title":"","message":"","photo":"","photo_url":null,
//!   "doors":["1"],"valid_from":"","valid_to":"2026-12-31","priority":0,"lang":"","today":true}`. An empty
//!   text is an empty cell; `doors` empty: everywhere; `today`: not before or after their days.
//! - `POST people` with one of these → `{"person":PERSON}`, after a deletion `{"person":null}`:
//!   `{"action":"welcome","handle":"9c…","person":FIELDS}`, `{"action":"add","card":"00A1…","person":FIELDS}`,
//!   `{"action":"edit","ref":"5b…","person":FIELDS}`, `{"action":"delete","ref":"5b…"}`. FIELDS are the
//!   cells of PERSON; what is missing stays, what else is there is left alone. 400 `bad_person`, 404
//!   `unknown_person`, 409 `card_taken`, 409 `people_file` (it must be mended first), 503 `not_written`.
//! - `POST photo`, the body being the JPEG or PNG itself, at most 2 MB → `{"photo":"0f….jpg",
//!   "photo_url":"/photos/0f….jpg"}`, to be put into FIELDS. 400 `bad_photo`, 413 `too_large`.
//! - `GET screens` → `{"now_ms":…,"screens":[{"screen":"lobby","doors":["1"],"kind":"events",
//!   "remote":"10.0.0.7","since_ms":…,"sent_ms":…,"answered_ms":null}]}`. `doors` empty: all. `answered_ms`:
//!   when it last polled or called `/screen/alive`.
//! - `POST preview` `{"person":FIELDS,"door":"1"}` → `{"greeting":{…}}`, as a screen would get it.
//! - `POST test` `{"door":"1","ref":"5b…"}` → `{"screens":2}`: shows a greeting on the screens of the door,
//!   of somebody in particular or, without `ref`, of nobody.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, header},
    response::Response,
};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time};

use super::{App, accept::Peer, error::HttpError, same_site::who, screen, status::uncached};
use crate::{
    people::{Card, Change, ChangeError, Fields, NewCard, People, Person, PhotoError, UPLOAD_BYTES},
    status::now_ms,
};

/// People in one answer.
const LISTED: usize = 500;

/// Largest JSON body: a person with the longest texts.
const JSON_BYTES: usize = 64 * 1024;

/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn nothing(request: Request) -> HttpError {
    HttpError::not_found(request.uri().path())
}

pub(super) async fn unknown(State(app): State<Arc<App>>) -> Result<Response, HttpError> {
    Ok(answer(&json!({"unknown": screen::people(&app)?.unknown_cards()})))
}

pub(super) async fn people(State(app): State<Arc<App>>, request: Request) -> Result<Response, HttpError> {
    let people = screen::people(&app)?;
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let wanted = form_urlencoded::parse(query).find(|(name, _)| name == "q").map(|(_, value)| value);
    let wanted = wanted.unwrap_or_default().trim().to_lowercase();
    let card = Card::new(&wanted);
    let roster = people.roster();
    let found = roster.people().iter().filter(|person| {
        let texts = [&person.name, &person.title, &person.message];
        texts.iter().any(|text| text.to_lowercase().contains(&wanted)) || Some(&person.card) == card.as_ref()
    });
    let total = found.clone().count();
    let listed: Vec<Listed> = found.take(LISTED).map(|person| Listed::new(people, person)).collect();
    Ok(answer(&json!({"people": listed, "total": total, "file": people.loaded()})))
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Action {
    Welcome {
        handle: String,
        person: Box<Fields>,
    },
    Add {
        card: String,
        person: Box<Fields>,
    },
    Edit {
        #[serde(rename = "ref")]
        reference: String,
        person: Box<Fields>,
    },
    Delete {
        #[serde(rename = "ref")]
        reference: String,
    },
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, HttpError> {
    let people = screen::people(&app)?.clone();
    let who = who(peer.ip(), request.headers());
    let change = match body(request).await? {
        Action::Welcome { handle, person } => Change::Add { card: NewCard::Handle(handle), fields: person },
        Action::Add { card, person } => Change::Add { card: NewCard::Id(card), fields: person },
        Action::Edit { reference, person } => Change::Edit { reference, fields: person },
        Action::Delete { reference } => Change::Delete { reference },
    };
    let changed = blocking(move || {
        let person = people.change(&change, &who)?;
        Ok::<_, ChangeError>(person.map(|person| Listed::new(&people, &person)))
    });
    Ok(answer(&json!({"person": changed.await??})))
}

pub(super) async fn photo(State(app): State<Arc<App>>, request: Request) -> Result<Response, HttpError> {
    let people = screen::people(&app)?.clone();
    let photo = content_type(request.headers());
    if !matches!(photo.as_str(), "image/jpeg" | "image/png") {
        return Err(HttpError::bad_type("image/jpeg or image/png"));
    }
    // Those who wait have sent nothing yet.
    let _one = app.decoding.acquire().await;
    let upload = bytes(request.into_body(), UPLOAD_BYTES).await?;
    let name = blocking(move || people.store_photo(&upload)).await?.map_err(|err| match err {
        PhotoError::Refused(_) => HttpError::bad_photo(err),
        PhotoError::Unstored(_) => HttpError::not_written(err),
    })?;
    Ok(answer(&json!({"photo": name, "photo_url": crate::people::photo_path(&name)})))
}

pub(super) async fn screens(State(app): State<Arc<App>>) -> Response {
    answer(&json!({"now_ms": now_ms(), "screens": app.screens.list()}))
}

#[derive(Deserialize)]
struct Preview {
    person: Box<Fields>,
    #[serde(default, deserialize_with = "text")]
    door: String,
}

pub(super) async fn preview(State(app): State<Arc<App>>, request: Request) -> Result<Response, HttpError> {
    let people = screen::people(&app)?;
    let Preview { person, door } = body(request).await?;
    Ok(answer(&json!({"greeting": people.preview(&person, door)?})))
}

#[derive(Deserialize)]
struct Test {
    #[serde(deserialize_with = "text")]
    door: String,
    #[serde(default, rename = "ref")]
    reference: Option<String>,
}

pub(super) async fn test(State(app): State<Arc<App>>, request: Request) -> Result<Response, HttpError> {
    let people = screen::people(&app)?;
    let Test { door, reference } = body(request).await?;
    let test = people.test_greeting(reference.as_deref(), door).map_err(HttpError::from)?;
    Ok(answer(&json!({"screens": app.screens.show(test)})))
}

/// A person as a receptionist sees them.
#[derive(Serialize)]
struct Listed {
    #[serde(rename = "ref")]
    reference: Box<str>,
    card: String,
    name: Box<str>,
    title: Box<str>,
    message: Box<str>,
    photo: Box<str>,
    photo_url: Option<String>,
    doors: Box<[Box<str>]>,
    valid_from: String,
    valid_to: String,
    priority: i32,
    lang: String,
    today: bool,
}

impl Listed {
    fn new(people: &People, person: &Person) -> Self {
        let day = |day: Option<jiff::civil::Date>| day.map(|day| day.to_string()).unwrap_or_default();
        Listed {
            reference: person.reference.clone(),
            card: person.card.mask(),
            name: person.name.clone(),
            title: person.title.clone(),
            message: person.message.clone(),
            photo: person.photo.clone().unwrap_or_default(),
            photo_url: person.photo.as_deref().map(crate::people::photo_path),
            doors: person.doors.clone(),
            valid_from: day(person.valid_from),
            valid_to: day(person.valid_to),
            priority: person.priority,
            lang: person.lang.map(|lang| lang.to_string()).unwrap_or_default(),
            today: person.is_valid_on(people.greeter().clock.today(now_ms())),
        }
    }
}

impl From<ChangeError> for HttpError {
    fn from(err: ChangeError) -> Self {
        match &err {
            ChangeError::Bad(problem) => HttpError::bad_person(&err, problem.column.clone()),
            ChangeError::Unknown => HttpError::unknown_person(err),
            ChangeError::Taken => HttpError::conflict("card_taken", err),
            ChangeError::File(_) => HttpError::conflict("people_file", err),
            ChangeError::Unwritten(_) => HttpError::not_written(err),
        }
    }
}

async fn body<T: DeserializeOwned>(request: Request) -> Result<T, HttpError> {
    if content_type(request.headers()) != "application/json" {
        return Err(HttpError::bad_type("application/json"));
    }
    let bytes = bytes(request.into_body(), JSON_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(HttpError::bad_body)
}

async fn bytes(body: Body, limit: usize) -> Result<Bytes, HttpError> {
    match time::timeout(BODY_WITHIN, to_bytes(body, limit)).await {
        Ok(bytes) => bytes.map_err(|_| HttpError::too_large(limit)),
        Err(_) => Err(HttpError::too_slow()),
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A text, also of a number.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(serde::de::Error::custom("a text or a number is wanted")),
    }
}

/// Runs what waits for the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, HttpError> {
    spawn_blocking(work).await.map_err(|_| HttpError::not_written("it failed for an unknown reason"))
}

fn answer(json: &Value) -> Response {
    uncached(json.to_string())
}
