//! The name of a request, in its response and in every log line about it.

use std::fmt;

use hyper::header::HeaderValue;

/// 128 random bits in hex, made by us: a name that a client brings could forge another request's log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// A fresh one.
    pub fn generate() -> Self {
        let mut random = [0; 16];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            // No secret hangs on it: without randomness, requests share a name.
            random = [0; 16];
        }
        Self::from_random(random)
    }

    /// From the given bytes.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(random)))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
