//! What an answer is about. Fields that nobody asked for are passed over; a field that is asked for and is of another kind
//! is an error, never a default.

use serde_json::Value;

use super::answer::said;
use crate::adspower::ProfileId;
use crate::cdp::discovery::{Kind, target_of};

/// Longest name of a profile or group that is kept, in characters; AdsPower takes 100 for a profile's.
const MAX_NAME_CHARS: usize = 128;

/// AdsPower says that it did what it was asked, and its answer does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("AdsPower's answer does not fit: {0}")]
pub struct Odd(pub &'static str);

/// Where an opened browser's DevTools are. Good until the browser is opened again; whether it is AdsPower's browser that
/// listens there has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// On loopback.
    pub debug_port: u16,
    /// `/devtools/browser/…`.
    pub browser_path: String,
}

/// A profile, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub profile: ProfileId,
    /// The number that AdsPower's own window shows.
    pub number: Option<u64>,
    /// Its name, bounded and without control characters; often empty.
    pub name: String,
    /// The group's id; `0` is no group.
    pub group: Option<String>,
    /// Unix seconds; `None` when it never was.
    pub last_opened: Option<u64>,
}

/// A browser that profiles run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its major version.
    pub version: String,
    /// Whether it is on this machine.
    pub downloaded: bool,
}

/// Some profiles of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) profiles: Vec<Listed>,
    /// How many there are to a page, where the answer says so.
    pub(super) size: Option<u64>,
}

/// The browser that a start opened.
pub(super) fn opened(data: &Value) -> Result<Opened, Odd> {
    let address = data.get("ws").and_then(|ws| ws.get("puppeteer")).and_then(Value::as_str);
    let (debug_port, browser_path) = address
        .and_then(devtools)
        .ok_or(Odd("`ws.puppeteer` is no DevTools address of a browser on loopback"))?;
    // The first version's `active` has none.
    match number(data, "debug_port")? {
        Some(port) if port != u64::from(debug_port) => {
            Err(Odd("`debug_port` is not the port of `ws.puppeteer`"))
        }
        _ => Ok(Opened { debug_port, browser_path }),
    }
}

/// The browser of a profile, if it is open.
pub(super) fn active(data: &Value) -> Result<Option<Opened>, Odd> {
    match data.get("status").and_then(Value::as_str) {
        Some(status) if status.eq_ignore_ascii_case("active") => opened(data).map(Some),
        Some(status) if status.eq_ignore_ascii_case("inactive") => Ok(None),
        _ => Err(Odd("`status` is neither `Active` nor `Inactive`")),
    }
}

/// The browsers that are open, and how many others there are that cannot be reached over DevTools (Firefox, for one).
pub(super) fn local_active(data: &Value) -> Result<(Vec<(ProfileId, Opened)>, usize), Odd> {
    let mut open = Vec::new();
    let list = list(data)?;
    for entry in list {
        let profile = profile(entry)?;
        // One that is not for us must not hide the others.
        open.extend(opened(entry).ok().map(|opened| (profile, opened)));
    }
    let others = list.len() - open.len();
    Ok((open, others))
}

/// A page of the list of profiles.
pub(super) fn page(data: &Value) -> Result<Page, Odd> {
    let profiles = list(data)?.iter().map(listed).collect::<Result<_, _>>()?;
    Ok(Page { profiles, size: number(data, "page_size")? })
}

/// The profile that was created.
pub(super) fn created(data: &Value) -> Result<ProfileId, Odd> {
    id(data, &["profile_id", "id"])
}

/// The browsers that AdsPower has or knows.
pub(super) fn kernels(data: &Value) -> Result<Vec<Kernel>, Odd> {
    let kernel = |entry: &Value| {
        let version = text(entry, "kernel")?.ok_or(Odd("a kernel has no version"))?;
        let downloaded = match entry.get("is_downloaded") {
            Some(Value::Bool(downloaded)) => *downloaded,
            None | Some(Value::Null) => false,
            Some(_) => number(entry, "is_downloaded")? == Some(1),
        };
        Ok(Kernel { version, downloaded })
    };
    list(data)?.iter().map(kernel).collect()
}

fn listed(entry: &Value) -> Result<Listed, Odd> {
    Ok(Listed {
        profile: profile(entry)?,
        number: match number(entry, "serial_number")? {
            Some(number) => Some(number),
            None => number(entry, "profile_no")?,
        },
        name: text(entry, "name")?.unwrap_or_default(),
        group: text(entry, "group_id")?,
        last_opened: number(entry, "last_open_time")?.filter(|seconds| *seconds > 0),
    })
}

fn list(data: &Value) -> Result<&Vec<Value>, Odd> {
    data.get("list").and_then(Value::as_array).ok_or(Odd("`list` is no list"))
}

fn profile(entry: &Value) -> Result<ProfileId, Odd> {
    id(entry, &["profile_id", "user_id"])
}

fn id(value: &Value, names: &[&str]) -> Result<ProfileId, Odd> {
    let text = names.iter().find_map(|name| value.get(name)?.as_str());
    text.and_then(|text| text.parse().ok()).ok_or(Odd("a profile has no usable id"))
}

/// A whole number, or one in a string; `None` where there is none.
fn number(value: &Value, name: &str) -> Result<Option<u64>, Odd> {
    const NO_NUMBER: Odd = Odd("a number is none");
    match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_u64().map(Some).ok_or(NO_NUMBER),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(Some).map_err(|_| NO_NUMBER)
        }
        Some(_) => Err(NO_NUMBER),
    }
}

/// A text, also where it is a number; `None` where there is none.
fn text(value: &Value, name: &str) -> Result<Option<String>, Odd> {
    match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(said(text, None, MAX_NAME_CHARS))),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(Odd("a text is none")),
    }
}

/// Port and path of a browser's own target.
fn devtools(address: &str) -> Option<(u16, String)> {
    let (host, _) = address.strip_prefix("ws://")?.split_once('/')?;
    let (name, port) = host.split_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| *port != 0 && digits)?;
    let (kind, id) = target_of(address)?;
    let good = ["127.0.0.1", "localhost"].contains(&name) && kind == Kind::Browser;
    good.then(|| (port, format!("/devtools/browser/{id}")))
}
