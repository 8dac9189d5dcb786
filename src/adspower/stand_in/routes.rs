//! What a request asks for: both versions of the API, told apart by path, come to the same.

use serde_json::{Map, Value};

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    Status,
    Start {
        profile: String,
        launch_args: Vec<String>,
    },
    Stop {
        profile: String,
    },
    StopAll,
    Active {
        profile: String,
        with_port: bool,
    },
    LocalActive,
    Create {
        fields: Map<String, Value>,
        v1: bool,
    },
    Update {
        profile: String,
        fields: Map<String, Value>,
    },
    Delete {
        profiles: Vec<String>,
    },
    List {
        page: usize,
        size: usize,
        v1: bool,
    },
    Kernels,
    /// A test says how to behave.
    Behave {
        how: String,
    },
}

/// The request's meaning; `Err` is what AdsPower says of it, `Ok(None)` a path that it does not know.
pub(super) fn ask(
    method: &str,
    path: &str,
    query: &str,
    body: &[u8],
    only_v1: bool,
) -> Result<Option<Ask>, String> {
    if only_v1 && path.starts_with("/api/v2/") {
        return Ok(None);
    }
    let given = fields(method, query, body)?;
    let profile = |name: &str| text(&given, name).ok_or_else(|| format!("{name} is required"));
    let v1 = path.starts_with("/api/v1/");
    let id = if v1 { "user_id" } else { "profile_id" };
    Ok(Some(match (method, path) {
        ("GET", "/status") => Ask::Status,
        ("GET", "/api/v1/browser/start") | ("POST", "/api/v2/browser-profile/start") => {
            Ask::Start { profile: profile(id)?, launch_args: launch_args(&given)? }
        }
        ("GET", "/api/v1/browser/stop") | ("POST", "/api/v2/browser-profile/stop") => {
            Ask::Stop { profile: profile(id)? }
        }
        ("POST", "/api/v2/browser-profile/stop-all") => Ask::StopAll,
        ("GET", "/api/v1/browser/active") | ("GET", "/api/v2/browser-profile/active") => {
            Ask::Active { profile: profile(id)?, with_port: !v1 }
        }
        ("GET", "/api/v1/browser/local-active") => Ask::LocalActive,
        ("POST", "/api/v1/user/create") | ("POST", "/api/v2/browser-profile/create") => {
            text(&given, "group_id").ok_or("group_id is required")?;
            Ask::Create { fields: given, v1 }
        }
        ("POST", "/api/v1/user/update") | ("POST", "/api/v2/browser-profile/update") => {
            Ask::Update { profile: profile(id)?, fields: given }
        }
        ("POST", "/api/v1/user/delete") => Ask::Delete { profiles: texts(&given, "user_ids")? },
        ("POST", "/api/v2/browser-profile/delete") => Ask::Delete { profiles: texts(&given, "profile_id")? },
        ("GET", "/api/v1/user/list") => {
            Ask::List { page: number(&given, "page", 1), size: number(&given, "page_size", 1), v1 }
        }
        ("POST", "/api/v2/browser-profile/list") => {
            // The real one refuses a list with nothing in it.
            if given.values().any(|value| value.as_array().is_some_and(Vec::is_empty)) {
                return Err("a list must not be empty".to_owned());
            }
            Ask::List { page: number(&given, "page", 1), size: number(&given, "limit", 50), v1 }
        }
        ("GET", "/api/v2/browser-profile/kernels") => Ask::Kernels,
        ("POST", "/stand-in/behave") => Ask::Behave { how: profile("how")? },
        _ => return Ok(None),
    }))
}

/// Parameters by name: of the query, or of a JSON body.
fn fields(method: &str, query: &str, body: &[u8]) -> Result<Map<String, Value>, String> {
    if method == "GET" {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), Value::String(decoded(value)))
        });
        return Ok(pairs.collect());
    }
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|_| "the body is no JSON object".to_owned())
}

/// `%41` and `+`, as forms write them.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text(given: &Map<String, Value>, name: &str) -> Option<String> {
    match given.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn texts(given: &Map<String, Value>, name: &str) -> Result<Vec<String>, String> {
    let list = given.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| format!("{name} must be a list"))?;
    Ok(list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
}

fn number(given: &Map<String, Value>, name: &str, otherwise: usize) -> usize {
    text(given, name).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A list, or a list as text, which is all that the first version takes.
fn launch_args(given: &Map<String, Value>) -> Result<Vec<String>, String> {
    let list = match given.get("launch_args") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(other) => other.clone(),
    };
    let args = list.as_array().ok_or("launch_args must be a list")?;
    Ok(args.iter().filter_map(|arg| arg.as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_ask_for_the_same() {
        let v1 = "user_id=k1&launch_args=%5B%22--display%3D%3A5%22%5D&open_tabs=1";
        let expected = Ask::Start { profile: "k1".into(), launch_args: vec!["--display=:5".into()] };
        assert_eq!(ask("GET", "/api/v1/browser/start", v1, b"", false), Ok(Some(expected.clone())));
        let v2 = br#"{"profile_id":"k1","launch_args":["--display=:5"],"headless":"0"}"#;
        assert_eq!(ask("POST", "/api/v2/browser-profile/start", "", v2, false), Ok(Some(expected)));
        assert_eq!(ask("POST", "/api/v2/browser-profile/start", "", v2, true), Ok(None), "an old app");
        assert!(ask("POST", "/api/v2/browser-profile/start", "", b"{}", false).is_err());
        assert!(ask("POST", "/api/v2/browser-profile/start", "", b"<html>", false).is_err());
    }
}
