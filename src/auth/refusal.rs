//! Why a credential is not good, and what that looks like from outside: one table.

/// Why a request is refused. A closed set: each maps once to a status, a problem type and a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// No credential where one is needed.
    #[error("no credential")]
    Missing,
    /// Not a token: too long, wrong structure, a claim of the wrong type, a required claim absent, a `crit` header.
    #[error("the credential is malformed")]
    Malformed,
    /// The header names an algorithm that its key is not for, or `none`.
    #[error("the token's algorithm is not the one of its key")]
    WrongAlgorithm,
    /// No key of ours fits the token.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is not by that key.
    #[error("the token's signature does not verify")]
    BadSignature,
    /// `exp` is not in the future.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iss` is not the configured one.
    #[error("the token's issuer is not ours")]
    WrongIssuer,
    /// `aud` does not contain the configured one.
    #[error("the token is for another audience")]
    WrongAudience,
    /// The `jti` was seen before, or the ticket is unknown, used or older than its time.
    #[error("the credential was used already")]
    Replayed,
    /// The memory of used tokens is full, so that this one cannot be shown to be new.
    #[error("too many credentials in use")]
    Exhausted,
    /// The token is for another session.
    #[error("the credential is for another session")]
    WrongSession,
    /// The session belongs to another user.
    #[error("the session belongs to another user")]
    WrongUser,
    /// The role does not allow this.
    #[error("the role does not allow this")]
    WrongRole,
}

impl Refusal {
    /// All of them, for tables and metrics.
    pub const ALL: [Self; 14] = [
        Self::Missing,
        Self::Malformed,
        Self::WrongAlgorithm,
        Self::UnknownKey,
        Self::BadSignature,
        Self::Expired,
        Self::NotYetValid,
        Self::WrongIssuer,
        Self::WrongAudience,
        Self::Replayed,
        Self::Exhausted,
        Self::WrongSession,
        Self::WrongUser,
        Self::WrongRole,
    ];

    /// Status, the name behind `urn:valetd:problem:`, and the metric label. What is wrong with a forged token is told
    /// to the metric only: the sender learns "invalid".
    fn outside(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Missing => (401, "credential-missing", "missing"),
            Self::Malformed => (401, "credential-invalid", "malformed"),
            Self::WrongAlgorithm => (401, "credential-invalid", "wrong_algorithm"),
            Self::UnknownKey => (401, "credential-invalid", "unknown_key"),
            Self::BadSignature => (401, "credential-invalid", "bad_signature"),
            Self::Expired => (401, "credential-expired", "expired"),
            Self::NotYetValid => (401, "credential-not-yet-valid", "not_yet_valid"),
            Self::WrongIssuer => (401, "credential-invalid", "wrong_issuer"),
            Self::WrongAudience => (401, "credential-invalid", "wrong_audience"),
            Self::Replayed => (401, "credential-used", "replayed"),
            Self::Exhausted => (429, "too-many-credentials", "exhausted"),
            Self::WrongSession => (403, "wrong-session", "wrong_session"),
            Self::WrongUser => (403, "wrong-user", "wrong_user"),
            Self::WrongRole => (403, "wrong-role", "wrong_role"),
        }
    }

    /// HTTP status: 401, 403 or 429.
    pub fn status(self) -> u16 {
        self.outside().0
    }

    /// The problem's name, stable.
    pub fn problem(self) -> &'static str {
        self.outside().1
    }

    /// Label of the refusal counter.
    pub fn label(self) -> &'static str {
        self.outside().2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_label_and_a_refusing_status() {
        let mut labels: Vec<_> = Refusal::ALL.map(Refusal::label).into();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), 14);
        assert!(Refusal::ALL.iter().all(|refusal| matches!(refusal.status(), 401 | 403 | 429)));
    }
}
