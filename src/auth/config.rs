//! Settings of token checking, already checked and with their keys loaded as text.

use std::time::Duration;

use super::Role;
use crate::secret::Secret;

/// Whose tokens are good, and for what.
#[derive(Debug, Clone)]
pub struct Config {
    /// Keys, each with the one algorithm it is for.
    pub keys: Vec<KeyConfig>,
    /// A JWK set at a pinned URL, in addition.
    pub jwks_url: Option<JwksUrl>,
    /// `iss` must be this, where given.
    pub issuer: Option<String>,
    /// `aud` must contain this, where given.
    pub audience: Option<String>,
    /// Clock difference tolerated, at most 5 s.
    pub leeway: Duration,
    /// Role of a token that names none.
    pub default_role: Role,
    /// Whether a token needs a `jti` and is good for one use.
    pub single_use: bool,
    /// Whether `?token=` is taken. It ends up in other people's logs.
    pub allow_query_token: bool,
}

/// The algorithms we know. A key is for one of them; what a token's header says can only agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    Hs256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
}

/// A key of the configuration.
#[derive(Debug, Clone)]
pub enum KeyConfig {
    /// A shared secret of at least 32 bytes, for HS256.
    SharedSecret {
        /// The `kid` that selects it; a token without one is tried against keys without one.
        kid: Option<String>,
        /// The secret.
        secret: Secret<Vec<u8>>,
    },
    /// A public key in PEM (SPKI).
    PublicKey {
        /// The `kid` that selects it.
        kid: Option<String>,
        /// What it is for: ES256, EdDSA or RS256.
        algorithm: Algorithm,
        /// The PEM text.
        pem: String,
    },
    /// A JWK set, as JSON text. Each of its keys has a `kid` and an algorithm of those we know.
    JwkSet {
        /// The JSON text.
        json: String,
    },
}

/// A JWK set that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl {
    /// `https://…`, or `http://` on loopback.
    pub url: String,
    /// How often it is fetched at least.
    pub refresh: Duration,
}
