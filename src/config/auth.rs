//! `[auth]`: whose tokens are good, and the key to sign with.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::Table;

use super::document::{Document, Section, Show};
use super::secrets::Wanted;
use super::settings::Signing;
use super::values::{absolute_path, key_set_url};
use crate::auth::{
    Algorithm, Config, JwksUrl, KeyConfig, KeySet, MAX_KEYS, MIN_SECRET_BYTES, Role, SigningKey,
};
use crate::secret::Secret;

/// A rotated key is picked up within a coffee break; an unknown `kid` asks sooner anyway.
const DEFAULT_JWKS_REFRESH: Duration = Duration::from_secs(10 * 60);
/// Clocks that NTP keeps differ by less; a longer leeway is a longer life for every stolen token.
const DEFAULT_LEEWAY: Duration = Duration::from_secs(5);
const MAX_LEEWAY: Duration = Duration::from_secs(5);
/// Tokens without a role are minted for the session's own user.
const DEFAULT_ROLE: Role = Role::Controller;

const NO_KEY: &str = "must have a key, or auth.jwks_url must be given: nobody could be let in";
const HS256_ONLY: &str = "must be \"HS256\" with a secret";
const PUBLIC_ONLY: &str = "must be \"ES256\", \"EdDSA\" or \"RS256\" with a key file";

/// A secret or a private key, where one could be read.
type Hidden = Option<Secret<Vec<u8>>>;

type Read<'r> = &'r dyn Fn(Wanted<'_>) -> Result<Vec<u8>, String>;

pub(super) fn auth(document: &mut Document, read: Read<'_>) -> (Config, Option<Signing>) {
    let mut section = document.section("auth");
    let keys_given = section.has("keys");
    let url_given = section.has("jwks_url");
    let tables = section.checked("keys", Show::Redacted, |tables: Vec<Table>| match tables.len() {
        0 if !url_given => Err(NO_KEY.to_owned()),
        0..=MAX_KEYS => Ok(tables),
        _ => Err(format!("must be {MAX_KEYS} at most")),
    });
    if !keys_given && !url_given {
        section.refuse("keys", NO_KEY);
    }
    let mut keys = Vec::new();
    for (index, table) in tables.unwrap_or_default().into_iter().enumerate() {
        keys.extend(key(section.entry("keys", index, table), read));
    }
    refuse_repeated_kids(&mut section, &keys);
    let refresh = Duration::from_secs(10)..=Duration::from_secs(24 * 60 * 60);
    let refresh = section.duration("jwks_refresh", DEFAULT_JWKS_REFRESH, refresh);
    let url = section.checked("jwks_url", Show::Redacted, |text: String| key_set_url(&text));
    let config = Config {
        keys,
        jwks_url: url.map(|url| JwksUrl { url, refresh }),
        issuer: section.text("issuer"),
        audience: section.text("audience"),
        leeway: section.duration("leeway", DEFAULT_LEEWAY, Duration::ZERO..=MAX_LEEWAY),
        default_role: section.parsed("default_role", default_role).unwrap_or(DEFAULT_ROLE),
        single_use: section.boolean("single_use", false),
        allow_query_token: section.boolean("allow_query_token", false),
    };
    let (signing, given) = section.section("signing_key");
    let signing_key = signing_key(signing, given, read);
    section.finish();
    (config, signing_key)
}

fn default_role(text: &str) -> Result<Role, String> {
    match text.parse() {
        Ok(role @ (Role::Spectator | Role::Controller)) => Ok(role),
        _ => Err("must be spectator or controller".to_owned()),
    }
}

/// An entry of `auth.keys`.
fn key(mut section: Section<'_>, read: Read<'_>) -> Option<KeyConfig> {
    let given = ["secret", "public_key_file", "jwk_set_file"].map(|name| section.has(name));
    let has_algorithm = section.has("algorithm");
    let has_kid = section.has("kid");
    let kid = section.parsed("kid", kid);
    let algorithm = section.parsed("algorithm", algorithm);
    let secret = section.checked("secret", Show::Redacted, |name: String| shared_secret(&name, read));
    let pem = section.parsed("public_key_file", |path| public_text(path, read));
    let json = section.parsed("jwk_set_file", |path| public_text(path, read));
    match given {
        [true, false, false] => refuse_algorithm(&mut section, has_algorithm, algorithm, Kind::Shared),
        [false, true, false] => refuse_algorithm(&mut section, has_algorithm, algorithm, Kind::Public),
        [false, false, true] => {
            if has_algorithm || has_kid {
                section.refuse("jwk_set_file", "stands alone: each key of the set has its own kid and alg");
            }
        }
        _ => section.refuse("", "must have exactly one of secret, public_key_file and jwk_set_file"),
    }
    let entry = match (secret, pem, json) {
        (Some(secret), None, None) => Some(KeyConfig::SharedSecret { kid, secret }),
        // Without a good algorithm there is a mistake already.
        (None, Some(pem), None) => algorithm.map(|algorithm| KeyConfig::PublicKey { kid, algorithm, pem }),
        (None, None, Some(json)) => Some(KeyConfig::JwkSet { json }),
        _ => None,
    };
    let unfit = match &entry {
        Some(KeyConfig::PublicKey { algorithm: Algorithm::Hs256, .. }) | None => None,
        Some(key) => KeySet::from_config(std::slice::from_ref(key)).err(),
    };
    if let Some(error) = unfit {
        section.refuse("", format!("the key cannot be used: {}", crate::errors::chain(&error)));
    }
    section.finish();
    entry
}

/// What a key's material is, which decides the algorithms it can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shared,
    Public,
}

/// An algorithm that is none of ours was refused where it was read.
fn refuse_algorithm(section: &mut Section<'_>, given: bool, algorithm: Option<Algorithm>, kind: Kind) {
    let fits = algorithm.map(|algorithm| (algorithm == Algorithm::Hs256) == (kind == Kind::Shared));
    if fits == Some(false) || !given {
        section.refuse("algorithm", if kind == Kind::Shared { HS256_ONLY } else { PUBLIC_ONLY });
    }
}

fn refuse_repeated_kids(section: &mut Section<'_>, keys: &[KeyConfig]) {
    let mut seen = BTreeSet::new();
    for key in keys {
        let (KeyConfig::SharedSecret { kid, .. } | KeyConfig::PublicKey { kid, .. }) = key else { continue };
        if let Some(kid) = kid
            && !seen.insert(kid)
        {
            section.refuse("keys", format!("must have each kid once: {kid:?} is there again"));
        }
    }
}

fn signing_key(mut section: Section<'_>, given: bool, read: Read<'_>) -> Option<Signing> {
    let named = ["secret", "private_key_file"].map(|name| section.has(name));
    let has_algorithm = section.has("algorithm");
    let kid = section.parsed("kid", kid);
    let algorithm = section.parsed("algorithm", algorithm);
    let secret = section.checked("secret", Show::Redacted, |name: String| shared_secret(&name, read));
    let pem = section.checked("private_key_file", Show::Redacted, |name: String| private_key(&name, read));
    match named {
        [true, false] => refuse_algorithm(&mut section, has_algorithm, algorithm, Kind::Shared),
        [false, true] => refuse_algorithm(&mut section, has_algorithm, algorithm, Kind::Public),
        _ if given => section.refuse("", "must have exactly one of secret and private_key_file"),
        _ => {}
    }
    let key = sign_with(&mut section, kid, algorithm, (secret, pem));
    section.finish();
    key
}

fn sign_with(
    section: &mut Section<'_>,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    material: (Hidden, Hidden),
) -> Option<Signing> {
    let (algorithm, bytes, key) = match (algorithm?, material) {
        (Algorithm::Hs256, (Some(secret), None)) => {
            let key = SigningKey::from_secret(kid.clone(), secret.expose());
            (Algorithm::Hs256, secret.expose().len(), key)
        }
        (Algorithm::Hs256, _) => return None,
        (algorithm, (None, Some(pem))) => {
            let text = String::from_utf8_lossy(pem.expose());
            (algorithm, pem.expose().len(), SigningKey::from_pem(kid.clone(), algorithm, &text))
        }
        _ => return None,
    };
    match key {
        Ok(key) => Some(Signing { kid, algorithm, bytes, key }),
        Err(error) => {
            section.refuse("", format!("the key cannot be used: {}", crate::errors::chain(&error)));
            None
        }
    }
}

fn kid(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 64 characters of A-Z a-z 0-9 _ -".to_owned())
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let all = [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];
    all.into_iter()
        .find(|algorithm| algorithm.as_str() == text)
        .ok_or_else(|| "must be HS256, ES256, EdDSA or RS256".to_owned())
}

fn shared_secret(name: &str, read: Read<'_>) -> Result<Secret<Vec<u8>>, String> {
    let secret = read(Wanted::Secret(name))?;
    if secret.len() < MIN_SECRET_BYTES {
        return Err(format!("the secret has {} bytes; must be {MIN_SECRET_BYTES} at least", secret.len()));
    }
    Ok(Secret::new(secret))
}

fn private_key(name: &str, read: Read<'_>) -> Result<Secret<Vec<u8>>, String> {
    let pem = read(Wanted::Secret(name))?;
    if !String::from_utf8_lossy(&pem).contains("PRIVATE KEY-----") {
        return Err("the file must be a private key in PEM".to_owned());
    }
    Ok(Secret::new(pem))
}

fn public_text(path: &str, read: Read<'_>) -> Result<String, String> {
    let text = read(Wanted::Public(&absolute_path(path)?))?;
    let text = String::from_utf8(text).map_err(|_| "the file must be text".to_owned())?;
    if text.contains("PRIVATE KEY-----") {
        return Err("the file is a private key: give the public one, which needs no hiding".to_owned());
    }
    Ok(text)
}
