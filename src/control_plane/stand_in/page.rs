//! The page: what was reported, as plain tables. Whatever comes from a report is text, never markup.

use std::fmt::{Display, Write as _};
use std::time::SystemTime;

use serde_json::Value;

use super::book::Book;
use crate::clock::unix_seconds;

pub(super) const STYLE: &str = include_str!("page.css");
/// Events on the page, the newest.
const SHOWN: usize = 200;

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
  <meta charset=\"utf-8\">
  <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
  <meta http-equiv=\"refresh\" content=\"2\">
  <title>Stand-in control plane</title>
  <link rel=\"stylesheet\" href=\"/page.css\">
</head>
<body>
<h1>Stand-in control plane</h1>
<p class=\"note\">Shows what the host reports, and does nothing with it. The page loads itself again every two seconds;
<a href=\"/reports\">the same as JSON</a>.</p>
";

/// Text that cannot become markup.
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for char in self.0.to_string().chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// Its media type, and it.
pub(super) fn page(book: &Book, now: SystemTime) -> Result<(&'static str, String), std::fmt::Error> {
    let mut page = HEAD.to_owned();
    host(&mut page, book, now)?;
    sessions(&mut page, book)?;
    events(&mut page, book)?;
    page.push_str("</body>\n</html>\n");
    Ok(("text/html; charset=utf-8", page))
}

/// A value as people read it: texts without quotes, nothing as a dash.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A word that is also the name of its colour, of those that there are.
fn word(value: &Value) -> String {
    let known = ["ok", "ready", "degraded", "failing", "starting", "draining", "stopped"];
    let class = value.as_str().filter(|word| known.contains(word)).unwrap_or_default();
    format!("<span class=\"{class}\">{}</span>", Text(shown(value)))
}

fn host(page: &mut String, book: &Book, now: SystemTime) -> std::fmt::Result {
    page.push_str("<h2>Host</h2>\n");
    let Some(heartbeat) = &book.heartbeat else {
        return page.write_str("<p>No heartbeat yet.</p>\n");
    };
    let health = &heartbeat["health"];
    let host = &health["host"];
    let (origin, counts, backlog) = (&heartbeat["origin"], &health["sessions"], &heartbeat["events"]);
    let text = |value: &Value| Text(shown(value)).to_string();
    let silent = book.silent_for(now).unwrap_or_default().as_secs_f64();
    let rows = [
        ("status", word(&health["status"])),
        ("heard", format!("{silent:.1} s ago, heartbeat {}", text(&heartbeat["sequence"]))),
        ("machine", format!("{} ({})", text(&host["id"]), text(&host["provider"]))),
        ("version", text(&health["version"])),
        (
            "boot, run",
            format!("<code>{}</code>, <code>{}</code>", text(&origin["boot_id"]), text(&origin["run_id"])),
        ),
        ("gateway", text(&health["gateway_url"])),
        ("draining", text(&health["draining"])),
        (
            "places",
            format!(
                "{} of {}, {} waiting",
                text(&counts["count"]),
                text(&counts["capacity"]),
                text(&counts["queued"])
            ),
        ),
        (
            "events",
            format!(
                "{} waiting, {} dropped, {} set aside",
                text(&backlog["waiting"]),
                text(&backlog["dropped"]),
                text(&backlog["set_aside"])
            ),
        ),
        ("clock", format!("{} s ahead of the host's", text(&heartbeat["clock_skew_seconds"]))),
        ("registrations", book.registrations.to_string()),
    ];
    page.push_str("<table>\n");
    for (name, value) in rows {
        writeln!(page, "<tr><th>{name}</th><td>{value}</td></tr>")?;
    }
    page.push_str("</table>\n");
    let mut table = String::new();
    for component in health["components"].as_array().into_iter().flatten() {
        let of = component["session"].as_str().map(|session| format!("{session}: ")).unwrap_or_default();
        writeln!(
            table,
            "<tr><th>{}{}</th><td>{}</td><td>{}</td></tr>",
            Text(of),
            Text(shown(&component["name"])),
            word(&component["status"]),
            Text(component["reason"].as_str().unwrap_or_default()),
        )?;
    }
    write!(page, "<h2>Components</h2>\n<table>\n{table}</table>\n")
}

fn sessions(page: &mut String, book: &Book) -> std::fmt::Result {
    page.push_str("<h2>Sessions</h2>\n");
    let sessions = book.heartbeat.as_ref().and_then(|heartbeat| heartbeat["sessions"].as_array());
    let Some(sessions) = sessions.filter(|sessions| !sessions.is_empty()) else {
        return page.write_str("<p>None.</p>\n");
    };
    page.push_str(
        "<table>\n<tr><th>session</th><th>user</th><th>state</th><th>labels</th><th>addresses</th></tr>\n",
    );
    for session in sessions {
        writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code><br><code>{}</code><br><code>{}</code></td></tr>",
            Text(shown(&session["session_id"])),
            Text(shown(&session["user_id"])),
            word(&session["state"]),
            Text(shown(&session["labels"])),
            Text(shown(&session["viewer_url"])),
            Text(shown(&session["vnc_url"])),
            Text(shown(&session["cdp_url"])),
        )?;
    }
    page.write_str("</table>\n")
}

fn events(page: &mut String, book: &Book) -> std::fmt::Result {
    let (count, again) = (book.events.len(), book.repeated);
    writeln!(
        page,
        "<h2>Events</h2>\n<p class=\"note\">{count} kept, {again} came again; the newest first.</p>"
    )?;
    page.push_str("<table>\n<tr><th>at</th><th>session</th><th>no.</th><th>what</th><th>details</th></tr>\n");
    for event in book.events.iter().rev().take(SHOWN) {
        writeln!(
            page,
            "<tr><td class=\"number\">{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            time_of_day(&event["at"]),
            Text(shown(&event["session_id"])),
            Text(shown(&event["number"])),
            Text(shown(&event["kind"])),
            Text(shown(&event["data"])),
        )?;
    }
    page.write_str("</table>\n")
}

/// Hours, minutes and seconds of UTC.
fn time_of_day(at: &Value) -> String {
    let seconds = at.as_f64().unwrap_or_else(|| unix_seconds(SystemTime::UNIX_EPOCH)).rem_euclid(86_400.0);
    let (hours, rest) = ((seconds / 3600.0).floor(), seconds.rem_euclid(3600.0));
    format!("{hours:02.0}:{:02.0}:{:06.3}", (rest / 60.0).floor(), rest.rem_euclid(60.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_reported_cannot_become_markup() {
        let evil = "<script>alert('1')</script>\"&";
        let mut book = Book::default();
        book.heartbeat = Some(json!({
            "sequence": evil,
            "origin": { "boot_id": evil, "run_id": evil },
            "health": {
                "gateway_url": evil,
                "status": evil, "version": evil, "host": { "id": evil, "provider": evil },
                "components": [{ "name": evil, "session": evil, "status": evil, "reason": evil }],
                "sessions": { "count": evil },
            },
            "sessions": [{ "session_id": evil, "user_id": evil, "state": evil, "labels": { evil: evil } }],
            "events": { "waiting": evil },
        }));
        let event = json!({ "id": "1", "at": 3661.5, "session_id": evil, "number": evil, "kind": evil, "data": evil });
        book.events.push_back(event);
        let (_, page) = page(&book, SystemTime::UNIX_EPOCH).unwrap();
        assert!(!page.contains("<script") && !page.contains("alert('"), "{page}");
        assert!(page.matches("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;").count() >= 18, "{page}");
        assert!(page.contains("01:01:01.500"), "{page}");
    }
}
