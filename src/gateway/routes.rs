//! What there is behind the gateway, as data.

use hyper::Method;

use crate::cdp::discovery::{Kind, is_target};
use crate::ids::{HandoffId, SessionId};

/// What a request must show before its handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: the viewer page and its assets.
    Nothing,
    /// A good token for the session, which `gate` turns into a `TokenGrant`.
    Token,
    /// A good token of somebody at the screen, which `gate` turns into a `TokenGrant` as well.
    Look,
    /// A good credential of somebody at the screen, which `gate` turns into a `StillGrant`.
    Still,
    /// A good token of somebody at the screen who may act.
    Act,
    /// A good credential of a viewer, which `gate` turns into a `VncGrant`.
    Viewer,
    /// A good token of an automation, which `gate` turns into a `CdpGrant`.
    Automation,
    /// A good credential of an automation that opens a WebSocket: a `CdpGrant`, and a place.
    AutomationSocket,
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; `{id}` is a session's, `{handoff}` a handoff's, `{kind}` and `{target}` those of a target, a final `*` is anything.
    pub pattern: &'static str,
    /// What it asks for.
    pub proof: Proof,
}

/// Every route; the first that fits is taken.
pub const ROUTES: [Route; 18] = [
    Route { method: "POST", pattern: "/sessions/{id}/ticket", proof: Proof::Token },
    Route { method: "GET", pattern: "/sessions/{id}/handoffs", proof: Proof::Look },
    Route { method: "POST", pattern: "/sessions/{id}/handoffs/{handoff}/resolve", proof: Proof::Act },
    Route { method: "GET", pattern: "/sessions/{id}/screenshot.png", proof: Proof::Still },
    Route { method: "GET", pattern: "/sessions/{id}/screenshot.jpg", proof: Proof::Still },
    Route { method: "GET", pattern: "/sessions/{id}/vnc", proof: Proof::Viewer },
    Route { method: "GET", pattern: "/websockify", proof: Proof::Viewer },
    // Where the stock vnc.html looks for it: it resolves the name relative to itself.
    Route { method: "GET", pattern: "/novnc/websockify", proof: Proof::Viewer },
    Route { method: "GET", pattern: "/sessions/{id}/cdp/json/version", proof: Proof::Automation },
    Route { method: "GET", pattern: "/sessions/{id}/cdp/json", proof: Proof::Automation },
    Route { method: "GET", pattern: "/sessions/{id}/cdp/json/list", proof: Proof::Automation },
    Route { method: "GET", pattern: "/sessions/{id}/cdp/json/protocol", proof: Proof::Automation },
    Route { method: "PUT", pattern: "/sessions/{id}/cdp/json/new", proof: Proof::Automation },
    Route { method: "GET", pattern: "/sessions/{id}/cdp/json/activate/{target}", proof: Proof::Automation },
    Route { method: "GET", pattern: "/sessions/{id}/cdp/json/close/{target}", proof: Proof::Automation },
    Route { method: "GET", pattern: "/sessions/{id}/cdp", proof: Proof::AutomationSocket },
    Route {
        method: "GET",
        pattern: "/sessions/{id}/cdp/devtools/{kind}/{target}",
        proof: Proof::AutomationSocket,
    },
    Route { method: "*", pattern: "/*", proof: Proof::Nothing },
];

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) proof: Proof,
    pub(super) pattern: &'static str,
    pub(super) session: Option<SessionId>,
    pub(super) handoff: Option<HandoffId>,
    /// What `{target}` stands for.
    pub(super) target: Option<String>,
    kind: Option<Kind>,
}

/// What an automation connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The browser that runs now, whatever id it has.
    Browser,
    /// A page, a frame or a worker.
    Page(String),
}

impl Target {
    /// As a word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Browser => Kind::Browser.as_str(),
            Self::Page(_) => Kind::Page.as_str(),
        }
    }
}

/// What an automation asks about the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Which version it is, and its own address.
    Version,
    /// Its targets.
    List,
    /// What it understands.
    Protocol,
    /// For one more target.
    New,
    /// To show a target.
    Activate(String),
    /// To close one.
    Close(String),
}

impl Match {
    /// What a route of [`Proof::AutomationSocket`] leads to.
    pub(super) fn connects_to(self) -> Target {
        match (self.kind, self.target) {
            (Some(Kind::Page), Some(id)) => Target::Page(id),
            _ => Target::Browser,
        }
    }

    /// What a route of [`Proof::Automation`] asks.
    pub(super) fn asks(self) -> Option<Question> {
        // The last word that is not a placeholder.
        let word = self.pattern.split('/').rfind(|part| !part.starts_with('{'))?;
        Some(match (word, self.target) {
            ("version", _) => Question::Version,
            ("json" | "list", _) => Question::List,
            ("protocol", _) => Question::Protocol,
            ("new", _) => Question::New,
            ("activate", Some(id)) => Question::Activate(id),
            ("close", Some(id)) => Question::Close(id),
            _ => return None,
        })
    }
}

/// The route of a request; `None` when there is none. A private path under another method is no route at all, so that it
/// does not fall through to the public ones.
pub(super) fn find(method: &Method, path: &str) -> Option<Match> {
    for route in &ROUTES {
        if let Some(found) = fits(route, path) {
            let allowed = route.method == "*" || route.method == method.as_str();
            return allowed.then_some(found);
        }
    }
    None
}

fn fits(route: &Route, path: &str) -> Option<Match> {
    let Route { pattern, proof, .. } = *route;
    let mut found = Match { proof, pattern, session: None, handoff: None, target: None, kind: None };
    if pattern == "/*" {
        // What begins like a session is not an asset.
        return (!path.starts_with("/sessions/")).then_some(found);
    }
    // Playwright asks for /json/version/.
    let automation = matches!(proof, Proof::Automation | Proof::AutomationSocket);
    let path = path.strip_suffix('/').filter(|_| automation).unwrap_or(path);
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        match wanted {
            "{id}" => found.session = Some(part.parse().ok()?),
            "{handoff}" => found.handoff = Some(part.parse().ok()?),
            "{kind}" => found.kind = Some(Kind::of(part)?),
            "{target}" => found.target = Some(part.to_owned()).filter(|part| is_target(part)),
            wanted if wanted == part => {}
            _ => return None,
        }
        if wanted == "{target}" && found.target.is_none() {
            return None;
        }
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_path_is_taken_whole_or_not_at_all() {
        let session: Option<SessionId> = Some("s1".parse().unwrap());
        let of = |method, path| find(&method, path).map(|found| (found.proof, found.session));
        assert_eq!(of(Method::GET, "/sessions/s1/vnc"), Some((Proof::Viewer, session.clone())));
        assert_eq!(of(Method::POST, "/sessions/s1/ticket"), Some((Proof::Token, session.clone())));
        for path in [
            "/sessions/s1/vnc/",
            "/sessions//vnc",
            "/sessions/a/b/vnc",
            "/sessions/../vnc",
            "/sessions/s1%2f/vnc",
            "/sessions/s1",
            "/sessions/",
            "/sessions/s1/cdp//",
            "/sessions/s1/cdp/json//version",
            "/sessions/s1/cdp/json/new",
            "/sessions/s1/cdp/json/close/",
            "/sessions/s1/cdp/json/close/a%2fb",
            "/sessions/s1/cdp/devtools/tab/A",
            "/sessions/s1/cdp/devtools/page/..",
            "/sessions/s1/cdp/devtools/page/A/B",
            "/sessions/s1/cdp/devtools/inspector.html",
        ] {
            assert_eq!(of(Method::GET, path), None, "{path}");
        }
        assert_eq!(of(Method::POST, "/sessions/s1/vnc"), None);
        assert_eq!(of(Method::GET, "/sessions/s1/ticket"), None);
        assert_eq!(of(Method::POST, "/websockify"), None);
        assert_eq!(of(Method::GET, "/x"), Some((Proof::Nothing, None)));
    }

    #[test]
    fn questions_and_targets_are_read_off_the_path_with_or_without_a_slash_behind() {
        let asks =
            |method, path: &str| find(&method, &format!("/sessions/s1/cdp{path}")).and_then(Match::asks);
        for (path, question) in [
            ("/json/version", Question::Version),
            ("/json", Question::List),
            ("/json/list", Question::List),
            ("/json/protocol", Question::Protocol),
            ("/json/activate/A1", Question::Activate("A1".into())),
            ("/json/close/A1", Question::Close("A1".into())),
        ] {
            assert_eq!(asks(Method::GET, path), Some(question.clone()), "{path}");
            assert_eq!(asks(Method::GET, &format!("{path}/")), Some(question), "{path}/");
        }
        assert_eq!(asks(Method::PUT, "/json/new"), Some(Question::New));
        let target = |path: &str| find(&Method::GET, path).map(Match::connects_to);
        assert_eq!(target("/sessions/s1/cdp"), Some(Target::Browser));
        assert_eq!(target("/sessions/s1/cdp/devtools/browser/9b41696a-815b"), Some(Target::Browser));
        assert_eq!(target("/sessions/s1/cdp/devtools/page/B858"), Some(Target::Page("B858".into())));
    }
}
