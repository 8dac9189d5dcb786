//! What can be wrong with received bytes.

/// A peer broke the protocol or a limit of ours; the connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A message type that we do not know, so that its length is unknown too.
    #[error("unknown message type {0}")]
    UnknownType(u8),
    /// A count or length above the limit.
    #[error("{field} is {got}, the limit is {limit}")]
    TooLong {
        /// What was counted.
        field: &'static str,
        /// What the peer announced.
        got: u32,
        /// What we take.
        limit: u32,
    },
    /// A field with a value that makes no sense.
    #[error("bad {field}: {reason}")]
    BadField {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl DecodeError {
    pub(crate) fn bad(field: &'static str, reason: &'static str) -> Self {
        Self::BadField { field, reason }
    }

    /// `got` if it is at most `limit`.
    pub(crate) fn check(field: &'static str, got: u32, limit: u32) -> Result<u32, Self> {
        if got > limit { Err(Self::TooLong { field, got, limit }) } else { Ok(got) }
    }
}
