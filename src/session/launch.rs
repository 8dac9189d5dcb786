//! Putting a session together: directories, cookie, profile, and its services in their order. What was made is given back
//! when it is dropped, whether the session ran or not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::cdp::CdpPaths;
use super::config::HostConfig;
use super::places::{self, RuntimeDir};
use super::spec::Parts;
use super::status::BROWSER;
use super::viewer::Facts;
use crate::browser::{Chromium, Owner, Places, ProfileDir, ProfileError, Screen};
use crate::display::{Cookie, Reservation, ReserveError, Xvfb};
use crate::ids::ProfileName;
use crate::supervise::{Identity, Program, RestartPolicy, ServiceSpec, Timing};
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

/// Where and for whom a session is put together.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) host: Arc<HostConfig>,
    /// Its place on the host.
    pub(super) slot: u32,
    /// Whom its programs run as; none where the daemon is not root.
    pub(super) identity: Option<Identity>,
}

impl Site {
    fn owner(&self) -> Option<Owner> {
        let HostConfig { first_uid, uid_count, .. } = *self.host;
        let sessions = first_uid..first_uid.saturating_add(uid_count);
        self.identity.map(|identity| Owner { identity, sessions })
    }
}

/// A session that is ready to be started.
pub(super) struct Assembly {
    pub(super) services: Vec<ServiceSpec>,
    pub(super) rfb: RfbAddress,
    pub(super) facts: Facts,
    /// The browser, for those who give it other settings before it starts.
    pub(super) browser: Option<Arc<Chromium>>,
    /// Lives as long as the session does.
    pub(super) kept: Kept,
}

/// What a session holds on this host besides its processes; given back when dropped, which blocks.
pub(super) struct Kept {
    pub(super) runtime: RuntimeDir,
    pub(super) reservation: Option<Reservation>,
    /// The browser has it too, and is gone by then.
    profile: Option<Arc<ProfileDir>>,
}

impl Kept {
    /// The profile that goes with the session.
    pub(super) fn blank_profile(&self) -> Option<&Path> {
        self.profile.as_ref().filter(|profile| profile.is_blank()).map(|profile| profile.path())
    }

    /// All that goes with the session.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let number = self.reservation.iter().flat_map(|number| [number.socket(), number.lock_file()]);
        let blank = self.blank_profile().map(Path::to_owned);
        number.chain([self.runtime.path.clone()]).chain(blank).collect()
    }
}

/// Makes everything that a session needs before its first process. With `hold_browser`, its browser waits to be released.
pub(super) fn assemble(
    site: &Site,
    parts: &Parts,
    profile: Option<&ProfileName>,
    hold_browser: bool,
) -> Result<Assembly, Error> {
    let identity = site.identity;
    let runtime = RuntimeDir::create(&site.host, site.slot, identity)?;
    let mut services = Vec::new();
    let mut facts = Facts::default();
    let mut reservation = None;

    if parts.browser.is_some() || matches!(parts.rfb, RfbSource::X11vnc { .. }) {
        let cookie = Cookie::generate().map_err(Error::Random)?;
        cookie.write(&runtime.authority(), identity).map_err(Error::Cookie)?;
        let number = Reservation::take()?;
        let xvfb =
            Xvfb::new(parts.display.clone(), &number, identity, runtime.tmp(), runtime.authority(), cookie);
        reservation = Some(number);
        facts.display = Some(xvfb.display());
        services.push(service("xvfb", &[], Arc::new(xvfb), DISPLAY_TIMING));
    }

    let rfb = match (&parts.rfb, &facts.display) {
        (RfbSource::X11vnc { program }, Some(display)) => {
            let socket = runtime.rfb_socket();
            let x11vnc =
                X11vnc::new(program.clone(), identity, runtime.tmp(), socket.clone(), display.clone());
            services.push(service("x11vnc", &["xvfb"], Arc::new(x11vnc), DISPLAY_TIMING));
            RfbAddress::Unix(socket)
        }
        (RfbSource::X11vnc { .. }, None) => RfbAddress::Unix(runtime.rfb_socket()),
        (RfbSource::External(address), _) => address.clone(),
    };

    let (mut browser, mut kept_profile) = (None, None);
    if let (Some(config), Some(display)) = (&parts.browser, facts.display.clone()) {
        let owner = site.owner();
        let profile = match profile {
            Some(name) => ProfileDir::lock(&places::profiles(&site.host)?, name.as_str(), owner.as_ref())?,
            None => ProfileDir::blank(places::scratch(&site.host, site.slot)?, owner.as_ref())?,
        };
        let profile = kept_profile.insert(Arc::new(profile));
        let places = Places { profile: Arc::clone(profile), tmp: runtime.tmp() };
        let (width, height) = (parts.display.width, parts.display.height);
        let screen = Screen { width, height, variables: Box::new(move || display.variables()) };
        let chromium = Arc::new(Chromium::new(config.clone(), identity, places, screen));
        facts.devtools_port = Some(chromium.devtools_port());
        let home = profile.path().to_owned();
        facts.cdp_paths = Some(CdpPaths { downloads: home.join("Downloads"), home, tmp: runtime.tmp() });
        browser = Some(Arc::clone(&chromium));
        let spec = service(BROWSER, &["xvfb"], chromium, BROWSER_TIMING);
        services.push(ServiceSpec { held: hold_browser, ..spec });
    }
    let kept = Kept { runtime, reservation, profile: kept_profile };
    Ok(Assembly { services, rfb, facts, browser, kept })
}

fn service(
    name: &'static str,
    requires: &[&'static str],
    program: Arc<dyn Program>,
    timing: Timing,
) -> ServiceSpec {
    let (requires, restart) = (requires.to_vec(), RestartPolicy::default());
    ServiceSpec { name, requires, program, timing, restart, held: false }
}
