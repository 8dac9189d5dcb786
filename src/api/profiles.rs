//! The pool of profiles: list, show, add, release, quarantine, remove.

use std::time::SystemTime;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::access::Operator;
use super::answer::{Context, json};
use super::create::{KindWord, ProxyServer, kind, proxy};
use super::read::{self, Fields, Mistakes, Query, parsed};
use super::refused::{Refused, Trouble};
use super::sessions::{DEFAULT_LIMIT, limit_of, reason_of};
use crate::adspower;
use crate::clock::{ms_as_seconds, unix_seconds};
use crate::http::{Place, Reply};
use crate::ids::ProfileName;
use crate::profile::{Fingerprint, Kind, NewProfile, State, StateWord};
use crate::session::{ProfileError, ProfileStatus};

/// A profile to be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `added` reads field by field")]
pub(super) struct AddProfile {
    /// Whose it is.
    #[schema(min_length = 1, max_length = 256, example = "user-42")]
    user_id: String,
    /// What opens it; `chromium` when left out.
    #[schema(nullable = false)]
    kind: Option<KindWord>,
    /// What AdsPower calls it: with `adspower`, and with it alone.
    #[schema(nullable = false, max_length = 64, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    external_id: Option<String>,
    /// What its pages are fetched through; as the host's settings have it when left out. With `adspower`, AdsPower is told before it
    /// opens the profile, and what is left out is as AdsPower has it; not `socks4`.
    #[schema(nullable = false)]
    proxy: Option<ProxyServer>,
    /// How it looks to pages, as AdsPower's `fingerprint_config`: with `adspower` alone, which is told before it opens the profile.
    #[schema(nullable = false, value_type = Option<Object>)]
    fingerprint: Option<Value>,
}

/// Why a profile is not to be used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `quarantine_profile` reads")]
pub(super) struct QuarantineProfile {
    /// In words.
    #[schema(min_length = 1, max_length = 256)]
    reason: String,
}

/// A profile of the pool. Times are Unix times in seconds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Profile)]
pub(super) struct ProfileView {
    /// Its name, by which a session can ask for it.
    name: String,
    /// Whose it is.
    user_id: String,
    /// What opens it.
    #[schema(value_type = KindWord)]
    kind: &'static str,
    /// What AdsPower calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    external_id: Option<String>,
    /// What its pages are fetched through, as `scheme://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    proxy: Option<String>,
    /// How it looks to pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    fingerprint: Option<Value>,
    /// `idle`, `active`, `cooldown` or `quarantined`.
    state: &'static str,
    /// The session that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    session_id: Option<String>,
    /// When its rest is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    available_at: Option<f64>,
    /// Why it is quarantined, or will be when the session that has it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Since when it is quarantined.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    quarantined_at: Option<f64>,
    /// Sessions that failed with it in a row.
    failures: u32,
    /// Sessions that had it.
    uses: u64,
    /// When a session was given it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_used_at: Option<f64>,
    /// When it was made.
    created_at: f64,
}

impl From<ProfileStatus> for ProfileView {
    fn from(ProfileStatus { profile, left }: ProfileStatus) -> Self {
        let mut view = Self {
            name: profile.name.to_string(),
            user_id: profile.user.to_string(),
            kind: profile.kind.as_str(),
            external_id: profile.external.map(String::from),
            proxy: profile.proxy.map(|proxy| proxy.to_string()),
            fingerprint: profile.fingerprint.map(Value::from),
            state: profile.state.word().as_str(),
            session_id: None,
            available_at: left.map(|left| unix_seconds(SystemTime::now() + left)),
            reason: None,
            quarantined_at: None,
            failures: profile.failures,
            uses: profile.uses,
            last_used_at: profile.last_used_ms.map(ms_as_seconds),
            created_at: ms_as_seconds(profile.created_ms),
        };
        match profile.state {
            State::Idle | State::Cooldown(_) => {}
            State::Active { holder, condemned, .. } => {
                (view.session_id, view.reason) = (Some(holder.id.to_string()), condemned);
            }
            State::Quarantined { reason, since_ms } => {
                (view.reason, view.quarantined_at) = (Some(reason), Some(ms_as_seconds(since_ms)));
            }
        }
        view
    }
}

/// Profiles of the pool, by their names.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProfileList {
    /// Those that were asked for.
    profiles: Vec<ProfileView>,
    /// Whether there are more than were asked for.
    more: bool,
}

impl Context {
    /// `GET /v1/profiles`.
    pub(super) async fn profiles(&self, query: Option<&str>) -> Result<Reply, Box<Refused>> {
        let mut mistakes = Mistakes::default();
        let mut query = Query::of(query, &mut mistakes);
        let user = query.one("user_id", parsed);
        let states = query.all("state", state_of);
        let limit = query.one("limit", limit_of).unwrap_or(DEFAULT_LIMIT);
        query.finish();
        mistakes.check()?;
        let found = self.state.manager.profiles(user).await.map_err(|_unresponsive| Trouble::Unresponsive)?;
        let fits =
            |status: &ProfileStatus| states.is_empty() || states.contains(&status.profile.state.word());
        let mut fitting = found.into_iter().filter(fits);
        let profiles = fitting.by_ref().take(limit).map(ProfileView::from).collect();
        let list = ProfileList { profiles, more: fitting.next().is_some() };
        Ok(json(StatusCode::OK, &list).into())
    }

    /// `GET /v1/profiles/{name}`.
    pub(super) async fn profile(&self, name: ProfileName) -> Result<Reply, Box<Refused>> {
        let found = self.state.manager.profile(name).await?;
        Ok(json(StatusCode::OK, &ProfileView::from(found)).into())
    }

    /// `POST /v1/profiles`.
    pub(super) async fn add_profile(
        &self,
        operator: Operator,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Reply, Box<Refused>> {
        let (_bytes, value) = read::body(headers, body).await?;
        let mut mistakes = Mistakes::default();
        let new = added(value, &mut mistakes);
        mistakes.check()?;
        let outcome = self.state.manager.add_profile(new.ok_or(Trouble::Internal)?).await;
        let name = outcome.as_ref().ok().map(|status| status.profile.name.clone());
        self.settled(&operator, "add a profile", name.as_ref(), outcome, (StatusCode::CREATED, "added"))
    }

    /// `POST /v1/profiles/{name}/release`.
    pub(super) async fn release_profile(
        &self,
        operator: Operator,
        name: ProfileName,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Reply, Box<Refused>> {
        let mut mistakes = Mistakes::default();
        if let Some(value) = read::optional_body(headers, body).await? {
            Fields::of(value, "", &mut mistakes).finish();
        }
        mistakes.check()?;
        let outcome = self.state.manager.release_profile(name.clone()).await;
        self.settled(&operator, "release a profile", Some(&name), outcome, (StatusCode::OK, "released"))
    }

    /// `POST /v1/profiles/{name}/quarantine`.
    pub(super) async fn quarantine_profile(
        &self,
        operator: Operator,
        name: ProfileName,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Reply, Box<Refused>> {
        let (_bytes, value) = read::body(headers, body).await?;
        let mut mistakes = Mistakes::default();
        let mut fields = Fields::of(value, "", &mut mistakes);
        let reason = fields.required("reason", reason_of);
        fields.finish();
        mistakes.check()?;
        let reason = reason.ok_or(Trouble::Internal)?;
        let outcome = self.state.manager.quarantine_profile(name.clone(), reason).await;
        self.settled(&operator, "quarantine a profile", Some(&name), outcome, (StatusCode::OK, "quarantined"))
    }

    /// `DELETE /v1/profiles/{name}`.
    pub(super) async fn remove_profile(
        &self,
        operator: Operator,
        name: ProfileName,
    ) -> Result<Reply, Box<Refused>> {
        let outcome = self.state.manager.remove_profile(name.clone()).await;
        self.settled(&operator, "remove a profile", Some(&name), outcome, (StatusCode::OK, "removed"))
    }

    /// What came of something that an operator had done to a profile, said in the log and answered.
    fn settled(
        &self,
        operator: &Operator,
        action: &'static str,
        name: Option<&ProfileName>,
        outcome: Result<ProfileStatus, ProfileError>,
        (status, done): (StatusCode, &'static str),
    ) -> Result<Reply, Box<Refused>> {
        let outcome = outcome.map_err(Box::<Refused>::from);
        let word = outcome.as_ref().map_or_else(|refused| refused.trouble.outside().1, |_| done);
        let profile = name.map(ProfileName::as_str);
        tracing::info!(request_id = %self.request_id, by = %operator, action, profile, outcome = word, "host api");
        Ok(json(status, &ProfileView::from(outcome?)).into())
    }
}

fn state_of(word: &str) -> Result<StateWord, String> {
    let names = StateWord::ALL.map(StateWord::as_str);
    StateWord::of(word).ok_or_else(|| format!("must be one of {}", names.join(", ")))
}

/// The profile in a body; none only when there was a mistake.
fn added(body: Value, mistakes: &mut Mistakes) -> Option<NewProfile> {
    let mut fields = Fields::of(body, "", mistakes);
    let user = fields.required("user_id", parsed);
    let kind = fields.text("kind", kind).unwrap_or(Kind::Chromium);
    let external = fields.text("external_id", parsed);
    let proxy = proxy(&mut fields);
    let of = |value: Value| Fingerprint::try_from(value).map_err(|error| error.to_string());
    let fingerprint = fields.take("fingerprint", of);
    fields.finish();
    let at = |field: &str| Place::Body(format!("/{field}"));
    match kind {
        Kind::AdsPower if external.is_none() => {
            mistakes.add(at("external_id"), "must be given with adspower")
        }
        Kind::Chromium if external.is_some() => mistakes.add(at("external_id"), "goes with adspower alone"),
        Kind::AdsPower | Kind::Chromium => {}
    }
    if kind == Kind::AdsPower && proxy.as_ref().is_some_and(|proxy| adspower::proxy(proxy).is_none()) {
        mistakes.add(at("proxy/server"), "must be http, https or socks5 with adspower");
    }
    if kind == Kind::Chromium && fingerprint.is_some() {
        mistakes.add(at("fingerprint"), "goes with no profile of kind chromium");
    }
    Some(NewProfile { user: user?, kind, external, proxy, fingerprint })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::PartialSchema as _;

    use super::*;

    #[test]
    fn a_profile_to_be_added_is_read_strictly() {
        let mut mistakes = Mistakes::default();
        let body = json!({
            "user_id": "u", "kind": "adspower", "external_id": "k1",
            "proxy": { "server": "socks5://h:1" }, "fingerprint": { "ua": "x" },
        });
        let new = added(body, &mut mistakes).unwrap();
        mistakes.check().unwrap();
        assert_eq!((new.kind, new.external.unwrap().as_str()), (Kind::AdsPower, "k1"));
        assert_eq!(new.proxy.unwrap().to_string(), "socks5://h:1");
        assert_eq!(new.fingerprint.map(Value::from), Some(json!({ "ua": "x" })));
        for (body, wrong) in [
            (json!({}), "/user_id"),
            (json!({ "user_id": "u", "kind": "adspower" }), "/external_id"),
            (json!({ "user_id": "u", "external_id": "k1" }), "/external_id"),
            (json!({ "user_id": "u", "fingerprint": {} }), "/fingerprint"),
            (
                json!({ "user_id": "u", "kind": "adspower", "external_id": "k", "fingerprint": 7 }),
                "/fingerprint",
            ),
            (
                json!({ "user_id": "u", "kind": "adspower", "external_id": "k", "proxy": { "server": "socks4://h:1" } }),
                "/proxy/server",
            ),
            (json!({ "user_id": "u", "proxy": { "server": "ftp://h:1" } }), "/proxy/server"),
            (json!({ "user_id": "u", "name": "mine" }), "/name"),
        ] {
            let mut mistakes = Mistakes::default();
            let _partial = added(body.clone(), &mut mistakes);
            let refused = mistakes.check().unwrap_err();
            assert!(format!("{refused:?}").contains(wrong), "{body}: {refused:?}");
        }
    }

    #[test]
    fn the_described_fields_are_those_that_are_read() {
        let schema = serde_json::to_value(AddProfile::schema()).unwrap();
        let names: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names.len(), 5, "{names:?}");
        let wrong: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!(5))).collect();
        let mut mistakes = Mistakes::default();
        let _none = added(wrong.into(), &mut mistakes);
        assert!(!format!("{mistakes:?}").contains("there is no such field"), "{mistakes:?}");
    }
}
