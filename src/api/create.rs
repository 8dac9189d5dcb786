//! `POST /v1/sessions`: what a body may say, and waiting for what it asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, LOCATION};
use serde_json::Value;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::access::Operator;
use super::answer::{Context, json};
use super::read::{self, Fields, Mistakes, Query, parsed};
use super::refused::{Refused, Trouble};
use super::view::SessionView;
use crate::browser::check_page;
use crate::durations::parse_within;
use crate::http::{Place, Reply};
use crate::proxy::Proxy;
use crate::session::{CreateRequest, Created, Idempotency, Kind, MOST_LABELS, Session};
use crate::sys::Limits;

/// Header that makes a request safe to send again.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// How long `wait` waits when nobody says.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// How long it waits at most.
const MAX_WAIT: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);
/// Timers beyond a month are for calendars.
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Pages that a request may have opened. `file:` would read what the host has.
const SCHEMES: [&str; 4] = ["https", "http", "about", "data"];
/// Sides of a display, in pixels; as for the configuration's.
const DISPLAY_SIDE: std::ops::RangeInclusive<u16> = 64..=8192;
const MEMORY: std::ops::RangeInclusive<u64> = 64 << 20..=1 << 40;
/// A browser starts some dozens of processes and hundreds of threads.
const PIDS: std::ops::RangeInclusive<u64> = 64..=4_194_304;
/// What the kernel takes (cgroup-v2, `cpu.weight`).
const CPU_WEIGHT: std::ops::RangeInclusive<u64> = 1..=10_000;
/// Variables in a request.
const MOST_VARIABLES: usize = 32;
const MAX_VARIABLE_BYTES: usize = 1024;
const MAX_LABEL_NAME_BYTES: usize = 64;
const MAX_LABEL_BYTES: usize = 256;

/// What a session is to be like. What is left out is as the host's configuration has it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `request` reads field by field; a test holds them together")]
pub(super) struct CreateSession {
    /// Its id; without one, the host makes it up.
    #[schema(
        nullable = false,
        max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        example = "task-42"
    )]
    session_id: Option<String>,
    /// Whose it is. A token for it must name this user.
    #[schema(min_length = 1, max_length = 256, example = "user-42")]
    user_id: String,
    /// What browser; `chromium` when left out. With `adspower`, AdsPower opens one of its profiles, where the host has it.
    #[schema(nullable = false)]
    kind: Option<KindWord>,
    /// A profile that outlives the session. Without one, the browser starts blank and leaves nothing. One of the pool's is given
    /// to its own user, when it has rested. With the kind `adspower` it is the profile's id in AdsPower, and needed where the
    /// pool is not to choose.
    #[schema(nullable = false, max_length = 64, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    profile: Option<String>,
    /// Has the host choose one of the user's profiles, the one that was used longest ago. Not together with `profile`.
    #[schema(nullable = false, default = false)]
    pool: Option<bool>,
    /// The size of the display.
    #[schema(nullable = false)]
    display: Option<DisplaySize>,
    /// The page to open: https, http, about or data.
    #[schema(nullable = false, max_length = 2048, example = "https://example.org/")]
    start_url: Option<String>,
    /// What pages are fetched through. Not with the kind `adspower`, nor `env`: both belong to its profile.
    #[schema(nullable = false)]
    proxy: Option<ProxyServer>,
    /// Variables for the browser; only names that the host allows.
    #[schema(nullable = false, example = json!({ "TZ": "Europe/Berlin" }))]
    env: Option<BTreeMap<String, String>>,
    /// Limits on the session's processes, within those of the host.
    #[schema(nullable = false)]
    limits: Option<LimitsAsked>,
    /// Ends the session when nobody has used it for so long: a whole number with a unit, from `1s` to `720h`.
    #[schema(nullable = false, pattern = "^[0-9]+(ms|s|m|h)$", example = "15m")]
    idle_timeout: Option<String>,
    /// Ends the session so long after its creation, used or not: a whole number with a unit, from `1s` to `720h`.
    #[schema(nullable = false, pattern = "^[0-9]+(ms|s|m|h)$", example = "2h")]
    max_duration: Option<String>,
    /// The caller's words, given back and put into events: 32 at most.
    #[schema(nullable = false, example = json!({ "task_id": "t-1", "workflow_run_id": "w-9" }))]
    labels: Option<BTreeMap<String, String>>,
}

/// What browser a session has.
#[derive(ToSchema)]
#[schema(as = Kind, rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the words of `Kind`")]
pub(super) enum KindWord {
    Chromium,
    AdsPower,
}

/// The size of a display, in pixels.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described only")]
pub(super) struct DisplaySize {
    #[schema(minimum = 64, maximum = 8192)]
    width: u16,
    #[schema(minimum = 64, maximum = 8192)]
    height: u16,
}

/// A proxy in a body.
pub(super) fn proxy(fields: &mut Fields<'_>) -> Option<Proxy> {
    fields.object("proxy", |proxy| proxy.required("server", parsed::<Proxy>)).flatten()
}

/// A proxy.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described only")]
pub(super) struct ProxyServer {
    /// `scheme://host:port` with http, https, socks4 or socks5; no user name or password.
    #[schema(max_length = 300, example = "http://proxy.example.org:8080")]
    server: String,
}

/// Limits on a session's processes together.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described only")]
pub(super) struct LimitsAsked {
    /// Memory, in bytes.
    #[schema(nullable = false, minimum = 67_108_864, maximum = 1_099_511_627_776_u64)]
    memory_bytes: Option<u64>,
    /// Processes and threads.
    #[schema(nullable = false, minimum = 64, maximum = 4_194_304)]
    pids: Option<u64>,
    /// Its share of the processors when they are all wanted, beside 100 for each other.
    #[schema(nullable = false, minimum = 1, maximum = 10_000)]
    cpu_weight: Option<u64>,
}

impl Context {
    /// Creates a session, or gives back the one that the same request created before.
    pub(super) async fn create(
        &self,
        operator: Operator,
        headers: &HeaderMap,
        query: Option<&str>,
        body: hyper::body::Incoming,
    ) -> Result<Reply, Box<Refused>> {
        let (bytes, value) = read::body(headers, body).await?;
        let mut mistakes = Mistakes::default();
        let idempotency = idempotency(headers, &bytes, &mut mistakes);
        let wait = wait_for(query, "ready", &mut mistakes);
        let request = request(value, &mut mistakes);
        mistakes.check()?;
        // There is one when nothing was wrong.
        let request = request.ok_or(Trouble::Internal)?;
        let created = self.state.manager.create(request, idempotency).await;
        let Created { session, fresh } = created.map_err(|error| {
            let refused = Box::<Refused>::from(error);
            self.state.tally.denied(refused.trouble);
            self.audit(&operator, "create", None, refused.trouble.outside().1);
            refused
        })?;
        self.audit(&operator, "create", Some(session.id()), if fresh { "created" } else { "repeated" });
        let timed_out = match wait {
            Some(limit) => {
                timeout(limit, until_ready(&session)).await.map_or(Ok(true), |ready| ready.map(|()| false))?
            }
            None => false,
        };
        self.state.manager.settle().await;
        let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
        let view = SessionView::waited(session.record(), timed_out);
        let mut response = json(status, &view);
        if let Ok(location) = HeaderValue::from_str(&format!("/v1/sessions/{}", session.id())) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response.into())
    }
}

/// Waits until everything of a session has answered once, or until it ends.
async fn until_ready(session: &Session) -> Result<(), Box<Refused>> {
    let mut status = session.watch();
    let settled =
        status.wait_for(|status| status.ready.is_some() || status.end.is_some() || status.is_over());
    let end = match settled.await {
        Ok(status) if status.end.is_none() && !status.is_over() => return Ok(()),
        Ok(status) => status.end.clone(),
        Err(_gone) => session.record().end,
    };
    Err(end.map_or_else(|| Trouble::SessionOver.into(), |end| Refused::ended(&end)))
}

/// `wait=<word>&timeout=…`: how long to wait for it, if at all.
fn wait_for(query: Option<&str>, word: &'static str, mistakes: &mut Mistakes) -> Option<Duration> {
    let mut query = Query::of(query, mistakes);
    let wait = wait_in(&mut query, word);
    query.finish();
    wait
}

/// The same in a query that asks for more.
pub(super) fn wait_in(query: &mut Query<'_>, word: &'static str) -> Option<Duration> {
    let only = |text: &str| if text == word { Ok(()) } else { Err(format!("must be {word:?}")) };
    let wanted = query.one("wait", only);
    let limit = query.one("timeout", |text| parse_within(text, &(SECOND..=MAX_WAIT)));
    wanted.map(|()| limit.unwrap_or(DEFAULT_WAIT))
}

fn idempotency(headers: &HeaderMap, body: &Bytes, mistakes: &mut Mistakes) -> Option<Idempotency> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = given.next()?;
    let good = (1..=MAX_KEY_BYTES).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
    if !good || given.next().is_some() {
        let detail = format!("must be 1 to {MAX_KEY_BYTES} visible ASCII characters, once");
        mistakes.add(Place::Header("Idempotency-Key"), detail);
        return None;
    }
    Some(Idempotency { key: sha256(key.as_bytes()), fingerprint: sha256(body) })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The request in a body; none only when there was a mistake.
fn request(body: Value, mistakes: &mut Mistakes) -> Option<CreateRequest> {
    let mut fields = Fields::of(body, "", mistakes);
    let user = fields.required("user_id", parsed);
    let id = fields.text("session_id", parsed);
    let kind = fields.text("kind", kind).unwrap_or(Kind::Chromium);
    let profile = fields.text("profile", parsed);
    let pool = fields.flag("pool").unwrap_or(false);
    let display_size = fields.object("display", display).flatten();
    let start_url = fields.text("start_url", |url| check_page(url, &SCHEMES).map(|()| url.to_owned()));
    let proxy = proxy(&mut fields);
    let env = fields.texts("env", MOST_VARIABLES, |_name, value| variable(value));
    let limits = fields.object("limits", limits).unwrap_or_default();
    let idle_timeout = fields.text("idle_timeout", duration);
    let max_duration = fields.text("max_duration", duration);
    let labels = fields.texts("labels", MOST_LABELS, label);
    fields.finish();
    if pool && profile.is_some() {
        mistakes.add(Place::Body("/pool".to_owned()), "must not be true beside a profile");
    }
    Some(CreateRequest {
        id,
        user: user?,
        kind,
        profile,
        pool,
        display_size,
        start_url,
        proxy,
        env,
        limits,
        idle_timeout,
        max_duration,
        labels,
    })
}

/// A kind of browser in a body.
pub(super) fn kind(word: &str) -> Result<Kind, String> {
    let names = Kind::ALL.map(Kind::as_str);
    let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
    found.ok_or_else(|| format!("must be one of {}", names.join(", ")))
}

fn display(fields: &mut Fields<'_>) -> Option<(u16, u16)> {
    let width = fields.required_number("width", DISPLAY_SIDE);
    let height = fields.required_number("height", DISPLAY_SIDE);
    Some((width?, height?))
}

fn limits(fields: &mut Fields<'_>) -> Limits {
    Limits {
        memory_bytes: fields.number("memory_bytes", MEMORY),
        pids: fields.number("pids", PIDS),
        cpu_weight: fields.number("cpu_weight", CPU_WEIGHT),
    }
}

/// A length of time in a body.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_within(text, &(SECOND..=MONTH))
}

fn variable(value: &str) -> Result<(), String> {
    if value.len() <= MAX_VARIABLE_BYTES && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("must be {MAX_VARIABLE_BYTES} bytes at most, without control characters"))
}

/// Checks a label.
pub(super) fn label(name: &str, value: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !(1..=MAX_LABEL_NAME_BYTES).contains(&name.len()) || !name.bytes().all(word) {
        return Err(format!("a label's name is 1 to {MAX_LABEL_NAME_BYTES} characters of A-Z a-z 0-9 _ - ."));
    }
    if value.len() > MAX_LABEL_BYTES || value.chars().any(char::is_control) {
        return Err(format!("must be {MAX_LABEL_BYTES} bytes at most, without control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::PartialSchema as _;

    use super::*;

    fn refused(body: Value) -> Vec<String> {
        let mut mistakes = Mistakes::default();
        let _none = request(body, &mut mistakes);
        let refused = mistakes.check().unwrap_err();
        let response = refused.response(&crate::http::RequestId::from_random([0; 16]));
        let body =
            futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(response.into_body()));
        let body: Value = serde_json::from_slice(&body.unwrap().unwrap().to_bytes()).unwrap();
        let errors = body["errors"].as_array().unwrap().iter();
        errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_whole_request_is_understood() {
        let body = json!({
            "session_id": "s1", "user_id": "u1", "kind": "adspower", "profile": "p",
            "display": { "width": 1280, "height": 720 }, "start_url": "https://example.org/",
            "proxy": { "server": "socks5://h:1" }, "env": { "TZ": "UTC" },
            "limits": { "memory_bytes": 1 << 30, "pids": 200, "cpu_weight": 50 }, "idle_timeout": "15m", "max_duration": "2h",
            "labels": { "task_id": "t" },
        });
        let mut mistakes = Mistakes::default();
        let request = request(body, &mut mistakes).unwrap();
        mistakes.check().unwrap();
        assert_eq!((request.kind, request.display_size), (Kind::AdsPower, Some((1280, 720))));
        assert_eq!(
            request.limits,
            Limits { memory_bytes: Some(1 << 30), pids: Some(200), cpu_weight: Some(50) }
        );
        assert_eq!(request.idle_timeout, Some(Duration::from_secs(900)));
        assert_eq!(request.proxy.unwrap().to_string(), "socks5://h:1");
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_what_would_change_the_host_is_no_field() {
        let pointers = refused(json!({
            "user_id": "", "kind": "firefox", "display": { "width": 10 }, "start_url": "file:///etc/passwd",
            "proxy": { "server": "http://u:p@h:1" }, "limits": { "pids": 1 }, "idle_timeout": 900,
            "labels": { "a b": "x" }, "program": "/bin/sh", "uid": 0, "args": ["--no-sandbox"],
        }));
        let expected = [
            "/user_id",
            "/kind",
            "/display/width",
            "/display/height",
            "/start_url",
            "/proxy/server",
            "/limits/pids",
            "/idle_timeout",
            "/labels/a b",
            "/args",
            "/program",
            "/uid",
        ];
        assert_eq!(pointers, expected);
        assert_eq!(refused(json!([])), ["", "/user_id"]);
        assert_eq!(refused(json!({ "user_id": "u", "pool": true, "profile": "p" })), ["/pool"]);
    }

    #[test]
    fn the_described_fields_are_those_that_are_read() {
        let schema = serde_json::to_value(CreateSession::schema()).unwrap();
        let names: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert!(names.len() > 10, "{names:?}");
        // A number is wrong everywhere; a field that nobody reads would be told as unknown.
        let mut wrong: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!(5))).collect();
        wrong.insert("unknown".to_owned(), json!(5));
        let mut mistakes = Mistakes::default();
        let _none = request(wrong.into(), &mut mistakes);
        let text = format!("{mistakes:?}");
        assert_eq!(text.matches("there is no such field").count(), 1, "{text}");
        for name in names {
            assert!(text.contains(&format!("/{name}\"")), "{name}: {text}");
        }
    }

    #[test]
    fn a_key_is_visible_ascii_and_is_not_kept() {
        let of = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_bytes(key.as_bytes()).unwrap());
            let mut mistakes = Mistakes::default();
            let found = idempotency(&headers, &Bytes::from_static(b"{}"), &mut mistakes);
            (found, mistakes.check().is_err())
        };
        let (found, wrong) = of("key-1");
        assert!(!wrong && found.unwrap().key != found.unwrap().fingerprint);
        for bad in ["", "a b", "\u{e9}", &"x".repeat(256)] {
            assert!(of(bad).1, "{bad:?}");
        }
    }
}
