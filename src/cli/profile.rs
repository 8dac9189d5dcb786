//! `valetd profile`: the pool of the daemon on this host, asked for over its Unix socket.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::Exit;
use super::ask::{AskError, Question, ask, socket, with_query};
use super::columns::listing;
use super::output::{Printed, complain, printed};
use super::profile_args::{AddProfile, ListProfiles, ProfileAction, ProfileArgs};
use super::session::{DEADLINE, now, since, text_of};
use super::status::age;
use crate::errors::chain;
use crate::ids::ProfileName;

/// For a profile's directory to be removed.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(70);

/// Does what `args` say and prints the answer on `out`.
pub fn run(args: &ProfileArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let socket = match socket(args.config()) {
        Ok(socket) => socket,
        Err(mistakes) => return complain(err, &mistakes.to_string(), Exit::Configuration),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(err, &format!("valetd: no runtime: {error}"), Exit::Failed),
    };
    match runtime.block_on(answer(&args.action, &socket)) {
        Ok((value, text)) => {
            let text = if args.json { format!("{value}\n") } else { text };
            printed(out, &Printed { text, exit: Exit::Clean })
        }
        Err(error) => complain(err, &format!("valetd: {}", chain(&error)), Exit::Failed),
    }
}

/// What the daemon says, and how people read it.
async fn answer(action: &ProfileAction, socket: &Path) -> Result<(Value, String), AskError> {
    let at = |name: &ProfileName, what: &str| format!("/v1/profiles/{name}{what}");
    let said = |value: Value, word: &str| {
        let text = format!("profile {} {word}\n", text_of(&value["name"]));
        (value, text)
    };
    match action {
        ProfileAction::List(args) => {
            let profiles = ask(socket, Question::get(&list_path(args), DEADLINE)).await?;
            let text = table(&profiles, now());
            Ok((profiles, text))
        }
        ProfileAction::Show(args) => {
            let profile = ask(socket, Question::get(&at(&args.name, ""), DEADLINE)).await?;
            let text = details(&profile, now());
            Ok((profile, text))
        }
        ProfileAction::Add(args) => {
            let profile = post(socket, "/v1/profiles", Some(&body_of(args))).await?;
            Ok(said(profile, "added"))
        }
        ProfileAction::Release(args) => {
            let profile = post(socket, &at(&args.name, "/release"), None).await?;
            let word = text_of(&profile["state"]).to_owned();
            Ok(said(profile, &word))
        }
        ProfileAction::Quarantine(args) => {
            let body = json!({ "reason": args.reason });
            let profile = post(socket, &at(&args.name, "/quarantine"), Some(&body)).await?;
            let is_used = profile["state"] == "active";
            Ok(said(
                profile,
                if is_used { "will be quarantined when its session is over" } else { "quarantined" },
            ))
        }
        ProfileAction::Remove(args) => {
            let path = at(&args.name, "");
            let question =
                Question { method: Method::DELETE, path: &path, body: None, deadline: REMOVAL_DEADLINE };
            Ok(said(ask(socket, question).await?, "removed"))
        }
    }
}

async fn post(socket: &Path, path: &str, body: Option<&Value>) -> Result<Value, AskError> {
    ask(socket, Question { method: Method::POST, path, body, deadline: DEADLINE }).await
}

fn list_path(args: &ListProfiles) -> String {
    let mut parameters = vec![("limit", "1000")];
    parameters.extend(args.user.iter().map(|user| ("user_id", user.as_str())));
    parameters.extend(args.state.iter().map(|state| ("state", state.as_str())));
    with_query("/v1/profiles", &parameters)
}

fn body_of(args: &AddProfile) -> Value {
    let mut body = Map::from_iter([
        ("user_id".to_owned(), json!(args.user)),
        ("kind".to_owned(), json!(args.kind.as_str())),
    ]);
    let external = args.external_id.as_ref().map(|id| json!(id));
    let proxy = args.proxy.as_ref().map(|server| json!({ "server": server }));
    for (name, value) in
        [("external_id", external), ("proxy", proxy), ("fingerprint", args.fingerprint.clone())]
    {
        body.extend(value.map(|value| (name.to_owned(), value)));
    }
    Value::Object(body)
}

/// What is particular to its state: who has it, when it can be had, why it cannot.
fn particular(profile: &Value, now: f64) -> String {
    let reason = profile["reason"].as_str();
    match (profile["session_id"].as_str(), profile["available_at"].as_f64(), reason) {
        (Some(session), _, None) => format!("session {session}"),
        (Some(session), _, Some(reason)) => format!("session {session}, then quarantine: {reason}"),
        (None, Some(at), _) => format!("idle in {}", age((at - now).max(0.0))),
        (None, None, Some(reason)) => reason.to_owned(),
        (None, None, None) => String::new(),
    }
}

/// Profiles as people read them.
fn table(profiles: &Value, now: f64) -> String {
    const HEAD: [&str; 8] = ["NAME", "STATE", "USER", "KIND", "USES", "LAST USED", "FAILURES", "WHY"];
    let list = profiles["profiles"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<[String; 8]> = list
        .iter()
        .map(|profile| {
            [
                text_of(&profile["name"]).to_owned(),
                text_of(&profile["state"]).to_owned(),
                text_of(&profile["user_id"]).to_owned(),
                text_of(&profile["kind"]).to_owned(),
                profile["uses"].to_string(),
                since(&profile["last_used_at"], now),
                profile["failures"].to_string(),
                particular(profile, now),
            ]
        })
        .collect();
    listing("profiles", HEAD, &rows, profiles["more"] == true)
}

/// One profile as people read it.
fn details(profile: &Value, now: f64) -> String {
    let mut lines = vec![format!("profile {}  {}", text_of(&profile["name"]), text_of(&profile["state"]))];
    let mut put = |name: &str, value: Option<String>| {
        lines.extend(value.filter(|value| !value.is_empty()).map(|value| format!("  {name:<13} {value}")));
    };
    let text = |key: &str| profile[key].as_str().map(str::to_owned);
    put("why", Some(particular(profile, now)));
    put("user", text("user_id"));
    put("kind", text("kind"));
    put("external id", text("external_id"));
    put("proxy", text("proxy"));
    put("uses", Some(profile["uses"].to_string()));
    put("failures", Some(profile["failures"].to_string()));
    let ago = |key: &str| profile[key].as_f64().map(|at| format!("{} ago", age((now - at).max(0.0))));
    put("last used", ago("last_used_at"));
    put("quarantined", ago("quarantined_at"));
    put("made", ago("created_at"));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Value {
        json!({
            "name": "pool-1", "state": "cooldown", "user_id": "u", "kind": "chromium", "uses": 3, "failures": 1,
            "last_used_at": 940.0, "created_at": 100.0, "available_at": 2800.0, "proxy": "http://h:1",
        })
    }

    #[test]
    fn a_table_says_when_a_profile_can_be_had_or_why_it_cannot() {
        let mut quarantined = profile();
        quarantined["state"] = json!("quarantined");
        quarantined["available_at"] = Value::Null;
        quarantined["reason"] = json!("3 sessions in a row failed with it");
        let profiles = json!({ "profiles": [profile(), quarantined], "more": true });
        assert_eq!(
            table(&profiles, 1000.0),
            "NAME    STATE        USER  KIND      USES  LAST USED  FAILURES  WHY\n\
             pool-1  cooldown     u     chromium  3     1m         1         idle in 30m\n\
             pool-1  quarantined  u     chromium  3     1m         1         3 sessions in a row failed with it\n\
             and more\n"
        );
        assert_eq!(table(&json!({ "profiles": [] }), 0.0), "no profiles\n");
    }

    #[test]
    fn details_say_what_there_is_and_nothing_else() {
        assert_eq!(
            details(&profile(), 1000.0),
            "profile pool-1  cooldown\n\
             \u{20} why           idle in 30m\n\
             \u{20} user          u\n\
             \u{20} kind          chromium\n\
             \u{20} proxy         http://h:1\n\
             \u{20} uses          3\n\
             \u{20} failures      1\n\
             \u{20} last used     1m ago\n\
             \u{20} made          15m ago\n"
        );
    }
}
