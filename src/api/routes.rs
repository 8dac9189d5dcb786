//! What there is on the operators' side, as data.

use hyper::Method;

use crate::ids::SessionId;

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
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method; where it is GET, HEAD is answered as well.
    pub method: &'static str,
    /// The path; `{id}` is a session's.
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
pub const ROUTES: [Route; 18] = [
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
];

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A route, and the session that its path names; one that cannot be a session's id is nobody's.
    Route { proof: Proof, target: Target, session: Option<SessionId> },
    /// The path is there for these methods only.
    OtherMethods(String),
    /// There is no such path.
    Nothing,
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
        Some((route, id)) => Found::Route {
            proof: route.proof,
            target: route.target,
            session: id.and_then(|id| id.parse().ok()),
        },
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

/// What stands for `{id}`, where the path fits; it has no slash and is not empty.
fn fits<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then_some(None);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &Method, path: &str) -> Option<(Target, Option<String>)> {
        match find(method, path, false) {
            Found::Route { target, session, .. } => Some((target, session.map(|id| id.to_string()))),
            Found::OtherMethods(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn a_path_is_taken_whole_or_not_at_all() {
        let id = Some("s1".to_owned());
        assert_eq!(found(&Method::GET, "/v1/sessions/s1"), Some((Target::Show, id.clone())));
        assert_eq!(found(&Method::HEAD, "/v1/sessions/s1/health"), Some((Target::SessionHealth, id)));
        assert_eq!(found(&Method::GET, "/v1/sessions/..%2f"), Some((Target::Show, None)));
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
