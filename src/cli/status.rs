//! `valetd status`: what runs, asked of the daemon over its Unix socket.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::time::interval;

use super::ask::{AskError, Question, ask, socket};
use super::columns::columns;
use super::output::{answer, complain};
use super::session::now;
use super::{Exit, StatusArgs};
use crate::errors::chain;

/// For one answer; the daemon gives its own parts a second.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often `--watch` asks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Prints the status on `out`, once or again and again.
pub fn run(args: &StatusArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let socket = match socket(args.config.as_deref()) {
        Ok(socket) => socket,
        Err(mistakes) => return complain(err, &mistakes.to_string(), Exit::Configuration),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(err, &format!("valetd: no runtime: {error}"), Exit::Failed),
    };
    let shown = runtime.block_on(show(args, &socket, out));
    match shown {
        Ok(exit) => exit,
        Err(error) => complain(err, &format!("valetd: {}", chain(&error)), Exit::Failed),
    }
}

async fn show(args: &StatusArgs, socket: &Path, out: &mut dyn Write) -> Result<Exit, AskError> {
    let mut ticks = interval(WATCH_INTERVAL);
    let mut before = String::new();
    loop {
        ticks.tick().await;
        let status = ask(socket, Question::get("/v1/status", DEADLINE)).await?;
        let text = if args.json { format!("{status}\n") } else { table(&status, now()) };
        if text != before {
            let exit = answer(out, &text);
            if !args.watch || exit != Exit::Clean {
                return Ok(exit);
            }
            before = text;
        }
    }
}

/// The answer as people read it.
fn table(status: &Value, now: f64) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut lines = vec![format!(
        "valetd {} (pid {}), {}, up {}",
        text(&status["health"]["version"]),
        status["pid"],
        text(&status["health"]["status"]),
        age(status["uptime_seconds"].as_f64().unwrap_or_default()),
    )];
    lines.extend(host(&status["health"]["host"]).map(|host| format!("host {host}")));
    lines.extend(notice(&status["health"]["notice"], now).map(|notice| format!("notice {notice}")));
    lines.extend(adspower(&status["health"]["components"], now));
    for session in status["sessions"].as_array().into_iter().flatten() {
        lines.push(String::new());
        lines.push(format!(
            "session {}  {}  display {}{}  viewers {} acting, {} looking",
            text(&session["id"]),
            text(&session["state"]),
            text(&session["display"]),
            extent(&session["display_size"]).map(|size| format!(" {size}")).unwrap_or_default(),
            session["viewers"]["controllers"],
            session["viewers"]["spectators"],
        ));
        lines.push(format!(
            "  {:<10} {:<9} {:>8} {:>7} {:>6}  {}",
            "SERVICE", "STATUS", "PID", "SINCE", "STARTS", "WHY"
        ));
        for part in session["components"].as_array().into_iter().flatten() {
            let line = format!(
                "  {:<10} {:<9} {:>8} {:>7} {:>6}  {}",
                text(&part["name"]),
                text(&part["status"]),
                part["pid"].as_u64().map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                age((now - part["since"].as_f64().unwrap_or(now)).max(0.0)),
                part["starts"].as_u64().unwrap_or_default(),
                part["reason"].as_str().unwrap_or_default(),
            );
            lines.push(line.trim_end().to_owned());
        }
        lines.extend(screen(&session["screen"]).map(|screen| format!("  {screen}")));
        lines.extend(watching(&session["watching"]).lines().map(|line| format!("  {line}")));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// `1280x720`.
fn extent(size: &Value) -> Option<String> {
    Some(format!("{}x{}", size["width"].as_u64()?, size["height"].as_u64()?))
}

/// What looking at the display comes to.
fn screen(screen: &Value) -> Option<String> {
    let frames = screen["frames"].as_u64()?;
    let capture =
        screen["capture_ms"].as_f64().map(|ms| format!(", looked at in {ms:.1} ms")).unwrap_or_default();
    Some(format!("screen: {} frames/s of {frames}{capture}", screen["fps"]))
}

/// Those who watch; nothing where nobody does.
fn watching(viewers: &Value) -> String {
    let viewers = viewers.as_array().map(Vec::as_slice).unwrap_or_default();
    if viewers.is_empty() {
        return String::new();
    }
    let row = |viewer: &Value| {
        let figures = &viewer["figures"];
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let number = |name: &str| or_dash(figures[name].as_u64().map(|number| number.to_string()));
        let time = |name: &str| or_dash(figures[name].as_f64().map(|ms| format!("{ms:.1} ms")));
        let bytes = |name: &str| figures[name].as_u64().map(size);
        let queue = bytes("in_flight_bytes").zip(bytes("window_bytes"));
        [
            or_dash(viewer["viewer"].as_str().map(str::to_owned)),
            or_dash(viewer["role"].as_str().map(str::to_owned)),
            number("fps"),
            time("round_trip_ms"),
            or_dash(bytes("bytes_per_second").map(|size| format!("{size}/s"))),
            or_dash(bytes("bytes")),
            or_dash(queue.map(|(in_flight, window)| format!("{in_flight} of {window}"))),
            time("encode_ms"),
            number("quality"),
            or_dash(encodings(&figures["rectangles"])),
        ]
    };
    let rows: Vec<_> = viewers.iter().map(row).collect();
    let head = [
        "VIEWER",
        "ROLE",
        "FPS",
        "ROUND TRIP",
        "RATE",
        "SENT",
        "IN FLIGHT",
        "ENCODED IN",
        "QUALITY",
        "ENCODED AS",
    ];
    columns(head, &rows)
}

/// What rectangles were encoded as, the most frequent first.
fn encodings(rectangles: &Value) -> Option<String> {
    let counts = rectangles.as_object()?.iter();
    let mut counts: Vec<_> = counts.filter_map(|(kind, count)| Some((count.as_u64()?, kind))).collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    let words: Vec<_> = counts.iter().map(|(count, kind)| format!("{kind} {count}")).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Bytes in their largest unit.
fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{} KiB", bytes >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, (bytes >> 10 & 1023) * 10 / 1024),
    }
}

/// The machine, what is known of it with commas between.
fn host(host: &Value) -> Option<String> {
    let id = host["id"].as_str()?;
    let about = ["provider", "name", "type", "life_cycle", "zone", "address"];
    let mut parts: Vec<_> = about.iter().filter_map(|part| host[*part].as_str()).collect();
    // A zone is named after its region.
    if host["zone"].is_null() {
        parts.extend(host["region"].as_str());
    }
    Some(format!("{id}  {}", parts.join(", ")))
}

/// AdsPower, where the host has it.
fn adspower(components: &Value, now: f64) -> Option<String> {
    let parts = components.as_array()?;
    let part = parts.iter().find(|part| part["name"] == "adspower" && part["session"].is_null())?;
    let pid = part["pid"].as_u64().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let why = part["reason"].as_str().map(|reason| format!(", {reason}")).unwrap_or_default();
    let since = age((now - part["since"].as_f64().unwrap_or(now)).max(0.0));
    Some(format!("adspower{pid}  {} for {since}{why}", part["status"].as_str().unwrap_or("-")))
}

/// What was announced about it.
fn notice(notice: &Value, now: f64) -> Option<String> {
    let kind = notice["kind"].as_str()?;
    let what = notice["what"].as_str().map(|what| format!(" ({what})")).unwrap_or_default();
    let when = match notice["at"].as_f64() {
        Some(at) if at > now => format!(", in {}", age(at - now)),
        Some(at) => format!(", {} ago", age(now - at)),
        None => String::new(),
    };
    Some(format!("{kind}{what}{when}"))
}

/// A duration in its largest unit: `42s`, `3m`, `5h`, `2d`.
pub(super) fn age(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "m")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1.0, "s"));
    format!("{:.0}{unit}", (seconds / size).floor())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_tells_who_looks_and_what_is_wrong() {
        let status = json!({
            "health": {
                "status": "degraded",
                "version": "0.1.0",
                "host": {
                    "provider": "ec2", "id": "i-1234abcd", "type": "m7i.large", "life_cycle": "spot",
                    "region": "eu-central-1", "zone": "eu-central-1a", "address": "10.0.0.5",
                },
                "notice": { "kind": "spot_interruption", "what": "terminate", "at": 1093.0, "since": 973.0 },
                "components": [
                    { "name": "manager", "status": "ok", "pid": 7, "since": 0.0, "starts": 1 },
                    { "name": "adspower", "status": "failing", "pid": 9, "since": 940.0, "starts": 2, "reason": "no answer" },
                ],
            },
            "pid": 7, "uptime_seconds": 7300,
            "sessions": [{
                "id": "s1", "state": "degraded", "display": ":5",
                "display_size": { "width": 1280, "height": 720 },
                "viewers": { "controllers": 1, "spectators": 2 },
                "screen": { "fps": 30, "frames": 900, "capture_ms": 0.75 },
                "watching": [
                    { "viewer": "1a2b3c4d", "role": "controller", "since": 940.0, "figures": {
                        "fps": 30, "updates": 880, "bytes_per_second": 2048, "bytes": 5_767_168,
                        "round_trip_ms": 12.34, "encode_ms": 0.9, "in_flight_bytes": 512, "window_bytes": 262_144,
                        "quality": 6, "rectangles": { "tight_jpeg": 700, "tight_fill": 3000 },
                    } },
                    { "viewer": "55667788", "role": "spectator", "since": 999.0 },
                ],
                "components": [
                    { "name": "xvfb", "status": "ok", "pid": 11, "since": 940.0, "starts": 1 },
                    { "name": "browser", "status": "failing", "since": 999.0, "starts": 6, "reason": "exited with status 1" },
                ],
            }],
        });
        assert_eq!(
            table(&status, 1000.0),
            "valetd 0.1.0 (pid 7), degraded, up 2h\n\
             host i-1234abcd  ec2, m7i.large, spot, eu-central-1a, 10.0.0.5\n\
             notice spot_interruption (terminate), in 1m\n\
             adspower (pid 9)  failing for 1m, no answer\n\n\
             session s1  degraded  display :5 1280x720  viewers 1 acting, 2 looking\n\
             \u{20} SERVICE    STATUS         PID   SINCE STARTS  WHY\n\
             \u{20} xvfb       ok              11      1m      1\n\
             \u{20} browser    failing          -      1s      6  exited with status 1\n\
             \u{20} screen: 30 frames/s of 900, looked at in 0.8 ms\n\
             \u{20} VIEWER    ROLE        FPS  ROUND TRIP  RATE     SENT     IN FLIGHT         ENCODED IN  QUALITY  ENCODED AS\n\
             \u{20} 1a2b3c4d  controller  30   12.3 ms     2 KiB/s  5.5 MiB  512 B of 256 KiB  0.9 ms      6        tight_fill 3000, tight_jpeg 700\n\
             \u{20} 55667788  spectator   -    -           -        -        -                 -           -        -\n"
        );
    }
}
