//! Which web pages may use a credential here. Pure.

use hyper::header::{HOST, HeaderMap, ORIGIN};

/// What the `Origin` header of a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// On the list, or our own.
    Ours,
    /// There is none: no browser, or one that did not say.
    Absent,
    /// Another page's.
    Foreign,
}

/// Judges the origin against the list; where the list is empty, against the host that the request came to. `tls` is
/// whether we end TLS ourselves; behind an edge that does, either scheme is our own.
pub(super) fn judge(allowed: &[String], headers: &HeaderMap, tls: bool) -> Origin {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return Origin::Absent,
        (Some(origin), None) => origin.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let Some(origin) = origin else { return Origin::Foreign };
    let ours = if allowed.is_empty() {
        let mut hosts = headers.get_all(HOST).iter();
        match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
            (Some(host), None) => is_own(origin, host, tls),
            _ => false,
        }
    } else {
        allowed.iter().any(|one| one == origin)
    };
    if ours { Origin::Ours } else { Origin::Foreign }
}

fn is_own(origin: &str, host: &str, tls: bool) -> bool {
    let (authority, default_port) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, ":443"),
        Some(("http", authority)) if !tls => (authority, ":80"),
        _ => return false,
    };
    let without_default = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.strip_suffix(default_port).map(str::to_owned).unwrap_or(text)
    };
    !authority.is_empty() && without_default(authority) == without_default(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: &str, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        headers.insert(HOST, host.parse().unwrap());
        headers
    }

    #[test]
    fn without_a_list_only_the_host_itself_is_ours() {
        let cases = [
            ("https://h.example", "h.example", true, Origin::Ours),
            ("https://h.example", "h.example:443", true, Origin::Ours),
            ("https://H.example:443", "h.EXAMPLE", true, Origin::Ours),
            ("https://[::1]:6080", "[::1]:6080", true, Origin::Ours),
            ("http://h.example", "h.example", true, Origin::Foreign),
            ("http://h.example", "h.example:80", false, Origin::Ours),
            ("https://h.example", "h.example", false, Origin::Ours),
            ("https://h.example:6080", "h.example", true, Origin::Foreign),
            ("https://h.example.evil", "h.example", true, Origin::Foreign),
            ("https://evil.h.example", "h.example", true, Origin::Foreign),
            ("https://h.example:80", "h.example", true, Origin::Foreign),
            ("null", "h.example", true, Origin::Foreign),
            ("https://", "", true, Origin::Foreign),
            ("file://", "h.example", false, Origin::Foreign),
        ];
        for (origin, host, tls, verdict) in cases {
            assert_eq!(judge(&[], &headers(origin, host), tls), verdict, "{origin} at {host}");
        }
    }

    #[test]
    fn a_list_is_exact_and_does_not_look_at_the_host() {
        let allowed = ["https://app.example".to_owned()];
        assert_eq!(judge(&allowed, &headers("https://app.example", "h.example"), true), Origin::Ours);
        for foreign in ["https://h.example", "https://app.example:443", "https://app.example/", "null"] {
            assert_eq!(judge(&allowed, &headers(foreign, "h.example"), true), Origin::Foreign, "{foreign}");
        }
    }

    #[test]
    fn none_is_absent_and_two_are_foreign() {
        assert_eq!(judge(&[], &HeaderMap::new(), true), Origin::Absent);
        let mut two = headers("https://h.example", "h.example");
        two.append(ORIGIN, "https://h.example".parse().unwrap());
        assert_eq!(judge(&[], &two, true), Origin::Foreign);
    }
}
