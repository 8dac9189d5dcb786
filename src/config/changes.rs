//! What a reload would change.

use super::settings::Config;
use crate::auth;
use crate::auth::KeyConfig;
use crate::control_plane;
use crate::session::HostConfig;

/// A part of the settings that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Key path of the part: `auth`, `gateway.limits`.
    pub part: &'static str,
    /// Whether it can be applied to a running daemon; otherwise it needs a restart.
    pub live: bool,
}

/// The parts that differ, in the order of the file. A certificate whose files are replaced is read again without any of
/// this; other paths for it need a restart.
pub fn differences(old: &Config, new: &Config) -> Vec<Change> {
    let (old_gateway, new_gateway) = (&old.gateway, &new.gateway);
    let (old_session, new_session) = (&old.session, &new.session);
    let session = old_session.id != new_session.id
        || old_session.user != new_session.user
        || old_session.autostart != new_session.autostart
        || old_session.exit_when_ended != new_session.exit_when_ended;
    let display = old_session.display != new_session.display || old_session.rfb != new_session.rfb;
    let static_dir = old_gateway.static_dir != new_gateway.static_dir;
    // A signing key is taken with every reload, and nobody who is served notices: there is nothing to tell.
    let parts = [
        ("host", !same_host(&old.host, &new.host) || old.drain_budget != new.drain_budget, false),
        ("isolation", old.host.isolation != new.host.isolation, false),
        ("identity", old.identity != new.identity, false),
        ("session", session, false),
        ("sessions", old.rules != new.rules, false),
        ("profiles", old.profiles != new.profiles, false),
        ("display", display, false),
        ("browser", old_session.browser != new_session.browser, false),
        ("adspower", old.adspower != new.adspower, false),
        ("gateway.listen", old_gateway.listen != new_gateway.listen, false),
        ("gateway.public_url", old_gateway.public_url != new_gateway.public_url, false),
        ("gateway.tls_certificate", old_gateway.tls != new_gateway.tls, false),
        ("gateway.allowed_origins", old_gateway.allowed_origins != new_gateway.allowed_origins, true),
        ("gateway.trusted_proxies", old_gateway.trusted_proxies != new_gateway.trusted_proxies, false),
        ("gateway.static_dir", static_dir, false),
        ("gateway.limits", old_gateway.limits != new_gateway.limits, false),
        ("cdp", old_gateway.cdp != new_gateway.cdp, false),
        ("auth", !same_auth(&old.auth, &new.auth), true),
        ("api", old.api != new.api, false),
        ("control_plane", !same_line(&old.control_plane, &new.control_plane), false),
        ("log.level", old.log.level != new.log.level, true),
        ("log.format", old.log.format != new.log.format, false),
    ];
    parts
        .into_iter()
        .filter(|(_, differs, _)| *differs)
        .map(|(part, _, live)| Change { part, live })
        .collect()
}

/// But for `[isolation]`, which is a part of its own.
fn same_host(old: &HostConfig, new: &HostConfig) -> bool {
    // Taken apart by name: a new field must be thought of here.
    let HostConfig { state_dir, runtime_dir, first_uid, uid_count, isolation: _ } = old;
    (state_dir, runtime_dir, first_uid, uid_count)
        == (&new.state_dir, &new.runtime_dir, &new.first_uid, &new.uid_count)
}

/// But for what this host shows, which is taken with every reload.
fn same_line(old: &Option<control_plane::Config>, new: &Option<control_plane::Config>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            // Taken apart by name: a new field must be thought of here.
            let control_plane::Config { url, auth, ca, heartbeat } = old;
            (url, auth.as_str(), ca, heartbeat) == (&new.url, new.auth.as_str(), &new.ca, &new.heartbeat)
        }
        _ => false,
    }
}

/// [`crate::secret::Secret`] has no `PartialEq`, so that nobody compares a peer's secret by accident. Both of these are
/// our own.
fn same_auth(old: &auth::Config, new: &auth::Config) -> bool {
    // Taken apart by name: a new field must be thought of here.
    let auth::Config {
        keys,
        jwks_url,
        issuer,
        audience,
        leeway,
        default_role,
        single_use,
        allow_query_token,
    } = old;
    let same_keys = keys.len() == new.keys.len() && keys.iter().zip(&new.keys).all(|(a, b)| same_key(a, b));
    same_keys
        && *jwks_url == new.jwks_url
        && *issuer == new.issuer
        && *audience == new.audience
        && *leeway == new.leeway
        && *default_role == new.default_role
        && *single_use == new.single_use
        && *allow_query_token == new.allow_query_token
}

fn same_key(old: &KeyConfig, new: &KeyConfig) -> bool {
    match (old, new) {
        (
            KeyConfig::SharedSecret { kid, secret },
            KeyConfig::SharedSecret { kid: new_kid, secret: new_secret },
        ) => kid == new_kid && secret.expose() == new_secret.expose(),
        (
            KeyConfig::PublicKey { kid, algorithm, pem },
            KeyConfig::PublicKey { kid: new_kid, algorithm: new_algorithm, pem: new_pem },
        ) => kid == new_kid && algorithm == new_algorithm && pem == new_pem,
        (KeyConfig::JwkSet { json }, KeyConfig::JwkSet { json: new_json }) => json == new_json,
        _ => false,
    }
}
