//! Two automations of one session whose browser contexts are out of each other's reach, before a real browser.

use serde_json::{Value, json};

use crate::support::automation::Automation;
use crate::support::daemon::{Daemon, READY};
use crate::support::tokens::token;
use crate::support::viewer::request;
use crate::support::wait_for;

const ROUTE: &str = "/sessions/s1/cdp";

/// Marks what only its owner may see.
const SECRET: &str = "secret-page";

fn connect(daemon: &mut Daemon, path: &str, role: &str) -> Result<Automation, u16> {
    let bearer = format!("Bearer {}", token(role, 600));
    Automation::connect(daemon.gateway(), &format!("{ROUTE}{path}"), &[("Authorization", &bearer)])
}

/// Status and body of a question about targets.
fn discover(daemon: &mut Daemon, path: &str) -> (u16, String) {
    let bearer = format!("Bearer {}", token("automation", 600));
    request(daemon.gateway(), "GET", &format!("{ROUTE}{path}"), &[("Authorization", &bearer)])
}

/// An automation that hears of all targets, attached to new ones before they run, with a page in a context of its own.
struct Owner {
    browser: Automation,
    context: String,
    target: String,
    session: String,
}

impl Owner {
    fn connect(daemon: &mut Daemon) -> Self {
        let mut browser = connect(daemon, "", "automation").unwrap();
        browser.result(None, "Target.setDiscoverTargets", json!({ "discover": true }));
        let attach = json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true });
        browser.result(None, "Target.setAutoAttach", attach);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let context = text(
            &browser.result(None, "Target.createBrowserContext", json!({ "disposeOnDetach": true }))["browserContextId"],
        );
        let page =
            json!({ "url": format!("data:text/html,<title>{SECRET}</title>"), "browserContextId": context });
        let target = text(&browser.result(None, "Target.createTarget", page)["targetId"]);
        let attached = browser.event("attachment", |message| {
            message["method"] == "Target.attachedToTarget"
                && message["params"]["targetInfo"]["targetId"] == target
        });
        let session = text(&attached["params"]["sessionId"]);
        browser.result(Some(&session), "Runtime.runIfWaitingForDebugger", json!({}));
        Self { browser, context, target, session }
    }

    fn drives(&mut self) {
        wait_for("the page", READY, || {
            (self.browser.evaluate(&self.session, "document.title") == SECRET).then_some(())
        });
    }

    fn refused(&mut self, session: Option<&str>, method: &str, params: Value) {
        let answer = self.browser.call(session, method, params);
        assert_eq!(answer["error"]["code"], -32000, "{method}: {answer}");
    }
}

fn names(value: &impl ToString, owner: &Owner) -> bool {
    let text = value.to_string();
    [&owner.context, &owner.target, &owner.session].iter().any(|id| text.contains(id.as_str()))
}

/// Every way in which one could come upon what is the other's.
fn sees_and_reaches_nothing(mine: &mut Owner, other: &Owner, daemon: &mut Daemon) {
    let targets = mine.browser.result(None, "Target.getTargets", json!({ "filter": [{}] }));
    assert!(names(&targets, mine) && !names(&targets, other), "{targets}");
    let contexts = mine.browser.result(None, "Target.getBrowserContexts", json!({}));
    assert_eq!(contexts["browserContextIds"], json!([mine.context]));
    let inner = mine.browser.result(None, "Target.attachToBrowserTarget", json!({}));
    let inner = inner["sessionId"].as_str().unwrap().to_owned();
    for session in [None, Some(&*inner)] {
        let targets = mine.browser.result(session, "Target.getTargets", json!({}));
        assert!(names(&targets, mine) && !names(&targets, other), "{targets}");
        for (method, more) in [
            ("Target.attachToTarget", json!({ "flatten": true })),
            ("Target.activateTarget", json!({})),
            ("Target.getTargetInfo", json!({})),
            ("Target.autoAttachRelated", json!({ "waitForDebuggerOnStart": false })),
            ("Browser.getWindowForTarget", json!({})),
            ("Target.closeTarget", json!({})),
        ] {
            let mut params = more;
            params["targetId"] = other.target.clone().into();
            mine.refused(session, method, params);
        }
        for (method, more) in [
            ("Target.createTarget", json!({ "url": "about:blank" })),
            ("Browser.setDownloadBehavior", json!({ "behavior": "deny" })),
            ("Browser.grantPermissions", json!({ "permissions": ["geolocation"] })),
            ("Storage.getCookies", json!({})),
            ("Storage.clearCookies", json!({})),
            ("Target.disposeBrowserContext", json!({})),
        ] {
            let mut params = more;
            params["browserContextId"] = other.context.clone().into();
            mine.refused(session, method, params);
        }
        mine.refused(session, "Fetch.enable", json!({}));
    }
    mine.refused(Some(&other.session), "Runtime.evaluate", json!({ "expression": "1" }));
    assert_eq!(connect(daemon, &format!("/devtools/page/{}", other.target), "automation").err(), Some(404));
    for question in ["activate", "close"] {
        assert_eq!(discover(daemon, &format!("/json/{question}/{}", other.target)).0, 404);
    }
    assert!(!mine.browser.events.iter().any(|event| names(event, other)), "{:?}", mine.browser.events);
}

#[test]
fn contexts_of_another_connection_are_neither_seen_nor_reached() {
    let mut daemon = Daemon::start("[cdp]\nown_contexts_only = true");
    daemon.wait_ready();
    let mut owners = [Owner::connect(&mut daemon), Owner::connect(&mut daemon)];
    // Each was attached to the other's page before that ran: it runs all the same.
    owners.iter_mut().for_each(Owner::drives);
    let [first, second] = &mut owners;
    sees_and_reaches_nothing(first, second, &mut daemon);
    sees_and_reaches_nothing(second, first, &mut daemon);
    for list in ["/json", "/json/list"] {
        let (status, list) = discover(&mut daemon, list);
        assert!(status == 200 && list.contains("about:blank"), "{list}");
        assert!(!owners.iter().any(|owner| names(&list, owner)), "{list}");
    }
    owners.iter_mut().for_each(Owner::drives);

    // The page that a person sees is everybody's, by each way to it, and so is what any of them opens beside it.
    let shared = owners[0].browser.page("about:blank");
    owners[0].browser.evaluate(&shared, "document.title = 'shared'");
    let info = owners[0].browser.result(Some(&shared), "Target.getTargetInfo", json!({}));
    let target = info["targetInfo"]["targetId"].as_str().unwrap().to_owned();
    let attach = json!({ "targetId": target, "flatten": true });
    let attached = owners[1].browser.result(None, "Target.attachToTarget", attach);
    let session = attached["sessionId"].as_str().unwrap();
    assert_eq!(owners[1].browser.evaluate(session, "document.title"), "shared");
    let mut page = connect(&mut daemon, &format!("/devtools/page/{target}"), "automation").unwrap();
    assert!(!names(&page.call(None, "Target.getTargets", json!({})), &owners[0]));
    let answer = page.call(None, "Target.getTargetInfo", json!({ "targetId": owners[0].target }));
    assert_eq!(answer["error"]["code"], -32000, "{answer}");
    assert!(discover(&mut daemon, "/json/list").1.contains(&target));

    let mut operator = connect(&mut daemon, "", "operator").unwrap();
    let all = operator.result(None, "Target.getTargets", json!({}));
    assert!(owners.iter().all(|owner| names(&all, owner)), "{all}");

    // Its end is told to its owner only.
    let [first, second] = &mut owners;
    first.browser.result(None, "Target.closeTarget", json!({ "targetId": first.target }));
    let closed = first.target.clone();
    first.browser.event("end of the page", |message| {
        message["method"] == "Target.targetDestroyed" && message["params"]["targetId"] == closed
    });
    second.drives();
    assert!(!second.browser.events.iter().any(|event| names(event, first)), "{:?}", second.browser.events);
}

#[test]
fn a_page_does_not_wait_for_those_who_do_not_see_it() {
    let mut daemon = Daemon::start("[cdp]\nown_contexts_only = true");
    daemon.wait_ready();
    let mut waiting = Owner::connect(&mut daemon);
    let mut operator = connect(&mut daemon, "", "operator").unwrap();
    let context = operator.result(None, "Target.createBrowserContext", json!({}));
    let mut page = context.clone();
    page["url"] = format!("data:text/html,<title>{SECRET}</title>").into();
    let target = operator.result(None, "Target.createTarget", page);
    let attach = json!({ "targetId": target["targetId"], "flatten": true });
    let session = operator.result(None, "Target.attachToTarget", attach);
    let session = session["sessionId"].as_str().unwrap();
    wait_for("the page", READY, || (operator.evaluate(session, "document.title") == SECRET).then_some(()));
    wait_for("the page to be let go", READY, || {
        let info = operator.result(None, "Target.getTargets", json!({}));
        let infos = info["targetInfos"].as_array().unwrap();
        let hidden = |info: &&Value| {
            info["browserContextId"] == context["browserContextId"] && info["targetId"] != target["targetId"]
        };
        infos.iter().filter(hidden).all(|info| info["attached"] == false).then_some(())
    });
    waiting.drives();
}

#[test]
fn a_large_answer_and_denials_go_their_way_between_what_is_looked_at() {
    let mut daemon = Daemon::start("[cdp]\nown_contexts_only = true");
    daemon.wait_ready();
    let mut owner = Owner::connect(&mut daemon);
    let length = 20_000_000;
    let session = owner.session.clone();
    let text = owner.browser.evaluate(&session, &format!("'x'.repeat({length})"));
    assert_eq!(text.as_str().unwrap().len(), length);
    owner.refused(None, "Browser.close", json!({}));
    owner.drives();
}

#[test]
fn closing_the_last_page_leaves_an_empty_one_and_the_browser() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let pid = daemon.service_pid("browser");
    let mut browser = connect(&mut daemon, "", "automation").unwrap();
    let pages = |browser: &mut Automation| -> Vec<String> {
        let targets = browser.result(None, "Target.getTargets", json!({ "filter": [{ "type": "page" }] }));
        let targets = targets["targetInfos"].as_array().unwrap();
        targets.iter().map(|target| target["targetId"].as_str().unwrap().to_owned()).collect()
    };
    let only = |browser: &mut Automation, not: &str| {
        wait_for("one page", READY, || match &*pages(browser) {
            [page] if page != not => Some(page.clone()),
            _ => None,
        })
    };
    let first = only(&mut browser, "");
    browser.result(None, "Target.closeTarget", json!({ "targetId": first }));
    let second = only(&mut browser, &first);
    let attached =
        browser.result(None, "Target.attachToTarget", json!({ "targetId": second, "flatten": true }));
    browser.result(attached["sessionId"].as_str(), "Page.close", json!({}));
    let third = only(&mut browser, &second);
    assert_eq!(discover(&mut daemon, &format!("/json/close/{third}")).0, 200);
    only(&mut browser, &third);
    assert_eq!(daemon.service_pid("browser"), pid, "it is the same browser");
}
