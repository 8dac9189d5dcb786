//! `GET /v1/sessions/{id}/connection`: how to get to a session, and tokens to get in with.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Operator;
use super::answer::{Context, json};
use super::read::{Mistakes, Query, parsed};
use super::refused::{Refused, Trouble};
use crate::auth::{MAX_TTL, NewToken, Role, mint};
use crate::clock::unix_now;
use crate::durations::parse_within;
use crate::http::Reply;
use crate::ids::{SessionId, UserId};
use crate::session::{SessionRecord, SessionState};

/// How long a token is good when nobody says.
const DEFAULT_TTL: Duration = Duration::from_secs(15 * 60);
const MIN_TTL: Duration = Duration::from_secs(1);
/// Whom a token is for where neither the session nor whoever asks has a name.
const NOBODY: &str = "operator";

/// How to get to a session. Each way in needs a token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Connection {
    session_id: String,
    state: SessionState,
    /// The page to look at it with; it takes the token from the fragment.
    viewer_url: String,
    /// RFB over WebSocket.
    vnc_url: String,
    /// The same for a stock noVNC; the token names the session.
    websockify_url: String,
    /// CDP over WebSocket, for `connectOverCDP` and its kin. Not there where the session has no browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cdp_url: Option<String>,
    /// The base of CDP's discovery endpoints (`/json/version`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cdp_http_url: Option<String>,
    /// The X display on the host, while one is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    display: Option<String>,
    /// Fresh tokens by role, where they were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    tokens: BTreeMap<&'static str, Token>,
}

/// A token for one session. Whoever has it may do what its role says.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    token: String,
    /// When it ends, and with it every connection that was made with it.
    expires_at: u64,
    /// For viewers: the page with the token in its fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    viewer_url: Option<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Context {
    /// Answers with links, and with tokens where they are asked for.
    pub(super) fn connection(
        &self,
        operator: Operator,
        id: &SessionId,
        query: Option<&str>,
    ) -> Result<Reply, Box<Refused>> {
        let mut mistakes = Mistakes::default();
        let mut query = Query::of(query, &mut mistakes);
        let roles = query.one("tokens", roles_of).unwrap_or_default();
        let ttl = query.one("ttl", |text| parse_within(text, &(MIN_TTL..=MAX_TTL))).unwrap_or(DEFAULT_TTL);
        query.finish();
        mistakes.check()?;
        let record = self.record(id)?;
        if record.state == SessionState::Stopped {
            return Err(Trouble::SessionOver.into());
        }
        let mut tokens = BTreeMap::new();
        for role in roles {
            let token = self.token(&operator, &record, role, ttl);
            let outcome =
                token.as_ref().map_or_else(|refused| refused.trouble.outside().1, |_| role.as_str());
            self.audit(&operator, "mint token", Some(id), outcome);
            tokens.insert(role.as_str(), token?);
        }
        let links = &self.state.links;
        let has_browser = record.has_browser();
        let connection = Connection {
            session_id: id.to_string(),
            state: record.state,
            viewer_url: links.viewer(id, None),
            vnc_url: links.vnc(id),
            websockify_url: links.websockify(),
            cdp_url: has_browser.then(|| links.cdp(id)),
            cdp_http_url: has_browser.then(|| links.cdp_http(id)),
            display: record.display,
            tokens,
        };
        Ok(json(StatusCode::OK, &connection).into())
    }

    fn token(
        &self,
        operator: &Operator,
        record: &SessionRecord,
        role: Role,
        ttl: Duration,
    ) -> Result<Token, Box<Refused>> {
        let asker = match operator {
            Operator::Token(user) => Some(user.clone()),
            Operator::Peer { .. } => None,
        };
        // A session that is nobody's is anybody's.
        let user: UserId = match record.user.clone().or(asker) {
            Some(user) => user,
            None => NOBODY.parse().map_err(|_bad| Trouble::Internal)?,
        };
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_unspecified| Trouble::Internal)?;
        let token = NewToken { session: record.id.clone(), user, role: Some(role), ttl };
        let (now, keys) = (unix_now(), self.state.keys.current());
        let own = self.state.signing_key.borrow().clone();
        let token = mint(&token, &keys.config, own.as_ref(), now, random).map_err(Box::<Refused>::from)?;
        let looks = matches!(role, Role::Spectator | Role::Controller);
        Ok(Token {
            viewer_url: looks.then(|| self.state.links.viewer(&record.id, Some(&token))),
            token,
            expires_at: now.saturating_add(ttl.as_secs()),
        })
    }
}

/// Roles that a session's users have. An operator's token is good for the whole host and is not made here.
fn roles_of(text: &str) -> Result<Vec<Role>, String> {
    let one = |word: &str| match parsed::<Role>(word) {
        Ok(role) if role != Role::Operator => Ok(role),
        _ => Err("must be spectator, controller or automation, or several with commas between".to_owned()),
    };
    text.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_for_the_whole_host_is_made_for_a_session() {
        assert_eq!(roles_of("controller,automation"), Ok(vec![Role::Controller, Role::Automation]));
        for bad in ["operator", "controller,operator", "", "controller,", "root"] {
            assert!(roles_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_does_not_show_in_debug() {
        let token = Token { token: "canary".into(), expires_at: 1, viewer_url: Some("canary".into()) };
        assert!(!format!("{token:?}").contains("canary"));
    }
}
