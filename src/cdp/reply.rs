//! Answers of ours to messages that are not sent on.

use serde::Serialize;

/// JSON-RPC 2.0 section 5.1; the texts of the parser's and dispatcher's refusals are Chromium's own.
pub(super) const PARSE_ERROR: i32 = -32700;
pub(super) const INVALID_REQUEST: i32 = -32600;
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;
/// What Chromium calls a command that it will not do.
pub(super) const SERVER_ERROR: i32 = -32000;

/// Why a message was not sent on; the label of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The role may not use the method.
    Method,
    /// A URL that may not be opened.
    Url,
    /// A file or directory that is not the session's.
    Path,
    /// A target that the role may not act on.
    Target,
    /// A human is wanted, and has mouse and keyboard alone.
    Human,
    /// Nobody can be sure what it means.
    Unclear,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Method, Self::Url, Self::Path, Self::Target, Self::Human, Self::Unclear];

    /// As a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Url => "url",
            Self::Path => "path",
            Self::Target => "target",
            Self::Human => "human",
            Self::Unclear => "unclear",
        }
    }
}

/// A message that is not sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// Its method, where that is a plain name; for the log.
    pub method: Option<String>,
    /// The answer, as JSON text.
    pub reply: Vec<u8>,
}

/// Whom an answer is for.
#[derive(Debug, Clone, Default)]
pub(super) struct Addressee {
    pub(super) id: Option<i32>,
    pub(super) session: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i32>,
    error: Error<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: i32,
    message: &'a str,
}

impl Addressee {
    pub(super) fn error(&self, code: i32, message: &str) -> Vec<u8> {
        let error = Error { code, message };
        let reply = Reply { id: self.id, error, session_id: self.session.as_deref() };
        // Three fields of plain types always serialize.
        serde_json::to_vec(&reply).unwrap_or_default()
    }
}
