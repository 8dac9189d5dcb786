//! The settings in force, written the way the file is, without secrets.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use toml::Value;

use super::settings::{Config, Signing};
use super::values::write_size;
use crate::auth::{Algorithm, KeyConfig};
use crate::control_plane::Auth;
use crate::durations;
use crate::profile;
use crate::session::{Capacity, Isolation, Network, Rules};
use crate::sys::Limits;
use crate::telemetry::Format;
use crate::vnc::RfbSource;

/// Every key with the value in force; a secret shows its length. What is not set stands as a comment.
pub fn resolved(config: &Config) -> String {
    let mut page = Page::default();
    host(&mut page, config);
    isolation(&mut page, &config.host.isolation);
    page.section("identity");
    page.text("provider", config.identity.provider.as_str());
    page.text("ec2_endpoint", &config.identity.ec2_endpoint);
    page.bare("drain_on_rebalance", config.identity.drain_on_rebalance);
    session(&mut page, config);
    adspower(&mut page, config);
    gateway(&mut page, config);
    page.section("cdp");
    page.list("deny", &config.gateway.cdp.deny);
    page.list("deny_url_schemes", &config.gateway.cdp.deny_url_schemes);
    page.bare("own_contexts_only", config.gateway.cdp.own_contexts_only);
    page.text("fence_automation", config.gateway.cdp.fence.as_str());
    auth(&mut page, config);
    page.section("api");
    page.text("listen", config.api.listen);
    page.path("socket", &config.api.socket);
    control_plane(&mut page, config);
    page.section("log");
    page.text("level", &config.log.level);
    let format = match config.log.format {
        Format::Auto => "auto",
        Format::Journald => "journald",
        Format::Json => "json",
        Format::Text => "text",
    };
    page.text("format", format);
    page.text
}

fn control_plane(page: &mut Page, config: &Config) {
    page.section("control_plane");
    let Some(control_plane) = &config.control_plane else {
        page.comment("url", "not set: nobody is told anything");
        for key in [
            "auth",
            "credential",
            "audience",
            "fly_socket",
            "client_certificate",
            "client_key",
            "ca",
            "heartbeat",
        ] {
            page.comment(key, "not used");
        }
        return;
    };
    let bytes = |count: usize| format!("<{count} bytes>");
    let (mut credential, mut fly, mut tls) = (None, None, None);
    match &control_plane.auth {
        Auth::Bearer(token) => credential = Some(bytes(token.expose().len())),
        Auth::FlyOidc { audience, socket } => fly = Some((audience, socket)),
        Auth::Mtls { certificate, key } => tls = Some((bytes(certificate.len()), bytes(key.expose().len()))),
    }
    page.text("url", &control_plane.url);
    page.text("auth", control_plane.auth.as_str());
    page.used("credential", credential);
    page.used("audience", fly.map(|(audience, _)| audience));
    page.used("fly_socket", fly.map(|(_, socket)| socket.display()));
    page.used("client_certificate", tls.as_ref().map(|(certificate, _)| certificate));
    page.used("client_key", tls.as_ref().map(|(_, key)| key));
    page.optional("ca", control_plane.ca.as_ref().map(|ca| bytes(ca.len())));
    page.duration("heartbeat", control_plane.heartbeat);
}

fn host(page: &mut Page, config: &Config) {
    let host = &config.host;
    page.section("host");
    page.path("state_dir", &host.state_dir);
    page.path("runtime_dir", &host.runtime_dir);
    page.bare("first_uid", host.first_uid);
    page.bare("uid_count", host.uid_count);
    page.duration("drain_budget", config.drain_budget);
}

fn isolation(page: &mut Page, isolation: &Isolation) {
    page.section("isolation");
    let network = match isolation.network {
        Network::Auto => "auto",
        Network::Filtered => "filtered",
        Network::Open => "open",
    };
    page.text("network", network);
    page.list("allow", &isolation.allow.iter().map(ToString::to_string).collect::<Vec<_>>());
    let ports = &isolation.devtools_ports;
    page.text("devtools_ports", format_args!("{}-{}", ports.start(), ports.end()));
    page.text("shm_size", write_size(isolation.shm_bytes));
    page.bare("hide_processes", isolation.hide_processes);
    page.path("nft", &isolation.nft);
}

fn session(page: &mut Page, config: &Config) {
    let session = &config.session;
    page.section("session");
    page.bare("autostart", session.autostart);
    page.bare("exit_when_ended", session.exit_when_ended);
    page.text("id", &session.id);
    page.optional("user", session.user.as_ref());
    rules(page, &config.rules);
    profiles(page, &config.profiles);
    page.section("display");
    page.text("size", format_args!("{}x{}", session.display.width, session.display.height));
    let max_size = session.display.max_size.map(|(width, height)| format!("{width}x{height}"));
    page.optional("max_size", max_size);
    page.bare("depth", session.display.depth);
    page.path("xvfb", &session.display.xvfb);
    match &session.rfb {
        RfbSource::X11vnc { program } => {
            page.text("rfb", "x11vnc");
            page.path("x11vnc", program);
        }
        RfbSource::Native => {
            page.text("rfb", "native");
            page.comment("x11vnc", "not used");
        }
        RfbSource::External(address) => {
            page.bare("rfb", format_args!("{{ address = {} }}", quoted(address)));
            page.comment("x11vnc", "not used");
        }
    }
    page.section("browser");
    page.bare("enabled", session.browser.is_some());
    match &session.browser {
        Some(browser) => {
            page.path("program", &browser.program);
            page.text("start_url", &browser.start_url);
            page.list("extra_args", &browser.extra_args);
        }
        None => {
            for key in ["program", "start_url", "extra_args"] {
                page.comment(key, "not used");
            }
        }
    }
}

fn rules(page: &mut Page, rules: &Rules) {
    page.section("sessions");
    match rules.capacity {
        Capacity::Derived { memory_per_session } => {
            page.text("max", "auto");
            page.text("memory_per_session", write_size(memory_per_session));
        }
        Capacity::Fixed(count) => {
            page.bare("max", count);
            page.comment("memory_per_session", "not used");
        }
    }
    page.bare("queue_length", rules.queue_length);
    page.duration("queue_deadline", rules.queue_deadline);
    page.bare("spare_displays", rules.spare_displays);
    page.bare("spare_browsers", rules.spare_browsers);
    page.duration("start_deadline", rules.start_deadline);
    let or_none = |duration: Option<Duration>| duration.map_or_else(|| "none".to_owned(), durations::write);
    page.text("idle_timeout", or_none(rules.idle_timeout));
    page.text("max_duration", or_none(rules.max_duration));
    limits(page, rules.limits);
    page.list("allowed_env", &rules.allowed_env);
}

fn limits(page: &mut Page, limits: Limits) {
    page.text("memory_max", limits.memory_bytes.map_or_else(|| "none".to_owned(), write_size));
    page.bare("pids_max", limits.pids.unwrap_or_default());
    page.bare("cpu_weight", limits.cpu_weight.unwrap_or_default());
}

fn profiles(page: &mut Page, profiles: &profile::Settings) {
    page.section("profiles");
    page.bare("per_user", profiles.per_user);
    page.duration("cooldown", profiles.cooldown);
    page.bare("quarantine_after", profiles.quarantine_after);
    page.list("proxies", &profiles.proxies.iter().map(ToString::to_string).collect::<Vec<_>>());
    page.text("proxy_rotation", profiles.rotation.as_str());
    page.text("quota", profiles.quota.map_or_else(|| "none".to_owned(), write_size));
}

fn adspower(page: &mut Page, config: &Config) {
    page.section("adspower");
    page.bare("enabled", config.adspower.is_some());
    let Some(adspower) = &config.adspower else {
        let limits = ["memory_max", "pids_max", "cpu_weight"];
        let own = ["program", "minimum_version", "args", "port", "api_key", "uid", "pace"];
        for key in own.into_iter().chain(limits) {
            page.comment(key, "not used");
        }
        return;
    };
    page.path("program", &adspower.program);
    page.optional("minimum_version", adspower.minimum_version.as_ref());
    page.list("args", &adspower.args);
    page.bare("port", adspower.port);
    page.text("api_key", format_args!("<{} bytes>", adspower.api_key.expose().len()));
    page.bare("uid", adspower.uid);
    page.text("pace", adspower.pace.map_or_else(|| "auto".to_owned(), durations::write));
    limits(page, adspower.limits);
}

fn gateway(page: &mut Page, config: &Config) {
    let gateway = &config.gateway;
    page.section("gateway");
    page.text("listen", gateway.listen);
    page.optional("public_url", gateway.public_url.as_ref());
    page.optional("tls_certificate", gateway.tls.as_ref().map(|tls| tls.certificate.display()));
    page.optional("tls_private_key", gateway.tls.as_ref().map(|tls| tls.private_key.display()));
    page.list("allowed_origins", &gateway.allowed_origins);
    let proxies: Vec<String> = gateway.trusted_proxies.iter().map(ToString::to_string).collect();
    page.list("trusted_proxies", &proxies);
    page.optional("static_dir", gateway.static_dir.as_ref().map(|dir| dir.display()));
    let limits = &gateway.limits;
    page.section("gateway.limits");
    page.bare("max_connections", limits.max_connections);
    page.bare("max_connections_per_address", limits.max_connections_per_address);
    page.bare("max_unauthenticated", limits.max_unauthenticated);
    page.bare("max_viewers_per_session", limits.max_viewers_per_session);
    page.bare("max_cdp_connections_per_session", limits.max_cdp_connections_per_session);
    page.bare("max_header_bytes", limits.max_header_bytes);
    page.duration("handshake_deadline", limits.handshake_deadline);
    page.duration("ping_interval", limits.ping_interval);
    page.duration("pong_deadline", limits.pong_deadline);
    page.duration("send_deadline", limits.send_deadline);
    page.text("idle_timeout", limits.idle_timeout.map_or_else(|| "none".to_owned(), durations::write));
}

fn auth(page: &mut Page, config: &Config) {
    let auth = &config.auth;
    page.section("auth");
    page.line("keys = [");
    for key in &auth.keys {
        page.line(&format!("  {{ {} }},", key_entry(key)));
    }
    page.line("]");
    page.optional("jwks_url", auth.jwks_url.as_ref().map(|jwks| &jwks.url));
    match &auth.jwks_url {
        Some(jwks) => page.duration("jwks_refresh", jwks.refresh),
        None => page.comment("jwks_refresh", "not used"),
    }
    page.optional("issuer", auth.issuer.as_ref());
    page.optional("audience", auth.audience.as_ref());
    page.duration("leeway", auth.leeway);
    page.text("default_role", auth.default_role);
    page.bare("single_use", auth.single_use);
    page.bare("allow_query_token", auth.allow_query_token);
    match &config.signing_key {
        Some(key) => page.bare("signing_key", format_args!("{{ {} }}", signing_entry(key))),
        None => page.comment("signing_key", "not set: `valetd token` signs with the first shared secret"),
    }
}

fn key_entry(key: &KeyConfig) -> String {
    match key {
        KeyConfig::SharedSecret { kid, secret } => {
            format!("{}algorithm = \"HS256\", secret = \"<{} bytes>\"", kid_entry(kid), secret.expose().len())
        }
        KeyConfig::PublicKey { kid, algorithm, pem } => {
            let name = algorithm.as_str();
            format!("{}algorithm = \"{name}\", public_key_file = \"<{} bytes>\"", kid_entry(kid), pem.len())
        }
        KeyConfig::JwkSet { json } => format!("jwk_set_file = \"<{} bytes>\"", json.len()),
    }
}

fn signing_entry(key: &Signing) -> String {
    let name = key.algorithm.as_str();
    let source = if key.algorithm == Algorithm::Hs256 { "secret" } else { "private_key_file" };
    format!("{}algorithm = \"{name}\", {source} = \"<{} bytes>\"", kid_entry(&key.kid), key.bytes)
}

fn kid_entry(kid: &Option<String>) -> String {
    kid.as_ref().map(|kid| format!("kid = {}, ", quoted(kid))).unwrap_or_default()
}

fn quoted(text: impl Display) -> Value {
    Value::String(text.to_string())
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn section(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.line("");
        }
        self.line(&format!("[{name}]"));
    }

    fn bare(&mut self, key: &str, value: impl Display) {
        self.line(&format!("{key} = {value}"));
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.bare(key, quoted(value));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.text(key, path.display());
    }

    fn duration(&mut self, key: &str, duration: Duration) {
        self.text(key, durations::write(duration));
    }

    fn list(&mut self, key: &str, items: &[String]) {
        self.bare(key, Value::Array(items.iter().map(quoted).collect()));
    }

    fn optional(&mut self, key: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.comment(key, "not set"),
        }
    }

    fn used(&mut self, key: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.comment(key, "not used"),
        }
    }

    fn comment(&mut self, key: &str, what: &str) {
        self.line(&format!("# {key}: {what}"));
    }
}
