//! `[control_plane]`: who hears how this host is.

use std::path::PathBuf;
use std::time::Duration;

use super::document::{Document, Section, Show};
use super::secrets::Wanted;
use super::values::{absolute_path, control_plane_url, socket_path};
use crate::control_plane::config::FLY_SOCKET;
use crate::control_plane::{Auth, Config, usable};
use crate::secret::Secret;

/// Often enough that a host that has gone is missed within half a minute.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);
/// Longest credential, in bytes: it stands in a header, and heads are short.
const MAX_CREDENTIAL_BYTES: usize = 4096;

type Read<'r> = &'r dyn Fn(Wanted<'_>) -> Result<Vec<u8>, String>;

/// How the host says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bearer,
    FlyOidc,
    Mtls,
}

/// The keys that belong to one kind alone.
const KEYS: [(&str, Kind); 5] = [
    ("credential", Kind::Bearer),
    ("audience", Kind::FlyOidc),
    ("fly_socket", Kind::FlyOidc),
    ("client_certificate", Kind::Mtls),
    ("client_key", Kind::Mtls),
];

/// What was given for them.
struct Given {
    credential: Option<Secret<String>>,
    audience: Option<String>,
    socket: PathBuf,
    certificate: Option<Vec<u8>>,
    key: Option<Secret<Vec<u8>>>,
}

pub(super) fn control_plane(document: &mut Document, read: Read<'_>) -> Option<Config> {
    let mut section = document.section("control_plane");
    let has_url = section.has("url");
    let present: Vec<_> = KEYS.into_iter().filter(|(key, _)| section.has(key)).collect();
    let has_ca = section.has("ca");
    let url = section.parsed("url", control_plane_url);
    let has_auth = section.has("auth");
    let kind = section.parsed("auth", |text| match text {
        "bearer" => Ok(Kind::Bearer),
        "fly_oidc" => Ok(Kind::FlyOidc),
        "mtls" => Ok(Kind::Mtls),
        _ => Err("must be bearer, fly_oidc or mtls".to_owned()),
    });
    // Of a kind that is none, nothing can be missing.
    let kind = kind.or((!has_auth).then_some(Kind::Bearer));
    let given = Given {
        credential: section.checked("credential", Show::Redacted, |name: String| credential(&name, read)),
        audience: section.text("audience"),
        socket: section.parsed("fly_socket", socket_path).unwrap_or_else(|| FLY_SOCKET.into()),
        certificate: section.parsed("client_certificate", |path| public(path, read)),
        key: section.checked("client_key", Show::Redacted, |name: String| {
            read(Wanted::Secret(&name)).map(Secret::new)
        }),
    };
    let ca = section.parsed("ca", |path| public(path, read));
    let range = Duration::from_secs(1)..=Duration::from_secs(300);
    let heartbeat = section.duration("heartbeat", DEFAULT_HEARTBEAT, range);
    if !has_url && (has_ca || !present.is_empty()) {
        section.refuse("url", "must be given too: without it nobody is told anything");
    }
    for (key, of) in &present {
        if kind.is_some_and(|kind| *of != kind) {
            section.refuse(key, format!("belongs to auth = \"{}\"", word(*of)));
        }
    }
    let plain = url.as_ref().is_some_and(|url| url.starts_with("http://"));
    if plain && (has_ca || kind == Some(Kind::Mtls)) {
        section.refuse("url", "must be https with ca or auth = \"mtls\"");
    }
    let kind = kind.filter(|_| has_url);
    let auth = kind.and_then(|kind| auth(&mut section, kind, (given, &present), url.as_deref()));
    let config = url.zip(auth).map(|(url, auth)| Config { url, auth, ca, heartbeat });
    if let Some(config) = &config
        && let Err(problem) = usable(config)
    {
        section.refuse("", problem);
    }
    section.finish();
    config
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Bearer => "bearer",
        Kind::FlyOidc => "fly_oidc",
        Kind::Mtls => "mtls",
    }
}

/// What belongs to the kind, where nothing is missing.
fn auth(
    section: &mut Section<'_>,
    kind: Kind,
    (given, present): (Given, &[(&str, Kind)]),
    url: Option<&str>,
) -> Option<Auth> {
    let Given { credential, audience, socket, certificate, key } = given;
    let mut needed = |key: &str| {
        if present.iter().all(|(name, _)| *name != key) {
            section.refuse(key, format!("must be given with auth = \"{}\"", word(kind)));
        }
    };
    match kind {
        Kind::Bearer => {
            needed("credential");
            credential.map(Auth::Bearer)
        }
        Kind::FlyOidc => {
            let audience = audience.or_else(|| url.map(str::to_owned))?;
            Some(Auth::FlyOidc { audience, socket })
        }
        Kind::Mtls => {
            needed("client_certificate");
            needed("client_key");
            Some(Auth::Mtls { certificate: certificate?, key: key? })
        }
    }
}

fn credential(name: &str, read: Read<'_>) -> Result<Secret<String>, String> {
    let text = String::from_utf8(read(Wanted::Secret(name))?).unwrap_or_default();
    if text.is_empty() || text.len() > MAX_CREDENTIAL_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "the credential must be 1 to {MAX_CREDENTIAL_BYTES} characters of ASCII without blanks"
        ));
    }
    Ok(Secret::new(text))
}

fn public(path: &str, read: Read<'_>) -> Result<Vec<u8>, String> {
    let pem = read(Wanted::Public(&absolute_path(path)?))?;
    let text = String::from_utf8_lossy(&pem);
    if text.contains("PRIVATE KEY-----") {
        return Err("the file holds a private key: give certificates alone".to_owned());
    }
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err("the file must be certificates in PEM".to_owned());
    }
    Ok(pem)
}
