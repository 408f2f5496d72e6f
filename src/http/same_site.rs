//! Who may use the reception: pages of this site alone.
//!
//! There is no log-in. A page of another site that a receptionist's browser happens to show could send
//! requests here, so each must carry what only this site's own pages can send.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, header, uri::Authority},
    middleware::Next,
    response::Response,
};

use super::{App, error::HttpError, screen};

const OURS: HeaderName = HeaderName::from_static("x-doorcast");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How the reception is open.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    /// Names under which browsers may come here, besides addresses and names without a dot.
    pub hosts: Vec<String>,
}

/// Lets in only requests that a page of this site has made.
pub(super) async fn guard(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    screen::people(&app)?;
    let reception = app.settings.reception.as_ref();
    let reception = reception.ok_or_else(|| {
        HttpError::not_enabled("people can't be changed here: doorcast run needs --reception")
    })?;
    is_from_here(request.headers(), &reception.hosts)?;
    Ok(next.run(request).await)
}

fn is_from_here(headers: &HeaderMap, hosts: &[String]) -> Result<(), HttpError> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text(&OURS) != Some("1") {
        return Err(HttpError::cross_site("the header X-Doorcast: 1 is missing"));
    }
    if text(&FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(HttpError::cross_site("another site's page may not do this"));
    }
    let host = text(&header::HOST).unwrap_or_default();
    if let Some(origin) = text(&header::ORIGIN) {
        let (_, authority) = origin.split_once("://").unwrap_or_default();
        if !authority.eq_ignore_ascii_case(host) {
            return Err(HttpError::cross_site("another site's page may not do this"));
        }
    }
    // A page of another site can give its own name our address, and is this site then, for the browser.
    if !is_our_name(host, hosts) {
        return Err(HttpError::cross_site(
            "not under this name: doorcast run needs --reception-host with it",
        ));
    }
    Ok(())
}

fn is_our_name(host: &str, hosts: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Where an edit came from: behind a proxy on this machine, also what the proxy says.
pub(super) fn who(peer: IpAddr, headers: &HeaderMap) -> String {
    let forwarded = headers.get(FORWARDED_FOR).filter(|_| peer.is_loopback());
    let client =
        forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
    match client {
        Some(client) => format!("{client} by {peer}"),
        None => peer.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], allowed: bool) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        assert_eq!(is_from_here(&headers, &["door.example.com".to_owned()]).is_ok(), allowed, "{headers:?}");
    }

    #[test]
    fn only_pages_of_this_site_are_let_in() {
        let ours = ("x-doorcast", "1");
        check(&[ours, ("host", "127.0.0.1:8080")], true);
        check(&[ours, ("host", "[::1]:8080"), ("origin", "http://[::1]:8080")], true);
        check(&[ours, ("host", "reception"), ("sec-fetch-site", "same-origin")], true);
        check(&[ours, ("host", "DOOR.example.com"), ("origin", "https://door.example.com")], true);
        check(&[("host", "127.0.0.1:8080")], false);
        check(&[("x-doorcast", "2"), ("host", "127.0.0.1:8080")], false);
        check(&[ours, ("host", "127.0.0.1:8080"), ("origin", "http://evil.example")], false);
        check(&[ours, ("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:9090")], false);
        check(&[ours, ("host", "127.0.0.1:8080"), ("origin", "null")], false);
        check(&[ours, ("host", "127.0.0.1:8080"), ("sec-fetch-site", "same-site")], false);
        check(&[ours, ("host", "127.0.0.1:8080"), ("sec-fetch-site", "cross-site")], false);
        check(&[ours, ("host", "rebound.evil.example"), ("origin", "http://rebound.evil.example")], false);
        check(&[ours], false);
    }

    #[test]
    fn an_edit_is_on_record_with_the_client_that_a_proxy_names() {
        let headers = HeaderMap::from_iter([(FORWARDED_FOR, "6.6.6.6, 10.0.0.7".parse().unwrap())]);
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(who(local, &headers), "10.0.0.7 by 127.0.0.1");
        assert_eq!(who("10.0.0.9".parse().unwrap(), &headers), "10.0.0.9");
        assert_eq!(who(local, &HeaderMap::new()), "127.0.0.1");
    }
}
