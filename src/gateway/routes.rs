//! What there is behind the gateway, as data.

use hyper::Method;

use crate::ids::SessionId;

/// What a request must show before its handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: the viewer page and its assets.
    Nothing,
    /// A good token for the session, which `gate` turns into a `TokenGrant`.
    Token,
    /// A good credential of a viewer, which `gate` turns into a `VncGrant`.
    Viewer,
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; `{id}` is a session's, a final `*` is anything.
    pub pattern: &'static str,
    /// What it asks for.
    pub proof: Proof,
}

/// Every route; the first that fits is taken.
pub const ROUTES: [Route; 5] = [
    Route { method: "POST", pattern: "/sessions/{id}/ticket", proof: Proof::Token },
    Route { method: "GET", pattern: "/sessions/{id}/vnc", proof: Proof::Viewer },
    Route { method: "GET", pattern: "/websockify", proof: Proof::Viewer },
    // Where the stock vnc.html looks for it: it resolves the name relative to itself.
    Route { method: "GET", pattern: "/novnc/websockify", proof: Proof::Viewer },
    Route { method: "*", pattern: "/*", proof: Proof::Nothing },
];

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) proof: Proof,
    pub(super) session: Option<SessionId>,
}

/// The route of a request; `None` when there is none. A private path under another method is no route at all, so that it
/// does not fall through to the public ones.
pub(super) fn find(method: &Method, path: &str) -> Option<Match> {
    for route in &ROUTES {
        if let Some(session) = fits(route.pattern, path) {
            let allowed = route.method == "*" || route.method == method.as_str();
            return allowed.then_some(Match { proof: route.proof, session });
        }
    }
    None
}

fn fits(pattern: &str, path: &str) -> Option<Option<SessionId>> {
    if pattern == "/*" {
        // What begins like a session is not an asset.
        return (!path.starts_with("/sessions/")).then_some(None);
    }
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then_some(None);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    id.parse().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_path_is_taken_whole_or_not_at_all() {
        let session = Some("s1".parse().unwrap());
        assert_eq!(
            find(&Method::GET, "/sessions/s1/vnc"),
            Some(Match { proof: Proof::Viewer, session: session.clone() })
        );
        assert_eq!(find(&Method::POST, "/sessions/s1/ticket"), Some(Match { proof: Proof::Token, session }));
        for path in [
            "/sessions/s1/vnc/",
            "/sessions//vnc",
            "/sessions/a/b/vnc",
            "/sessions/../vnc",
            "/sessions/s1%2f/vnc",
            "/sessions/s1",
            "/sessions/",
        ] {
            assert_eq!(find(&Method::GET, path), None, "{path}");
        }
        assert_eq!(find(&Method::POST, "/sessions/s1/vnc"), None);
        assert_eq!(find(&Method::GET, "/sessions/s1/ticket"), None);
        assert_eq!(find(&Method::POST, "/websockify"), None);
        assert_eq!(find(&Method::GET, "/x"), Some(Match { proof: Proof::Nothing, session: None }));
    }
}
