//! An app that knows both versions of the API, or one; and its lists, page by page.

use serde_json::json;

use super::stand_in::{Reply, Seen, StandIn, browser, done, place, profile, profiles, quick, refusal};
use crate::adspower::client::{Error, ListQuery, NewProfile, StartOptions};

/// Three ways in which an app says that it does not know a call.
fn unknown(kind: usize) -> Reply {
    match kind {
        0 => Reply::Raw("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found".to_owned()),
        1 => Reply::Text("Not found".to_owned()),
        _ => refusal("Not Found"),
    }
}

fn first_version(seen: &Seen) -> Reply {
    let (_, path) = seen.line.split_once(' ').unwrap();
    match path.split('?').next().unwrap() {
        "/status" | "/api/v1/browser/stop" | "/api/v1/user/update" | "/api/v1/user/delete" => done(json!({})),
        "/api/v1/browser/start" => done(browser()),
        "/api/v1/browser/active" => done(json!({"status": "Inactive"})),
        "/api/v1/browser/local-active" => {
            let mut open = browser();
            open["user_id"] = "k1".into();
            done(json!({"list": [open]}))
        }
        "/api/v1/user/create" => done(json!({"id": "k2", "serial_number": "2"})),
        "/api/v1/user/list" => done(json!({"list": [{"user_id": "k1"}], "page": 1, "page_size": 100})),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_app_of_the_first_version_is_asked_in_it_and_that_is_remembered_for_each_call() {
    for kind in 0..3 {
        let server = StandIn::start(move |seen, _| match seen.line.contains("/v2/") {
            true => unknown(kind),
            false => first_version(seen),
        })
        .await;
        let (client, _registry) = quick(server.port);
        let id = profile("k1");
        for _ in 0..2 {
            assert_eq!(client.start(&id, &StartOptions::default()).await.unwrap().debug_port, 9222);
            client.stop(&id).await.unwrap();
            assert_eq!(client.active(&id).await.unwrap(), None);
            assert_eq!(client.local_active().await.unwrap().len(), 1);
            assert_eq!(client.list(&ListQuery::default()).await.unwrap().len(), 1);
            assert_eq!(client.create(&NewProfile::default()).await.unwrap(), profile("k2"));
            client.update(&id, &NewProfile::default()).await.unwrap();
            client.delete(std::slice::from_ref(&id)).await.unwrap();
            client.status().await.unwrap();
        }
        let second = server.lines().iter().filter(|line| line.contains("/v2/")).count();
        assert_eq!(second, 7, "each once: {:?}", server.lines());
        let error = client.kernels().await.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)) && !error.may_have_happened(), "{error:?}");
        // Another app, another chance, also on the same port.
        client.set_place(None);
        client.set_place(Some(place(server.port)));
        client.stop(&id).await.unwrap();
        assert!(server.lines()[server.lines().len() - 2].contains("/v2/browser-profile/stop"));
    }
}

#[tokio::test]
async fn an_app_that_knows_neither_is_asked_in_both_each_time() {
    let server = StandIn::start(|_, _| refusal("Not found")).await;
    let (client, _registry) = quick(server.port);
    for _ in 0..2 {
        let error = client.stop(&profile("k1")).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    }
    let v2 = "POST /api/v2/browser-profile/stop";
    let v1 = "GET /api/v1/browser/stop?user_id=k1";
    assert_eq!(server.lines(), [v2, v1, v2, v1]);
}

#[tokio::test]
async fn a_profile_that_is_not_there_is_no_call_that_is_not_there() {
    let server = StandIn::start(|_, _| refusal("profile not found")).await;
    let (client, _registry) = quick(server.port);
    let error = client.active(&profile("k1")).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert_eq!(server.lines(), ["GET /api/v2/browser-profile/active?profile_id=k1"]);
}

#[tokio::test]
async fn an_app_of_the_second_version_is_asked_in_it() {
    let server = StandIn::start(|seen, _| match seen.line.rsplit_once('/').unwrap().1 {
        "start" | "active?profile_id=k1" => {
            let mut open = browser();
            open["status"] = "Active".into();
            done(open)
        }
        "create" => done(json!({"profile_id": "k9", "profile_no": "9"})),
        "kernels?kernel_type=Chrome" => done(json!({"list": [{"kernel": "141", "is_downloaded": true}]})),
        _ => done(json!({})),
    })
    .await;
    let (client, _registry) = quick(server.port);
    let id = profile("k1");
    client.start(&id, &StartOptions::default()).await.unwrap();
    assert_eq!(client.active(&id).await.unwrap().unwrap().debug_port, 9222);
    assert_eq!(client.create(&NewProfile::default()).await.unwrap(), profile("k9"));
    assert_eq!(client.kernels().await.unwrap()[0].version, "141");
    client.delete(&[]).await.unwrap();
    let many: Vec<_> = (0..101).map(|number| profile(&format!("k{number}"))).collect();
    client.delete(&many).await.unwrap();
    assert_eq!(server.lines().len(), 6, "nothing to remove is no call, and 101 are two");
    assert!(server.lines().iter().all(|line| line.contains("/api/v2/browser-profile/")));
}

#[tokio::test]
async fn a_list_is_read_page_by_page_to_its_end() {
    // (how many there are, to a page, whether the answer says so), and pages that are asked for.
    for (count, size, told, pages) in [
        (0, 100, false, 1),
        (99, 100, false, 1),
        (100, 100, false, 2),
        (250, 100, true, 3),
        (120, 50, true, 3),
    ] {
        let server = StandIn::start(move |seen, _| {
            let page = seen.body["page"].as_u64().unwrap();
            let first = (page * size - size).min(count);
            let list = profiles(first, size.min(count - first));
            done(if told {
                json!({"list": list, "page_size": size.to_string()})
            } else {
                json!({"list": list})
            })
        })
        .await;
        let (client, _registry) = quick(server.port);
        let listed = client.list(&ListQuery::default()).await.unwrap();
        let numbers: Vec<_> = listed.iter().map(|profile| profile.number.unwrap()).collect();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        assert_eq!(server.lines().len(), pages, "{count} of {size}");
    }
}

#[tokio::test]
async fn a_list_that_never_ends_is_left_and_one_that_repeats_itself_has_ended() {
    let endless = StandIn::start(|seen, _| {
        let page = seen.body["page"].as_u64().unwrap();
        done(json!({"list": profiles(page * 100, 100)}))
    })
    .await;
    let (client, _registry) = quick(endless.port);
    assert_eq!(client.list(&ListQuery::default()).await.unwrap().len(), 6000);
    assert_eq!(endless.lines().len(), 60);
    let repeating = StandIn::start(|_, _| done(json!({"list": profiles(0, 100)}))).await;
    let (client, _registry) = quick(repeating.port);
    assert_eq!(client.list(&ListQuery::default()).await.unwrap().len(), 100);
    assert_eq!(repeating.lines().len(), 2);
}

#[tokio::test]
async fn of_a_list_that_holds_more_only_what_was_asked_for_is_kept() {
    let server = StandIn::start(|_, _| done(json!({"list": profiles(0, 100)}))).await;
    let (client, _registry) = quick(server.port);
    let query = ListQuery { profiles: vec![profile("k3"), profile("k5")], group: None };
    let listed = client.list(&query).await.unwrap();
    assert_eq!(listed.iter().map(|listed| listed.profile.as_str()).collect::<Vec<_>>(), ["k3", "k5"]);
    assert_eq!(server.lines().len(), 1);
}
