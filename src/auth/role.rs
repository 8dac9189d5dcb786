//! What a token allows.

use std::fmt;
use std::str::FromStr;

/// The role in a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Looks.
    Spectator,
    /// Looks and acts.
    Controller,
    /// Speaks CDP to the browser.
    Automation,
    /// Uses the host API.
    Operator,
}

impl Role {
    /// All of them, for messages and help.
    pub const ALL: [Self; 4] = [Self::Spectator, Self::Controller, Self::Automation, Self::Operator];

    /// The word in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spectator => "spectator",
            Self::Controller => "controller",
            Self::Automation => "automation",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of the four words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of spectator, controller, automation, operator")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}
