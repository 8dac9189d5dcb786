//! Putting a session together: directories, cookie, and its services in their order.

use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, HostConfig};
use super::places::{self, RuntimeDir};
use super::status::BROWSER;
use super::viewer::Facts;
use crate::browser::{Chromium, Places, ProfileDir, ProfileError, Screen};
use crate::display::{Cookie, Display, Reservation, ReserveError, Xvfb};
use crate::supervise::{Identity, RestartPolicy, ServiceSpec, Timing};
use crate::vnc::{RfbAddress, RfbSource, X11vnc};

/// Between probes, and for one probe: a hung service shows in health within the sum, 2 s at the most.
const PROBE_INTERVAL: Duration = Duration::from_millis(1000);
const PROBE_DEADLINE: Duration = Duration::from_millis(900);
/// From TERM to the kill.
const TERM_GRACE: Duration = Duration::from_secs(5);

/// A display answers round trips in microseconds; 3 misses are a hang of about 6 s.
const DISPLAY_TIMING: Timing = Timing {
    start_deadline: Duration::from_secs(5),
    probe_interval: PROBE_INTERVAL,
    probe_deadline: PROBE_DEADLINE,
    probe_failures: 3,
    ask_grace: Duration::ZERO,
    term_grace: TERM_GRACE,
};

/// A browser under load may miss a few: 5 misses are a hang of about 10 s. `Browser.close` writes the profile.
const BROWSER_TIMING: Timing = Timing {
    start_deadline: Duration::from_secs(20),
    probe_interval: PROBE_INTERVAL,
    probe_deadline: PROBE_DEADLINE,
    probe_failures: 5,
    ask_grace: Duration::from_secs(8),
    term_grace: TERM_GRACE,
};

/// Why a session could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory of it could not be made.
    #[error("cannot prepare the session's directories")]
    Places(#[from] places::Error),
    /// No randomness for the cookie.
    #[error("the system gives no random bytes")]
    Random(#[source] aws_lc_rs::error::Unspecified),
    /// The cookie could not be written.
    #[error("cannot write the X cookie")]
    Cookie(#[source] std::io::Error),
    /// No display number is free.
    #[error("cannot have a display")]
    Display(#[from] ReserveError),
    /// The profile cannot be used.
    #[error("cannot use the session's profile")]
    Profile(#[from] ProfileError),
}

/// A session that is ready to be started.
pub(super) struct Assembly {
    pub(super) services: Vec<ServiceSpec>,
    pub(super) rfb: RfbAddress,
    pub(super) facts: Facts,
    /// Lives as long as the session does.
    pub(super) kept: Kept,
}

/// What a session holds on this host besides its processes; given back when dropped.
pub(super) struct Kept {
    pub(super) runtime: RuntimeDir,
    pub(super) reservation: Option<Reservation>,
}

/// Makes everything that a session needs before its first process.
pub(super) fn assemble(
    config: &Config,
    host: &HostConfig,
    slot: u32,
    identity: Option<Identity>,
) -> Result<Assembly, Error> {
    let runtime = RuntimeDir::create(host, slot, identity)?;
    let mut services = Vec::new();
    let mut facts = Facts::default();
    let mut reservation = None;

    if config.browser.is_some() || matches!(config.rfb, RfbSource::X11vnc { .. }) {
        let cookie = Cookie::generate().map_err(Error::Random)?;
        cookie.write(&runtime.authority(), identity).map_err(Error::Cookie)?;
        let number = Reservation::take()?;
        let xvfb =
            Xvfb::new(config.display.clone(), &number, identity, runtime.tmp(), runtime.authority(), cookie);
        reservation = Some(number);
        facts.display = Some(xvfb.display());
        services.push(ServiceSpec {
            name: "xvfb",
            requires: vec![],
            program: Arc::new(xvfb),
            timing: DISPLAY_TIMING,
            restart: RestartPolicy::default(),
        });
    }

    let rfb = match (&config.rfb, &facts.display) {
        (RfbSource::X11vnc { program }, Some(display)) => {
            let socket = runtime.rfb_socket();
            let x11vnc =
                X11vnc::new(program.clone(), identity, runtime.tmp(), socket.clone(), display.clone());
            services.push(ServiceSpec {
                name: "x11vnc",
                requires: vec!["xvfb"],
                program: Arc::new(x11vnc),
                timing: DISPLAY_TIMING,
                restart: RestartPolicy::default(),
            });
            RfbAddress::Unix(socket)
        }
        (RfbSource::X11vnc { .. }, None) => RfbAddress::Unix(runtime.rfb_socket()),
        (RfbSource::External(address), _) => address.clone(),
    };

    if let (Some(browser), Some(display)) = (&config.browser, facts.display.clone()) {
        let (spec, port) = browser_service(config, browser, host, &runtime, identity, display)?;
        services.push(spec);
        facts.devtools_port = Some(port);
    }
    Ok(Assembly { services, rfb, facts, kept: Kept { runtime, reservation } })
}

fn browser_service(
    config: &Config,
    browser: &crate::browser::Config,
    host: &HostConfig,
    runtime: &RuntimeDir,
    identity: Option<Identity>,
    display: Display,
) -> Result<(ServiceSpec, tokio::sync::watch::Receiver<Option<u16>>), Error> {
    let profile = ProfileDir::lock(&places::profiles(host)?, places::profile_name(&config.id), identity)?;
    let places = Places { profile, tmp: runtime.tmp() };
    let (width, height) = (config.display.width, config.display.height);
    let screen = Screen { width, height, variables: Box::new(move || display.variables()) };
    let chromium = Chromium::new(browser.clone(), identity, places, screen);
    let port = chromium.devtools_port();
    let spec = ServiceSpec {
        name: BROWSER,
        requires: vec!["xvfb"],
        program: Arc::new(chromium),
        timing: BROWSER_TIMING,
        restart: RestartPolicy::default(),
    };
    Ok((spec, port))
}
