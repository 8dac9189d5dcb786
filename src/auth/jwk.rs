//! JWK sets (RFC 7517, keys of RFC 7518 section 6 and RFC 8037). Public ones only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use super::Algorithm;
use super::keys::{Key, KeyError, check_point, check_rsa_size};

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// The private part of any asymmetric key.
    d: Option<serde_json::Value>,
}

/// The keys of a set that are for signatures of the algorithms we know; a provider's set may hold others, which are
/// passed over (RFC 7517 section 5). Secret material anywhere in it refuses the whole set: whoever published it has a
/// leak to close first.
pub(super) fn parse_public_set(json: &str) -> Result<Vec<Key>, KeyError> {
    let set: Set = serde_json::from_str(json).map_err(|_| KeyError::BadSet("the JSON does not fit"))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        if jwk.kty == "oct" {
            return Err(KeyError::BadSet("it holds a shared secret"));
        }
        if jwk.d.is_some() {
            return Err(KeyError::BadSet("it holds a private key"));
        }
        if let Some(algorithm) = jwk.algorithm() {
            let id = jwk.kid.clone().ok_or(KeyError::BadSet("a key has no kid"))?;
            keys.push(Key { id: Some(id), algorithm, decoding: jwk.decoding(algorithm)? });
        }
    }
    if keys.is_empty() { Err(KeyError::BadSet("it has no key that we can use")) } else { Ok(keys) }
}

impl Jwk {
    /// What the key is for, by its type; `None` when it is not for us.
    fn algorithm(&self) -> Option<Algorithm> {
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            _ => return None,
        };
        let agrees = self.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str())
            && self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        agrees.then_some(algorithm)
    }

    fn decoding(&self, algorithm: Algorithm) -> Result<DecodingKey, KeyError> {
        match algorithm {
            Algorithm::Rs256 => {
                let (n, e) = (field(self.n.as_ref())?, field(self.e.as_ref())?);
                check_rsa_size(&n)?;
                Ok(DecodingKey::from_rsa_raw_components(&n, &e))
            }
            Algorithm::Es256 => {
                let point = [vec![4], field(self.x.as_ref())?, field(self.y.as_ref())?].concat();
                check_point(algorithm, &point).map_err(|_| KeyError::BadSet("a P-256 key is no point"))?;
                Ok(DecodingKey::from_ec_der(&point))
            }
            Algorithm::EdDsa => {
                let point = field(self.x.as_ref())?;
                check_point(algorithm, &point).map_err(|_| KeyError::BadSet("an Ed25519 key is no point"))?;
                Ok(DecodingKey::from_ed_der(&point))
            }
            Algorithm::Hs256 => Err(KeyError::BadSet("it holds a shared secret")),
        }
    }
}

fn field(text: Option<&String>) -> Result<Vec<u8>, KeyError> {
    let text = text.ok_or(KeyError::BadSet("a key lacks a part"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::BadSet("a key has a part that is not base64url"))
}
