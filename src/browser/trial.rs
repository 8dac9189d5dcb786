//! Finding out whether a profile keeps its browser from starting (F18 of the fault list): after two starts that failed, a
//! third one tries without what is in the profile. Pure; what it decides is carried out by [`super::chromium`].
//!
//! A browser that does not start with an empty profile either has another problem, and gets its own profile back.

/// Starts that fail before the profile is doubted.
const DOUBTED_AFTER: u32 = 2;

/// What is known of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// So many starts in a row have failed with it.
    Trusted {
        /// How many.
        failures: u32,
    },
    /// The browser starts with an empty one, and the old content lies aside.
    Empty,
    /// It was not the profile.
    Acquitted,
}

/// What to do before a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preparation {
    /// Nothing.
    AsItIs,
    /// Move the content aside.
    SetAside,
    /// Put the old content back.
    PutBack,
}

/// What a start that went well means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing.
    Usual,
    /// The profile was the reason: it stays replaced.
    Replaced,
}

impl Trial {
    pub(super) fn new() -> Self {
        Self::Trusted { failures: 0 }
    }

    /// A start is about to be made.
    pub(super) fn prepare(&mut self) -> Preparation {
        match *self {
            Self::Trusted { failures } if failures >= DOUBTED_AFTER => {
                *self = Self::Empty;
                Preparation::SetAside
            }
            Self::Trusted { .. } | Self::Empty | Self::Acquitted => Preparation::AsItIs,
        }
    }

    /// The content could not be moved: the profile stays as it is, and is doubted no more.
    pub(super) fn give_up(&mut self) {
        *self = Self::Acquitted;
    }

    /// A start has ended without the browser ever having answered.
    pub(super) fn failed(&mut self) -> Preparation {
        match self {
            Self::Trusted { failures } => {
                *failures = failures.saturating_add(1);
                Preparation::AsItIs
            }
            Self::Empty => {
                *self = Self::Acquitted;
                Preparation::PutBack
            }
            Self::Acquitted => Preparation::AsItIs,
        }
    }

    /// The browser has answered.
    pub(super) fn succeeded(&mut self) -> Finding {
        let finding = if *self == Self::Empty { Finding::Replaced } else { Finding::Usual };
        *self = Self::new();
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_fails_twice_is_replaced_if_that_helps() {
        let mut trial = Trial::new();
        for _ in 0..2 {
            assert_eq!(trial.prepare(), Preparation::AsItIs);
            assert_eq!(trial.failed(), Preparation::AsItIs);
        }
        assert_eq!(trial.prepare(), Preparation::SetAside);
        assert_eq!(trial.succeeded(), Finding::Replaced);
        assert_eq!(trial.prepare(), Preparation::AsItIs);
        assert_eq!(trial.succeeded(), Finding::Usual);
    }

    #[test]
    fn a_profile_that_was_not_the_reason_comes_back_and_is_left_alone() {
        let mut trial = Trial::Trusted { failures: 2 };
        assert_eq!(trial.prepare(), Preparation::SetAside);
        assert_eq!(trial.failed(), Preparation::PutBack);
        for _ in 0..5 {
            assert_eq!(trial.prepare(), Preparation::AsItIs);
            assert_eq!(trial.failed(), Preparation::AsItIs);
        }
        assert_eq!(trial.succeeded(), Finding::Usual);
    }

    #[test]
    fn a_crash_of_a_browser_that_was_up_says_nothing_about_its_profile() {
        let mut trial = Trial::new();
        trial.failed();
        trial.succeeded();
        trial.failed();
        assert_eq!(trial.prepare(), Preparation::AsItIs);
    }
}
