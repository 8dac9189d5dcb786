//! What browser opens a profile.

/// What browser opens a profile, and is in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Chromium of ours.
    Chromium,
    /// A profile opened through AdsPower.
    AdsPower,
}

impl Kind {
    /// All of them, for messages.
    pub const ALL: [Self; 2] = [Self::Chromium, Self::AdsPower];

    /// The kind as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::AdsPower => "adspower",
        }
    }

    /// The kind that a word means.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}
