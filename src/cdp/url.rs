//! What a URL would open, read the way Chromium's URL parser does (WHATWG URL, "basic URL parser").

/// Wrappers of wrappers: nobody needs more.
const MAX_WRAPPERS: usize = 4;

/// Schemes whose rest is a URL of its own, which is what counts.
const WRAPPERS: [&str; 3] = ["view-source", "filesystem", "blob"];

/// Chromium's pages for a tab that is new: a person opens one, and then goes where the automation is to follow.
const NEW_TAB: [&str; 3] =
    ["chrome://newtab/", "chrome://new-tab-page/", "chrome://new-tab-page-third-party/"];

/// Whether a URL may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Yes.
    Fine,
    /// One of its schemes is on the list.
    Denied,
    /// It has no scheme; Chromium refuses such a URL too.
    Invalid,
}

/// Judges a URL by its schemes, those inside wrappers included. An empty one is `about:blank`.
pub(super) fn judge(url: &str, denied: &[String]) -> Opening {
    // Tabs and line breaks go wherever they are, control characters and spaces at the start.
    let mut text: String = url.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    if text.trim_start_matches(|c: char| c <= ' ').is_empty() {
        return Opening::Fine;
    }
    for _ in 0..MAX_WRAPPERS {
        let start = text.trim_start_matches(|c: char| c <= ' ');
        let Some((scheme, rest)) = start.split_once(':') else { return Opening::Invalid };
        let scheme = scheme.to_ascii_lowercase();
        if !well_formed(&scheme) {
            return Opening::Invalid;
        }
        // Chromium has shown chrome://version for about:version.
        let is_blank = || matches!(rest.split(['?', '#']).next(), Some("blank" | "srcdoc"));
        let scheme = if scheme == "about" && !is_blank() { "chrome".to_owned() } else { scheme };
        if denied.contains(&scheme) {
            return Opening::Denied;
        }
        if !WRAPPERS.contains(&scheme.as_str()) {
            return Opening::Fine;
        }
        // blob:null/… is of an origin without a name.
        if scheme == "blob" && rest.to_ascii_lowercase().starts_with("null/") {
            return Opening::Fine;
        }
        text = rest.to_owned();
    }
    Opening::Denied
}

/// Whether a target that shows this URL may be acted on.
pub(super) fn may_attach(url: &str, denied: &[String]) -> bool {
    NEW_TAB.contains(&url) || judge(url, denied) != Opening::Denied
}

/// RFC 3986 section 3.1.
pub(super) fn well_formed(scheme: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Vec<String> {
        ["file", "chrome", "chrome-untrusted", "devtools"].map(str::to_owned).into()
    }

    #[test]
    fn what_chromium_opens_as_a_file_or_an_inner_page_is_denied_however_it_is_written() {
        // Each was opened by Chromium 156 as file: or chrome:, or may be by another version.
        for url in [
            "file:///etc/passwd",
            "file:/etc/passwd",
            "file:etc",
            "FILE:///etc/passwd",
            " file:///etc/passwd",
            "\u{1}\u{1f} file:///etc/passwd",
            "fi\tle:///etc/passwd",
            "fi\r\nle:///etc/passwd",
            "\nfile\t:///etc/passwd",
            "view-source:file:///etc/passwd",
            "View-Source:\tfile:///etc/passwd",
            "view-source: file:///etc/passwd",
            "view-source:view-source:file:///x",
            "filesystem:file:///temporary/x",
            "blob:file:///x",
            "view-source:blob:filesystem:file:///x",
            "view-source:view-source:view-source:view-source:view-source:https://example.org/",
            "chrome:version",
            "chrome:/version",
            "Chrome://version",
            "about:version",
            "about:Settings",
            "view-source:about:version",
            "chrome-untrusted://print",
            "devtools://devtools/bundled/inspector.html",
        ] {
            assert_eq!(judge(url, &denied()), Opening::Denied, "{url:?}");
        }
    }

    #[test]
    fn what_the_web_is_made_of_may_be_opened() {
        for url in [
            "https://example.org/file:///etc/passwd",
            "http://file/",
            "http:file:///etc/passwd",
            "about:blank",
            "about:blank#x",
            "about:srcdoc",
            "",
            " ",
            "data:text/html,chrome://version",
            "blob:https://example.org/9b41696a",
            "blob:null/9b41696a",
            "view-source:https://example.org/",
            "javascript:1",
        ] {
            assert_eq!(judge(url, &denied()), Opening::Fine, "{url:?}");
        }
    }

    #[test]
    fn what_has_no_scheme_is_no_url() {
        for url in [
            "/etc/passwd",
            "example.org",
            "%66ile:///x",
            "ﬁle:///x",
            "\u{a0}file:///x",
            "//x",
            ":x",
            "view-source:x",
        ] {
            assert_eq!(judge(url, &denied()), Opening::Invalid, "{url:?}");
        }
    }

    #[test]
    fn a_new_tab_may_be_acted_on_and_other_inner_pages_not() {
        for url in ["chrome://newtab/", "chrome://new-tab-page/", "https://example.org/", "about:blank", ""] {
            assert!(may_attach(url, &denied()), "{url}");
        }
        for url in ["chrome://newtab/../settings", "chrome://settings/", "file:///x", "devtools://devtools/"]
        {
            assert!(!may_attach(url, &denied()), "{url}");
        }
    }
}
