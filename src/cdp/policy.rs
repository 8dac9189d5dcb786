//! What may be sent to a browser: one client message in, one verdict out.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::json::{self, Malformed, Member};
use super::reply::{
    Addressee, Denial, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Reason, SERVER_ERROR,
};
use super::rules::{self, Fence, Look};
use super::targets::Barred;
use super::url::{self, Opening};

/// Longest method name, in bytes; Chromium's have less than 60.
const MAX_METHOD: usize = 128;
/// Longest id of a protocol session, target or context, in bytes; Chromium's have 32 or 36.
pub(super) const MAX_ID: usize = 128;
/// The longest way to write a character of a name in JSON: `\u0042`.
const ESCAPE: usize = 6;
/// Longest URL that is judged, in bytes; Chromium takes 2 MiB (`url::kMaxURLChars`).
const MAX_URL: usize = 2 * 1024 * 1024 * ESCAPE;
/// Longest path, in bytes (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Paths in one message.
const MAX_PATHS: usize = 1024;
/// Longest message inside a message, in bytes. It has to be copied to be read, and no client of this decade sends any.
const MAX_NESTED: usize = 8 * 1024 * 1024;
/// Messages in messages in messages.
const MAX_NESTING: usize = 4;

/// What a role may not do, from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Methods, and domains as `Domain.*`.
    pub deny: Vec<String>,
    /// Schemes of URLs, in lower case.
    pub deny_url_schemes: Vec<String>,
    /// Whether browser contexts that another connection made are out of reach.
    pub own_contexts_only: bool,
    /// What becomes of input while a human is wanted.
    pub fence: Fence,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deny: rules::DEFAULT_DENY.map(str::to_owned).into(),
            deny_url_schemes: rules::DEFAULT_DENY_URL_SCHEMES.map(str::to_owned).into(),
            own_contexts_only: false,
            fence: Fence::default(),
        }
    }
}

/// Where a session's browser may read and write, as its own processes name these places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paths {
    /// Where downloads go; `None`: nowhere.
    pub downloads: Option<PathBuf>,
    /// Directories whose files may be given to pages.
    pub readable: Vec<PathBuf>,
}

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent on as it is.
    Pass,
    /// This is sent in its place.
    Replace(Vec<u8>),
    /// It is sent on as it is, and closes this page or, if none is named, the one that it is sent to.
    Close(Option<String>),
    /// It is answered and not sent on.
    Deny(Denial),
}

/// A message that acts as a person would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What a client gets that is not let through.
    pub denial: Denial,
    /// Whether it only lets go of a key, a button or the screen.
    pub is_release: bool,
}

/// The rules for one role in one session.
#[derive(Debug, Clone)]
pub struct Policy {
    settings: Settings,
    paths: Paths,
}

/// A part of the message and what to put there.
pub(super) struct Splice(pub(super) Range<usize>, pub(super) Vec<u8>);

impl Splice {
    pub(super) fn apply(&self, message: &[u8]) -> Vec<u8> {
        let (before, after) = (message.get(..self.0.start), message.get(self.0.end..));
        [before.unwrap_or_default(), &self.1, after.unwrap_or_default()].concat()
    }
}

/// The parts of a message.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) to: Addressee,
    /// Where the id stands in the message.
    pub(super) id_at: Range<usize>,
    pub(super) method: Option<String>,
    pub(super) params: Option<Member<'a>>,
}

impl Envelope<'_> {
    pub(super) fn deny(self, (code, text, reason): Refusal) -> Denial {
        let reply = self.to.error(code, &text);
        Denial { reason, method: self.method, reply }
    }
}

/// Code, text for the client, reason.
pub(super) type Refusal = (i32, String, Reason);

impl Policy {
    /// Rules from the configuration, for a session with these directories.
    pub fn new(settings: Settings, paths: Paths) -> Self {
        Self { settings, paths }
    }

    /// Whether browser contexts that another connection made are out of reach.
    pub fn own_contexts_only(&self) -> bool {
        self.settings.own_contexts_only
    }

    /// What becomes of input while a human is wanted.
    pub fn fence(&self) -> Fence {
        self.settings.fence
    }

    /// For a message that may be sent on: what there is to say of it where it dispatches input.
    pub fn input(&self, message: &[u8]) -> Option<Input> {
        let mut envelope = Envelope::default();
        let method = read(message, &mut envelope).ok()?;
        // Read before, when it was judged.
        let text = |name| {
            let value = envelope.params.and_then(|params| param(&params, name).ok().flatten());
            value.and_then(|value| json::string(value.value))
        };
        let is_release = if rules::dispatches_input(&method) {
            text("type").is_some_and(|kind| rules::releases(&kind))
        } else if let Some(Look::Message(name)) = rules::look(&method) {
            self.input(text(name)?.as_bytes())?.is_release
        } else {
            return None;
        };
        let refusal =
            not_allowed("A human has the session: input is not taken until they are done", Reason::Human);
        Some(Input { denial: envelope.deny(refusal), is_release })
    }

    /// Whether a URL may be opened; for discovery's own way to open one.
    pub fn may_open(&self, url: &str) -> bool {
        url::judge(url, &self.settings.deny_url_schemes) == Opening::Fine
    }

    /// Whether a target that shows this URL may be acted on.
    pub fn may_attach(&self, url: &str) -> bool {
        url::may_attach(url, &self.settings.deny_url_schemes)
    }

    /// Judges the text of one client message. `barred` are the targets that the client is attached to and may not act on.
    pub fn judge(&self, message: &[u8], barred: &Barred) -> Verdict {
        self.judge_at(message, barred, 0)
    }

    fn judge_at(&self, message: &[u8], barred: &Barred, depth: usize) -> Verdict {
        let mut envelope = Envelope::default();
        let outcome = read(message, &mut envelope)
            .and_then(|method| self.weigh(&method, &envelope, barred, depth).map(|splice| (method, splice)));
        match outcome {
            Ok((method, None)) if rules::closes(&method) => {
                let named = envelope.params.and_then(|params| param(&params, "targetId").ok().flatten());
                Verdict::Close(named.and_then(|id| name(&id, MAX_ID)))
            }
            Ok((_, None)) => Verdict::Pass,
            Ok((_, Some(splice))) => Verdict::Replace(splice.apply(message)),
            Err(refusal) => Verdict::Deny(envelope.deny(refusal)),
        }
    }

    fn weigh(
        &self,
        method: &str,
        envelope: &Envelope<'_>,
        barred: &Barred,
        depth: usize,
    ) -> Result<Option<Splice>, Refusal> {
        let barred_session = envelope.to.session.as_deref().is_some_and(|session| barred.has(session));
        if barred_session && !rules::always_allowed(method) {
            return Err(not_allowed("This target may not be acted on", Reason::Target));
        }
        let denied = self.settings.deny.iter().any(|pattern| rules::matches(pattern, method));
        if denied || (depth > 0 && rules::attaches(method)) {
            return Err((SERVER_ERROR, format!("'{method}' is not allowed"), Reason::Method));
        }
        let (Some(look), Some(params)) = (rules::look(method), envelope.params) else { return Ok(None) };
        match look {
            Look::Url(name) => self.url(&params, name).map(|()| None),
            Look::Files(name) => match param(&params, name)? {
                Some(files) => self.files(&files).map(|()| None),
                None => Ok(None),
            },
            Look::DraggedFiles(name) => {
                let Some(data) = param(&params, name)? else { return Ok(None) };
                match param(&data, "files")? {
                    Some(files) => self.files(&files).map(|()| None),
                    None => Ok(None),
                }
            }
            Look::Downloads(name) => self.downloads(&params, name),
            Look::Message(name) => self.nested(&params, name, barred, depth),
            Look::Absent(name) => match param(&params, name)? {
                None => Ok(None),
                Some(_) => Err((SERVER_ERROR, format!("'{name}' is not allowed"), Reason::Method)),
            },
        }
    }

    fn url(&self, params: &Member<'_>, name: &str) -> Result<(), Refusal> {
        let Some(value) = param(params, name)? else { return Ok(()) };
        let url = text(&value, name, MAX_URL)?;
        match url::judge(&url, &self.settings.deny_url_schemes) {
            Opening::Fine => Ok(()),
            Opening::Denied => Err(not_allowed("URLs of this scheme may not be opened", Reason::Url)),
            Opening::Invalid => Err(not_allowed("Cannot navigate to invalid URL", Reason::Url)),
        }
    }

    fn files(&self, value: &Member<'_>) -> Result<(), Refusal> {
        let readable = |item: &Member<'_>| {
            let path = text(item, "files", MAX_PATH * ESCAPE)?;
            if self.paths.readable.iter().any(|root| inside(root, &path)) {
                return Ok(());
            }
            Err(not_allowed("Files outside the session's directories may not be read", Reason::Path))
        };
        let Some(items) = json::array(value.value) else { return readable(value) };
        for (index, item) in items.enumerate() {
            if index >= MAX_PATHS {
                return Err(invalid("files"));
            }
            readable(&item.map_err(malformed)?)?;
        }
        Ok(())
    }

    /// Clients name a directory on their own machine; the session's takes its place, since an error would keep them from
    /// making a browser context at all.
    fn downloads(&self, params: &Member<'_>, name: &str) -> Result<Option<Splice>, Refusal> {
        let Some(value) = param(params, name)? else { return Ok(None) };
        let path = text(&value, name, MAX_PATH * ESCAPE)?;
        let Some(downloads) = &self.paths.downloads else {
            return Err(not_allowed("The session has no directory for downloads", Reason::Path));
        };
        if inside(downloads, &path) {
            return Ok(None);
        }
        let ours = downloads.to_str().and_then(|downloads| serde_json::to_vec(downloads).ok());
        let ours =
            ours.ok_or_else(|| not_allowed("The session has no directory for downloads", Reason::Path))?;
        Ok(Some(Splice(value.start..value.start + value.value.len(), ours)))
    }

    fn nested(
        &self,
        params: &Member<'_>,
        name: &str,
        barred: &Barred,
        depth: usize,
    ) -> Result<Option<Splice>, Refusal> {
        for key in ["sessionId", "targetId"] {
            let Some(value) = param(params, key)? else { continue };
            let id = text(&value, key, MAX_ID * ESCAPE)?;
            let is_barred = if key == "sessionId" { barred.has(&id) } else { barred.has_target(&id) };
            if is_barred {
                return Err(not_allowed("This target may not be acted on", Reason::Target));
            }
        }
        let Some(value) = param(params, name)? else { return Ok(None) };
        if depth >= MAX_NESTING {
            return Err(not_allowed("Messages may not be nested this deeply", Reason::Unclear));
        }
        let inner = text(&value, name, MAX_NESTED)?;
        match self.judge_at(inner.as_bytes(), barred, depth + 1) {
            Verdict::Pass | Verdict::Close(_) => Ok(None),
            Verdict::Replace(with) => {
                let with = String::from_utf8(with).ok().and_then(|with| serde_json::to_vec(&with).ok());
                let with = with.ok_or_else(|| invalid(name))?;
                Ok(Some(Splice(value.start..value.start + value.value.len(), with)))
            }
            Verdict::Deny(denial) => {
                let method = denial.method.as_deref().unwrap_or("The message");
                Err((SERVER_ERROR, format!("'{method}' is not allowed"), denial.reason))
            }
        }
    }
}

/// Reads the members of a message into `envelope` as far as they are good, and gives the method.
pub(super) fn read<'a>(message: &'a [u8], envelope: &mut Envelope<'a>) -> Result<String, Refusal> {
    let invalid = |text: &str| (INVALID_REQUEST, text.to_owned(), Reason::Unclear);
    let members = json::object(message).ok_or_else(|| invalid("Message must be an object"))?;
    let mut seen = [false; 4];
    let mut method = None;
    for member in members {
        let member = member.map_err(malformed)?;
        let names = ["id", "method", "params", "sessionId"];
        let Some(which) = names.iter().position(|name| member.is(name)) else {
            let text = "Message has property other than 'id', 'method', 'sessionId', 'params'";
            return Err(invalid(text));
        };
        // Chromium refuses these as well; were it to take one of the two, nobody could say which.
        if seen.get_mut(which).is_none_or(|seen| std::mem::replace(seen, true)) {
            return Err((PARSE_ERROR, "JSON: duplicate map key".to_owned(), Reason::Unclear));
        }
        match which {
            0 => {
                // Rust's own parser takes a plus sign and zeros in front, which are no JSON.
                let id = serde_json::from_slice::<i32>(member.value).ok();
                let text = "Message must have integer 'id' property";
                envelope.to.id = Some(id.ok_or_else(|| invalid(text))?);
                envelope.id_at = member.start..member.start + member.value.len();
            }
            1 => method = Some(name(&member, MAX_METHOD)),
            2 => envelope.params = Some(member),
            _ => {
                let session = name(&member, MAX_ID).filter(|session| is_plain(session));
                let text = "Message may have string 'sessionId' property";
                let session = session.ok_or_else(|| invalid(text))?;
                envelope.to.session = Some(session).filter(|session| !session.is_empty());
            }
        }
    }
    if envelope.to.id.is_none() {
        return Err(invalid("Message must have integer 'id' property"));
    }
    let method = method.flatten().ok_or_else(|| invalid("Message must have string 'method' property"))?;
    if !is_plain(&method) {
        return Err((METHOD_NOT_FOUND, "The method wasn't found".to_owned(), Reason::Unclear));
    }
    envelope.method = Some(method.clone());
    Ok(method)
}

/// The text of a short string.
pub(super) fn name(member: &Member<'_>, max: usize) -> Option<String> {
    let short = member.value.len() <= max * ESCAPE;
    short.then(|| json::string(member.value)).flatten().map(Into::into)
}

/// What names of methods and ids of sessions are made of.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// The member `name` of an object inside the message; where it is, in the message's own bytes.
pub(super) fn param<'a>(object: &Member<'a>, name: &str) -> Result<Option<Member<'a>>, Refusal> {
    let members = json::object(object.value).ok_or_else(|| invalid(name))?;
    let mut found = None;
    for member in members {
        let member = member.map_err(malformed)?;
        // A key that is no Unicode could be any.
        if json::string(member.key).ok_or_else(|| invalid(name))? != name {
            continue;
        }
        let member = Member { start: object.start + member.start, ..member };
        // Chromium takes one of the two; which one, no standard says.
        if found.replace(member).is_some() {
            return Err(invalid(name));
        }
    }
    Ok(found)
}

fn text<'a>(member: &Member<'a>, name: &str, max: usize) -> Result<std::borrow::Cow<'a, str>, Refusal> {
    let short = member.value.len() <= max;
    short.then(|| json::string(member.value)).flatten().ok_or_else(|| invalid(name))
}

/// Whether a path names `root` or something below it, by its letters: what links lead to, the file system's own
/// permissions must judge, since the browser runs as the session's user.
fn inside(root: &Path, path: &str) -> bool {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let no_nul = !path.as_os_str().as_encoded_bytes().contains(&0);
    path.is_absolute() && plain && no_nul && path.starts_with(root)
}

fn malformed(Malformed(at): Malformed) -> Refusal {
    (PARSE_ERROR, format!("JSON: cannot be read at position {at}"), Reason::Unclear)
}

pub(super) fn invalid(name: &str) -> Refusal {
    (INVALID_PARAMS, format!("Invalid parameters: {name}"), Reason::Unclear)
}

pub(super) fn not_allowed(text: &str, reason: Reason) -> Refusal {
    (SERVER_ERROR, text.to_owned(), reason)
}
