//! The whole of the settings, checked.

use std::time::Duration;

/// Everything that can be set, checked; one part per module.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the host gives to sessions.
    pub host: crate::session::HostConfig,
    /// How long a drain may take before the rest is killed.
    pub drain_budget: Duration,
    /// Who says who this machine is.
    pub identity: crate::identity::Config,
    /// The session of the configuration, with its display, its RFB server and its browser.
    pub session: crate::session::Config,
    /// How many sessions there may be, and what each may do.
    pub rules: crate::session::Rules,
    /// How profiles rotate.
    pub profiles: crate::profile::Settings,
    /// AdsPower, where sessions of that kind are to be had.
    pub adspower: Option<crate::adspower::Config>,
    /// The public listener.
    pub gateway: crate::gateway::Config,
    /// Whose tokens are good.
    pub auth: crate::auth::Config,
    /// What `valetd token` signs with, where it is not the first shared secret.
    pub signing_key: Option<Signing>,
    /// The operators' listener.
    pub api: crate::api::Config,
    /// Who hears how this host is, where somebody does.
    pub control_plane: Option<crate::control_plane::Config>,
    /// What is logged, and how.
    pub log: Log,
}

/// A key to sign tokens with, and what may be shown of it.
#[derive(Debug, Clone)]
pub struct Signing {
    /// Its `kid`.
    pub kid: Option<String>,
    /// What it is for.
    pub algorithm: crate::auth::Algorithm,
    /// Length of the secret or of the PEM file.
    pub bytes: usize,
    /// The key.
    pub key: crate::auth::SigningKey,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level, or a level and `target=level` pairs, with commas between.
    pub level: String,
    /// The form.
    pub format: crate::telemetry::Format,
}
