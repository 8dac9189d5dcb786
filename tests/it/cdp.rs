//! The CDP proxy before a real browser.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::automation::Automation;
use crate::support::daemon::{Daemon, READY, send};
use crate::support::tokens::token;
use crate::support::viewer::request;
use crate::support::wait_for;

const ROUTE: &str = "/sessions/s1/cdp";

/// What a message may cost the daemon beyond itself: buffers, and what the allocator keeps.
const SPARE_KIB: u64 = 32 * 1024;

fn bearer(role: &str) -> String {
    format!("Bearer {}", token(role, 600))
}

fn connect(daemon: &mut Daemon, path: &str, role: &str) -> Automation {
    Automation::connect(daemon.gateway(), &format!("{ROUTE}{path}"), &[("Authorization", &bearer(role))])
        .unwrap()
}

fn discover(daemon: &mut Daemon, path: &str) -> Value {
    let (status, body) = request(
        daemon.gateway(),
        "GET",
        &format!("{ROUTE}{path}"),
        &[("Authorization", &bearer("automation"))],
    );
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// A web site with a page and a file to download.
struct Site {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Site {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let server = std::thread::Builder::new().name("site".into());
        let server = server.spawn(move || serve(&listener, &ended)).unwrap();
        Self { address, over, server: Some(server) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address).unwrap());
        self.server.take().unwrap().join().unwrap();
    }
}

/// Each connection has a thread, since a browser opens some before it needs them; they end with the browser.
fn serve(listener: &TcpListener, over: &AtomicBool) {
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            if over.load(Ordering::SeqCst) {
                return;
            }
            let mut lines = BufReader::new(stream.unwrap());
            scope.spawn(move || answer(&mut lines));
        }
    });
}

fn answer(lines: &mut BufReader<TcpStream>) {
    let (mut line, mut header) = (String::new(), String::new());
    // One that was opened ahead may end without a word.
    if !matches!(lines.read_line(&mut line), Ok(1..)) {
        return;
    }
    while matches!(lines.read_line(&mut header), Ok(3..)) {
        header.clear();
    }
    let (kind, body) = if line.starts_with("GET /file ") {
        ("application/octet-stream\r\nContent-Disposition: attachment; filename=got.bin", "downloaded")
    } else {
        (
            "text/html",
            "<title>local</title><input id=i><button onclick=\"document.title=i.value\">go</button>",
        )
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close");
    // The browser may have gone.
    let _gone = lines.get_mut().write_all(format!("{head}\r\n\r\n{body}").as_bytes());
}

fn rss_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_automation_finds_a_session_drives_a_page_and_may_not_leave_it() {
    let site = Site::start();
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let gateway = daemon.gateway();

    let version = discover(&mut daemon, "/json/version/");
    let address = version["webSocketDebuggerUrl"].as_str().unwrap();
    let path = address.strip_prefix(&format!("ws://{gateway}")).unwrap();
    assert!(path.starts_with(&format!("{ROUTE}/devtools/browser/")), "{address}");
    assert!(discover(&mut daemon, "/json/protocol")["domains"].as_array().unwrap().len() > 40);
    for target in discover(&mut daemon, "/json/list").as_array().unwrap() {
        assert!(target["webSocketDebuggerUrl"].as_str().unwrap().contains(ROUTE), "{target}");
        assert!(!target["url"].as_str().unwrap().starts_with("chrome:"), "{target}");
    }

    let bearer = bearer("automation");
    let mut browser = Automation::connect(gateway, path, &[("Authorization", &bearer)]).unwrap();
    let page = browser.page(&site.url("/"));
    let title = |browser: &mut Automation, wanted: &str| {
        wait_for(&format!("the title {wanted}"), READY, || {
            (browser.evaluate(&page, "document.title") == wanted).then_some(())
        });
    };
    title(&mut browser, "local");
    browser.evaluate(&page, "i.value = 'filled'; document.querySelector('button').click()");
    title(&mut browser, "filled");
    let shot = browser.result(Some(&page), "Page.captureScreenshot", json!({ "format": "png" }));
    assert!(shot["data"].as_str().unwrap().starts_with("iVBORw0KGgo"));

    for (session, method, params) in [
        (None, "Browser.close", json!({})),
        (None, "Browser.crash", json!({})),
        (None, "SystemInfo.getInfo", json!({})),
        (None, "Tethering.bind", json!({ "port": 9 })),
        (None, "Target.createTarget", json!({ "url": "file:///etc/passwd" })),
        (None, "Target.createTarget", json!({ "url": "chrome://version" })),
        (Some(page.as_str()), "Page.navigate", json!({ "url": " view-source:\tfi\nle:///etc/passwd" })),
        (Some(page.as_str()), "Page.navigate", json!({ "url": "chrome://settings" })),
        (Some(page.as_str()), "DOM.setFileInputFiles", json!({ "files": ["/etc/passwd"], "nodeId": 1 })),
    ] {
        let answer = browser.call(session, method, params);
        assert_eq!(answer["error"]["code"], -32000, "{method}: {answer}");
    }
    browser.send("{\"id\":1,\"method\":\"Browser.close\"}{}");
    browser.event("answer to nonsense", |message| message["error"]["code"] == -32700);
    assert_eq!(browser.evaluate(&page, "document.title"), "filled", "the socket lives");
    let new = |url: &str| {
        let path = format!("{ROUTE}/json/new?{url}");
        request(gateway, "PUT", &path, &[("Authorization", &bearer)]).0
    };
    assert_eq!((new("file:///etc/passwd"), new("about:blank")), (403, 200));

    for role in ["spectator", "controller"] {
        let header = [("Authorization", &*format!("Bearer {}", token(role, 60)))];
        assert_eq!(Automation::connect(gateway, ROUTE, &header).err(), Some(403), "{role}");
    }
    let protocols = format!("cdp, jwt.{}", token("automation", 60));
    let mut other = Automation::connect(gateway, ROUTE, &[("Sec-WebSocket-Protocol", &protocols)]).unwrap();
    other.result(None, "Browser.getVersion", json!({}));
    let answer = request(gateway, "POST", "/sessions/s1/ticket", &[("Authorization", &bearer)]);
    let ticket: Value = serde_json::from_str(&answer.1).unwrap();
    let with_ticket = format!("{ROUTE}?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut third = Automation::connect(gateway, &with_ticket, &[]).unwrap();
    third.result(None, "Browser.getVersion", json!({}));
    assert_eq!(Automation::connect(gateway, &with_ticket, &[]).err(), Some(401));
    let metrics = daemon.get("/metrics").1;
    assert!(metrics.contains("valetd_gateway_cdp_connections 3"), "{metrics}");
    let log = daemon.log_text();
    assert!(log.contains("command denied") && !log.contains("etc/passwd"), "no URL in the log");
}

#[test]
fn inner_pages_cannot_be_acted_on_through_the_browsers_own_target() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let mut operator = connect(&mut daemon, "", "operator");
    let inner = operator.result(None, "Target.createTarget", json!({ "url": "chrome://version/" }));
    let id = inner["targetId"].as_str().unwrap();
    let mut automation = connect(&mut daemon, "", "automation");
    wait_for("the page to be there", READY, || {
        let info = operator.result(None, "Target.getTargetInfo", json!({ "targetId": id }));
        (info["targetInfo"]["url"] == "chrome://version/").then_some(())
    });
    let attached =
        automation.result(None, "Target.attachToTarget", json!({ "targetId": id, "flatten": true }));
    let session = attached["sessionId"].as_str().unwrap();
    let answer = automation.call(Some(session), "Runtime.evaluate", json!({ "expression": "1" }));
    assert_eq!(answer["error"]["code"], -32000, "{answer}");
    let path = format!("{ROUTE}/devtools/page/{id}");
    let gateway = daemon.gateway();
    assert_eq!(
        Automation::connect(gateway, &path, &[("Authorization", &bearer("automation"))]).err(),
        Some(404)
    );
    assert!(Automation::connect(gateway, &path, &[("Authorization", &bearer("operator"))]).is_ok());
}

#[test]
fn downloads_land_in_the_session_wherever_the_client_wants_them() {
    let site = Site::start();
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let mut browser = connect(&mut daemon, "", "automation");
    let elsewhere = tempfile::tempdir().unwrap();
    let params = json!({ "behavior": "allow", "downloadPath": elsewhere.path(), "eventsEnabled": true });
    browser.result(None, "Browser.setDownloadBehavior", params);
    let page = browser.page(&site.url("/"));
    browser.evaluate(&page, &format!("location.href = '{}'", site.url("/file")));
    browser.event("end of the download", |message| {
        message["method"] == "Browser.downloadProgress" && message["params"]["state"] == "completed"
    });
    let mut homes = std::fs::read_dir(daemon.path("state/profiles")).unwrap();
    let found = homes.any(|home| {
        let file = home.unwrap().path().join("Downloads/got.bin");
        std::fs::read(file).is_ok_and(|bytes| bytes == b"downloaded")
    });
    assert!(found, "no file in the session's directory");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn a_browser_that_dies_is_back_at_the_same_address() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let version = discover(&mut daemon, "/json/version");
    let gateway = daemon.gateway();
    let path =
        version["webSocketDebuggerUrl"].as_str().unwrap().strip_prefix(&format!("ws://{gateway}")).unwrap();
    let bearer = bearer("automation");
    let open = || Automation::connect(gateway, path, &[("Authorization", &bearer)]);
    let mut before = open().unwrap();
    before.result(None, "Browser.getVersion", json!({}));
    send(daemon.service_pid("browser"), Signal::SIGKILL);
    assert_eq!(before.close_code(Duration::from_secs(10)), 1012);
    let mut refusals = Vec::new();
    let mut after = wait_for("the browser", READY, || match open() {
        Ok(client) => Some(client),
        Err(status) => {
            refusals.push(status);
            None
        }
    });
    assert!(refusals.iter().all(|status| *status == 503), "{refusals:?}");
    after.result(None, "Browser.getVersion", json!({}));
    let target = after.result(None, "Target.createTarget", json!({ "url": "about:blank" }));
    let target = target["targetId"].as_str().unwrap();
    let mut page = connect(&mut daemon, &format!("/devtools/page/{target}"), "automation");
    page.result(None, "Page.enable", json!({}));
    after.result(None, "Target.closeTarget", json!({ "targetId": target }));
    assert_eq!(page.close_code(Duration::from_secs(10)), 1000);
    daemon.stop(Duration::from_secs(30));
    assert_eq!(after.close_code(Duration::from_secs(10)), 1001);
}

#[test]
fn a_hundred_megabytes_go_both_ways_without_being_held_twice() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let pid = daemon.pid();
    let mut browser = connect(&mut daemon, "", "automation");
    let page = browser.page("about:blank");
    let before = rss_kib(pid, "VmRSS");
    let length = 100_000_000;
    let down = browser.evaluate(&page, &format!("'x'.repeat({length})"));
    assert_eq!(down.as_str().unwrap().len(), length);
    let streamed = rss_kib(pid, "VmHWM").saturating_sub(before);
    assert!(streamed < SPARE_KIB, "{streamed} KiB for a message of the browser's");
    let expression = format!("'{}'.length", "x".repeat(length));
    assert_eq!(browser.evaluate(&page, &expression), length);
    let peak = rss_kib(pid, "VmHWM").saturating_sub(before);
    let kept = rss_kib(pid, "VmRSS").saturating_sub(before);
    println!("100 MB: {streamed} KiB down, {peak} KiB up at its peak, {kept} KiB kept");
    assert!(
        peak < u64::try_from(length).unwrap() / 1024 + SPARE_KIB,
        "{peak} KiB for a message of the client's"
    );
    assert!(kept < SPARE_KIB, "{kept} KiB kept");
}

#[test]
fn a_client_that_does_not_read_is_put_out() {
    let mut daemon = Daemon::start("[gateway.limits]\nsend_deadline = \"500ms\"");
    daemon.wait_ready();
    let mut slow = connect(&mut daemon, "", "automation");
    let page = slow.page("about:blank");
    let command = json!({
        "id": 99, "method": "Runtime.evaluate", "sessionId": page,
        "params": { "expression": "'x'.repeat(50000000)", "returnByValue": true },
    });
    slow.send(&command.to_string());
    wait_for("the end of the slow client", READY, || {
        let metrics = daemon.get("/metrics").1;
        metrics.contains("valetd_gateway_cdp_closes_total{reason=\"too_slow\"} 1").then_some(())
    });
    let mut other = connect(&mut daemon, "", "automation");
    other.result(None, "Browser.getVersion", json!({}));
}
