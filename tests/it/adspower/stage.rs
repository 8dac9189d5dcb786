//! A daemon with the stand-in for AdsPower, and the stand-in as somebody else may ask it.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt as _, ImageFormat};

use crate::support::daemon::{Daemon, Home, READY};
use crate::support::host_api::HostApi;
use crate::support::x::Display;
use crate::support::{leaks, wait_for};

/// What is looked for in every log.
pub(super) const KEY: &str = "adspower-key-canary-0123456789";
/// For one answer of the stand-in; it opens and closes browsers within.
const ANSWER: Duration = Duration::from_secs(60);
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that runs the stand-in, with sessions on request.
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    pub(super) api: HostApi,
    home: Home,
}

impl Stage {
    /// With a free port for the API, and the profiles `p1` to `p4`.
    pub(super) fn new(extra: &str) -> Self {
        Self::on_port(free_port(), extra)
    }

    /// The same with this port asked for.
    pub(super) fn on_port(port: u16, extra: &str) -> Self {
        let mut stage = Self::prepared(port, extra, |_program| {});
        stage.wait_app("ok");
        stage
    }

    /// The same after something was done for the program, and whether or not that comes up.
    pub(super) fn prepared(port: u16, extra: &str, prepare: impl FnOnce(&Path)) -> Self {
        let home = Home::new();
        let dir = home.0.path();
        let program = place_stand_in(&dir.join("stand-in"));
        prepare(&program);
        fs::write(dir.join("adspower_key"), KEY).unwrap();
        fs::set_permissions(dir.join("adspower_key"), Permissions::from_mode(0o600)).unwrap();
        let profiles: Vec<String> = (1..=4).map(|number| format!("--profile=p{number}")).collect();
        home.configure(&format!(
            "[session]\nautostart = false\n[sessions]\nmax = 3\nstart_deadline = \"120s\"\n\
             [adspower]\nenabled = true\nprogram = {program:?}\nport = {port}\n\
             api_key = \"{}/adspower_key\"\nargs = {profiles:?}\n{extra}",
            dir.display()
        ));
        Self::begin(home)
    }

    fn begin(home: Home) -> Self {
        let mut daemon = home.start();
        daemon.api();
        let api = HostApi::on(daemon.path("control.sock"));
        Self { daemon, api, home }
    }

    /// Another daemon in the same place, after one that has ended.
    pub(super) fn again(self) -> Self {
        let mut stage = Self::begin(self.home);
        stage.wait_app("ok");
        stage
    }

    /// Waits for the component's status, and gives the component.
    pub(super) fn wait_app(&mut self, status: &str) -> Value {
        wait_for(&format!("adspower {status}"), READY, || {
            let component = self.daemon.component("adspower");
            (component["status"] == status).then_some(component)
        })
    }

    /// The stand-in, where it says that it is.
    pub(super) fn app(&self) -> App {
        let file = ".config/adspower_global/cwd_global/source/local_api";
        let text = fs::read_to_string(self.daemon.path("state/adspower").join(file)).unwrap();
        App { port: text.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap() }
    }

    /// Where the stand-in keeps a profile.
    pub(super) fn profile(&self, name: &str) -> PathBuf {
        let cache = ".config/adspower_global/cwd_global/source/cache";
        self.daemon.path("state/adspower").join(cache).join(name)
    }

    /// The main process of a profile's browser.
    pub(super) fn browser_of(&self, profile: &str) -> i32 {
        let processes = leaks::processes(&self.profile(profile));
        let main = processes.into_iter().find(|(_, line)| line.contains("--remote-debugging-port="));
        main.unwrap().0
    }

    /// A session of a profile of AdsPower's, ready.
    pub(super) fn create(&self, id: &str, profile: &str, page: &str) -> Value {
        self.api.create_with(&json!({
            "session_id": id, "user_id": "u1", "kind": "adspower", "profile": profile, "start_url": page,
        }))
    }

    /// One part of a session.
    pub(super) fn part(&self, id: &str, name: &str) -> Value {
        let session = self.api.session(id);
        let parts = session["components"].as_array().cloned().unwrap_or_default();
        parts.into_iter().find(|part| part["name"] == name).unwrap_or_default()
    }

    /// Waits until a session is in this state, and gives it.
    pub(super) fn wait_session(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("{id} {state}"), PATIENCE, || {
            let session = self.api.session(id);
            (session["state"] == state).then_some(session)
        })
    }

    /// The display of the session in a place.
    pub(super) fn display(&self, session: &Value, slot: usize) -> Display {
        let number = session["display"].as_str().unwrap()[1..].parse().unwrap();
        Display::open(number, &fs::read(self.daemon.path(format!("run/s{slot}/xauthority"))).unwrap())
    }

    /// AdsPower's own display, and its number.
    pub(super) fn own_display(&self) -> (u16, Display) {
        let authority = self.daemon.path("run/adspower/server-xauthority");
        let server =
            leaks::processes(&authority).into_iter().find(|(_, line)| line.contains("Xvfb")).unwrap();
        let number = server.1.split(' ').find_map(|word| word.strip_prefix(':')).unwrap().parse().unwrap();
        (number, Display::open(number, &fs::read(authority).unwrap()))
    }

    /// Numbers of the displays whose cookies AdsPower has.
    pub(super) fn cookies(&self) -> Vec<String> {
        let bytes = fs::read(self.daemon.path("run/adspower/xauthority")).unwrap();
        let (mut rest, mut numbers) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            rest = &rest[2..];
            let mut fields = Vec::new();
            for _ in 0..4 {
                let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                fields.push(&rest[2..2 + length]);
                rest = &rest[2 + length..];
            }
            numbers.push(String::from_utf8(fields[1].to_vec()).unwrap());
        }
        numbers
    }

    /// Ends the daemon, and looks whether the key or anything else is left.
    pub(super) fn finish(mut self) {
        self.daemon.stop(Duration::from_secs(60));
        assert_eq!(leaks::processes(&self.daemon.dir), []);
        assert!(leaks::cgroups(&self.daemon.path("state")).is_empty());
        assert!(leaks::dangling_x_sockets(&self.daemon.dir).is_empty());
        assert!(!self.daemon.path("run/adspower").exists());
        let log = self.daemon.log_text();
        assert!(!log.contains(KEY), "the API key is in the log");
        assert!(log.contains("this is valetd's stand-in for AdsPower"), "it says what it is");
    }
}

/// Puts a copy of the program, under the stand-in's name, where AdsPower's uid gets at it.
fn place_stand_in(dir: &Path) -> PathBuf {
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    let program = dir.join("adspower-stand-in");
    let own = env!("CARGO_BIN_EXE_valetd");
    if fs::hard_link(own, &program).is_err() {
        fs::copy(own, &program).unwrap();
    }
    program
}

/// One that nobody listened on a moment ago.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The stand-in's API, asked with nothing of the daemon's own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct App {
    pub(super) port: u16,
}

impl App {
    /// Head and body of an answer; none where nobody answers.
    pub(super) fn exchange(self, method: &str, path: &str, body: &Value) -> Option<(String, String)> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned()))
    }

    /// The answer, once it is not that it was asked too often.
    pub(super) fn ask(self, method: &str, path: &str, body: &Value) -> Value {
        wait_for(path, ANSWER, || {
            let (_, body) = self.exchange(method, path, body)?;
            let answer: Value = serde_json::from_str(&body).unwrap_or_default();
            let too_often = answer["msg"].as_str().is_some_and(|message| message.contains("Too many"));
            if too_often {
                // The daemon is to have its turn as well.
                std::thread::park_timeout(Duration::from_millis(700));
            }
            (!too_often).then_some(answer)
        })
    }

    /// Whether a profile's browser is open.
    pub(super) fn is_open(self, profile: &str) -> bool {
        let path = format!("/api/v2/browser-profile/active?profile_id={profile}");
        self.ask("GET", &path, &Value::Null)["data"]["status"] == "Active"
    }

    /// Has it behave so from now on.
    pub(super) fn behave(self, how: &str) {
        let answer = self.ask("POST", "/stand-in/behave", &json!({ "how": how }));
        assert_eq!(answer["code"], 0, "{answer}");
    }
}

/// Waits until a process is gone, or waits to be reaped by whoever started it.
pub(super) fn wait_gone(pid: i32) {
    wait_for(&format!("the end of {pid}"), PATIENCE, || is_gone(pid).then_some(()));
}

/// Whether it is.
pub(super) fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// A page of one colour.
pub(super) fn page(red: u8, green: u8, blue: u8) -> String {
    format!("data:text/html,<title>mine</title><body%20style='background:rgb({red},{green},{blue})'>")
}

/// Waits until the middle of a display shows this colour.
pub(super) fn wait_colour(display: &Display, red: u8, green: u8, blue: u8) {
    wait_for(&format!("a page of {red}, {green}, {blue}"), PATIENCE, || {
        let root = display.root();
        let cookie =
            display.connection().get_image(ImageFormat::Z_PIXMAP, root, 400, 400, 1, 1, u32::MAX).unwrap();
        let seen = cookie.reply().unwrap().data;
        (seen[..3] == [blue, green, red]).then_some(())
    });
}

/// Whether a window of a Chromium is on a display.
pub(super) fn has_chromium(display: &Display) -> bool {
    let connection = display.connection();
    let windows = connection.query_tree(display.root()).unwrap().reply().unwrap().children;
    windows.into_iter().any(|window| {
        let class = (AtomEnum::WM_CLASS, AtomEnum::STRING);
        let property = connection.get_property(false, window, class.0, class.1, 0, 64).unwrap().reply();
        property.is_ok_and(|property| {
            String::from_utf8_lossy(&property.value).to_lowercase().contains("chromium")
        })
    })
}
