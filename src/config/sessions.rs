//! `[sessions]`: how many there may be, and what each may do.

use std::time::Duration;

use toml::Value;

use super::document::{Document, Section, Show};
use super::values::size_within;
use crate::session::{Capacity, Rules};
use crate::sys::Limits;

/// A page or two, the display, and room for what pages do: three fit on 4 GiB beside the system, two with ease.
const DEFAULT_MEMORY_PER_SESSION: u64 = 1280 << 20;
const MEMORY_PER_SESSION: std::ops::RangeInclusive<u64> = 64 << 20..=1 << 40;
/// More displays than there are numbers for cannot be.
const MOST_SESSIONS: i64 = 900;
/// A host that is slow to start a browser is still given its time.
const DEFAULT_START_DEADLINE: Duration = Duration::from_secs(60);
const DEFAULT_QUEUE_DEADLINE: Duration = Duration::from_secs(30);
/// An application takes minutes; what lives for a day was forgotten.
const DEFAULT_MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);
/// Timers beyond a month are for calendars.
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What makes a page look as if it were elsewhere, and nothing that changes what is run.
const DEFAULT_ALLOWED_ENV: [&str; 4] = ["TZ", "LANG", "LANGUAGE", "LC_ALL"];
const MOST_ALLOWED_ENV: usize = 64;
/// Variables by whose beginning a program finds code, displays, directories or us.
const REFUSED_ENV: [&str; 12] = [
    "LD_",
    "DISPLAY",
    "XAUTHORITY",
    "HOME",
    "TMPDIR",
    "PATH",
    "XDG_",
    "DBUS_",
    "VALETD_",
    "CHROME_",
    "GCONV_PATH",
    "NOTIFY_SOCKET",
];
/// A browser starts some dozens of processes and hundreds of threads.
const LEAST_PIDS: i64 = 64;
const MOST_PIDS: i64 = 4_194_304;
const DEFAULT_PIDS: u64 = 4096;
/// The kernel's own: sessions share what there is evenly.
const DEFAULT_CPU_WEIGHT: u64 = 100;

/// `uids`: how many there are for sessions. `alone`: the configuration's own session is the only one.
pub(super) fn sessions(document: &mut Document, uids: u32, alone: bool) -> Rules {
    let mut section = document.section("sessions");
    let memory_per_session = section
        .parsed("memory_per_session", |text| size_within(text, &MEMORY_PER_SESSION))
        .unwrap_or(DEFAULT_MEMORY_PER_SESSION);
    let derived = Capacity::Derived { memory_per_session };
    let default = if alone { Capacity::Fixed(1) } else { derived };
    let capacity =
        section.checked("max", Show::Value, |value: Value| capacity(&value, derived)).unwrap_or(default);
    let rules = Rules {
        capacity,
        queue_length: section.number("queue_length", 0, 0..=1000),
        queue_deadline: section.duration("queue_deadline", DEFAULT_QUEUE_DEADLINE, SECOND..=600 * SECOND),
        spare_displays: section.number("spare_displays", 0, 0..=64),
        spare_browsers: section.number("spare_browsers", 0, 0..=64),
        start_deadline: section.duration("start_deadline", DEFAULT_START_DEADLINE, SECOND..=600 * SECOND),
        idle_timeout: section.optional_duration("idle_timeout", None, SECOND..=MONTH),
        max_duration: section.optional_duration("max_duration", Some(DEFAULT_MAX_DURATION), SECOND..=MONTH),
        limits: limits(&mut section, DEFAULT_PIDS),
        allowed_env: allowed_env(&mut section),
    };
    let others = rules.capacity != Capacity::Fixed(1)
        || rules.queue_length + rules.spare_displays + rules.spare_browsers > 0;
    if alone && others {
        section.refuse(
            "",
            "session.exit_when_ended = true leaves no room for others: max must be 1, queue_length and spares 0",
        );
    }
    if let Capacity::Fixed(count) = rules.capacity {
        // A spare that gives way is still there for a moment.
        let needed = count + rules.spare_displays + rules.spare_browsers;
        if u32::try_from(needed).is_ok_and(|needed| needed > uids) {
            section.refuse(
                "max",
                format!("with the spares it needs {needed} uids, and host.uid_count is {uids}"),
            );
        }
    }
    section.finish();
    rules
}

fn capacity(value: &Value, derived: Capacity) -> Result<Capacity, String> {
    match value {
        Value::String(word) if word == "auto" => Ok(derived),
        Value::Integer(count) if (1..=MOST_SESSIONS).contains(count) => {
            usize::try_from(*count).map(Capacity::Fixed).map_err(|error| error.to_string())
        }
        _ => Err(format!("must be \"auto\" or a whole number from 1 to {MOST_SESSIONS}")),
    }
}

/// Those on a group of processes, of which there may be `pids` where nothing is given.
pub(super) fn limits(section: &mut Section<'_>, pids: u64) -> Limits {
    let memory = |text: &str| match text {
        "none" => Ok(None),
        text => size_within(text, &MEMORY_PER_SESSION)
            .map(Some)
            .map_err(|problem| format!("{problem}, or \"none\"")),
    };
    let memory_bytes = section.parsed("memory_max", memory).flatten();
    let pids = section.number("pids_max", pids.cast_signed(), LEAST_PIDS..=MOST_PIDS);
    let cpu_weight = section.number("cpu_weight", DEFAULT_CPU_WEIGHT, 1..=10_000);
    Limits { memory_bytes, pids: Some(pids.unsigned_abs()), cpu_weight: Some(cpu_weight) }
}

fn allowed_env(section: &mut Section<'_>) -> Vec<String> {
    let check = |names: Vec<String>| {
        if names.len() > MOST_ALLOWED_ENV {
            return Err(format!("must be {MOST_ALLOWED_ENV} names at most"));
        }
        let word = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let refused = |name: &String| REFUSED_ENV.iter().any(|start| name.to_uppercase().starts_with(start));
        match names.iter().find(|name| !word(name) || refused(name)) {
            None => Ok(names),
            Some(name) => Err(format!("{name:?} must not be set by a request")),
        }
    };
    let default = || DEFAULT_ALLOWED_ENV.map(str::to_owned).to_vec();
    section.checked("allowed_env", Show::Value, check).unwrap_or_else(default)
}
