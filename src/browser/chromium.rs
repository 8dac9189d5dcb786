//! Chromium as a service.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, watch};

use super::config::Config;
use super::devtools::Client;
use super::endpoint::{Endpoint, Port, Ports};
use super::profile_dir::{Error as ProfileError, ProfileDir};
use super::trial::{Finding, Preparation, Trial};
use crate::errors::chain;
use crate::supervise::{Command, Confinement, Program, ProgramError, Running};

/// Below this, Chromium's shared memory goes to its TMPDIR instead: pages crash when /dev/shm is full.
const MIN_SHM_BYTES: u64 = 512 * 1024 * 1024;
/// Chromium raises its soft limit to about this by itself.
const MAX_OPEN_FILES: u64 = 8192;

/// Settings that every browser of ours gets. The sandbox stays on; `--enable-automation`, port 0 and the debugging pipe
/// are left out because pages see them.
const ARGS: &[&str] = &[
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    // Filled a disk with 125 GB of downloads at a peer's.
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-session-crashed-bubble",
    "--hide-crash-restore-bubble",
    "--noerrdialogs",
    "--disable-search-engine-choice-screen",
    "--disable-features=Translate,MediaRouter,GlobalMediaControls",
    "--force-device-scale-factor=1",
    "--window-position=0,0",
    "--ozone-platform=x11",
    // Nobody may look for hours, and the automation goes on.
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-background-timer-throttling",
    "--disable-hang-monitor",
    // A viewer must not learn the host's addresses through WebRTC.
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy",
];

/// Where a session's browser keeps things.
#[derive(Debug)]
pub struct Places {
    /// The profile, which is this session's alone; also its `HOME`.
    pub profile: Arc<ProfileDir>,
    /// Its `TMPDIR`. Short, since Chromium puts a socket in it.
    pub tmp: PathBuf,
    /// Loopback ports, one of which DevTools listens on; the firewall keeps them for the daemon.
    pub devtools_ports: Arc<Ports>,
}

/// What a browser draws on.
pub struct Screen {
    /// Its width and height in pixels, asked for at each start.
    pub size: Box<dyn Fn() -> (u16, u16) + Send + Sync>,
    /// Variables by which X clients find it (`DISPLAY`, `XAUTHORITY`), asked for at each start.
    pub variables: Box<dyn Fn() -> Result<Variables, ProgramError> + Send + Sync>,
}

/// Environment variables and their values.
pub type Variables = Vec<(OsString, OsString)>;

/// The browser of one session.
pub struct Chromium {
    /// Read at each start. Somebody else's task may replace it, for the next one.
    config: watch::Sender<Config>,
    confinement: Confinement,
    places: Places,
    screen: Screen,
    /// Of the run in progress, once it has answered there.
    endpoint: watch::Sender<Option<Endpoint>>,
    /// How often the profile was replaced by an empty one.
    resets: watch::Sender<u64>,
    /// A mutex, since starts, probes and ends are reported from different threads; held for one step.
    attempt: std::sync::Mutex<Attempt>,
    // One probe runs at a time; the lock only makes that visible to the compiler.
    client: Mutex<Option<Client>>,
}

/// The profile's trial, and what is known of the run in progress.
struct Attempt {
    trial: Trial,
    /// Where it was told to listen.
    port: Option<Port>,
    answered: bool,
    /// Somebody else listened there.
    was_displaced: bool,
}

impl Chromium {
    /// A browser that will fill `screen`.
    pub fn new(config: Config, confinement: Confinement, places: Places, screen: Screen) -> Self {
        Self {
            config: watch::Sender::new(config),
            confinement,
            places,
            screen,
            endpoint: watch::Sender::new(None),
            resets: watch::Sender::new(0),
            attempt: std::sync::Mutex::new(Attempt {
                trial: Trial::new(),
                port: None,
                answered: false,
                was_displaced: false,
            }),
            client: Mutex::new(None),
        }
    }

    /// Takes other settings, good from the next start on.
    pub fn set_config(&self, config: Config) {
        self.config.send_replace(config);
    }

    /// The DevTools of the running browser, as they come and go.
    pub fn devtools(&self) -> watch::Receiver<Option<Endpoint>> {
        self.endpoint.subscribe()
    }

    /// How often the profile kept the browser from starting and was replaced by an empty one.
    pub fn profile_resets(&self) -> watch::Receiver<u64> {
        self.resets.subscribe()
    }

    /// Before a start: the profile as it is, or, where it has kept the browser from starting, an empty one.
    fn prepare_profile(&self) -> Result<(), ProfileError> {
        let mut attempt = self.attempt();
        (attempt.answered, attempt.was_displaced) = (false, false);
        let profile = &self.places.profile;
        if profile.is_blank() {
            return Ok(());
        }
        match attempt.trial.prepare(profile.has_snapshot()) {
            Preparation::Own => profile.aside().undo(),
            Preparation::TheSame => Ok(()),
            Preparation::Copy => {
                let path = profile.path().display();
                tracing::warn!(%path, "the browser does not start: trying with an older copy of its profile");
                let tried = profile.aside().begin().and_then(|()| profile.restore());
                tried.inspect_err(|_| attempt.trial.give_up())
            }
            Preparation::NothingEither => {
                let path = profile.path().display();
                tracing::warn!(%path, "the browser does not start with an older copy of its profile either: trying without");
                profile.aside().empty().inspect_err(|_| attempt.trial.give_up())
            }
            Preparation::Nothing => {
                let path = profile.path().display();
                tracing::warn!(%path, "the browser does not start: trying without what is in its profile");
                profile.aside().begin().inspect_err(|_| attempt.trial.give_up())
            }
        }
    }

    /// The run at `endpoint` has answered, and whoever is interested may know.
    fn answered(&self, endpoint: Endpoint) {
        let mut attempt = self.attempt();
        // It can have ended meanwhile.
        let is_current = attempt.port.as_ref().is_some_and(|port| port.number() == endpoint.port());
        if attempt.answered || !is_current {
            return;
        }
        attempt.answered = true;
        self.endpoint.send_replace(Some(endpoint));
        if attempt.trial.succeeded() == Finding::Replaced {
            let path = self.places.profile.path().display();
            if let Err(error) = self.places.profile.aside().keep() {
                tracing::error!(%path, error = %chain(&error), "the profile kept the browser from starting; what was in it comes back with the session's end, since it cannot be moved out of the way");
                attempt.trial.go_on();
                return;
            }
            tracing::error!(%path, "the profile kept the browser from starting and was replaced; its content is in the directory beside it that ends in .aside");
            self.resets.send_modify(|count| *count += 1);
        }
    }

    /// After an end. That of a display is no fault of the profile's, nor is what others do with the port.
    fn ended(&self) {
        let mut attempt = self.attempt();
        self.endpoint.send_replace(None);
        attempt.port = None;
        if !attempt.answered && !attempt.was_displaced && (self.screen.variables)().is_ok() {
            attempt.trial.failed();
        }
    }

    fn attempt(&self) -> std::sync::MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn args(&self, config: &Config, port: u16, shm_bytes: Option<u64>) -> Vec<OsString> {
        let mut args: Vec<OsString> = ARGS.iter().map(OsString::from).collect();
        let mut profile = OsString::from("--user-data-dir=");
        profile.push(self.places.profile.path());
        args.push(profile);
        args.push(format!("--remote-debugging-port={port}").into());
        let (width, height) = (self.screen.size)();
        args.push(format!("--window-size={width},{height}").into());
        if shm_bytes.is_none_or(|bytes| bytes < MIN_SHM_BYTES) {
            args.push("--disable-dev-shm-usage".into());
        }
        args.extend(config.proxy.iter().map(|proxy| OsString::from(format!("--proxy-server={proxy}"))));
        args.extend(config.extra_args.iter().map(OsString::from));
        args.push(OsString::from(&config.start_url));
        args
    }

    fn env(&self, config: &Config, screen: Variables) -> BTreeMap<OsString, OsString> {
        let home = self.places.profile.path();
        let tmp = &self.places.tmp;
        let text = |value: &str| OsString::from(value);
        let mut env: BTreeMap<_, _> =
            config.env.iter().map(|(name, value)| (text(name), text(value))).collect();
        let own = BTreeMap::from([
            (text("HOME"), home.as_os_str().to_owned()),
            (text("TMPDIR"), tmp.as_os_str().to_owned()),
            (text("XDG_RUNTIME_DIR"), tmp.as_os_str().to_owned()),
            (text("XDG_CONFIG_HOME"), home.join(".config").into_os_string()),
            (text("XDG_CACHE_HOME"), home.join(".cache").into_os_string()),
            // An address that leads nowhere, or libdbus would start a daemon that outlives the browser.
            (text("DBUS_SESSION_BUS_ADDRESS"), text("unix:path=/nonexistent")),
            (text("PATH"), text("/usr/local/bin:/usr/bin:/bin")),
        ]);
        env.entry(text("LANG")).or_insert_with(|| text("C.UTF-8"));
        env.extend(own);
        env.extend(screen);
        env
    }

    /// Size of the `/dev/shm` that it will have, if it can be told.
    fn shm_bytes(&self) -> Option<u64> {
        match &self.confinement.space {
            Some(space) => Some(space.shm_bytes()),
            None => shm_bytes(Path::new("/dev/shm")),
        }
    }

    /// Where the run in progress is to listen.
    fn chosen(&self) -> Result<Endpoint, ProgramError> {
        let uid = self.confinement.uid().unwrap_or_else(|| nix::unistd::geteuid().as_raw());
        let port = self.attempt().port.as_ref().map(Port::number);
        port.map(|port| Endpoint::new(port, uid))
            .ok_or_else(|| ProgramError::new("the browser has no DevTools port yet"))
    }

    async fn connect(&self, endpoint: Endpoint) -> Result<Client, ProgramError> {
        let connected = Client::connect(endpoint).await;
        if let Err(error) = &connected
            && error.is_displaced()
            && !std::mem::replace(&mut self.attempt().was_displaced, true)
        {
            tracing::warn!(error = %chain(error), "somebody else listens on a browser's DevTools port");
        }
        connected.map_err(|error| ProgramError::caused_by("no DevTools connection", error))
    }
}

impl Program for Chromium {
    fn command(&self) -> Result<Command, ProgramError> {
        let screen = (self.screen.variables)()?;
        self.prepare_profile()
            .map_err(|error| ProgramError::caused_by("cannot put the profile in order", error))?;
        self.places
            .profile
            .remove_leftovers()
            .map_err(|error| ProgramError::caused_by("cannot prepare the profile", error))?;
        let port = (self.places.devtools_ports.choose())
            .map_err(|error| ProgramError::caused_by("no free DevTools port", error))?;
        let config = self.config.borrow().clone();
        let args = self.args(&config, port.number(), self.shm_bytes());
        self.attempt().port = Some(port);
        Ok(Command {
            args,
            env: self.env(&config, screen),
            program: config.program,
            cwd: self.places.profile.path().to_owned(),
            confinement: self.confinement.clone(),
            max_open_files: MAX_OPEN_FILES,
            ready_fd: false,
        })
    }

    fn probe<'a>(&'a self, _running: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>> {
        Box::pin(async move {
            let mut kept = self.client.lock().await;
            let endpoint = self.chosen()?;
            // Taken out while in use: a probe that is dropped half-way must not leave a connection out of step.
            let mut client = match kept.take().filter(|client| client.endpoint() == endpoint) {
                Some(client) => client,
                None => self.connect(endpoint).await?,
            };
            client
                .get_version()
                .await
                .map_err(|error| ProgramError::caused_by("no answer to Browser.getVersion", error))?;
            *kept = Some(client);
            self.answered(endpoint);
            Ok(())
        })
    }

    fn ask_to_stop<'a>(&'a self, _running: &'a Running) -> BoxFuture<'a, Result<bool, ProgramError>> {
        Box::pin(async move {
            let kept = self.client.lock().await.take();
            let mut client = match kept {
                Some(client) => client,
                None => self.connect(self.chosen()?).await?,
            };
            client
                .close_browser()
                .await
                .map_err(|error| ProgramError::caused_by("no answer to Browser.close", error))?;
            Ok(true)
        })
    }

    fn clean_up(&self, _ended: &Running) {
        self.ended();
        if let Ok(mut client) = self.client.try_lock() {
            *client = None;
        }
        if let Err(error) = self.places.profile.remove_leftovers() {
            tracing::warn!(error = %chain(&error), "cannot remove what the browser left");
        }
    }
}

/// Size of the file system at `path`, if it can be told.
fn shm_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chromium(dir: &Path) -> Chromium {
        let config = Config {
            program: "/usr/bin/chromium".into(),
            start_url: "https://example.org/".into(),
            extra_args: vec!["--lang=de".into()],
            proxy: Some("http://proxy.example.org:8080".parse().unwrap()),
            env: BTreeMap::from([("TZ".into(), "Europe/Vienna".into()), ("HOME".into(), "/etc".into())]),
        };
        let profile = Arc::new(ProfileDir::lock(dir, "p", None).unwrap());
        let places = Places { profile, tmp: "/run/t".into(), devtools_ports: Ports::new(21_000..=21_999) };
        let variables = Box::new(|| Err(ProgramError::new("the display is not up")));
        Chromium::new(
            config,
            Confinement::default(),
            places,
            Screen { size: Box::new(|| (800, 600)), variables },
        )
    }

    #[test]
    fn the_sandbox_stays_on_and_debugging_stays_on_loopback_unseen_by_pages() {
        let dir = tempfile::tempdir().unwrap();
        let chromium = chromium(dir.path());
        let args = chromium.args(&chromium.config.borrow(), 4711, Some(u64::MAX));
        for arg in &args {
            let text = arg.to_string_lossy();
            for banned in ["sandbox", "remote-allow-origins", "remote-debugging-address", "enable-automation"]
            {
                assert!(!text.contains(banned), "{text}");
            }
        }
        assert!(args.contains(&"--remote-debugging-port=4711".into()));
        assert_eq!(args.last().unwrap(), "https://example.org/");
        assert!(!args.contains(&"--disable-dev-shm-usage".into()));
        assert!(args.contains(&"--proxy-server=http://proxy.example.org:8080".into()));
    }

    #[test]
    fn variables_of_a_request_do_not_displace_those_that_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let chromium = chromium(dir.path());
        let env = chromium.env(&chromium.config.borrow(), vec![("DISPLAY".into(), ":5".into())]);
        let value = |name: &str| env.get(&OsString::from(name)).unwrap().to_str().unwrap().to_owned();
        assert_eq!((value("TZ"), value("DISPLAY")), ("Europe/Vienna".into(), ":5".into()));
        assert_eq!(value("HOME"), dir.path().join("p").to_str().unwrap());
    }

    #[test]
    fn small_or_missing_shared_memory_is_avoided() {
        let dir = tempfile::tempdir().unwrap();
        let chromium = chromium(dir.path());
        for bytes in [None, Some(64 << 20)] {
            let args = chromium.args(&chromium.config.borrow(), 1, bytes);
            assert!(args.contains(&"--disable-dev-shm-usage".into()), "{bytes:?}");
        }
    }

    #[test]
    fn it_does_not_start_while_some_of_its_profile_is_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let screen = Box::new(|| Ok(vec![]));
        let chromium = chromium(dir.path());
        let chromium = Chromium { screen: Screen { variables: screen, ..chromium.screen }, ..chromium };
        for place in ["p.moving/Default", "p/Default"] {
            std::fs::create_dir_all(dir.path().join(place)).unwrap();
            std::fs::write(dir.path().join(place).join("Cookies"), "kept").unwrap();
        }
        let error = chromium.command().unwrap_err();
        assert_eq!(error.to_string(), "cannot put the profile in order");
        std::fs::remove_dir_all(dir.path().join("p/Default")).unwrap();
        chromium.command().unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("p/Default/Cookies")).unwrap(), "kept");
    }

    #[test]
    fn a_port_that_others_take_is_no_fault_of_the_profiles() {
        let dir = tempfile::tempdir().unwrap();
        let chromium = chromium(dir.path());
        let chromium =
            Chromium { screen: Screen { variables: Box::new(|| Ok(vec![])), ..chromium.screen }, ..chromium };
        std::fs::write(dir.path().join("p/Cookies"), "kept").unwrap();
        for _ in 0..5 {
            chromium.command().unwrap();
            chromium.attempt().was_displaced = true;
            chromium.ended();
        }
        assert!(dir.path().join("p/Cookies").exists());
        // Control: a start that fails without such a reason is counted.
        for _ in 0..3 {
            chromium.command().unwrap();
            chromium.ended();
        }
        assert!(!dir.path().join("p/Cookies").exists());
    }

    #[test]
    fn it_does_not_start_before_its_display() {
        let dir = tempfile::tempdir().unwrap();
        let error = chromium(dir.path()).command().unwrap_err();
        assert_eq!(error.to_string(), "the display is not up");
    }
}
