//! Names of things, checked once where they enter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest id accepted, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to {MAX_ID_BYTES} characters of A-Z a-z 0-9 _ - and starts with a letter or digit")]
pub struct BadId;

fn check(text: &str) -> Result<(), BadId> {
    let bytes = text.as_bytes();
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    match bytes.first() {
        Some(first)
            if first.is_ascii_alphanumeric() && bytes.len() <= MAX_ID_BYTES && bytes.iter().all(allowed) =>
        {
            Ok(())
        }
        _ => Err(BadId),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                check(&text).map(|()| Self(text))
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A session: one user's sandbox. Safe in paths, URLs and log fields as it is.
    SessionId
);

id!(
    /// A profile of a browser that outlives its sessions. Safe as the name of a directory.
    ProfileName
);

id!(
    /// A request for a human, within its session.
    HandoffId
);

impl From<SessionId> for ProfileName {
    fn from(id: SessionId) -> Self {
        // Both are checked alike.
        Self(id.0)
    }
}

/// The user a token was minted for. Opaque to us: any printable text, only ever compared and logged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

/// Longest user id accepted, in bytes; control planes use e-mail addresses or UUIDs.
pub const MAX_USER_ID_BYTES: usize = 256;

/// Why a string is not a user id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a user id is 1 to {MAX_USER_ID_BYTES} bytes without control characters")]
pub struct BadUserId;

impl UserId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserId {
    type Error = BadUserId;
    fn try_from(text: String) -> Result<Self, BadUserId> {
        if text.is_empty() || text.len() > MAX_USER_ID_BYTES || text.chars().any(char::is_control) {
            return Err(BadUserId);
        }
        Ok(Self(text))
    }
}

impl std::str::FromStr for UserId {
    type Err = BadUserId;
    fn from_str(text: &str) -> Result<Self, BadUserId> {
        Self::try_from(text.to_owned())
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> String {
        id.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_a_directory_or_a_url_segment_are_refused() {
        for bad in ["", "..", ".", "-x", "_x", "a/b", "a b", "a\0", "é", "a%2f", &"x".repeat(65)] {
            assert_eq!(bad.parse::<SessionId>(), Err(BadId), "{bad:?}");
        }
        for good in ["a", "0", "dev-1", "A_b-c", &"x".repeat(64)] {
            assert_eq!(good.parse::<SessionId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn user_ids_are_free_text_without_control_characters() {
        assert!("jörg@example.org".parse::<UserId>().is_ok());
        for bad in ["", "a\nb", &"x".repeat(257)] {
            assert_eq!(bad.parse::<UserId>(), Err(BadUserId), "{bad:?}");
        }
    }
}
