//! `[host]`, `[session]`, `[display]`, `[api]` and `[log]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::document::{Document, Section, Show};
use super::mistake::Mistake;
use super::settings::Log;
use super::values::{display_size, rfb_address, socket_path};
use crate::ids::{SessionId, UserId};
use crate::session::{HostConfig, Isolation};
use crate::telemetry::Format;
use crate::vnc::RfbSource;
use crate::{api, display};

const DEFAULT_STATE_DIR: &str = "/var/lib/valetd";
const DEFAULT_RUNTIME_DIR: &str = "/run/valetd";
/// Above what adduser gives to people and below systemd's dynamic users (61184) and the usual subordinate ids (100000).
const DEFAULT_FIRST_UID: u32 = 20_000;
const DEFAULT_UID_COUNT: u32 = 10_000;
/// Distributions give ids below to the system and to people's first accounts.
pub(super) const LEAST_UID: u32 = 1_000;
/// Ids above are negative for programs that keep them in an `int`.
pub(super) const MOST_UID: u32 = 2_147_483_646;
/// `nobody`, and the "no id" of 16-bit programs.
pub(super) const RESERVED_UIDS: [u32; 2] = [65_534, 65_535];
/// Less than systemd's default `TimeoutStopSec` (90 s), and enough for a browser to write its profile.
const DEFAULT_DRAIN_BUDGET: Duration = Duration::from_secs(25);

/// The one session that runs where the configuration names none.
const DEFAULT_SESSION_ID: &str = "default";

/// What the pages that automations visit expect of a desktop.
const DEFAULT_SIZE: (u16, u16) = (1920, 1080);
/// True colour; with x11vnc, 16 halves the bytes of a picture where that matters.
const DEFAULT_DEPTH: u8 = 24;
const DEFAULT_XVFB: &str = "/usr/bin/Xvfb";
const DEFAULT_X11VNC: &str = "/usr/bin/x11vnc";

/// Where health checkers and the central API look for a host.
const DEFAULT_API_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8089);
const DEFAULT_API_SOCKET: &str = "/run/valetd/control.sock";

const DEFAULT_LEVEL: &str = "info";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn host(document: &mut Document, isolation: Isolation) -> (HostConfig, Duration) {
    let mut section = document.section("host");
    let host = HostConfig {
        state_dir: section.path("state_dir", DEFAULT_STATE_DIR),
        runtime_dir: section.path("runtime_dir", DEFAULT_RUNTIME_DIR),
        first_uid: section.number("first_uid", DEFAULT_FIRST_UID, LEAST_UID..=MOST_UID),
        uid_count: section.number("uid_count", DEFAULT_UID_COUNT, 1..=1_000_000),
        isolation,
    };
    let last = host.first_uid.saturating_add(host.uid_count - 1);
    if last > MOST_UID || RESERVED_UIDS.iter().any(|uid| (host.first_uid..=last).contains(uid)) {
        let range = format!("{} to {last}", host.first_uid);
        section.refuse(
            "uid_count",
            format!("the range {range} must end at {MOST_UID} at most and leave out 65534 and 65535"),
        );
    }
    let budget = Duration::from_millis(100)..=Duration::from_secs(600);
    let drain_budget = section.duration("drain_budget", DEFAULT_DRAIN_BUDGET, budget);
    section.finish();
    (host, drain_budget)
}

/// `[session]`.
pub(super) struct SessionPart {
    pub(super) autostart: bool,
    pub(super) exit_when_ended: bool,
    pub(super) id: SessionId,
    pub(super) user: Option<UserId>,
}

pub(super) fn session(document: &mut Document) -> Result<SessionPart, Mistake> {
    let mut section = document.section("session");
    let autostart = section.boolean("autostart", true);
    let exit_when_ended = section.boolean("exit_when_ended", false);
    if exit_when_ended && !autostart {
        section.refuse("exit_when_ended", "needs autostart = true: there is no session to end");
    }
    let valid = |text: &str| match text.parse::<SessionId>() {
        // Its profile is called as it is, and would be the pool's.
        Ok(_) if text.starts_with(crate::profile::PREFIX) => {
            Err(format!("must not begin with {}: such names are the pool's", crate::profile::PREFIX))
        }
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let id = section.parsed("id", valid).unwrap_or_else(|| DEFAULT_SESSION_ID.to_owned());
    let user = section.parsed("user", |text| text.parse::<UserId>().map_err(|error| error.to_string()));
    section.finish();
    let id = SessionId::try_from(id).map_err(|error| Mistake::new("session.id", error.to_string()))?;
    Ok(SessionPart { autostart, exit_when_ended, id, user })
}

/// `[display]`.
pub(super) struct DisplayPart {
    pub(super) screen: display::Config,
    pub(super) rfb: RfbSource,
}

pub(super) fn display(document: &mut Document) -> DisplayPart {
    let mut section = document.section("display");
    let (width, height) = section.parsed("size", display_size).unwrap_or(DEFAULT_SIZE);
    let depth = section.checked("depth", Show::Value, |depth: i64| match depth {
        16 => Ok(16),
        24 => Ok(24),
        _ => Err("must be 16 or 24".to_owned()),
    });
    let xvfb = section.path("xvfb", DEFAULT_XVFB);
    let program = section.path("x11vnc", DEFAULT_X11VNC);
    let rfb = rfb_source(&mut section, &program);
    let max_size = section.parsed("max_size", display_size);
    if max_size.is_some_and(|(most_width, most_height)| most_width < width || most_height < height) {
        section.refuse("max_size", format!("must be at least size ({width}x{height}) in both"));
    }
    if max_size.is_some() && rfb != RfbSource::Native {
        section.refuse("max_size", "needs rfb = \"native\"");
    }
    if rfb == RfbSource::Native && depth.is_some_and(|depth| depth != DEFAULT_DEPTH) {
        section.refuse("depth", "must be 24 for rfb = \"native\"; rfb = \"x11vnc\" takes 16 as well");
    }
    section.finish();
    DisplayPart {
        screen: display::Config { xvfb, width, height, max_size, depth: depth.unwrap_or(DEFAULT_DEPTH) },
        rfb,
    }
}

fn rfb_source(section: &mut Section<'_>, program: &Path) -> RfbSource {
    let refusal = || {
        "must be \"native\", \"x11vnc\" or { address = \"unix:/path\" } or { address = \"tcp:host:port\" }"
            .to_owned()
    };
    let chosen = section.checked("rfb", Show::Value, |value: Value| match value {
        Value::String(name) if name == "native" => Ok(RfbSource::Native),
        Value::String(name) if name == "x11vnc" => Ok(RfbSource::X11vnc { program: program.to_owned() }),
        Value::Table(table) => match address_of(&table) {
            Some(address) => {
                rfb_address(address).map(RfbSource::External).map_err(|problem| format!("address {problem}"))
            }
            None => Err(refusal()),
        },
        _ => Err(refusal()),
    });
    chosen.unwrap_or(RfbSource::Native)
}

fn address_of(table: &Table) -> Option<&str> {
    table.get("address").filter(|_| table.len() == 1).and_then(Value::as_str)
}

pub(super) fn api(document: &mut Document, gateway: SocketAddr) -> api::Config {
    let mut section = document.section("api");
    let listen = section.parsed("listen", listener).unwrap_or(DEFAULT_API_LISTEN);
    let socket = section.parsed("socket", socket_path).unwrap_or_else(|| PathBuf::from(DEFAULT_API_SOCKET));
    if listen.port() != 0 && listen == gateway {
        section.refuse("listen", format!("must differ from gateway.listen ({gateway})"));
    }
    section.finish();
    api::Config { listen, socket }
}

/// An address and port to listen on.
pub(super) fn listener(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be ADDRESS:PORT: \"0.0.0.0:6080\" or \"[::]:6080\", no host name".to_owned())
}

pub(super) fn log(document: &mut Document) -> Log {
    let mut section = document.section("log");
    let level = section.parsed("level", log_level).unwrap_or_else(|| DEFAULT_LEVEL.to_owned());
    let format = section.parsed("format", |text| match text {
        "auto" => Ok(Format::Auto),
        "journald" => Ok(Format::Journald),
        "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        _ => Err("must be auto, journald, json or text".to_owned()),
    });
    section.finish();
    Log { level, format: format.unwrap_or(Format::Auto) }
}

/// `info`, or `info,valetd::gateway=debug`. The filter's own parser takes any word for a target, so that a mistyped level
/// would silence the log.
fn log_level(text: &str) -> Result<String, String> {
    let target = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
    };
    let good = text.split(',').all(|part| match part.split_once('=') {
        Some((name, level)) => target(name) && LEVELS.contains(&level),
        None => LEVELS.contains(&part),
    });
    if good {
        return Ok(text.to_owned());
    }
    Err(format!("must be one of {}, or these and target=level with commas between", LEVELS.join(", ")))
}
