//! `valetd session`: sessions of the daemon on this host, asked for over its Unix socket.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde_json::{Map, Value, json};

use super::Exit;
use super::args::{
    CreateSession, EndSession, ListSessions, OpenSession, SessionAction, SessionArgs, ShowSession,
};
use super::ask::{AskError, Question, ask, socket, with_query};
use super::columns::listing;
use super::output::{Printed, complain, printed};
use super::status::age;
use crate::durations;
use crate::errors::chain;

/// For an answer that waits for nothing.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// What an answer may take beyond the wait that was asked for: a place in the queue (10 minutes at most), and putting the
/// session together.
const QUEUE_DEADLINE: Duration = Duration::from_secs(640);

/// Does what `args` say and prints the answer on `out`.
pub fn run(args: &SessionArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let socket = match socket(args.action.config()) {
        Ok(socket) => socket,
        Err(mistakes) => return complain(err, &mistakes.to_string(), Exit::Configuration),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(err, &format!("valetd: no runtime: {error}"), Exit::Failed),
    };
    let done = runtime.block_on(async {
        match &args.action {
            SessionAction::Create(args) => create(args, &socket).await,
            SessionAction::List(args) => list(args, &socket).await,
            SessionAction::Show(args) => show(args, &socket).await,
            SessionAction::Stop(args) => stop(args, &socket).await,
            SessionAction::Open(args) => open(args, &socket).await,
        }
    });
    match done {
        Ok(done) => printed(out, &done),
        Err(error) => complain(err, &format!("valetd: {}", chain(&error)), Exit::Failed),
    }
}

async fn create(args: &CreateSession, socket: &Path) -> Result<Printed, AskError> {
    let body = body_of(args);
    let timeout = durations::write(args.timeout);
    let wait = [("wait", "ready"), ("timeout", timeout.as_str())];
    let path = with_query("/v1/sessions", if args.no_wait { &[] } else { &wait });
    let deadline = QUEUE_DEADLINE + args.timeout;
    let question = Question { method: Method::POST, path: &path, body: Some(&body), deadline };
    let session = ask(socket, question).await?;
    let late = session["wait_timed_out"] == true;
    let text = if args.json {
        format!("{session}\n")
    } else {
        let mut text = details(&session, now());
        if late {
            text.push_str("\nIt is not ready yet. See `valetd session show`.\n");
        }
        text
    };
    Ok(Printed { text, exit: if late { Exit::Failed } else { Exit::Clean } })
}

fn body_of(args: &CreateSession) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    let pairs = |pairs: &[(String, String)]| {
        let object: Map<_, _> = pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        (!object.is_empty()).then_some(Value::Object(object))
    };
    let duration = |duration: Option<Duration>| duration.map(|duration| json!(durations::write(duration)));
    put("user_id", Some(json!(args.user)));
    put("session_id", args.id.as_ref().map(|id| json!(id)));
    put("kind", args.kind.map(|kind| json!(kind.as_str())));
    put("profile", args.profile.as_ref().map(|profile| json!(profile)));
    put("pool", args.pool.then_some(Value::Bool(true)));
    put("start_url", text(&args.url));
    put("display", args.size.map(|(width, height)| json!({ "width": width, "height": height })));
    put("proxy", args.proxy.as_ref().map(|server| json!({ "server": server })));
    put("env", pairs(&args.env));
    put("labels", pairs(&args.label));
    put("idle_timeout", duration(args.idle_timeout));
    put("max_duration", duration(args.max_duration));
    Value::Object(body)
}

async fn list(args: &ListSessions, socket: &Path) -> Result<Printed, AskError> {
    let path = with_query(
        "/v1/sessions",
        if args.all { &[("state", "all"), ("limit", "1000")] } else { &[("limit", "1000")] },
    );
    let sessions = ask(socket, Question::get(&path, DEADLINE)).await?;
    let text = if args.json { format!("{sessions}\n") } else { table(&sessions, now()) };
    Ok(Printed { text, exit: Exit::Clean })
}

async fn show(args: &ShowSession, socket: &Path) -> Result<Printed, AskError> {
    let path = format!("/v1/sessions/{}", args.id);
    let session = ask(socket, Question::get(&path, DEADLINE)).await?;
    let text = if args.json { format!("{session}\n") } else { details(&session, now()) };
    Ok(Printed { text, exit: Exit::Clean })
}

async fn stop(args: &EndSession, socket: &Path) -> Result<Printed, AskError> {
    let mut parameters = Vec::new();
    if let Some(reason) = &args.reason {
        parameters.push(("reason", reason.as_str()));
    }
    if !args.no_wait {
        parameters.extend([("wait", "ended"), ("timeout", "60s")]);
    }
    let path = with_query(&format!("/v1/sessions/{}", args.id), &parameters);
    let deadline = DEADLINE + Duration::from_secs(60);
    let question = Question { method: Method::DELETE, path: &path, body: None, deadline };
    let session = ask(socket, question).await?;
    let over = session["state"] == "stopped";
    let word = if over { "ended" } else { "ending" };
    let text = if args.json { format!("{session}\n") } else { format!("session {} {word}\n", args.id) };
    Ok(Printed { text, exit: if over || args.no_wait { Exit::Clean } else { Exit::Failed } })
}

async fn open(args: &OpenSession, socket: &Path) -> Result<Printed, AskError> {
    let ttl = durations::write(args.ttl);
    let parameters = [("tokens", args.role.as_str()), ("ttl", ttl.as_str())];
    let path = with_query(&format!("/v1/sessions/{}/connection", args.id), &parameters);
    let connection = ask(socket, Question::get(&path, DEADLINE)).await?;
    let token = &connection["tokens"][args.role.as_str()];
    let text = if args.json {
        format!("{connection}\n")
    } else {
        // An automation has no page to look at.
        let link = token["viewer_url"].as_str().or(connection["cdp_url"].as_str()).unwrap_or_default();
        match token["viewer_url"].is_string() {
            true => format!("{link}\n"),
            false => format!("{link}\n{}\n", token["token"].as_str().unwrap_or_default()),
        }
    };
    Ok(Printed { text, exit: Exit::Clean })
}

pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

pub(super) fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

pub(super) fn since(value: &Value, now: f64) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |at| age((now - at).max(0.0)))
}

/// Sessions as people read them, in columns as wide as they need to be.
fn table(sessions: &Value, now: f64) -> String {
    const HEAD: [&str; 8] = ["ID", "STATE", "USER", "KIND", "AGE", "ENDS", "VIEWERS", "DISPLAY"];
    let rows: Vec<[String; 8]> = sessions["sessions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|session| {
            let viewers = &session["viewers"];
            let looking =
                viewers["controllers"].as_u64().unwrap_or(0) + viewers["spectators"].as_u64().unwrap_or(0);
            let ends = match (&session["end"]["cause"], session["expires_at"].as_f64()) {
                (Value::String(cause), _) => cause.clone(),
                (_, Some(at)) => age((at - now).max(0.0)),
                _ => "-".to_owned(),
            };
            [
                text_of(&session["session_id"]).to_owned(),
                text_of(&session["state"]).to_owned(),
                text_of(&session["user_id"]).to_owned(),
                text_of(&session["kind"]).to_owned(),
                since(&session["created_at"], now),
                ends,
                looking.to_string(),
                text_of(&session["display"]).to_owned(),
            ]
        })
        .collect();
    listing("sessions", HEAD, &rows, sessions["more"] == true)
}

/// One session as people read it.
fn details(session: &Value, now: f64) -> String {
    let mut lines =
        vec![format!("session {}  {}", text_of(&session["session_id"]), text_of(&session["state"]))];
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("  {name:<13} {value}"));
        }
    };
    let text = |key: &str| session[key].as_str().map(str::to_owned);
    put("user", text("user_id"));
    put("kind", text("kind"));
    put("profile", text("profile"));
    put("display", text("display"));
    put(
        "created",
        session["created_at"]
            .as_f64()
            .map(|at| format!("{} ago, {}", age((now - at).max(0.0)), text_of(&session["warmth"]))),
    );
    let took = session["ready_at"].as_f64().zip(session["created_at"].as_f64());
    put("ready after", took.map(|(ready, created)| format!("{:.3} s", ready - created)));
    put(
        "ends in",
        session["expires_at"]
            .as_f64()
            .filter(|_| session["ended_at"].is_null())
            .map(|at| age((at - now).max(0.0))),
    );
    put("idle timeout", text("idle_timeout"));
    put("ended", session["ended_at"].as_f64().map(|at| format!("{} ago", age((now - at).max(0.0)))));
    let reason = session["end"]["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    put("why", session["end"]["cause"].as_str().map(|cause| format!("{cause}{reason}")));
    put(
        "viewers",
        session["viewers"].is_object().then(|| {
            format!(
                "{} acting, {} looking",
                session["viewers"]["controllers"], session["viewers"]["spectators"]
            )
        }),
    );
    for (name, value) in session["labels"].as_object().into_iter().flatten() {
        put("label", Some(format!("{name}={}", text_of(value))));
    }
    for handoff in session["handoffs"].as_array().into_iter().flatten() {
        let (kind, state, id) = (&handoff["kind"], &handoff["state"], &handoff["handoff_id"]);
        put("handoff", Some(format!("{} {}  {}", text_of(kind), text_of(state), text_of(id))));
    }
    for part in session["components"].as_array().into_iter().flatten() {
        let reason = part["reason"].as_str().map(|reason| format!("  {reason}")).unwrap_or_default();
        put(text_of(&part["name"]), Some(format!("{}{reason}", text_of(&part["status"]))));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Value {
        json!({
            "session_id": "s-1", "state": "ready", "user_id": "user-42", "kind": "chromium", "created_at": 940.0,
            "ready_at": 940.5, "expires_at": 4600.0, "viewers": { "controllers": 1, "spectators": 2 },
            "display": ":5", "warmth": "cold", "labels": { "task_id": "t" },
            "handoffs": [{ "handoff_id": "h-1", "kind": "captcha", "state": "open", "reason": "a puzzle" }],
            "components": [{ "name": "browser", "status": "failing", "reason": "exited with status 1" }],
        })
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let sessions = json!({ "sessions": [session()], "more": false });
        assert_eq!(
            table(&sessions, 1000.0),
            "ID   STATE  USER     KIND      AGE  ENDS  VIEWERS  DISPLAY\n\
             s-1  ready  user-42  chromium  1m   1h    3        :5\n"
        );
        assert_eq!(table(&json!({ "sessions": [] }), 0.0), "no sessions\n");
    }

    #[test]
    fn details_say_what_there_is_and_nothing_else() {
        assert_eq!(
            details(&session(), 1000.0),
            "session s-1  ready\n\
             \u{20} user          user-42\n\
             \u{20} kind          chromium\n\
             \u{20} display       :5\n\
             \u{20} created       1m ago, cold\n\
             \u{20} ready after   0.500 s\n\
             \u{20} ends in       1h\n\
             \u{20} viewers       1 acting, 2 looking\n\
             \u{20} label         task_id=t\n\
             \u{20} handoff       captcha open  h-1\n\
             \u{20} browser       failing  exited with status 1\n"
        );
    }
}
