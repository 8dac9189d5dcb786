//! Whether it is the host that keeps browsers from starting, and not the profiles that they are tried with.

use super::pool::Outcome;
use crate::ids::ProfileName;

/// What the last starts were like. A browser that starts with none of several profiles says nothing of any of them.
#[derive(Debug, Default)]
pub struct Doubt {
    /// The profile with which one did not start last, if none has started since.
    failed: Option<ProfileName>,
}

impl Doubt {
    /// A browser has started on this host, whatever with.
    pub fn started(&mut self) {
        self.failed = None;
    }

    /// One has not started with this profile: what that means for the profile. It counts where others have started since one did
    /// not with another profile.
    pub fn not_started(&mut self, profile: &ProfileName, why: String) -> Outcome {
        match self.failed.replace(profile.clone()) {
            Some(other) if other != *profile => Outcome::Cut,
            _ => Outcome::Failed(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_at_fault_where_it_fails_alone() {
        let mut doubt = Doubt::default();
        let (one, two): (ProfileName, ProfileName) = ("one".parse().unwrap(), "two".parse().unwrap());
        let fails = |doubt: &mut Doubt, profile: &ProfileName| {
            doubt.not_started(profile, "why".to_owned()) == Outcome::Failed("why".to_owned())
        };
        assert!(fails(&mut doubt, &one) && fails(&mut doubt, &one));
        assert!(!fails(&mut doubt, &two) && !fails(&mut doubt, &one), "nothing starts here");
        doubt.started();
        assert!(fails(&mut doubt, &two), "another has started");
    }
}
