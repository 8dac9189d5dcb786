//! What happens when names cannot be looked up, when the clock is set or the machine slept, and when what is asked is hostile.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use valetd::control_plane::stand_in::StandIn;

use crate::faults::{NO_BROWSER, record};
use crate::faults_host::{in_own_mounts, own_mount};
use crate::support::control_plane::{Receiver, Tls, write_secret};
use crate::support::daemon::{Daemon, Home};
use crate::support::host_api::HostApi;
use crate::support::tokens::token;
use crate::support::viewer::Viewer;
use crate::support::{leaks, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// A name server that knows one host, on loopback, and fails as it is told.
struct NameServer {
    mood: Arc<AtomicU8>,
    over: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

const SILENT: u8 = 0;
const WELL: u8 = 1;
const UNKNOWN: u8 = 2;

impl NameServer {
    /// The only one of the calling thread and of whatever it starts, which have mounts of their own from here on.
    fn start(dir: &Path) -> Self {
        let [low, high, ..] = std::process::id().to_le_bytes();
        let address = format!("127.53.{high}.{}", low.max(1));
        let socket = UdpSocket::bind((address.as_str(), 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let file = dir.join("resolv.conf");
        std::fs::write(&file, format!("nameserver {address}\n")).unwrap();
        own_mount(&file, "/etc/resolv.conf");
        let (mood, over) = (Arc::new(AtomicU8::new(SILENT)), Arc::new(AtomicBool::new(false)));
        let (now, end) = (Arc::clone(&mood), Arc::clone(&over));
        let serve = move || {
            let mut question = [0; 512];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                if let Some(answer) = answer(&question[..length], now.load(Ordering::Relaxed)) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        };
        let task = std::thread::Builder::new().name("name server".into()).spawn(serve).unwrap();
        Self { mood, over, task: Some(task) }
    }

    fn is(&self, mood: u8) {
        self.mood.store(mood, Ordering::Relaxed);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            task.join().unwrap();
        }
    }
}

/// RFC 1035, section 4: an address for whoever asks for one, and nothing for other kinds.
fn answer(question: &[u8], mood: u8) -> Option<Vec<u8>> {
    let kind = question.len().checked_sub(4).and_then(|at| question.get(at..at + 2))?;
    let has_address = mood == WELL && kind == [0, 1];
    let code = if mood == UNKNOWN { 3 } else { 0 };
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    answer.extend(&question[12..]);
    if has_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    (mood != SILENT).then_some(answer)
}

#[test]
fn f32_names_that_cannot_be_looked_up_hold_up_nobody_and_lead_where_they_led_last() {
    in_own_mounts(|| {
        let home = Home::new();
        let names = NameServer::start(home.0.path());
        // Not on loopback alone, where it would be called by no name.
        let receiver = Receiver::on("0.0.0.0:0".parse().unwrap(), StandIn::new(None));
        let tls = Tls::start(receiver.address);
        let path = |name: &str, text: &str| write_secret(home.0.path(), name, text.as_bytes());
        home.configure(&format!(
            "[session]\nautostart = false\n[control_plane]\nurl = \"https://control.test:{}\"\nauth = \"mtls\"\n\
             client_certificate = \"{}\"\nclient_key = \"{}\"\nca = \"{}\"\nheartbeat = \"1s\"\n",
            tls.address.port(),
            path("client.pem", &tls.client.0),
            path("client.key", &tls.client.1),
            path("ca.pem", &tls.ca),
        ));
        let mut daemon = home.start();
        daemon.wait_ready();
        let told = daemon.wait_log("that it is not heard", |record| {
            record["message"] == "the control plane does not hear this host"
        });
        assert!(told["error"].as_str().unwrap().contains("not looked up within 2 s"), "{told}");
        let asked = Instant::now();
        assert_eq!((daemon.get("/readyz").0, daemon.get("/health").0), (200, 200));
        println!("F32 with a silent name server health takes {} ms", asked.elapsed().as_millis());
        names.is(WELL);
        let well = Instant::now();
        let heard = |receiver: &Receiver, what: &str| {
            let before = receiver.stand_in.book().heartbeats;
            wait_for(what, PATIENCE, || (receiver.stand_in.book().heartbeats > before).then_some(()));
        };
        heard(&receiver, "a heartbeat");
        record("F32 name server back", well.elapsed());

        let (address, mut receiver) = (receiver.address, receiver);
        for (mood, what) in [(SILENT, "a silent name server"), (UNKNOWN, "a name that is not known")] {
            names.is(mood);
            let stand_in = receiver.stand_in.clone();
            // Its connections end, so that the name is looked up again.
            drop(receiver);
            receiver = Receiver::on(address, stand_in);
            let again = Instant::now();
            heard(&receiver, what);
            record(&format!("F32 {what}"), again.elapsed());
        }
        daemon.stop(PATIENCE);
    });
}

/// A wall clock of one daemon's that can be set.
struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    fn new(dir: &Path) -> Self {
        let (library, file) = (dir.join("clock.so"), dir.join("clock"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clock.c");
        let library_path = library.to_str().unwrap();
        crate::support::net::run("cc", &["-shared", "-fPIC", "-O", "-o", library_path, source]);
        let clock = Self { library, file };
        clock.ahead(Duration::ZERO);
        clock
    }

    fn ahead(&self, by: Duration) {
        use std::io::Write as _;
        // In place: the daemon has it mapped.
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.file);
        file.unwrap().write_all(&i64::try_from(by.as_secs()).unwrap().to_ne_bytes()).unwrap();
    }

    fn env(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", self.library.to_str().unwrap()), ("TEST_CLOCK", self.file.to_str().unwrap())]
    }
}

#[test]
fn f54_after_an_hour_asleep_the_control_plane_hears_at_once_and_no_token_outlives_it() {
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let home = Home::new();
    let quiet = receiver.config(home.0.path(), "token").replace("\"1s\"", "\"300s\"");
    home.configure(&format!("{NO_BROWSER}\n{quiet}"));
    let clock = Clock::new(home.0.path());
    let mut daemon = home.start_with(&clock.env());
    daemon.wait_ready();
    let gateway = daemon.gateway();
    let mut viewer = Viewer::connect(gateway, "s1", &token("controller", 600)).unwrap();
    wait_for("a heartbeat with the session", PATIENCE, || {
        let heartbeat = receiver.stand_in.book().heartbeat.clone()?;
        (heartbeat["sessions"][0]["state"] == "ready").then_some(())
    });
    // A machine that slept finds its wall clock ahead of what it counted.
    let slept = Duration::from_secs(3600);
    let woke = Instant::now();
    clock.ahead(slept);
    let since = std::time::SystemTime::now() + slept;
    let since = since.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    wait_for("a heartbeat of the new time", Duration::from_secs(20), || {
        let heartbeat = receiver.stand_in.book().heartbeat.clone()?;
        (heartbeat["sent_at"].as_f64()? >= since - 1.0).then_some(())
    });
    record("F54 reported after the gap", woke.elapsed());
    let told = viewer.close_code(Duration::from_secs(20));
    record("F54 a viewer whose token is over by now", woke.elapsed());
    assert_eq!(told, 4401);
    assert!(Viewer::connect(gateway, "s1", &token("controller", 600)).is_err(), "nor does it let anybody in");
    daemon.stop(PATIENCE);
}

/// Words that mean something to a command line, a path, a URL, a shell or C.
fn hostile() -> Vec<String> {
    let words = [
        "--no-sandbox",
        "-",
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "a\n--no-sandbox",
        "%00",
        "..%2f..%2fetc",
        "$(id)",
        "x --no-sandbox",
        "file:///etc/passwd",
        "https://e.test/ --no-sandbox",
        "https://e.test/\0",
    ];
    words.into_iter().map(str::to_owned).chain([format!("x{}", "y".repeat(5000))]).collect()
}

/// A browser that is none, and shows what it was started with.
fn mute_browser() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let place = if nix::unistd::geteuid().is_root() { "/opt" } else { "/tmp" };
    let dir = tempfile::tempdir_in(place).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("mute-browser");
    std::fs::write(&path, "#!/bin/sh\nwhile :; do sleep 1000; done\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

/// What a process was started with.
#[derive(Debug, PartialEq)]
struct Started {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    uid: u32,
}

fn started(program: &Path) -> Started {
    let (pid, _) = wait_for("the browser's process", PATIENCE, || {
        leaks::processes(program).into_iter().find(|(_, line)| line.contains("--user-data-dir="))
    });
    let list = |name: &str| -> Vec<String> {
        let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.strip_suffix('\0').unwrap().split('\0').map(str::to_owned).collect()
    };
    let env = list("environ");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next());
    Started {
        args: list("cmdline"),
        env: env.iter().filter_map(|line| line.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect(),
        uid: uid.unwrap().parse().unwrap(),
    }
}

/// Names of all that is in a directory, without what is in sessions' own.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).map(|entries| entries.collect::<Vec<_>>()).unwrap_or_default();
    let mut names: Vec<_> =
        entries.into_iter().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The request with `value` in the place that `pointer` names.
fn with(body: &Value, pointer: &str, value: &str) -> Value {
    let mut body = body.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    if let Some(parent) = parent.strip_prefix('/')
        && body.get(parent).is_none()
    {
        body[parent] = json!({});
    }
    body.pointer_mut(parent).unwrap()[key] = value.into();
    body
}

/// Environment and uid without what of them is by right a place's on the host, or the request's.
fn own(started: &Started) -> (BTreeMap<String, String>, u32) {
    let place = started.env["XAUTHORITY"].rsplit('/').nth(1).unwrap();
    let number: u32 = place.strip_prefix('s').unwrap().parse().unwrap();
    let env = started.env.iter().filter(|(name, _)| !["TZ", "DISPLAY"].contains(&name.as_str()));
    let env = env.map(|(name, value)| (name.clone(), value.replace(&format!("/{place}"), "/place")));
    (env.collect(), if nix::unistd::geteuid().is_root() { started.uid - number } else { started.uid })
}

/// Each argument without what of it is a session's own by right: its profile, its port, its page.
fn shape(args: &[String]) -> Vec<String> {
    let (page, options) = args.split_last().unwrap();
    assert!(!page.starts_with('-'), "{page}");
    let own = ["--user-data-dir=", "--remote-debugging-port="];
    let shape =
        |arg: &String| own.iter().find(|own| arg.starts_with(*own)).map_or(arg.clone(), |own| (*own).into());
    options.iter().map(shape).collect()
}

/// A daemon with that browser, its API, and a request that it takes.
fn host() -> (Daemon, HostApi, Value, (tempfile::TempDir, PathBuf)) {
    let browser = mute_browser();
    let mut daemon = Daemon::start(&format!(
        "[session]\nautostart = false\n[sessions]\nmax = 2\n[browser]\nprogram = {:?}\n[profiles]\nper_user = 1",
        browser.1
    ));
    daemon.wait_ready();
    let api = HostApi::on(daemon.path("control.sock"));
    let plain = json!({
        "session_id": "s1", "user_id": "u1", "labels": { "task_id": "t" }, "env": { "TZ": "UTC" },
        "start_url": "https://e.test/", "proxy": { "server": "http://proxy.test:8080" },
    });
    (daemon, api, plain, browser)
}

/// What is in the daemon's directory, and in those of its state and of what runs.
fn places(daemon: &Daemon) -> [Vec<String>; 3] {
    [names(daemon.dir.as_path()), names(&daemon.path("state")), names(&daemon.path("run"))]
}

#[test]
fn f41_nothing_that_is_asked_of_a_session_changes_an_argument_a_variable_or_a_uid() {
    let (mut daemon, api, plain, (_dir, browser)) = host();
    let begin = |request: &Value| api.ask("POST", "/v1/sessions", request).0;
    assert_eq!(begin(&plain), 201);
    let usual = started(&browser);
    assert_eq!(usual.args.last().unwrap(), "https://e.test/");
    api.end("s1");
    let before = places(&daemon);

    let fields = [
        "/session_id",
        "/user_id",
        "/kind",
        "/profile",
        "/start_url",
        "/proxy/server",
        "/env/TZ",
        "/labels/task_id",
        "/idle_timeout",
        "/max_duration",
        "/display/width",
        "/limits/memory_bytes",
        "/pool",
        "/uid",
        "/args",
        "/program",
    ];
    let mut begun = 0;
    for value in hostile() {
        for field in fields {
            let request = with(&plain, field, &value);
            match begin(&request) {
                400 | 422 => continue,
                201 => {}
                status => panic!("{field} {value:?}: {status}"),
            }
            begun += 1;
            let found = started(&browser);
            assert_eq!(shape(&found.args), shape(&usual.args), "{field} {value:?}");
            let page = if field == "/start_url" { value.as_str() } else { "https://e.test/" };
            assert_eq!(found.args.last().unwrap(), page, "{field} {value:?}");
            let zone = if field == "/env/TZ" { value.as_str() } else { "UTC" };
            assert_eq!(found.env["TZ"], zone, "{field} {value:?}");
            assert_eq!(own(&found), own(&usual), "{field} {value:?}");
            api.end("s1");
        }
        for name in ["LD_PRELOAD", "HOME", "DISPLAY", value.as_str()] {
            let mut request = plain.clone();
            request["env"] = json!({ name: value });
            assert_eq!(begin(&request), 422, "env {name:?}");
        }
    }
    println!("F41 {begun} sessions began with a hostile word in a text of the caller's");
    assert!(begun > 0, "free text is free");
    assert_eq!(places(&daemon), before);
    daemon.stop(PATIENCE);
}

#[test]
fn f41_what_is_asked_of_handoffs_and_profiles_and_in_paths_leads_to_no_file() {
    let (mut daemon, api, plain, _browser) = host();
    assert_eq!(api.ask("POST", "/v1/sessions", &plain).0, 201);
    let during = places(&daemon);
    let handoff = json!({ "handoff_id": "h1", "kind": "review", "reason": "r", "event_scope": "e", "expires_in": "1m" });
    let profile = json!({ "user_id": "u1" });
    let mut added = 0;
    for value in hostile() {
        for field in ["/handoff_id", "/kind", "/reason", "/event_scope", "/expires_in", "/path"] {
            let (status, answer) =
                api.ask("POST", "/v1/sessions/s1/handoffs", &with(&handoff, field, &value));
            assert!(matches!(status, 200 | 201 | 409 | 422 | 429), "{field} {value:?}: {status} {answer}");
        }
        for field in ["/user_id", "/kind", "/external_id", "/proxy/server", "/fingerprint", "/name", "/path"]
        {
            let (status, answer) = api.ask("POST", "/v1/profiles", &with(&profile, field, &value));
            let may_be = field == "/user_id" && matches!(status, 201 | 429);
            assert!(status == 422 || may_be, "{field} {value:?}: {status} {answer}");
            added += u32::from(status == 201);
        }
        if value.contains([' ', '\n', '\0']) {
            continue;
        }
        for path in ["sessions", "profiles", "sessions/s1/handoffs"] {
            for method in ["GET", "DELETE"] {
                let status = api.ask(method, &format!("/v1/{path}/{value}"), &Value::Null).0;
                assert!(matches!(status, 400 | 404 | 405 | 414 | 431), "{method} {path} {value}: {status}");
            }
        }
    }
    assert_eq!(places(&daemon), during);
    assert!(added > 0, "a user may be called anything");
    let of_pool = |name: &String| {
        name.strip_prefix("pool-").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    let kept = names(&daemon.path("state/profiles"));
    assert!(kept.iter().all(of_pool), "{kept:?}");
    api.end("s1");
    daemon.stop(PATIENCE);
}
