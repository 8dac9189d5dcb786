//! From a request and the host's settings to what a session is made of.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::admission::Denial;
use super::adspower::Wanted;
use super::config::{Config, Rules};
use super::record::{End, SessionRecord, Warmth};
use super::request::{CreateRequest, Kind};
use super::status::SessionState;
use super::viewer::Viewers;
use crate::clock::unix_ms;
use crate::ids::{ProfileName, SessionId, UserId};
use crate::profile::Lease;
use crate::store::SessionKey;
use crate::sys::Limits;
use crate::vnc::RfbSource;
use crate::{browser, display};

/// The page of a host that names none.
const BLANK: &str = "about:blank";

/// What a session is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    pub(super) id: SessionId,
    pub(super) user: Option<UserId>,
    pub(super) kind: Kind,
    /// None: a blank one that goes with the session.
    pub(super) profile: Option<ProfileName>,
    /// Whether the pool chooses that.
    pub(super) pooled: bool,
    /// The right to use a profile of the pool's, once it has one.
    pub(super) profile_lease: Option<Lease>,
    pub(super) made_of: Parts,
    pub(super) limits: Limits,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_duration: Option<Duration>,
    pub(super) start_deadline: Option<Duration>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created: SystemTime,
}

/// The programs of a session and their settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) display: display::Config,
    pub(super) rfb: RfbSource,
    pub(super) browser: Option<browser::Config>,
    /// In its place, one that AdsPower opens.
    pub(super) adspower: Option<Wanted>,
}

impl Spec {
    /// The session that the configuration describes. Its profile bears its name. It lasts, unless the daemon is to end with it:
    /// then it may end as any other.
    pub(super) fn fixed(config: &Config, rules: &Rules) -> Self {
        let ends = config.exit_when_ended;
        Self {
            id: config.id.clone(),
            user: config.user.clone(),
            kind: Kind::Chromium,
            profile: Some(config.id.clone().into()),
            pooled: false,
            profile_lease: None,
            made_of: Parts::of(config),
            limits: rules.limits,
            idle_timeout: rules.idle_timeout.filter(|_| ends),
            max_duration: rules.max_duration.filter(|_| ends),
            start_deadline: ends.then_some(rules.start_deadline),
            labels: BTreeMap::new(),
            created: SystemTime::now(),
        }
    }

    /// The session that `request` asks for under `id`, on a host with or without AdsPower.
    ///
    /// # Errors
    /// When it asks for more than the host gives.
    pub(super) fn requested(
        request: CreateRequest,
        id: SessionId,
        template: &Config,
        rules: &Rules,
        has_adspower: bool,
    ) -> Result<Self, Denial> {
        let mut made_of = Parts::of(template);
        // Whatever the picture of the configuration's own session, a requested one shows its own display.
        let own_picture = !matches!(made_of.rfb, RfbSource::External(_));
        let unavailable = || Denial::KindUnavailable(request.kind);
        if !own_picture {
            return Err(unavailable());
        }
        match request.kind {
            Kind::Chromium => {
                let browser = made_of.browser.as_mut().ok_or_else(unavailable)?;
                if let Some(name) = request.env.keys().find(|name| !rules.allowed_env.contains(name)) {
                    return Err(Denial::VariableNotAllowed(name.clone()));
                }
                if let Some(url) = request.start_url {
                    browser.start_url = url;
                }
                browser.proxy = request.proxy;
                browser.env = request.env;
            }
            Kind::AdsPower if !has_adspower => return Err(unavailable()),
            Kind::AdsPower => {
                let template = made_of.browser.take();
                made_of.adspower = Some(wanted(&request, template)?);
            }
        }
        if let Some((width, height)) = request.display_size {
            (made_of.display.width, made_of.display.height) = (width, height);
        }
        let max_duration = at_most(request.max_duration, rules.max_duration, "max_duration")?;
        Ok(Self {
            id,
            user: Some(request.user),
            kind: request.kind,
            profile: request.profile,
            pooled: request.pool,
            profile_lease: None,
            made_of,
            limits: within(request.limits, rules.limits)?,
            idle_timeout: request.idle_timeout.or(rules.idle_timeout),
            max_duration,
            start_deadline: Some(rules.start_deadline),
            labels: request.labels,
            created: SystemTime::now(),
        })
    }

    /// Which of all sessions it is that ever had its id.
    pub(super) fn key(&self) -> SessionKey {
        SessionKey { id: self.id.clone(), created_ms: unix_ms(self.created) }
    }

    /// Gives it the profile that it was lent. A proxy of its own request wins.
    pub(super) fn lend(&mut self, lease: Lease) {
        self.profile = Some(lease.profile.clone());
        if let Some(wanted) = &mut self.made_of.adspower {
            // The pool's names are a part of what AdsPower's may be.
            wanted.profile = lease.external.as_ref().and_then(|external| external.as_str().parse().ok());
            (wanted.proxy, wanted.fingerprint) = (lease.proxy.clone(), lease.fingerprint.clone());
        }
        if let (Kind::Chromium, Some(browser)) = (self.kind, &mut self.made_of.browser)
            && browser.proxy.is_none()
        {
            browser.proxy = lease.proxy.clone();
        }
        self.profile_lease = Some(lease);
    }

    /// What can be told of it before it has begun.
    pub(super) fn record(&self, state: SessionState, end: End) -> SessionRecord {
        SessionRecord {
            id: self.id.clone(),
            user: self.user.clone(),
            kind: self.kind,
            profile: self.profile.clone(),
            state,
            created: self.created,
            ready: None,
            expires: None,
            idle_timeout_seconds: self.idle_timeout.map(|timeout| timeout.as_secs()),
            ended: (state == SessionState::Stopped).then(SystemTime::now),
            end: Some(end),
            warmth: Warmth::Cold,
            labels: self.labels.clone(),
            handoffs: Vec::new(),
            components: Vec::new(),
            viewers: Viewers { spectators: 0, controllers: 0 },
            watching: Vec::new(),
            screen: None,
            automations: 0,
            tab_crashes: 0,
            display: None,
            display_size: None,
            devtools_port: None,
        }
    }

    /// Whether a blank spare made of `template` serves, at least with its display.
    pub(super) fn fits_display_of(&self, template: &Parts, limits: Limits) -> bool {
        self.profile.is_none() && self.made_of.display == template.display && self.limits == limits
    }

    /// Whether its browser serves as well: only the page differs.
    pub(super) fn fits_browser_of(&self, template: &Parts) -> bool {
        let plain = |browser: &Option<browser::Config>| {
            browser.clone().map(|browser| browser::Config { start_url: String::new(), ..browser })
        };
        plain(&self.made_of.browser) == plain(&template.browser)
    }
}

impl Parts {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            display: config.display.clone(),
            rfb: config.rfb.clone(),
            browser: config.browser.clone(),
            adspower: None,
        }
    }
}

/// What AdsPower is to open. What a browser of its own would be given belongs to the profile there.
fn wanted(request: &CreateRequest, template: Option<browser::Config>) -> Result<Wanted, Denial> {
    if request.proxy.is_some() {
        return Err(Denial::OfTheProfile { what: "proxy" });
    }
    if !request.env.is_empty() {
        return Err(Denial::OfTheProfile { what: "env" });
    }
    // Names of ours are a part of what AdsPower's may be.
    let profile = request.profile.as_ref().and_then(|profile| profile.as_str().parse().ok());
    if profile.is_none() && !request.pool {
        return Err(Denial::ProfileNeeded);
    }
    let of_template = || template.map_or_else(|| BLANK.to_owned(), |browser| browser.start_url);
    let start_url = request.start_url.clone().unwrap_or_else(of_template);
    Ok(Wanted { profile, start_url, proxy: None, fingerprint: None })
}

/// What was asked for, within what there is at the most; all of that where nothing was.
pub(super) fn at_most<T: PartialOrd>(
    asked: Option<T>,
    most: Option<T>,
    what: &'static str,
) -> Result<Option<T>, Denial> {
    match (asked, most) {
        (Some(asked), Some(most)) if asked > most => Err(Denial::OverLimit { what }),
        (asked, most) => Ok(asked.or(most)),
    }
}

fn within(asked: Limits, most: Limits) -> Result<Limits, Denial> {
    Ok(Limits {
        memory_bytes: at_most(asked.memory_bytes, most.memory_bytes, "limits.memory_bytes")?,
        pids: at_most(asked.pids, most.pids, "limits.pids")?,
        cpu_weight: at_most(asked.cpu_weight, most.cpu_weight, "limits.cpu_weight")?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::session) fn template() -> Config {
        Config {
            autostart: false,
            exit_when_ended: false,
            id: "default".parse().unwrap(),
            user: None,
            display: display::Config {
                xvfb: "/usr/bin/Xvfb".into(),
                width: 800,
                height: 600,
                max_size: None,
                depth: 24,
            },
            rfb: RfbSource::X11vnc { program: "/usr/bin/x11vnc".into() },
            browser: Some(browser::Config {
                program: "/usr/bin/chromium".into(),
                start_url: "about:blank".into(),
                extra_args: vec![],
                proxy: None,
                env: BTreeMap::new(),
            }),
        }
    }

    pub(in crate::session) fn rules() -> Rules {
        Rules {
            capacity: crate::session::config::Capacity::Fixed(2),
            queue_length: 0,
            queue_deadline: Duration::ZERO,
            spare_displays: 0,
            spare_browsers: 0,
            start_deadline: Duration::from_secs(60),
            idle_timeout: None,
            max_duration: Some(Duration::from_secs(3600)),
            limits: Limits { memory_bytes: Some(1 << 30), ..Limits::default() },
            allowed_env: vec!["TZ".into()],
        }
    }

    pub(in crate::session) fn request() -> CreateRequest {
        CreateRequest {
            id: None,
            user: "u1".parse().unwrap(),
            kind: Kind::Chromium,
            profile: None,
            pool: false,
            display_size: None,
            start_url: None,
            proxy: None,
            env: BTreeMap::new(),
            limits: Limits::default(),
            idle_timeout: None,
            max_duration: None,
            labels: BTreeMap::new(),
        }
    }

    fn spec(request: CreateRequest) -> Result<Spec, Denial> {
        Spec::requested(request, "s1".parse().unwrap(), &template(), &rules(), false)
    }

    #[test]
    fn what_a_request_leaves_out_is_as_the_host_has_it() {
        let plain = spec(request()).unwrap();
        assert_eq!(plain.made_of, Parts::of(&template()));
        assert_eq!(plain.max_duration, Some(Duration::from_secs(3600)));
        assert_eq!(plain.limits, rules().limits);
        let own = spec(CreateRequest {
            display_size: Some((1280, 720)),
            start_url: Some("https://example.org/".into()),
            max_duration: Some(Duration::from_secs(60)),
            limits: Limits { memory_bytes: Some(1 << 20), pids: Some(300), cpu_weight: None },
            ..request()
        })
        .unwrap();
        assert_eq!((own.made_of.display.width, own.made_of.display.height), (1280, 720));
        assert_eq!(own.made_of.browser.unwrap().start_url, "https://example.org/");
        assert_eq!(own.max_duration, Some(Duration::from_secs(60)));
        assert_eq!(own.limits, Limits { memory_bytes: Some(1 << 20), pids: Some(300), cpu_weight: None });
    }

    #[test]
    fn nobody_gets_more_than_the_host_gives() {
        let cases = [
            (
                CreateRequest { max_duration: Some(Duration::from_secs(3601)), ..request() },
                Denial::OverLimit { what: "max_duration" },
            ),
            (
                CreateRequest {
                    limits: Limits { memory_bytes: Some(2 << 30), ..Limits::default() },
                    ..request()
                },
                Denial::OverLimit { what: "limits.memory_bytes" },
            ),
            (
                CreateRequest { env: BTreeMap::from([("LD_PRELOAD".into(), "x".into())]), ..request() },
                Denial::VariableNotAllowed("LD_PRELOAD".into()),
            ),
            (CreateRequest { kind: Kind::AdsPower, ..request() }, Denial::KindUnavailable(Kind::AdsPower)),
        ];
        for (request, denial) in cases {
            assert_eq!(spec(request), Err(denial));
        }
    }

    #[test]
    fn a_session_of_adspowers_is_a_profile_on_a_display_and_nothing_that_the_profile_has_itself() {
        let ads = |request: CreateRequest| {
            let request = CreateRequest { kind: Kind::AdsPower, ..request };
            Spec::requested(request, "s1".parse().unwrap(), &template(), &rules(), true)
        };
        let profile = Some("k1abc".parse().unwrap());
        let named = || CreateRequest { profile: profile.clone(), ..request() };
        let page = Some("https://example.org/".to_owned());
        let made_of = ads(CreateRequest { start_url: page, ..named() }).unwrap().made_of;
        assert_eq!((made_of.browser, made_of.display), (None, template().display));
        let wanted = made_of.adspower.unwrap();
        assert_eq!(
            (wanted.profile, wanted.start_url),
            (Some("k1abc".parse().unwrap()), "https://example.org/".to_owned())
        );
        assert_eq!(ads(request()), Err(Denial::ProfileNeeded));
        let mut pooled = ads(CreateRequest { pool: true, ..request() }).unwrap();
        assert_eq!(pooled.made_of.adspower.as_ref().unwrap().profile, None);
        pooled.lend(Lease {
            profile: "pool-1".parse().unwrap(),
            kind: Kind::AdsPower,
            external: Some("k2def".parse().unwrap()),
            fence: 1,
            proxy: Some("http://h:1".parse().unwrap()),
            fingerprint: None,
        });
        let wanted = pooled.made_of.adspower.unwrap();
        assert_eq!(wanted.profile, Some("k2def".parse().unwrap()));
        assert_eq!(wanted.proxy.unwrap().to_string(), "http://h:1");
        let proxy = Some("http://h:1".parse().unwrap());
        assert_eq!(ads(CreateRequest { proxy, ..named() }), Err(Denial::OfTheProfile { what: "proxy" }));
        let env = BTreeMap::from([("TZ".into(), "UTC".into())]);
        assert_eq!(ads(CreateRequest { env, ..named() }), Err(Denial::OfTheProfile { what: "env" }));
        let parts = Parts::of(&template());
        assert!(!ads(named()).unwrap().fits_display_of(&parts, rules().limits), "no spare serves it");
    }

    #[test]
    fn a_spare_serves_a_blank_session_of_its_own_shape() {
        let parts = Parts::of(&template());
        let fits = |request| {
            let spec = spec(request).unwrap();
            (spec.fits_display_of(&parts, rules().limits), spec.fits_browser_of(&parts))
        };
        let page = Some("https://example.org/".to_owned());
        assert_eq!(fits(CreateRequest { start_url: page, ..request() }), (true, true));
        let proxy = Some("http://h:1".parse().unwrap());
        assert_eq!(fits(CreateRequest { proxy, ..request() }), (true, false));
        let profile = Some("p".parse().unwrap());
        assert!(!fits(CreateRequest { profile, ..request() }).0);
        assert!(!fits(CreateRequest { display_size: Some((64, 64)), ..request() }).0);
    }
}
