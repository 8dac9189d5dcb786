//! Asking the manager about the pool of profiles, and having it changed.

use std::time::Duration;

use tokio::sync::oneshot;

use super::handle::{ANSWER_DEADLINE, ManagerHandle, Request, Unresponsive};
use crate::browser::Condition;
use crate::ids::{ProfileName, UserId};
use crate::profile::{ChangeError, NewProfile, Profile};

/// For a profile's directory to be removed; some gigabytes of small files.
pub(super) const REMOVAL_DEADLINE: Duration = Duration::from_secs(60);

/// A profile of the pool now.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileStatus {
    /// It.
    pub profile: Profile,
    /// What is left of its rest, while it rests.
    pub left: Option<Duration>,
}

/// Why the pool did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It would not do.
    #[error(transparent)]
    Denied(#[from] ChangeError),
    /// Its directory could not be removed; it is quarantined.
    #[error("its directory could not be removed")]
    NotRemoved(#[source] std::io::Error),
    /// The manager does not answer.
    #[error(transparent)]
    Unresponsive(#[from] Unresponsive),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, ProfileError>>;

/// To the manager.
pub(super) enum ProfileRequest {
    List {
        user: Option<UserId>,
        reply: oneshot::Sender<Vec<ProfileStatus>>,
    },
    Show {
        name: ProfileName,
        reply: Reply<ProfileStatus>,
    },
    Add {
        new: NewProfile,
        reply: Reply<ProfileStatus>,
    },
    Release {
        name: ProfileName,
        reply: Reply<ProfileStatus>,
    },
    Quarantine {
        name: ProfileName,
        reason: String,
        reply: Reply<ProfileStatus>,
    },
    Remove {
        name: ProfileName,
        reply: Reply<ProfileStatus>,
    },
    /// Its session is over, and so is what was to be done for it then.
    LookedAfter {
        name: ProfileName,
        condition: std::io::Result<Condition>,
    },
    /// Of a removal: its directory is gone, or is not.
    Removed {
        name: ProfileName,
        outcome: std::io::Result<()>,
        reply: Option<Reply<ProfileStatus>>,
    },
}

impl ManagerHandle {
    /// The pool's profiles, of this user or of all, by their names.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn profiles(&self, user: Option<UserId>) -> Result<Vec<ProfileStatus>, Unresponsive> {
        let request = |reply| Request::Profiles(ProfileRequest::List { user, reply });
        self.ask(ANSWER_DEADLINE, request).await
    }

    /// A profile of the pool.
    ///
    /// # Errors
    /// When there is none of that name, or the manager does not answer.
    pub async fn profile(&self, name: ProfileName) -> Result<ProfileStatus, ProfileError> {
        let request = |reply| Request::Profiles(ProfileRequest::Show { name, reply });
        self.ask(ANSWER_DEADLINE, request).await?
    }

    /// Adds a profile to the pool.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub async fn add_profile(&self, new: NewProfile) -> Result<ProfileStatus, ProfileError> {
        let request = |reply| Request::Profiles(ProfileRequest::Add { new, reply });
        self.ask(ANSWER_DEADLINE, request).await?
    }

    /// Ends a profile's quarantine or rest; one that is in use comes back as usual.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub async fn release_profile(&self, name: ProfileName) -> Result<ProfileStatus, ProfileError> {
        let request = |reply| Request::Profiles(ProfileRequest::Release { name, reply });
        self.ask(ANSWER_DEADLINE, request).await?
    }

    /// Keeps a profile from being used; one that is in use, once it comes back.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub async fn quarantine_profile(
        &self,
        name: ProfileName,
        reason: String,
    ) -> Result<ProfileStatus, ProfileError> {
        let request = |reply| Request::Profiles(ProfileRequest::Quarantine { name, reason, reply });
        self.ask(ANSWER_DEADLINE, request).await?
    }

    /// Takes a profile that nobody uses out of the pool, with its directory. Gives it as it was last.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub async fn remove_profile(&self, name: ProfileName) -> Result<ProfileStatus, ProfileError> {
        let request = |reply| Request::Profiles(ProfileRequest::Remove { name, reply });
        self.ask(ANSWER_DEADLINE + REMOVAL_DEADLINE, request).await?
    }
}
