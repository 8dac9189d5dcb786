//! How each call is written, in both versions, by the words of AdsPower's documentation.

use serde_json::{Map, Value, json};

use super::stand_in::profile;
use crate::adspower::client::request::{Content, Request};
use crate::adspower::client::{ListQuery, NewProfile, Proxy, ProxyKind, ProxyServer, StartOptions, v1, v2};
use crate::secret::Secret;

fn assert_get(request: &Request, path: &str, expected: &[(&str, &str)]) {
    let Content::Query(query) = &request.content else { panic!("{path} is no GET") };
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!((request.path, query.as_slice()), (path, expected));
}

fn assert_post(request: &Request, path: &str, expected: &Value) {
    let Content::Body(body) = &request.content else { panic!("{path} is no POST") };
    assert_eq!((request.path, body), (path, expected));
}

#[test]
fn a_browser_is_opened_with_no_other_pages_in_both_versions() {
    let options = StartOptions::default();
    assert_post(
        &v2::start(&profile("k1"), &options),
        "/api/v2/browser-profile/start",
        &json!({"profile_id": "k1", "headless": "0", "last_opened_tabs": "0", "proxy_detection": "0"}),
    );
    assert_get(
        &v1::start(&profile("k1"), &options),
        "/api/v1/browser/start",
        &[("user_id", "k1"), ("headless", "0"), ("open_tabs", "1"), ("ip_tab", "0")],
    );
}

#[test]
fn arguments_are_a_list_in_the_second_version_and_a_text_in_the_first() {
    let options = StartOptions {
        launch_args: vec!["--display=:7".to_owned(), "--lang=\"de\"".to_owned()],
        headless: true,
        restore_tabs: true,
        clear_cache: true,
    };
    assert_post(
        &v2::start(&profile("k1"), &options),
        "/api/v2/browser-profile/start",
        &json!({"profile_id": "k1", "headless": "1", "last_opened_tabs": "1", "proxy_detection": "0",
            "launch_args": ["--display=:7", "--lang=\"de\""], "delete_cache": "1"}),
    );
    assert_get(
        &v1::start(&profile("k1"), &options),
        "/api/v1/browser/start",
        &[
            ("user_id", "k1"),
            ("headless", "1"),
            ("open_tabs", "0"),
            ("ip_tab", "0"),
            ("launch_args", r#"["--display=:7","--lang=\"de\""]"#),
            ("clear_cache_after_closing", "1"),
        ],
    );
}

#[test]
fn a_browser_is_closed_and_asked_after_in_both_versions() {
    let id = profile("k1");
    assert_post(&v2::stop(&id), "/api/v2/browser-profile/stop", &json!({"profile_id": "k1"}));
    assert_get(&v1::stop(&id), "/api/v1/browser/stop", &[("user_id", "k1")]);
    assert_get(&v2::active(&id), "/api/v2/browser-profile/active", &[("profile_id", "k1")]);
    assert_get(&v1::active(&id), "/api/v1/browser/active", &[("user_id", "k1")]);
    assert_get(&v1::local_active(), "/api/v1/browser/local-active", &[]);
    assert_get(&v1::status(), "/status", &[]);
    assert_get(&v2::kernels(), "/api/v2/browser-profile/kernels", &[("kernel_type", "Chrome")]);
}

#[test]
fn a_list_is_asked_for_by_pages_and_never_with_an_empty_list() {
    let all = ListQuery::default();
    assert_post(&v2::list(&all, 2, 100), "/api/v2/browser-profile/list", &json!({"page": 2, "limit": 100}));
    assert_get(&v1::list(&all, 2, 100), "/api/v1/user/list", &[("page", "2"), ("page_size", "100")]);
    let some = ListQuery { profiles: vec![profile("k1")], group: Some("4".to_owned()) };
    assert_post(
        &v2::list(&some, 1, 100),
        "/api/v2/browser-profile/list",
        &json!({"page": 1, "limit": 100, "group_id": "4", "profile_id": ["k1"]}),
    );
    assert_get(
        &v1::list(&some, 1, 100),
        "/api/v1/user/list",
        &[("page", "1"), ("page_size", "100"), ("group_id", "4"), ("user_id", "k1")],
    );
}

#[test]
fn profiles_are_removed_by_a_list_of_another_name() {
    let ids = [profile("k1"), profile("k2")];
    assert_post(&v2::delete(&ids), "/api/v2/browser-profile/delete", &json!({"profile_id": ["k1", "k2"]}));
    assert_post(&v1::delete(&ids), "/api/v1/user/delete", &json!({"user_ids": ["k1", "k2"]}));
}

fn settings() -> NewProfile {
    NewProfile {
        name: Some("Ada".to_owned()),
        platform: Some("example.org".to_owned()),
        username: Some("ada".to_owned()),
        password: Some(Secret::new("pw".to_owned())),
        tabs: vec!["https://example.org/".to_owned()],
        proxy: Some(Proxy::Server(ProxyServer {
            kind: ProxyKind::Socks5,
            host: "proxy.example".to_owned(),
            port: 1080,
            user: Some("u".to_owned()),
            password: Some(Secret::new("p".to_owned())),
        })),
        fingerprint: Some(Map::from_iter([("webrtc".to_owned(), "disabled".into())])),
        ..NewProfile::default()
    }
}

#[test]
fn a_new_profile_is_in_no_group_unless_one_is_named_and_pages_and_site_have_two_names() {
    let common = json!({"name": "Ada", "username": "ada", "password": "pw",
        "fingerprint_config": {"webrtc": "disabled"},
        "user_proxy_config": {"proxy_soft": "other", "proxy_type": "socks5", "proxy_host": "proxy.example",
            "proxy_port": "1080", "proxy_user": "u", "proxy_password": "p"}});
    let with = |fields: Value| {
        let mut all = common.clone();
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    };
    let tabs = json!(["https://example.org/"]);
    assert_post(
        &v2::create(&settings()),
        "/api/v2/browser-profile/create",
        &with(json!({"group_id": "0", "platform": "example.org", "tabs": tabs})),
    );
    assert_post(
        &v1::create(&settings()),
        "/api/v1/user/create",
        &with(json!({"group_id": "0", "domain_name": "example.org", "open_urls": tabs})),
    );
    assert_post(
        &v2::update(&profile("k1"), &settings()),
        "/api/v2/browser-profile/update",
        &with(json!({"profile_id": "k1", "platform": "example.org", "tabs": tabs})),
    );
    assert_post(
        &v1::update(&profile("k1"), &settings()),
        "/api/v1/user/update",
        &with(json!({"user_id": "k1", "domain_name": "example.org", "open_urls": tabs})),
    );
    assert!(!format!("{:?}", settings()).contains("pw"));
}

#[test]
fn a_proxy_may_be_none_or_one_that_adspower_knows() {
    let create = |proxy| {
        let new = NewProfile { proxy, group: Some("4".to_owned()), ..NewProfile::default() };
        v2::create(&new)
    };
    let path = "/api/v2/browser-profile/create";
    assert_post(&create(None), path, &json!({"group_id": "4"}));
    assert_post(
        &create(Some(Proxy::Saved("random".to_owned()))),
        path,
        &json!({"group_id": "4", "proxyid": "random"}),
    );
    let direct = json!({"group_id": "4", "user_proxy_config": {"proxy_soft": "no_proxy"}});
    assert_post(&create(Some(Proxy::Direct)), path, &direct);
}
