//! The first version of the API: for older apps, and for what the second one does not have. Everything is a string, and a
//! browser is opened by a `GET`.

use serde_json::{Map, Value, json};

use super::request::{ListQuery, NewProfile, Request, StartOptions, common, ids, switch};
use crate::adspower::ProfileId;

pub(super) fn status() -> Request {
    Request::get("/status", Vec::new())
}

pub(super) fn start(profile: &ProfileId, options: &StartOptions) -> Request {
    let mut query = only(profile);
    let mut put = |name, value: &str| query.push((name, value.to_owned()));
    put("headless", switch(options.headless));
    // The other way about: 1 is "do not".
    put("open_tabs", switch(!options.restore_tabs));
    // A page of AdsPower's own would open before any other.
    put("ip_tab", switch(false));
    if !options.launch_args.is_empty() {
        put("launch_args", &json!(options.launch_args).to_string());
    }
    if options.clear_cache {
        put("clear_cache_after_closing", switch(true));
    }
    Request::get("/api/v1/browser/start", query)
}

pub(super) fn stop(profile: &ProfileId) -> Request {
    Request::get("/api/v1/browser/stop", only(profile))
}

pub(super) fn active(profile: &ProfileId) -> Request {
    Request::get("/api/v1/browser/active", only(profile))
}

pub(super) fn local_active() -> Request {
    Request::get("/api/v1/browser/local-active", Vec::new())
}

/// Takes one profile or all; whoever asks for several has to leave out the others.
pub(super) fn list(query: &ListQuery, page: u64, size: u64) -> Request {
    let mut fields = vec![("page", page.to_string()), ("page_size", size.to_string())];
    if let Some(group) = &query.group {
        fields.push(("group_id", group.clone()));
    }
    if let [profile] = query.profiles.as_slice() {
        fields.push(("user_id", profile.to_string()));
    }
    Request::get("/api/v1/user/list", fields)
}

pub(super) fn create(new: &NewProfile) -> Request {
    let mut body = settings(new);
    body.entry("group_id").or_insert_with(|| "0".into());
    Request::post("/api/v1/user/create", body)
}

pub(super) fn update(profile: &ProfileId, change: &NewProfile) -> Request {
    let mut body = settings(change);
    body.insert("user_id".to_owned(), profile.as_str().into());
    Request::post("/api/v1/user/update", body)
}

pub(super) fn delete(profiles: &[ProfileId]) -> Request {
    Request::post("/api/v1/user/delete", Map::from_iter([("user_ids".to_owned(), ids(profiles))]))
}

fn only(profile: &ProfileId) -> Vec<(&'static str, String)> {
    vec![("user_id", profile.to_string())]
}

fn settings(profile: &NewProfile) -> Map<String, Value> {
    let mut body = common(profile);
    if let Some(platform) = &profile.platform {
        body.insert("domain_name".to_owned(), platform.as_str().into());
    }
    if !profile.tabs.is_empty() {
        body.insert("open_urls".to_owned(), json!(profile.tabs));
    }
    body
}
