//! What is taken from answers, and what is not.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::stand_in::{DEVTOOLS, browser, profile};
use crate::adspower::client::data::{self, Kernel, Listed, Odd, Opened};
use crate::adspower::client::oracle;

fn opened() -> Opened {
    Opened {
        debug_port: 9222,
        browser_path: "/devtools/browser/8c2d1b5e-0d0a-4f5e-9c65-0f6d2a3b4c5d".to_owned(),
    }
}

#[test]
fn a_browser_is_where_its_devtools_address_says_with_a_port_as_text_number_or_not_at_all() {
    for port in [json!("9222"), json!(9222), json!(null), json!("")] {
        let mut data = browser();
        data["debug_port"] = port;
        assert_eq!(data::opened(&data), Ok(opened()), "{data}");
    }
    let data = json!({"ws": {"puppeteer": DEVTOOLS.replace("127.0.0.1", "localhost")}});
    assert_eq!(data::opened(&data), Ok(opened()));
}

#[test]
fn a_browser_anywhere_else_is_odd() {
    for address in [
        "",
        "ws://127.0.0.1:9222",
        "ws://127.0.0.1:9222/",
        "wss://127.0.0.1:9222/devtools/browser/a",
        "http://127.0.0.1:9222/devtools/browser/a",
        "ws://127.0.0.1/devtools/browser/a",
        "ws://127.0.0.1:0/devtools/browser/a",
        "ws://127.0.0.1:+9222/devtools/browser/a",
        "ws://127.0.0.1:99999/devtools/browser/a",
        "ws://127.0.0.1:9222:9222/devtools/browser/a",
        "ws://127.0.0.1:9222/devtools/page/a",
        "ws://127.0.0.1:9222/devtools/browser/",
        "ws://127.0.0.1:9222/devtools/browser/a/b",
        "ws://127.0.0.1:9222/devtools/browser/a?b",
        "ws://127.0.0.1:9222/devtools/browser/../page",
        "ws://0.0.0.0:9222/devtools/browser/a",
        "ws://10.0.0.1:9222/devtools/browser/a",
        "ws://evil.example:9222/devtools/browser/a",
        "ws://127.0.0.1@evil.example:9222/devtools/browser/a",
        "ws://127.0.0.1.evil.example:9222/devtools/browser/a",
        "ws://[::1]:9222/devtools/browser/a",
        " ws://127.0.0.1:9222/devtools/browser/a",
    ] {
        let data = json!({"ws": {"puppeteer": address}});
        assert!(data::opened(&data).is_err(), "{address}");
    }
    for data in [json!(null), json!([]), json!({}), json!({"ws": DEVTOOLS}), json!({"ws": {"puppeteer": 1}})]
    {
        assert!(data::opened(&data).is_err(), "{data}");
    }
    for port in
        [json!("9223"), json!(9223), json!(true), json!("+9222"), json!(9222.5), json!(-1), json!("a")]
    {
        let mut data = browser();
        data["debug_port"] = port;
        assert!(data::opened(&data).is_err(), "{data}");
    }
}

#[test]
fn a_profile_is_active_inactive_or_odd() {
    let mut data = browser();
    data["status"] = "Active".into();
    assert_eq!(data::active(&data), Ok(Some(opened())));
    // The first version names no port.
    let first = json!({"status": "Active", "ws": {"puppeteer": DEVTOOLS, "selenium": "127.0.0.1:9222"}});
    assert_eq!(data::active(&first), Ok(Some(opened())));
    assert_eq!(data::active(&json!({"status": "Inactive"})), Ok(None));
    for odd in [json!({}), json!({"status": "Active"}), json!({"status": 1}), json!({"status": "Opening"})] {
        assert!(data::active(&odd).is_err(), "{odd}");
    }
}

#[test]
fn an_open_browser_that_is_not_for_us_hides_no_other() {
    let mut ours = browser();
    ours["user_id"] = "k1".into();
    let firefox = json!({"user_id": "k2", "ws": {"selenium": "127.0.0.1:1"}, "marionette_port": "1"});
    let away = json!({"user_id": "k3", "ws": {"puppeteer": "ws://10.0.0.1:1/devtools/browser/a"}});
    let data = json!({"list": [firefox, ours, away]});
    assert_eq!(data::local_active(&data), Ok((vec![(profile("k1"), opened())], 2)));
    assert_eq!(data::local_active(&json!({"list": []})), Ok((Vec::new(), 0)));
    // An answer of another shape must not look like "nothing is open".
    for odd in [
        json!({}),
        json!([]),
        json!({"list": {}}),
        json!({"list": [5]}),
        json!({"list": [{"user_id": ".."}]}),
    ] {
        assert!(data::local_active(&odd).is_err(), "{odd}");
    }
}

#[test]
fn profiles_of_both_versions_are_read_alike() {
    let first = json!({"serial_number": "7", "user_id": "k1", "name": "a\u{1b}b", "group_id": "0",
        "last_open_time": "1700000000", "password": "secret", "ip_country": null});
    let second = json!({"profile_no": 8, "profile_id": "k2", "group_id": 12, "last_open_time": "0"});
    let third =
        json!({"profile_id": "k3", "serial_number": "", "last_open_time": "", "name": "x".repeat(1000)});
    let page = data::page(&json!({"list": [first, second, third], "page": "1", "page_size": "50"})).unwrap();
    assert_eq!(page.size, Some(50));
    assert_eq!(
        page.profiles[0],
        Listed {
            profile: profile("k1"),
            number: Some(7),
            name: "a b".to_owned(),
            group: Some("0".to_owned()),
            last_opened: Some(1_700_000_000)
        }
    );
    assert_eq!(
        page.profiles[1],
        Listed {
            profile: profile("k2"),
            number: Some(8),
            name: String::new(),
            group: Some("12".to_owned()),
            last_opened: None
        }
    );
    assert_eq!((page.profiles[2].number, page.profiles[2].last_opened), (None, None));
    assert_eq!(page.profiles[2].name.len(), 128);
    for odd in [
        json!({"profile_id": "k1", "serial_number": "seven"}),
        json!({"profile_id": "k1", "name": ["a"]}),
        json!({"profile_id": "k1", "last_open_time": -1}),
        json!({"profile_id": "k/1"}),
        json!({"name": "a"}),
    ] {
        assert!(data::page(&json!({"list": [odd.clone()]})).is_err(), "{odd}");
    }
}

#[test]
fn a_new_profile_and_the_kernels_are_read() {
    assert_eq!(data::created(&json!({"profile_id": "k1", "profile_no": "3"})), Ok(profile("k1")));
    assert_eq!(data::created(&json!({"id": "k2", "serial_number": "3"})), Ok(profile("k2")));
    assert_eq!(data::created(&json!({"id": ""})), Err(Odd("a profile has no usable id")));
    let kernel = |version: &str, downloaded| Kernel { version: version.to_owned(), downloaded };
    let list = json!({"list": [
        {"kernel": "141", "kernel_type": "Chrome", "is_downloaded": true},
        {"kernel": 140, "is_downloaded": false}, {"kernel": "139", "is_downloaded": "1"}, {"kernel": "138"}]});
    let expected = [kernel("141", true), kernel("140", false), kernel("139", true), kernel("138", false)];
    assert_eq!(data::kernels(&list).unwrap(), expected);
    assert!(data::kernels(&json!({"list": [{"kernel": "141", "is_downloaded": "yes"}]})).is_err());
    assert!(data::kernels(&json!({"list": [{"is_downloaded": true}]})).is_err());
}

/// JSON of any shape, with the names that are looked for.
fn value() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "ws",
        "puppeteer",
        "debug_port",
        "status",
        "list",
        "user_id",
        "profile_id",
        "id",
        "name",
        "group_id",
        "page_size",
        "serial_number",
        "last_open_time",
        "kernel",
        "is_downloaded",
        "other",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "(ws://)?(127.0.0.1|localhost|h):[0-9]{0,6}/devtools/(browser|page)/[a-f0-9-]{0,36}"
            .prop_map(Value::from),
        prop::sample::select(vec!["Active", "Inactive", "9222", "k1", "canary", DEVTOOLS])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn f23_any_answer_is_taken_or_said_no_to(
        status in prop_oneof![3 => Just(200_u16), 1 => any::<u16>()],
        code in prop_oneof![Just(json!(0)), Just(json!("0")), value()],
        message in prop_oneof![any::<String>().prop_map(Value::from), Just(json!("canary\u{7}")), value()],
        data in value(),
        cut in any::<prop::sample::Index>(),
    ) {
        let body = json!({"code": code, "msg": message, "data": data}).to_string();
        oracle::answer(status, &body);
        let mut at = cut.index(body.len());
        while !body.is_char_boundary(at) {
            at -= 1;
        }
        oracle::answer(status, &body[..at]);
    }

    #[test]
    fn f23_any_bytes_are_taken_or_said_no_to(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        oracle::fuzz_answer(&bytes);
    }
}

#[test]
fn the_oracle_holds_for_every_seed() {
    let seeds = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/adspower_json")).unwrap();
    let count = seeds.map(|seed| oracle::fuzz_answer(&std::fs::read(seed.unwrap().path()).unwrap())).count();
    assert!(count >= 10, "only {count} seeds");
}
