//! What there is on the operators' side, as data.

use hyper::Method;

use crate::ids::{HandoffId, ProfileName, SessionId};

/// What a request must show before its handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: what anybody on this listener may know.
    Nothing,
    /// A token with the role operator on TCP; the kernel's word for the peer on the Unix socket.
    Operator,
    /// The Unix socket alone.
    Local,
}

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `livez`
    Alive,
    /// `readyz`
    Ready,
    /// `health`
    Health,
    /// `metrics`
    Metrics,
    /// `openapi.json`
    Description,
    /// `docs` and its files
    Docs,
    /// `v1/status`
    Status,
    /// `v1/capacity`
    Capacity,
    /// `v1/events`
    Events,
    /// `POST v1/sessions`
    Create,
    /// `GET v1/sessions`
    List,
    /// `GET v1/sessions/{id}`
    Show,
    /// `PATCH v1/sessions/{id}`
    Amend,
    /// `DELETE v1/sessions/{id}`
    End,
    /// `v1/sessions/{id}/health`
    SessionHealth,
    /// `v1/sessions/{id}/connection`
    Connection,
    /// `POST v1/sessions/{id}/handoffs`
    AskForHuman,
    /// `GET v1/sessions/{id}/handoffs`
    Handoffs,
    /// `v1/sessions/{id}/handoffs/{handoff}`
    Handoff,
    /// `v1/sessions/{id}/handoffs/{handoff}/resolve`
    Resolve,
    /// `GET v1/profiles`
    Profiles,
    /// `POST v1/profiles`
    AddProfile,
    /// `GET v1/profiles/{name}`
    Profile,
    /// `DELETE v1/profiles/{name}`
    RemoveProfile,
    /// `v1/profiles/{name}/release`
    ReleaseProfile,
    /// `v1/profiles/{name}/quarantine`
    QuarantineProfile,
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method; where it is GET, HEAD is answered as well.
    pub method: &'static str,
    /// The path; `{id}` is a session's, `{handoff}` one of its handoffs', `{name}` a profile's.
    pub pattern: &'static str,
    /// What it asks for.
    pub proof: Proof,
    /// What answers.
    pub target: Target,
}

const fn route(method: &'static str, pattern: &'static str, proof: Proof, target: Target) -> Route {
    Route { method, pattern, proof, target }
}

/// Every route.
pub const ROUTES: [Route; 28] = [
    route("GET", "/livez", Proof::Nothing, Target::Alive),
    route("GET", "/readyz", Proof::Nothing, Target::Ready),
    route("GET", "/health", Proof::Nothing, Target::Health),
    route("GET", "/metrics", Proof::Nothing, Target::Metrics),
    route("GET", "/openapi.json", Proof::Nothing, Target::Description),
    route("GET", "/docs", Proof::Nothing, Target::Docs),
    route("GET", "/docs/page.js", Proof::Nothing, Target::Docs),
    route("GET", "/docs/page.css", Proof::Nothing, Target::Docs),
    route("GET", "/v1/status", Proof::Local, Target::Status),
    route("GET", "/v1/capacity", Proof::Operator, Target::Capacity),
    route("GET", "/v1/events", Proof::Operator, Target::Events),
    route("GET", "/v1/sessions", Proof::Operator, Target::List),
    route("POST", "/v1/sessions", Proof::Operator, Target::Create),
    route("GET", "/v1/sessions/{id}", Proof::Operator, Target::Show),
    route("PATCH", "/v1/sessions/{id}", Proof::Operator, Target::Amend),
    route("DELETE", "/v1/sessions/{id}", Proof::Operator, Target::End),
    route("GET", "/v1/sessions/{id}/health", Proof::Operator, Target::SessionHealth),
    route("GET", "/v1/sessions/{id}/connection", Proof::Operator, Target::Connection),
    route("POST", "/v1/sessions/{id}/handoffs", Proof::Operator, Target::AskForHuman),
    route("GET", "/v1/sessions/{id}/handoffs", Proof::Operator, Target::Handoffs),
    route("GET", "/v1/sessions/{id}/handoffs/{handoff}", Proof::Operator, Target::Handoff),
    route("POST", "/v1/sessions/{id}/handoffs/{handoff}/resolve", Proof::Operator, Target::Resolve),
    route("GET", "/v1/profiles", Proof::Operator, Target::Profiles),
    route("POST", "/v1/profiles", Proof::Operator, Target::AddProfile),
    route("GET", "/v1/profiles/{name}", Proof::Operator, Target::Profile),
    route("DELETE", "/v1/profiles/{name}", Proof::Operator, Target::RemoveProfile),
    route("POST", "/v1/profiles/{name}/release", Proof::Operator, Target::ReleaseProfile),
    route("POST", "/v1/profiles/{name}/quarantine", Proof::Operator, Target::QuarantineProfile),
];

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A route, and what its path names.
    Route { proof: Proof, target: Target, named: Named },
    /// The path is there for these methods only.
    OtherMethods(String),
    /// There is no such path.
    Nothing,
}

/// What a path names; what cannot be an id is nobody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) session: Option<SessionId>,
    pub(super) handoff: Option<HandoffId>,
    pub(super) profile: Option<ProfileName>,
}

/// Looks for the route of a request. `local`: whether it came over the Unix socket; elsewhere its routes are not there.
pub(super) fn find(method: &Method, path: &str, local: bool) -> Found {
    let there: Vec<_> = ROUTES
        .iter()
        .filter(|route| local || route.proof != Proof::Local)
        .filter_map(|route| Some((route, fits(route.pattern, path)?)))
        .collect();
    let wanted = if method == Method::HEAD { "GET" } else { method.as_str() };
    match there.iter().find(|(route, _)| route.method == wanted) {
        Some((route, named)) => {
            Found::Route { proof: route.proof, target: route.target, named: named.clone() }
        }
        None if there.is_empty() => Found::Nothing,
        None => {
            let mut methods: Vec<_> = there.iter().map(|(route, _)| route.method).collect();
            if methods.contains(&"GET") {
                methods.push("HEAD");
            }
            Found::OtherMethods(methods.join(", "))
        }
    }
}

/// What the path names, where it fits.
fn fits(pattern: &str, path: &str) -> Option<Named> {
    let mut named = Named::default();
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        match wanted {
            "{id}" if !part.is_empty() => named.session = part.parse().ok(),
            "{name}" if !part.is_empty() => named.profile = part.parse().ok(),
            "{handoff}" if !part.is_empty() => named.handoff = part.parse().ok(),
            wanted if wanted == part => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &Method, path: &str) -> Option<(Target, Option<String>)> {
        match find(method, path, false) {
            Found::Route { target, named, .. } => Some((target, named.session.map(|id| id.to_string()))),
            Found::OtherMethods(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn a_path_is_taken_whole_or_not_at_all() {
        let id = Some("s1".to_owned());
        assert_eq!(found(&Method::GET, "/v1/sessions/s1"), Some((Target::Show, id.clone())));
        assert_eq!(found(&Method::HEAD, "/v1/sessions/s1/health"), Some((Target::SessionHealth, id)));
        assert_eq!(found(&Method::GET, "/v1/sessions/..%2f"), Some((Target::Show, None)));
        let resolve = find(&Method::POST, "/v1/sessions/s1/handoffs/h1/resolve", false);
        let named = Named { session: "s1".parse().ok(), handoff: "h1".parse().ok(), profile: None };
        let expected = Found::Route { proof: Proof::Operator, target: Target::Resolve, named };
        assert_eq!(resolve, expected);
        for path in ["/v1/sessions/", "/v1/sessions/a/b", "/v1/sessions//health", "/v1", "/", "/livez/"] {
            assert_eq!(find(&Method::GET, path, true), Found::Nothing, "{path}");
        }
    }

    #[test]
    fn what_belongs_to_the_socket_is_not_there_on_tcp() {
        assert_eq!(find(&Method::GET, "/v1/status", false), Found::Nothing);
        assert!(matches!(
            find(&Method::GET, "/v1/status", true),
            Found::Route { target: Target::Status, .. }
        ));
    }

    #[test]
    fn another_method_learns_which_there_are() {
        let other = |methods: &str| Found::OtherMethods(methods.to_owned());
        assert_eq!(find(&Method::PUT, "/v1/sessions/x", false), other("GET, PATCH, DELETE, HEAD"));
        assert_eq!(find(&Method::POST, "/livez", false), other("GET, HEAD"));
    }
}
