//! Just enough of HTTP for a client that is cut off at any moment: hyper's leaves a request waiting for ever,
//! about once in 7,000 connections that are closed as soon as they are made.

use std::{
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// An answer whose head has been read.
pub(crate) struct Response {
    pub(crate) status: u16,
    stream: BufReader<TcpStream>,
    body: Body,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Chunked,
    Length(usize),
}

/// Asks for `path` over a connection of its own.
///
/// # Errors
/// The connection is refused or cut.
pub(crate) async fn get(address: SocketAddr, path: &str, last_event_id: Option<&str>) -> Result<Response> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let header = last_event_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: doorcast\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let status = line(&mut stream).await?;
    let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
    let mut body = None;
    loop {
        let header = line(&mut stream).await?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(length) = header.strip_prefix("content-length: ") {
            body = Some(Body::Length(length.parse().map_err(|_| malformed())?));
        } else if header == "transfer-encoding: chunked" {
            body = Some(Body::Chunked);
        }
    }
    Ok(Response { status, stream, body: body.ok_or_else(malformed)? })
}

impl Response {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// The connection was cut.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let length = match self.body {
            Body::Length(length) => length,
            Body::Chunked => {
                usize::from_str_radix(&line(&mut self.stream).await?, 16).map_err(|_| malformed())?
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let mut chunk = vec![0; length];
        self.stream.read_exact(&mut chunk).await?;
        match self.body {
            Body::Length(_) => self.body = Body::Length(0),
            Body::Chunked => drop(line(&mut self.stream).await?),
        }
        Ok(Some(chunk))
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let line = line.strip_suffix("\r\n").ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
    Ok(line.to_owned())
}

fn malformed() -> Error {
    Error::new(ErrorKind::InvalidData, "not the HTTP that it knows")
}
