//! What AdsPower can be asked.

use std::time::Duration;

/// From the call to its answer, the wait in the queue included.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same for calls that make AdsPower fetch things: a profile's first start downloads a browser.
const PATIENT_DEADLINE: Duration = Duration::from_secs(60);

/// A call of the API, as a closed set of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Whether the API is there.
    Status,
    /// Opens a profile's browser.
    Start,
    /// Closes it.
    Stop,
    /// Whether it is open.
    Active,
    /// Which are open on this machine.
    LocalActive,
    /// Which profiles there are.
    List,
    /// A new profile.
    Create,
    /// Other settings for a profile.
    Update,
    /// Removes profiles.
    Delete,
    /// Which browsers AdsPower has, or could fetch.
    Kernels,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Status,
        Self::Start,
        Self::Stop,
        Self::Active,
        Self::LocalActive,
        Self::List,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Kernels,
    ];

    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Active => "active",
            Self::LocalActive => "local_active",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Kernels => "kernels",
        }
    }

    /// Whether it may take AdsPower long.
    pub(super) fn is_patient(self) -> bool {
        matches!(self, Self::Start | Self::Create)
    }

    /// From the call to its answer, the wait in the queue included.
    pub(super) fn deadline(self) -> Duration {
        if self.is_patient() { PATIENT_DEADLINE } else { DEADLINE }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f21_nobody_waits_longer_than_10_s_but_for_a_browser_or_a_new_profile() {
        let patient: Vec<_> = Call::ALL.into_iter().filter(|call| call.deadline().as_secs() > 10).collect();
        assert_eq!(patient, [Call::Start, Call::Create]);
        assert!(patient.iter().all(|call| call.deadline().as_secs() == 60));
    }
}
