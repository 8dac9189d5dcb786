//! Why a call brought nothing.

use std::io;
use std::time::Duration;

use super::answer::{Garbage, Refusal};
use super::call::Call;
use super::data::Odd;
use crate::http::GetError;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It cannot stand in a header.
    #[error("the API key of AdsPower has characters that no key has")]
    ApiKey,
}

/// Why there was no exchange. Without the URL, which may hold what a browser's command line does.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// There is no connection to AdsPower itself, so that nothing was sent.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// It broke.
    #[error("the exchange broke")]
    Exchange(#[source] GetError),
}

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It did not come whole.
    #[error("the answer broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is larger than it may be.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// It is no text.
    #[error("the answer is not UTF-8")]
    NotText,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The app is not up.
    #[error("AdsPower is not up")]
    Down,
    /// The app went while it was asked, or serves its API elsewhere now.
    #[error("AdsPower went while it was asked for `{0}`")]
    Lost(Call),
    /// As many as may wait do.
    #[error("too many calls wait for AdsPower")]
    Busy,
    /// Its turn did not come in time.
    #[error("the turn of `{0}` at AdsPower did not come in time")]
    Late(Call),
    /// AdsPower says that it is asked too often, and time was over before it could be asked again.
    #[error("AdsPower is asked too often")]
    TooOften,
    /// It failed so often that it is left alone.
    #[error("AdsPower's API does not answer properly and is left alone for {} s", again_in.as_secs() + 1)]
    Failing {
        /// For so long.
        again_in: Duration,
    },
    /// It did not answer in time.
    #[error("AdsPower did not answer `{call}` within {} s", deadline.as_secs())]
    TimedOut {
        /// What was asked.
        call: Call,
        /// From the call on, with the wait for its turn.
        deadline: Duration,
    },
    /// Nobody listens, or the exchange broke.
    #[error("cannot ask AdsPower for `{call}`")]
    Unreachable {
        /// What was asked.
        call: Call,
        /// Why.
        #[source]
        source: Unreached,
    },
    /// Too large, no text, or it broke off.
    #[error("AdsPower's answer to `{call}` cannot be read")]
    Unreadable {
        /// What was asked.
        call: Call,
        /// Why.
        #[source]
        source: Unread,
    },
    /// None of the API's answers.
    #[error(transparent)]
    Garbage(#[from] Garbage),
    /// Done, it says, and what it says of that does not fit.
    #[error(transparent)]
    Odd(#[from] Odd),
    /// It wants another API key, or one at all.
    #[error("AdsPower does not take the API key")]
    ApiKey,
    /// It does not do that.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Neither version of the call is there: the app is too old.
    #[error("this AdsPower does not know `{0}`")]
    Unsupported(Call),
}

impl Error {
    /// Whether AdsPower may have done it all the same: a profile may have been created of which nobody knows the id.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Lost(_)
            | Self::TimedOut { .. }
            | Self::Unreadable { .. }
            | Self::Garbage(_)
            | Self::Odd(_) => true,
            Self::Unreachable { source, .. } => matches!(source, Unreached::Exchange(_)),
            Self::Down
            | Self::Busy
            | Self::Late(_)
            | Self::TooOften
            | Self::Failing { .. }
            | Self::ApiKey
            | Self::Refused(_)
            | Self::Unsupported(_) => false,
        }
    }

    /// A stable word.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Lost(_) => "lost",
            Self::Busy => "busy",
            Self::Late(_) => "late",
            Self::TooOften => "too_often",
            Self::Failing { .. } => "failing",
            Self::TimedOut { .. } => "timed_out",
            Self::Unreachable { .. } => "unreachable",
            Self::Unreadable { .. } => "unreadable",
            Self::Garbage(_) => "garbage",
            Self::Odd(_) => "odd",
            Self::ApiKey => "api_key",
            Self::Refused(_) => "refused",
            Self::Unsupported(_) => "unsupported",
        }
    }
}
