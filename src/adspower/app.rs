//! The app as a service: what it is started with, and how it is found again, whichever port it took and whichever of its
//! processes serves.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Place};
use super::config::Config;
use super::version;
use crate::display::Display;
use crate::errors::chain;
use crate::http;
use crate::secret::Secret;
use crate::supervise::{Command, Confinement, Program, ProgramError, Running};
use crate::sys::procfs::Stat;
use crate::sys::{Cell, Listener, listener};
use crate::tasks::blocking;

/// It and its browsers: a few hundred descriptors each.
const MAX_OPEN_FILES: u64 = 16_384;
/// Where it says which port it took, beneath its `HOME`.
const PORT_FILE: &str = ".config/adspower_global/cwd_global/source/local_api";
/// That file holds an address.
const MAX_PORT_FILE_BYTES: u64 = 256;
/// The answer to a probe is a line.
const MAX_STATUS_BYTES: usize = 64 << 10;
/// For a look at who listens: it walks over the descriptors of all of its processes.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);
/// Probes that are answered count with AdsPower, so that one that starts is not asked as often as nobody who listens.
const ASK_PAUSE: Duration = Duration::from_secs(1);
/// Of a message of AdsPower's, in characters.
const MAX_MESSAGE: usize = 200;

/// Where it lives.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) home: PathBuf,
    pub(super) tmp: PathBuf,
    /// Cookies of its own display and of those of its sessions.
    pub(super) authority: PathBuf,
}

/// AdsPower.
pub(super) struct App {
    config: Config,
    confinement: Confinement,
    places: Places,
    display: Display,
    /// Where all of its processes are.
    cell: Cell,
    /// Told where the API is before anybody else, so that whoever hears of it can ask at once.
    client: Client,
    /// Where its API is, as far as is known.
    port: watch::Sender<Option<u16>>,
    /// When it was asked last. A lock, which one probe at a time holds.
    asked: Mutex<Option<Instant>>,
}

impl App {
    pub(super) fn new(
        config: Config,
        confinement: Confinement,
        places: Places,
        (display, cell): (Display, Cell),
        (client, port): (Client, watch::Sender<Option<u16>>),
    ) -> Self {
        Self { config, confinement, places, display, cell, client, port, asked: Mutex::new(None) }
    }

    fn args(&self) -> Vec<OsString> {
        let Config { port, api_key, args, .. } = &self.config;
        let own = [
            "--headless=true".to_owned(),
            format!("--api-key={}", api_key.expose()),
            format!("--api-port={port}"),
        ];
        own.into_iter().chain(args.iter().cloned()).map(OsString::from).collect()
    }

    fn env(&self, number: u32) -> BTreeMap<OsString, OsString> {
        let Places { home, tmp, authority } = &self.places;
        let path = |path: &Path| path.as_os_str().to_owned();
        BTreeMap::from([
            ("HOME".into(), path(home)),
            ("TMPDIR".into(), path(tmp)),
            ("XDG_RUNTIME_DIR".into(), path(tmp)),
            ("DISPLAY".into(), format!(":{number}").into()),
            ("XAUTHORITY".into(), path(authority)),
            // An address that leads nowhere, or libdbus would start a daemon.
            ("DBUS_SESSION_BUS_ADDRESS".into(), "unix:path=/nonexistent".into()),
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("LANG".into(), "C.UTF-8".into()),
        ])
    }

    /// The API's port and socket: of those that it may be on, the first that one of its own processes listens on.
    async fn find(&self) -> Result<Place, ProgramError> {
        let (home, cell, asked_for) = (self.places.home.clone(), self.cell.clone(), self.config.port);
        let uid = self.confinement.uid().unwrap_or_else(|| nix::unistd::geteuid().as_raw());
        let look = move || -> io::Result<Result<(u16, Listener), String>> {
            let said = said_port(&home.join(PORT_FILE));
            let candidates: Vec<u16> =
                said.into_iter().chain((said != Some(asked_for)).then_some(asked_for)).collect();
            look(&candidates, uid, || cell.processes())
        };
        let failed =
            |error: io::Error| ProgramError::caused_by("cannot tell who serves AdsPower's API", error);
        let found = blocking(LOOK_DEADLINE, look).await.and_then(|outcome| outcome).map_err(failed)?;
        found.map(|(port, socket)| Place::new(port, socket)).map_err(|why| {
            // Where its first process has ended as well: calls wait for nobody. Sessions keep their browsers, which may live on.
            self.client.set_place(None);
            ProgramError::new(why)
        })
    }

    async fn ask(&self, place: Place) -> Result<(), ProgramError> {
        let failed = |error: io::Error| ProgramError::caused_by("no connection to AdsPower's API", error);
        // To the same socket as was looked at: the key is shown to nobody else.
        let stream = place.connect().await.map_err(failed)?;
        let request = Request::get("/status")
            .header("Host", place.address().to_string())
            .header("Authorization", format!("Bearer {}", self.config.api_key.expose()))
            .body(Full::<Bytes>::default())
            // Without what was wrong with it, which would be the key.
            .map_err(|_| ProgramError::new("AdsPower's API key cannot be sent"))?;
        let answer = http::send(stream, request, MAX_STATUS_BYTES).await;
        let answer = answer
            .map_err(|error| ProgramError::caused_by("no answer from AdsPower to GET /status", error))?;
        judge(answer.body(), self.config.api_key.expose()).map_err(ProgramError::new)
    }
}

impl Program for App {
    fn command(&self) -> Result<Command, ProgramError> {
        if let Some(least) = &self.config.minimum_version {
            version::check(Path::new(version::PACKAGES), &self.config.program, least)
                .map_err(|error| ProgramError::new(format!("AdsPower is not started, {}", chain(&error))))?;
        }
        let number = self.display.address()?.number;
        Ok(Command {
            program: self.config.program.clone(),
            args: self.args(),
            env: self.env(number),
            cwd: self.places.home.clone(),
            confinement: self.confinement.clone(),
            max_open_files: MAX_OPEN_FILES,
            ready_fd: false,
        })
    }

    fn secrets(&self) -> Vec<Secret<String>> {
        vec![self.config.api_key.clone()]
    }

    fn probe<'a>(&'a self, _running: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>> {
        Box::pin(async move {
            let place = self.find().await?;
            let mut asked = self.asked.lock().await;
            if let Some(last) = *asked {
                sleep_until(last + ASK_PAUSE).await;
            }
            *asked = Some(Instant::now());
            self.ask(place).await?;
            self.client.set_place(Some(place));
            let port = place.port();
            self.port.send_if_modified(|known| known.replace(port) != Some(port));
            Ok(())
        })
    }

    fn clean_up(&self, _ended: &Running) {
        self.client.set_place(None);
        self.port.send_replace(None);
    }
}

/// Of these ports, the first that one of the app's processes listens on, or why there is none.
pub(super) fn look(
    candidates: &[u16],
    uid: u32,
    processes: impl FnOnce() -> io::Result<Vec<Stat>>,
) -> io::Result<Result<(u16, Listener), String>> {
    let mut listeners = Vec::new();
    let mut strangers = Vec::new();
    for &port in candidates {
        match listener(port)? {
            Some(found) if found.uid == uid => listeners.push((port, found)),
            Some(found) => strangers.push(format!("port {port} is served by uid {}", found.uid)),
            None => strangers.push(format!("nobody listens on port {port}")),
        }
    }
    if !listeners.is_empty() {
        let processes = processes()?;
        for (port, found) in listeners {
            if found.holder(&processes).is_some() {
                return Ok(Ok((port, found)));
            }
            strangers.push(format!("port {port} is served by a process that AdsPower did not start"));
        }
    }
    Ok(Err(strangers.join(", ")))
}

/// The port in AdsPower's own file. Only a hint: who listens there is looked at.
fn said_port(path: &Path) -> Option<u16> {
    // It may have put anything there.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOFOLLOW;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let mut text = String::new();
    file.take(MAX_PORT_FILE_BYTES).read_to_string(&mut text).ok()?;
    parse_port(&text)
}

/// `http://local.adspower.net:50325/`, an address without a scheme, or a bare number.
fn parse_port(text: &str) -> Option<u16> {
    let text = text.trim();
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split('/').next()?;
    let port = host.rsplit_once(':').map_or(host, |(_, port)| port);
    port.parse().ok().filter(|port| *port > 0)
}

/// Whether an answer to `GET /status` is one of an app that works. One that has been asked too often does. It may repeat the
/// key that it was shown.
fn judge(body: &[u8], key: &str) -> Result<(), String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|_| "AdsPower's answer to GET /status is no JSON".to_owned())?;
    let code = match &value["code"] {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let message = value["msg"].as_str().unwrap_or_default();
    match code {
        Some(0) => Ok(()),
        _ if message.contains("Too many request") => Ok(()),
        code => {
            let message: String = message.chars().filter(|c| !c.is_control()).collect();
            // Before it is cut, which could leave a part of the key.
            let message: String = message.replace(key, "<redacted>").chars().take(MAX_MESSAGE).collect();
            let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
            // What it says is behind a colon, since anybody may read what is before.
            Err(format!("AdsPower answered GET /status with code {code}: {message}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::adspower::client;
    use crate::sys::{Containment, Limits, RunScope};

    const KEY: &str = "canary-key";

    #[test]
    fn the_port_is_read_in_each_form_and_nonsense_is_none() {
        for text in
            ["http://local.adspower.net:50326/", "127.0.0.1:50326", "50326\n", "http://127.0.0.1:50326"]
        {
            assert_eq!(parse_port(text), Some(50_326), "{text}");
        }
        for text in ["", "http://local.adspower.net/", "0", "65536", "port", "http://x:y/"] {
            assert_eq!(parse_port(text), None, "{text}");
        }
    }

    #[test]
    fn f19_only_a_port_that_one_of_its_own_processes_serves_is_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let own_uid = nix::unistd::geteuid().as_raw();
        let own = Stat::of(std::process::id()).unwrap();
        let parent = Stat::of(own.ppid).unwrap();
        let stranger = look(&[port], own_uid, || Ok(vec![parent])).unwrap().unwrap_err();
        assert_eq!(stranger, format!("port {port} is served by a process that AdsPower did not start"));
        let other = look(&[port], own_uid + 1, || Ok(vec![own])).unwrap().unwrap_err();
        assert_eq!(other, format!("port {port} is served by uid {own_uid}"));
        let real = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = real.local_addr().unwrap().port();
        drop(taken);
        let found = look(&[port, second], own_uid, || Ok(vec![own])).unwrap();
        assert_eq!(found.map(|(port, _)| port), Ok(second));
    }

    #[test]
    fn only_code_0_and_too_many_requests_are_signs_of_life() {
        for good in [
            r#"{"code":0,"msg":"Success"}"#,
            r#"{"code":"0"}"#,
            r#"{"code":-1,"msg":"Too many request per second, please check"}"#,
        ] {
            assert_eq!(judge(good.as_bytes(), KEY), Ok(()), "{good}");
        }
        for bad in ["", "<html>", "{}", r#"{"code":-1,"msg":"require api-key"}"#, r#"{"code":null}"#, "[]"] {
            assert!(judge(bad.as_bytes(), KEY).is_err(), "{bad}");
        }
        let told = judge(br#"{"code":-1,"msg":"require\u0000 api-key"}"#, KEY).unwrap_err();
        assert_eq!(told, "AdsPower answered GET /status with code -1: require api-key");
    }

    #[test]
    fn the_key_is_taken_out_before_a_message_is_cut() {
        for before in MAX_MESSAGE - KEY.len()..=MAX_MESSAGE {
            let body = serde_json::json!({ "code": -1, "msg": format!("{}{KEY}", "x".repeat(before)) });
            let told = judge(body.to_string().as_bytes(), KEY).unwrap_err();
            assert!(!told.contains("canary"), "{told}");
        }
    }

    #[tokio::test]
    async fn f19_calls_wait_for_nobody_once_none_of_its_processes_listens() {
        let dir = tempfile::tempdir().unwrap();
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = stranger.local_addr().unwrap().port();
        let (key, nowhere) = (Secret::new(KEY.to_owned()), PathBuf::from("/nonexistent"));
        let registry = prometheus::Registry::new();
        let metrics = client::Metrics::register(&registry).unwrap();
        let params = client::Params { api_key: Some(key.clone()), pace: None, metrics };
        let client = Client::new(params).unwrap();
        client.set_place(Some(Place::new(port, listener(port).unwrap().unwrap())));
        let (program, uid) = (nowhere.clone(), 1);
        let limits = Limits::default();
        let (args, pace, minimum_version) = (Vec::new(), None, None);
        let config = Config { program, args, port, api_key: key, uid, pace, limits, minimum_version };
        let app = App::new(
            config,
            Confinement::default(),
            Places { home: nowhere.clone(), tmp: nowhere.clone(), authority: nowhere },
            (
                Display::nowhere(),
                Containment::by_marker(RunScope::new(dir.path()).unwrap()).find("adspower", "adspower"),
            ),
            (client.clone(), watch::Sender::new(Some(port))),
        );
        let error = app.find().await.unwrap_err();
        assert!(error.what.contains("a process that AdsPower did not start"), "{error}");
        assert!(matches!(client.status().await, Err(client::Error::Down)));
    }
}
