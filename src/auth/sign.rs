//! Signing tokens.

use jsonwebtoken::EncodingKey;

use super::keys::MIN_SECRET_BYTES;
use super::{Algorithm, Claims};

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key is too short or not of the stated kind.
    #[error("not a signing key for {0}")]
    BadKey(&'static str),
    /// The library refused.
    #[error("cannot sign")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// A key that tokens are signed with. `Debug` shows nothing of it.
#[derive(Debug, Clone)]
pub struct SigningKey {
    kid: Option<String>,
    algorithm: Algorithm,
    encoding: EncodingKey,
}

impl SigningKey {
    /// HS256 with a shared secret of at least 32 bytes.
    ///
    /// # Errors
    /// When the secret is shorter.
    pub fn from_secret(kid: Option<String>, secret: &[u8]) -> Result<Self, SignError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(SignError::BadKey("HS256"));
        }
        Ok(Self { kid, algorithm: Algorithm::Hs256, encoding: EncodingKey::from_secret(secret) })
    }

    /// ES256, EdDSA or RS256 with a private key in PEM (PKCS #8).
    ///
    /// # Errors
    /// When the PEM does not hold such a key.
    pub fn from_pem(kid: Option<String>, algorithm: Algorithm, pem: &str) -> Result<Self, SignError> {
        let encoding = match algorithm {
            Algorithm::Hs256 => return Err(SignError::BadKey("HS256")),
            Algorithm::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()),
            Algorithm::Rs256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
        }
        .map_err(|_| SignError::BadKey(algorithm.as_str()))?;
        Ok(Self { kid, algorithm, encoding })
    }
}

/// A signed token with these claims.
///
/// # Errors
/// When the key does not sign.
pub fn sign(claims: &Claims, key: &SigningKey) -> Result<String, SignError> {
    let mut header = jsonwebtoken::Header::new(key.algorithm.to_library());
    header.kid.clone_from(&key.kid);
    jsonwebtoken::encode(&header, claims, &key.encoding).map_err(SignError::Sign)
}
