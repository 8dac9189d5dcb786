//! Where a request carries its credential. Pure; what is found goes nowhere but to the verifier.

use hyper::header::{AUTHORIZATION, HeaderMap, SEC_WEBSOCKET_PROTOCOL};

use crate::auth::Refusal;
use crate::secret::Secret;

/// The subprotocol that noVNC and we speak.
pub(super) const BINARY: &str = "binary";

/// The subprotocol of CDP, for clients that must offer one beside their token; CDP itself has none.
pub(super) const CDP: &str = "cdp";

const TOKEN_PREFIX: &str = "jwt.";

/// A credential that was found, not yet judged.
#[derive(Debug)]
pub(super) enum Credential {
    /// A token from `Authorization` or `Sec-WebSocket-Protocol`, which no web page can make a browser send on its own.
    Token(Secret<String>),
    /// A one-time ticket from the query.
    Ticket(Secret<String>),
    /// A token from the query; other people's logs have it too.
    QueryToken(Secret<String>),
}

/// Looks in the fixed order: `Authorization: Bearer`, `Sec-WebSocket-Protocol`, `?ticket=`, `?token=`. The first that is
/// there counts, good or bad; one that is there twice is none.
pub(super) fn find(
    headers: &HeaderMap,
    query: Option<&str>,
    allow_query_token: bool,
) -> Result<Credential, Refusal> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    if let Some(token) = only(bearer)? {
        return Ok(Credential::Token(Secret::new(token.to_owned())));
    }
    if let Some(token) = only(protocols(headers).filter_map(|name| name.strip_prefix(TOKEN_PREFIX)))? {
        return Ok(Credential::Token(Secret::new(token.to_owned())));
    }
    let of_query = |name: &'static str| {
        let pairs = query.unwrap_or_default().split('&');
        only(pairs.filter_map(move |pair| pair.split_once('=').filter(|(key, _)| *key == name)))
    };
    if let Some((_, ticket)) = of_query("ticket")? {
        return Ok(Credential::Ticket(Secret::new(ticket.to_owned())));
    }
    match of_query("token")? {
        Some((_, token)) if allow_query_token => Ok(Credential::QueryToken(Secret::new(token.to_owned()))),
        _ => Err(Refusal::Missing),
    }
}

/// Whether the client offers a subprotocol that we may answer with.
pub(super) fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    protocols(headers).any(|name| name == protocol)
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Result<Option<T>, Refusal> {
    let first = found.next();
    if found.next().is_some() { Err(Refusal::Malformed) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[(&'static str, &str)], query: &str, allow: bool) -> Result<String, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        find(&map, Some(query), allow).map(|credential| match credential {
            Credential::Token(text) => format!("token {}", text.expose()),
            Credential::Ticket(text) => format!("ticket {}", text.expose()),
            Credential::QueryToken(text) => format!("query {}", text.expose()),
        })
    }

    #[test]
    fn the_order_is_header_subprotocol_ticket_query() {
        let header = ("authorization", "Bearer a");
        let protocol = ("sec-websocket-protocol", "binary, jwt.b");
        assert_eq!(found(&[header, protocol], "ticket=c&token=d", true), Ok("token a".into()));
        assert_eq!(found(&[protocol], "ticket=c&token=d", true), Ok("token b".into()));
        assert_eq!(found(&[], "token=d&ticket=c", true), Ok("ticket c".into()));
        assert_eq!(found(&[], "token=d", true), Ok("query d".into()));
        assert_eq!(found(&[], "token=d", false), Err(Refusal::Missing));
        assert_eq!(found(&[("authorization", "Basic eA==")], "", true), Err(Refusal::Missing));
    }

    #[test]
    fn what_is_there_twice_is_refused() {
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer a")];
        assert_eq!(found(&twice, "", true), Err(Refusal::Malformed));
        assert_eq!(found(&[("sec-websocket-protocol", "jwt.a,jwt.b")], "", true), Err(Refusal::Malformed));
        assert_eq!(found(&[], "ticket=a&ticket=b", true), Err(Refusal::Malformed));
    }

    #[test]
    fn no_credential_shows_in_debug() {
        let credential = Credential::Token(Secret::new("canary".into()));
        assert_eq!(format!("{credential:?}"), "Token(<redacted>)");
    }
}
