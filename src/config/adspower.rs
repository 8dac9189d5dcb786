//! `[adspower]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::{Document, Section, Show};
use super::host::{LEAST_UID, MOST_UID, RESERVED_UIDS};
use super::secrets::Wanted;
use super::sessions::limits;
use crate::adspower::{Config, Version};
use crate::durations;
use crate::secret::Secret;
use crate::session::HostConfig;

/// Where its Debian package puts it.
const DEFAULT_PROGRAM: &str = "/opt/AdsPower Global/adspower_global";
/// What everybody who talks to it expects.
const DEFAULT_PORT: u16 = 50_325;
/// Ports below need a privilege that it does not have.
const PORTS: RangeInclusive<u16> = 1_024..=65_535;
/// Faster than AdsPower takes calls of anybody, and slower than anybody waits for.
const PACE: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(30);
/// Processes and threads: those of a few dozen browsers.
const DEFAULT_PIDS: u64 = 32_768;
/// Most further arguments.
const MAX_ARGS: usize = 64;
/// Arguments that it is given anyway.
const OWN_ARGS: [&str; 3] = ["--headless", "--api-key", "--api-port"];
/// A key that is longer would be something else.
const MAX_KEY_BYTES: usize = 1024;

/// `None` where it is not wanted.
pub(super) fn adspower(
    document: &mut Document,
    host: &HostConfig,
    read: &dyn Fn(Wanted<'_>) -> Result<Vec<u8>, String>,
) -> Option<Config> {
    let mut section = document.section("adspower");
    let enabled = section.boolean("enabled", false);
    let program = section.path("program", DEFAULT_PROGRAM);
    let args = args(&mut section);
    let port = section.number("port", DEFAULT_PORT, PORTS);
    let key_given = section.has("api_key");
    let api_key = section.checked("api_key", Show::Redacted, |name: String| key(&name, read));
    if enabled && !key_given {
        section.refuse("api_key", "must name the credential that holds AdsPower's API key");
    }
    let uid_given = section.has("uid");
    let uid = section.number("uid", host.first_uid - 1, 1..=MOST_UID);
    let sessions = host.first_uid..=host.first_uid.saturating_add(host.uid_count - 1);
    if (enabled || uid_given) && (uid < LEAST_UID || RESERVED_UIDS.contains(&uid) || sessions.contains(&uid))
    {
        section.refuse(
            "uid",
            format!(
                "{uid} will not do: it must be {LEAST_UID} at least, and outside of the sessions' range, {} to {}",
                sessions.start(),
                sessions.end()
            ),
        );
    }
    let pace = section.parsed("pace", |text| match text {
        "auto" => Ok(None),
        text => durations::parse_within(text, &PACE)
            .map(Some)
            .map_err(|problem| format!("{problem}, or \"auto\"")),
    });
    let limits = limits(&mut section, DEFAULT_PIDS);
    let version = |text: &str| text.parse::<Version>().map_err(|problem| problem.to_string());
    let minimum_version = section.parsed("minimum_version", version);
    section.finish();
    let (api_key, pace) = (api_key?, pace.flatten());
    enabled.then_some(Config { program, args, port, api_key, uid, pace, limits, minimum_version })
}

fn args(section: &mut Section<'_>) -> Vec<String> {
    let check = |args: Vec<String>| {
        if args.len() > MAX_ARGS {
            return Err(format!("must be {MAX_ARGS} at most"));
        }
        let own = |arg: &String| OWN_ARGS.iter().any(|own| arg.split('=').next() == Some(own));
        match args.iter().find(|arg| own(arg) || arg.chars().any(char::is_control)) {
            None => Ok(args),
            Some(_) => Err("must not set --headless, --api-key or --api-port, which are set anyway, and must have no control characters".to_owned()),
        }
    };
    // Without the value: somebody may have put the key there.
    section.checked("args", Show::Redacted, check).unwrap_or_default()
}

fn key(name: &str, read: &dyn Fn(Wanted<'_>) -> Result<Vec<u8>, String>) -> Result<Secret<String>, String> {
    let key = Secret::new(read(Wanted::Secret(name))?);
    let visible = key.expose().iter().all(u8::is_ascii_graphic);
    if key.expose().len() > MAX_KEY_BYTES || !visible {
        return Err(format!("the key must be {MAX_KEY_BYTES} visible ASCII characters at most"));
    }
    String::from_utf8(key.expose().clone()).map(Secret::new).map_err(|_| "the key must be text".to_owned())
}
