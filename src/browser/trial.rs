//! Finding out whether a profile keeps its browser from starting (F18 of the fault list): after two starts that failed, a
//! third one tries without what is in the profile: with its last copy where there is one, and then with nothing. Pure; what it
//! decides is carried out by [`super::chromium`].
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
    /// The browser starts with the last copy, and the old content lies aside.
    Copy,
    /// It did not start with that either.
    CopyFailed,
    /// The browser starts with an empty one, and the old content lies aside.
    Empty,
    /// It was not the profile.
    Acquitted,
}

/// What the browser is to find at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preparation {
    /// The profile's own content; what a trial took out is put back.
    Own,
    /// Its last copy: the content is moved aside.
    Copy,
    /// Nothing: the content is moved aside.
    Nothing,
    /// Nothing in place of the copy; the content is aside.
    NothingEither,
    /// What it found before: a trial goes on.
    TheSame,
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

    /// A start is about to be made. `has_copy`: whether there is an older copy of the profile.
    pub(super) fn prepare(&mut self, has_copy: bool) -> Preparation {
        match *self {
            Self::Trusted { failures } if failures >= DOUBTED_AFTER && has_copy => {
                *self = Self::Copy;
                Preparation::Copy
            }
            Self::CopyFailed => {
                *self = Self::Empty;
                Preparation::NothingEither
            }
            Self::Trusted { failures } if failures >= DOUBTED_AFTER => {
                *self = Self::Empty;
                Preparation::Nothing
            }
            Self::Copy | Self::Empty => Preparation::TheSame,
            Self::Trusted { .. } | Self::Acquitted => Preparation::Own,
        }
    }

    /// What was in the profile cannot be kept aside: the trial goes on, and is undone in the end.
    pub(super) fn go_on(&mut self) {
        *self = Self::Empty;
    }

    /// The content could not be moved: the profile stays as it is, and is doubted no more.
    pub(super) fn give_up(&mut self) {
        *self = Self::Acquitted;
    }

    /// A start has ended without the browser ever having answered.
    pub(super) fn failed(&mut self) {
        match self {
            Self::Trusted { failures } => *failures = failures.saturating_add(1),
            Self::Copy => *self = Self::CopyFailed,
            Self::Empty | Self::CopyFailed => *self = Self::Acquitted,
            Self::Acquitted => {}
        }
    }

    /// The browser has answered.
    pub(super) fn succeeded(&mut self) -> Finding {
        let is_tried = matches!(self, Self::Copy | Self::Empty);
        let finding = if is_tried { Finding::Replaced } else { Finding::Usual };
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
            assert_eq!(trial.prepare(false), Preparation::Own);
            trial.failed();
        }
        assert_eq!(trial.prepare(false), Preparation::Nothing);
        assert_eq!(trial.prepare(false), Preparation::TheSame, "its display has died meanwhile");
        assert_eq!(trial.succeeded(), Finding::Replaced);
        assert_eq!(trial.prepare(false), Preparation::Own);
        assert_eq!(trial.succeeded(), Finding::Usual);
    }

    #[test]
    fn a_profile_that_was_not_the_reason_comes_back_and_is_left_alone() {
        let mut trial = Trial::Trusted { failures: 2 };
        assert_eq!(trial.prepare(false), Preparation::Nothing);
        trial.failed();
        for _ in 0..5 {
            assert_eq!(trial.prepare(false), Preparation::Own);
            trial.failed();
        }
        assert_eq!(trial.succeeded(), Finding::Usual);
    }

    #[test]
    fn f18_the_last_copy_is_tried_before_nothing_is() {
        let mut trial = Trial::Trusted { failures: 2 };
        assert_eq!(trial.prepare(true), Preparation::Copy);
        assert_eq!(trial.prepare(false), Preparation::TheSame, "its display has died meanwhile");
        assert_eq!(trial.succeeded(), Finding::Replaced);
        let mut trial = Trial::Trusted { failures: 2 };
        trial.prepare(true);
        trial.failed();
        assert_eq!(trial.prepare(false), Preparation::NothingEither);
        assert_eq!(trial.prepare(false), Preparation::TheSame);
        trial.failed();
        assert_eq!(trial.prepare(false), Preparation::Own);
    }

    #[test]
    fn a_crash_of_a_browser_that_was_up_says_nothing_about_its_profile() {
        let mut trial = Trial::new();
        trial.failed();
        trial.succeeded();
        trial.failed();
        assert_eq!(trial.prepare(false), Preparation::Own);
    }
}
