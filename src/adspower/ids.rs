//! AdsPower's names of profiles, checked where they enter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest id taken, in bytes; AdsPower's own have about ten.
const MAX_PROFILE_ID_BYTES: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an AdsPower profile id is 1 to {MAX_PROFILE_ID_BYTES} characters of A-Z a-z 0-9 _ -")]
pub struct BadProfileId;

/// A profile, as AdsPower names it: `profile_id` of its API's second version, `user_id` of the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileId(String);

impl ProfileId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProfileId {
    type Error = BadProfileId;
    fn try_from(text: String) -> Result<Self, BadProfileId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let good = (1..=MAX_PROFILE_ID_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if good { Ok(Self(text)) } else { Err(BadProfileId) }
    }
}

impl FromStr for ProfileId {
    type Err = BadProfileId;
    fn from_str(text: &str) -> Result<Self, BadProfileId> {
        Self::try_from(text.to_owned())
    }
}

impl From<ProfileId> for String {
    fn from(id: ProfileId) -> String {
        id.0
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_short_word_that_means_nothing_in_a_url_or_a_path() {
        for bad in ["", ".", "..", "a/b", "a b", "a&b", "a%2f", "a\0", "é", &"x".repeat(65)] {
            assert_eq!(bad.parse::<ProfileId>(), Err(BadProfileId), "{bad:?}");
        }
        for good in ["h1yynkm", "k1_ab-2", &"x".repeat(64)] {
            assert_eq!(good.parse::<ProfileId>().unwrap().as_str(), good);
        }
    }
}
