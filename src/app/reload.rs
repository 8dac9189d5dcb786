//! What SIGHUP does.

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::auth::SigningKey;
use crate::config::{Change, Config, differences};
use crate::control_plane::{Auth, LineHandle};
use crate::errors;
use crate::gateway::GatewayHandle;
use crate::systemd::say;

/// Reads the configuration, or says in words for an operator what is wrong with it.
pub type ReadAgain = Box<dyn Fn() -> Result<Config, String> + Send>;
/// Sets the level of the log, or says what is wrong with it.
pub type SetLevel = Box<dyn Fn(&str) -> Result<(), String> + Send>;

/// What SIGHUP works on.
pub struct Reload {
    /// Reads the configuration again, or says why there is none.
    pub read: ReadAgain,
    /// Sets the level of the log.
    pub set_level: SetLevel,
}

pub(super) struct Reloader {
    pub(super) reload: Reload,
    pub(super) serving: GatewayHandle,
    pub(super) signing_key: watch::Sender<Option<SigningKey>>,
    /// The line to the control plane, where there is one.
    pub(super) line: Option<LineHandle>,
    pub(super) current: Config,
}

impl Reloader {
    /// Takes the new configuration whole, or not at all.
    pub(super) async fn reload(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => say(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "no monotonic clock for RELOADING"),
        }
        let outcome = match (self.reload.read)() {
            Ok(next) => self.apply(next).await,
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(text) => {
                tracing::info!("{text}");
                say(&[NotifyState::Ready, NotifyState::Status(&text)]);
            }
            Err(problem) => {
                tracing::error!(error = %problem, "configuration not reloaded, the old one stays in force");
                let first = problem.lines().next().unwrap_or_default();
                let status = format!("configuration not reloaded: {first}");
                say(&[NotifyState::Ready, NotifyState::Status(&status)]);
            }
        }
    }

    /// What this host shows to the control plane, read again. `None` where it cannot be.
    pub(super) fn credential(&mut self) -> Option<Auth> {
        match (self.reload.read)() {
            Ok(next) => next.control_plane.map(|control_plane| control_plane.auth),
            Err(problem) => {
                let first = problem.lines().next().unwrap_or_default();
                tracing::warn!(error = first, "what this host shows to the control plane is not read again");
                None
            }
        }
    }

    async fn apply(&mut self, next: Config) -> Result<String, String> {
        let (live, restart): (Vec<_>, Vec<_>) =
            differences(&self.current, &next).into_iter().partition(|change| change.live);
        self.serving
            .reload(next.auth.clone(), next.gateway.allowed_origins.clone())
            .await
            .map_err(|error| errors::chain(&error))?;
        (self.reload.set_level)(&next.log.level)?;
        self.signing_key.send_replace(next.signing_key.as_ref().map(|signing| signing.key.clone()));
        if let (Some(line), Some(next)) = (&self.line, &next.control_plane) {
            line.show(next.auth.clone());
        }
        let names =
            |changes: &[Change]| changes.iter().map(|change| change.part).collect::<Vec<_>>().join(", ");
        let mut text = "configuration reloaded".to_owned();
        if !live.is_empty() {
            text.push_str(&format!(", in force: {}", names(&live)));
        }
        if !restart.is_empty() {
            text.push_str(&format!(", after a restart: {}", names(&restart)));
        }
        // What needs a restart stays as it was, so that the next reload says so again.
        self.current.gateway.allowed_origins = next.gateway.allowed_origins;
        self.current.auth = next.auth;
        self.current.log.level = next.log.level;
        Ok(text)
    }
}
