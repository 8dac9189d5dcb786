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
use crate::adspower::AdsPower;
use crate::browser::{Chromium, Owner, Places, Ports, ProfileDir, ProfileError, Screen};
use crate::display::{Cookie, Reservation, ReserveError, Xvfb, screen};
use crate::ids::ProfileName;
use crate::supervise::{Confinement, Identity, Program, RestartPolicy, ServiceSpec, Timing};
use crate::sys::{Host, SpaceError, SpaceSpec};
use crate::vnc::native::{self, Encoders};
use crate::vnc::{RfbAddress, RfbSource, X11vnc};

/// Between probes, and for one probe: a hung service shows in health within the sum, 2 s at the most.
const PROBE_INTERVAL: Duration = Duration::from_millis(1000);
const PROBE_DEADLINE: Duration = Duration::from_millis(900);
/// Between two frames: 60 a second.
const FRAME_INTERVAL: Duration = Duration::from_micros(16_667);
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
    /// It has no namespaces of its own.
    #[error("cannot isolate the session")]
    Space(#[from] SpaceError),
    /// The profile cannot be used.
    #[error("cannot use the session's profile")]
    Profile(#[from] ProfileError),
}

/// Where and for whom a session is put together.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) host: Arc<HostConfig>,
    /// Its place on the host.
    pub(super) slot: u32,
    /// Whom its programs run as; none where the daemon is not root.
    pub(super) identity: Option<Identity>,
    /// For its browser; all sessions share them.
    pub(super) devtools_ports: Arc<Ports>,
    /// Where the host has it.
    pub(super) adspower: Option<AdsPower>,
    /// Where it is counted what serving displays comes to.
    pub(super) native: native::Metrics,
    /// For its picture; all sessions share them.
    pub(super) encoders: Encoders,
}

impl Site {
    fn owner(&self) -> Option<Owner> {
        let HostConfig { first_uid, uid_count, .. } = *self.host;
        let sessions = first_uid..first_uid.saturating_add(uid_count);
        self.identity.map(|identity| Owner { identity, sessions })
    }
}

/// What a session has on this host before anything runs for it; given back when dropped, which blocks.
pub(super) struct Ground {
    pub(super) runtime: RuntimeDir,
    pub(super) reservation: Option<Reservation>,
    cookie: Option<Cookie>,
    /// The browser has it too, and is gone by then.
    profile: Option<Arc<ProfileDir>>,
}

/// Where a session's picture comes from.
pub(super) enum Picture {
    /// An RFB server.
    Of(RfbAddress),
    /// Its display itself.
    Native {
        /// What viewers are served from.
        screen: screen::Screen,
        /// To be run for as long as the session.
        task: Box<screen::ScreenTask>,
    },
}

/// A session that is ready to be started.
pub(super) struct Assembly {
    pub(super) services: Vec<ServiceSpec>,
    pub(super) picture: Picture,
    pub(super) facts: Facts,
    /// The browser, for those who give it other settings before it starts.
    pub(super) browser: Option<Arc<Chromium>>,
}

impl Ground {
    /// Makes it. A session without a profile of its own gets a blank one. Blocks.
    pub(super) fn prepare(site: &Site, parts: &Parts, profile: Option<&ProfileName>) -> Result<Self, Error> {
        let runtime = RuntimeDir::create(&site.host, site.slot, site.identity)?;
        let (mut reservation, mut cookie) = (None, None);
        if parts.browser.is_some() || !matches!(parts.rfb, RfbSource::External(_)) {
            let fresh = Cookie::generate().map_err(Error::Random)?;
            fresh.write(&runtime.authority(), site.identity).map_err(Error::Cookie)?;
            cookie = Some(fresh);
            reservation = Some(Reservation::take()?);
        }
        let owner = site.owner();
        let profile = match (&parts.browser, profile) {
            (None, _) => None,
            (Some(_), Some(name)) => {
                Some(ProfileDir::lock(&places::profiles(&site.host)?, name.as_str(), owner.as_ref())?)
            }
            (Some(_), None) => {
                Some(ProfileDir::blank(places::scratch(&site.host, site.slot)?, owner.as_ref())?)
            }
        };
        Ok(Self { runtime, reservation, cookie, profile: profile.map(Arc::new) })
    }

    /// The profile that goes with the session.
    fn blank_profile(&self) -> Option<&Path> {
        self.profile.as_ref().filter(|profile| profile.is_blank()).map(|profile| profile.path())
    }

    /// All that goes with the session, and what a file has to hold to go.
    pub(super) fn paths(&self) -> Vec<(PathBuf, Option<String>)> {
        // A lock that holds something else by then is somebody else's.
        let number = self.reservation.iter().flat_map(|number| {
            [(number.socket(), None), (number.lock_file(), Some(Reservation::lock_text()))]
        });
        let blank = self.blank_profile().map(Path::to_owned);
        let directories = [self.runtime.path.clone()].into_iter().chain(blank);
        directories.map(|path| (path, None)).chain(number).collect()
    }

    /// As whom the session's processes run, and what they see. A daemon that is not root has neither to give.
    ///
    /// # Errors
    /// When its namespaces cannot be made.
    pub(super) async fn confine(&self, site: &Site, system: &Host) -> Result<Confinement, Error> {
        if site.identity.is_none() {
            return Ok(Confinement::default());
        }
        let HostConfig { state_dir, runtime_dir, isolation, .. } = &*site.host;
        let profile = self.profile.as_ref().map(|profile| profile.path().to_owned());
        let spec = SpaceSpec {
            tmp: self.runtime.tmp(),
            hide: vec![state_dir.clone(), runtime_dir.clone()],
            keep: std::iter::once(self.runtime.path.clone()).chain(profile).collect(),
            shm_bytes: isolation.shm_bytes,
            hide_processes: isolation.hide_processes,
        };
        Ok(Confinement { identity: site.identity, space: Some(system.space(&spec).await?) })
    }

    /// The session's services in their order. With `hold_browser`, its browser waits to be released.
    pub(super) fn assemble(
        &self,
        site: &Site,
        parts: &Parts,
        confinement: &Confinement,
        hold_browser: bool,
    ) -> Assembly {
        let Self { runtime, reservation, cookie, profile } = self;
        let mut services = Vec::new();
        let mut facts = Facts::default();
        if let (Some(number), Some(cookie)) = (reservation, cookie) {
            let xvfb = Xvfb::new(
                parts.display.clone(),
                number,
                confinement.clone(),
                runtime.tmp(),
                (runtime.authority(), runtime.screen()),
                cookie.clone(),
            );
            facts.display = Some(xvfb.display());
            services.push(service("xvfb", &[], Arc::new(xvfb), DISPLAY_TIMING));
        }

        let picture = match (&parts.rfb, &facts.display) {
            (RfbSource::Native, Some(display)) => {
                let (screen, task) =
                    screen::Screen::new(display.clone(), FRAME_INTERVAL, site.native.capture());
                Picture::Native { screen, task: Box::new(task) }
            }
            (RfbSource::X11vnc { program }, Some(display)) => {
                let x11vnc = X11vnc::new(
                    program.clone(),
                    confinement.clone(),
                    runtime.tmp(),
                    runtime.rfb_socket(),
                    display.clone(),
                );
                let address = x11vnc.address();
                services.push(service("x11vnc", &["xvfb"], Arc::new(x11vnc), DISPLAY_TIMING));
                Picture::Of(address)
            }
            (RfbSource::X11vnc { .. } | RfbSource::Native, None) => {
                Picture::Of(RfbAddress::Unix(runtime.rfb_socket()))
            }
            (RfbSource::External(address), _) => Picture::Of(address.clone()),
        };

        let mut browser = None;
        if let (Some(config), Some(display), Some(profile)) = (&parts.browser, facts.display.clone(), profile)
        {
            let places = Places {
                profile: Arc::clone(profile),
                tmp: runtime.tmp(),
                devtools_ports: Arc::clone(&site.devtools_ports),
            };
            let sized = display.clone();
            let screen = Screen {
                size: Box::new(move || sized.size()),
                variables: Box::new(move || display.variables()),
            };
            let chromium = Arc::new(Chromium::new(config.clone(), confinement.clone(), places, screen));
            facts.devtools = Some(chromium.devtools());
            facts.profile_resets = Some(chromium.profile_resets());
            let home = profile.path().to_owned();
            facts.cdp_paths = Some(CdpPaths { downloads: home.join("Downloads"), home, tmp: runtime.tmp() });
            browser = Some(Arc::clone(&chromium));
            let spec = service(BROWSER, &["xvfb"], chromium, BROWSER_TIMING);
            services.push(ServiceSpec { held: hold_browser, ..spec });
        }
        Assembly { services, picture, facts, browser }
    }
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
