//! The HTTP side, rule by rule, over real sockets. No database: see [`crate::site`].

mod events;
mod files;
mod limits;
mod old_page;
mod poll;
mod state;
mod theme;

use doorcast::{feed::Limits, http::Settings};
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::site::{Site, client, within};

/// A whole answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        within("an answer", async {
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            Answer { status, headers, body: response.text().await.unwrap() }
        })
        .await
    }

    async fn get(site: &Site, path: &str) -> Self {
        Self::of(client().get(site.url(path))).await
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The answer is an error as they all are.
    #[track_caller]
    fn is_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        let error = &self.json()["error"];
        assert_eq!(error["code"], code);
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        if status == 503 {
            assert!(self.header("retry-after").parse::<u32>().unwrap() > 0);
        }
    }
}

async fn get_json(site: &Site, path: &str) -> Value {
    let answer = Answer::get(site, path).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// The ids of a poll's answer.
fn ids(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect()
}

/// A connection on which anything can be sent.
struct Raw(TcpStream);

impl Raw {
    async fn open(site: &Site) -> Self {
        Raw(within("a connection", TcpStream::connect(site.addr)).await.unwrap())
    }

    async fn get(site: &Site, path: &str) -> Self {
        let mut raw = Self::open(site).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: door\r\n\r\n").as_bytes()).await;
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads until what came contains a text; `None` at the end of the connection.
    async fn until(&mut self, text: &str) -> Option<String> {
        let mut all = Vec::new();
        within(text, async {
            while !all.windows(text.len()).any(|part| part == text.as_bytes()) {
                if self.0.read_buf(&mut all).await.ok()? == 0 {
                    return None;
                }
            }
            Some(())
        })
        .await?;
        Some(String::from_utf8_lossy(&all).into_owned())
    }

    /// Reads until the other side ends the connection.
    async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        // A reset is an end, too.
        let _ = within("the end of a connection", self.0.read_to_end(&mut all)).await;
        String::from_utf8_lossy(&all).into_owned()
    }
}

fn limits(rows: usize) -> Limits {
    Limits { rows, ..Limits::default() }
}

async fn site_with_rows(rows: usize) -> Site {
    Site::with(Settings::default(), limits(rows)).await
}
