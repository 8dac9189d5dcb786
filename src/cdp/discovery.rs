//! What Chromium says about itself over HTTP (`/json/*`), with its addresses replaced by the gateway's.

use serde_json::Value;

use super::policy::Policy;
use super::survey::Survey;

/// Longest id of a target, in bytes; Chromium's are 32 or 36.
const MAX_TARGET: usize = 64;

/// What Chromium calls each target's own address.
const ADDRESS: &str = "webSocketDebuggerUrl";

/// The frontend is another origin's page, which may not connect to us, or one that only the browser has.
const FRONTEND: &str = "devtoolsFrontendUrl";

/// The answer is not what Chromium sends.
#[derive(Debug, thiserror::Error)]
#[error("the browser's answer is not what it should be")]
pub struct Unexpected(#[from] serde_json::Error);

/// Two kinds of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The browser as a whole.
    Browser,
    /// A page, frame or worker.
    Page,
}

impl Kind {
    /// As it stands in a path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Page => "page",
        }
    }

    /// From a path.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Browser, Self::Page].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Whether `id` may name a target; it becomes a part of a path.
pub fn is_target(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_TARGET).contains(&id.len()) && id.bytes().all(allowed)
}

/// Kind and id of the target that a browser's own address leads to.
pub fn target_of(address: &str) -> Option<(Kind, &str)> {
    let (_scheme, rest) = address.split_once("://")?;
    let (_host, path) = rest.split_once('/')?;
    let (kind, id) = path.strip_prefix("devtools/")?.split_once('/')?;
    is_target(id).then_some((Kind::of(kind)?, id))
}

/// Replaces addresses in the answer to `/json/version`, `/json`, `/json/list` or `/json/new`: `base` stands before
/// `/devtools/…`. Targets that the policy does not let anybody act on are left out, and with a survey those
/// outside the default context.
///
/// # Errors
/// When it is not JSON.
pub fn rewrite(
    answer: &[u8],
    base: &str,
    policy: Option<&Policy>,
    survey: Option<&Survey>,
) -> Result<Vec<u8>, Unexpected> {
    let mut value: Value = serde_json::from_slice(answer)?;
    if let Value::Array(targets) = &mut value {
        targets.retain(|target| {
            let text = |key| target.get(key).and_then(Value::as_str);
            let (url, id) = (text("url"), text("id"));
            let shared = survey.is_none_or(|survey| id.is_some_and(|id| survey.is_shared(id)));
            shared && policy.is_none_or(|policy| url.is_some_and(|url| policy.may_attach(url)))
        });
        targets.iter_mut().for_each(|target| readdress(target, base));
    } else {
        readdress(&mut value, base);
    }
    // Indented, as Chromium's are: people read them.
    Ok(serde_json::to_vec_pretty(&value)?)
}

fn readdress(target: &mut Value, base: &str) {
    let Value::Object(fields) = target else { return };
    fields.remove(FRONTEND);
    let Some(address) = fields.remove(ADDRESS) else { return };
    if let Some((kind, id)) = address.as_str().and_then(target_of) {
        let ours = format!("{base}/devtools/{}/{id}", kind.as_str());
        fields.insert(ADDRESS.to_owned(), Value::String(ours));
    }
}

/// The path of the browser's own target, from the answer to `/json/version`.
pub fn browser_path(version: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(version).ok()?;
    match target_of(value.get(ADDRESS)?.as_str()?)? {
        (Kind::Browser, id) => Some(format!("/devtools/{}/{id}", Kind::Browser.as_str())),
        (Kind::Page, _) => None,
    }
}

/// What the target `id` shows, in the answer to `/json/list`; `None` when it is not there.
pub fn url_of(list: &[u8], id: &str) -> Option<String> {
    let value: Value = serde_json::from_slice(list).ok()?;
    let target =
        value.as_array()?.iter().find(|target| target.get("id").and_then(Value::as_str) == Some(id))?;
    Some(target.get("url")?.as_str()?.to_owned())
}

/// The URL in the query of `/json/new?…`, unescaped the way Chromium does it.
pub fn new_url(query: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let escaped = behind.get(..2).filter(|_| byte == b'%').and_then(|digits| {
            let digits =
                std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    String::from_utf8(bytes).ok()
}
