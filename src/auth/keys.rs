//! The keys that tokens are checked with. A key is for one algorithm, which its type decides.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::DecodingKey;

use super::claims::{Header, is_key_id};
use super::jwk;
use super::{Algorithm, KeyConfig, Refusal};

/// Shortest shared secret: the output of the hash (RFC 7518 section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// Size of an RSA modulus, in bits (RFC 7518 section 3.3; above, a signature costs too much to check).
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Most keys in a set, so that a token without `kid` costs a bounded number of checks.
pub const MAX_KEYS: usize = 32;

/// Why a key cannot be used. Names the key, shows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too short for HMAC-SHA-256.
    #[error("a shared secret needs at least {MIN_SECRET_BYTES} bytes; this one has {0}")]
    ShortSecret(usize),
    /// Not `-----BEGIN PUBLIC KEY-----`, or not of the stated kind.
    #[error("not a public key in PEM (SPKI) for {0}")]
    BadPem(&'static str),
    /// The modulus is too small or too big.
    #[error("an RSA key needs 2048 to 8192 bits; this one has {0}")]
    RsaSize(usize),
    /// Outside `[A-Za-z0-9_-]{1,64}`.
    #[error("a kid is 1 to 64 characters of A-Z a-z 0-9 _ -")]
    BadKeyId,
    /// Two keys with one name.
    #[error("the kid {0} is used twice")]
    DuplicateKeyId(String),
    /// More than [`MAX_KEYS`].
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
    /// A shared secret for a public algorithm, or the reverse.
    #[error("{0} is not an algorithm of public keys")]
    NotPublic(&'static str),
    /// The JWK set is not one.
    #[error("not a JWK set: {0}")]
    BadSet(&'static str),
}

impl Algorithm {
    /// The name in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    pub(super) fn to_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

/// One key and what it is for.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl Key {
    /// Whether `signature` (base64url) over `message` is by this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.decoding, self.algorithm.to_library())
            .unwrap_or(false)
    }

    fn from_pem(id: Option<String>, algorithm: Algorithm, pem: &str) -> Result<Self, KeyError> {
        let bad = |_| KeyError::BadPem(algorithm.as_str());
        // The library would also take a private key or a certificate.
        if !pem.trim_start().starts_with("-----BEGIN PUBLIC KEY-----") {
            return Err(KeyError::BadPem(algorithm.as_str()));
        }
        let decoding = match algorithm {
            Algorithm::Hs256 => return Err(KeyError::NotPublic(algorithm.as_str())),
            Algorithm::Es256 => DecodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDsa => DecodingKey::from_ed_pem(pem.as_bytes()),
            Algorithm::Rs256 => DecodingKey::from_rsa_pem(pem.as_bytes()),
        }
        .map_err(bad)?;
        let bytes = decoding.try_get_as_bytes().map_err(bad)?;
        match algorithm {
            Algorithm::Rs256 => {
                let key = aws_lc_rs::rsa::PublicKey::from_der(bytes)
                    .map_err(|_| KeyError::BadPem(algorithm.as_str()))?;
                check_rsa_size(
                    aws_lc_rs::signature::RsaPublicKeyComponents::<Vec<u8>>::from(&key).n.as_slice(),
                )?;
            }
            _ => check_point(algorithm, bytes)?,
        }
        Ok(Self { id, algorithm, decoding })
    }
}

/// Whether an elliptic key is a point of its curve.
pub(super) fn check_point(algorithm: Algorithm, bytes: &[u8]) -> Result<(), KeyError> {
    let parsed = match algorithm {
        Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes),
        _ => ParsedPublicKey::new(&ED25519, bytes),
    };
    parsed.map(drop).map_err(|_| KeyError::BadPem(algorithm.as_str()))
}

/// Checks a modulus, big endian.
pub(super) fn check_rsa_size(modulus: &[u8]) -> Result<(), KeyError> {
    let first = modulus.iter().position(|byte| *byte != 0).unwrap_or(modulus.len());
    let significant = modulus.get(first..).unwrap_or_default();
    let unused = significant.first().map_or(0, |byte| byte.leading_zeros());
    let bits = significant.len() * 8 - usize::try_from(unused).unwrap_or(0);
    if RSA_BITS.contains(&bits) { Ok(()) } else { Err(KeyError::RsaSize(bits)) }
}

/// Keys, found by `kid`.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// The keys of the configuration.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn from_config(configs: &[KeyConfig]) -> Result<Self, KeyError> {
        let mut set = Self::default();
        for config in configs {
            match config {
                KeyConfig::SharedSecret { kid, secret } => {
                    let secret = secret.expose();
                    if secret.len() < MIN_SECRET_BYTES {
                        return Err(KeyError::ShortSecret(secret.len()));
                    }
                    let decoding = DecodingKey::from_secret(secret);
                    set.add(Key { id: kid.clone(), algorithm: Algorithm::Hs256, decoding })?;
                }
                KeyConfig::PublicKey { kid, algorithm, pem } => {
                    set.add(Key::from_pem(kid.clone(), *algorithm, pem)?)?;
                }
                KeyConfig::JwkSet { json } => set = set.with_public_set(json)?,
            }
        }
        Ok(set)
    }

    /// These keys and those of a JWK set (RFC 7517), which is public: a shared secret in it refuses the set.
    ///
    /// # Errors
    /// When the text is no such set, has no key for us, or names a key that we have already.
    pub fn with_public_set(&self, json: &str) -> Result<Self, KeyError> {
        let mut set = self.clone();
        for key in jwk::parse_public_set(json)? {
            set.add(key)?;
        }
        Ok(set)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn add(&mut self, key: Key) -> Result<(), KeyError> {
        if let Some(id) = &key.id {
            if !is_key_id(id) {
                return Err(KeyError::BadKeyId);
            }
            if self.keys.iter().any(|other| other.id.as_ref() == Some(id)) {
                return Err(KeyError::DuplicateKeyId(id.clone()));
            }
        }
        if self.keys.len() == MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        self.keys.push(key);
        Ok(())
    }

    /// The keys that may have signed a token with this header. A token that names no key is tried against the keys
    /// without a name, or against the only key.
    pub(super) fn candidates(&self, header: &Header) -> Result<Vec<&Key>, Refusal> {
        let algorithm = header.algorithm.ok_or(Refusal::WrongAlgorithm)?;
        let named: Vec<&Key> = match (&header.key_id, self.keys.as_slice()) {
            (None, [only]) => vec![only],
            (id, keys) => keys.iter().filter(|key| key.id == *id).collect(),
        };
        if named.is_empty() {
            return Err(Refusal::UnknownKey);
        }
        let fitting: Vec<&Key> = named.into_iter().filter(|key| key.algorithm == algorithm).collect();
        if fitting.is_empty() { Err(Refusal::WrongAlgorithm) } else { Ok(fitting) }
    }
}
