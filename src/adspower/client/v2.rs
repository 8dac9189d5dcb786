//! The second version of the API, which AdsPower's own clients use.

use serde_json::{Map, Value, json};

use super::request::{ListQuery, NewProfile, Request, StartOptions, common, ids, switch};
use crate::adspower::ProfileId;

pub(super) fn start(profile: &ProfileId, options: &StartOptions) -> Request {
    let mut body = only(profile);
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("headless", switch(options.headless).into());
    put("last_opened_tabs", switch(options.restore_tabs).into());
    // A page of AdsPower's own would open before any other.
    put("proxy_detection", switch(false).into());
    if !options.launch_args.is_empty() {
        put("launch_args", json!(options.launch_args));
    }
    if options.clear_cache {
        put("delete_cache", switch(true).into());
    }
    Request::post("/api/v2/browser-profile/start", body)
}

pub(super) fn stop(profile: &ProfileId) -> Request {
    Request::post("/api/v2/browser-profile/stop", only(profile))
}

pub(super) fn active(profile: &ProfileId) -> Request {
    Request::get("/api/v2/browser-profile/active", vec![("profile_id", profile.to_string())])
}

pub(super) fn list(query: &ListQuery, page: u64, size: u64) -> Request {
    let mut body = Map::from_iter([("page".to_owned(), page.into()), ("limit".to_owned(), size.into())]);
    if let Some(group) = &query.group {
        body.insert("group_id".to_owned(), group.as_str().into());
    }
    // An empty list is refused.
    if !query.profiles.is_empty() {
        body.insert("profile_id".to_owned(), ids(&query.profiles));
    }
    Request::post("/api/v2/browser-profile/list", body)
}

pub(super) fn create(new: &NewProfile) -> Request {
    let mut body = settings(new);
    body.entry("group_id").or_insert_with(|| "0".into());
    Request::post("/api/v2/browser-profile/create", body)
}

pub(super) fn update(profile: &ProfileId, change: &NewProfile) -> Request {
    let mut body = settings(change);
    body.extend(only(profile));
    Request::post("/api/v2/browser-profile/update", body)
}

pub(super) fn delete(profiles: &[ProfileId]) -> Request {
    let body = Map::from_iter([("profile_id".to_owned(), ids(profiles))]);
    Request::post("/api/v2/browser-profile/delete", body)
}

pub(super) fn kernels() -> Request {
    Request::get("/api/v2/browser-profile/kernels", vec![("kernel_type", "Chrome".to_owned())])
}

fn only(profile: &ProfileId) -> Map<String, Value> {
    Map::from_iter([("profile_id".to_owned(), profile.as_str().into())])
}

fn settings(profile: &NewProfile) -> Map<String, Value> {
    let mut body = common(profile);
    if let Some(platform) = &profile.platform {
        body.insert("platform".to_owned(), platform.as_str().into());
    }
    if !profile.tabs.is_empty() {
        body.insert("tabs".to_owned(), json!(profile.tabs));
    }
    body
}
