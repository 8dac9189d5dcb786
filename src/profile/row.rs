//! Profiles as rows of the store, and back after a restart.

use super::kind::Kind;
use super::pool::Pool;
use super::record::{Fingerprint, Profile, State, StateWord, reason};
use super::settings::Settings;
use super::time::{Moment, Rest};
use crate::ids::ProfileName;
use crate::store::{ProfileRow, ProfileRows};

/// A row that makes no sense, and is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the row of profile {name} has no {what} that makes sense")]
pub struct BadRow {
    /// Of which profile.
    pub name: ProfileName,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Pool {
    /// The pool as an earlier run wrote it down, and what of it could not be understood. Leases are numbered above all that are
    /// known; those of sessions that are no more end with the next [`Pool::expire`].
    pub fn restore(settings: Settings, rows: ProfileRows, now: &Moment) -> (Self, Vec<BadRow>) {
        let mut bad = Vec::new();
        let mut pool = Self::empty(settings, now);
        pool.fence = pool.fence.max(u64::try_from(rows.fence).unwrap_or_default());
        let most = pool.settings.longest_rest();
        for row in rows.profiles {
            let name = row.name.clone();
            let is_double = row.external.as_ref().is_some_and(|external| {
                pool.all()
                    .any(|known| known.external.as_ref().is_some_and(|known| known.as_str() == external))
            });
            let before = row.clone();
            match profile(row, now, most) {
                Ok(_) if is_double => bad.push(BadRow { name, what: "profile of AdsPower's of its own" }),
                Ok(profile) => {
                    pool.fence = pool.fence.max(profile.fence);
                    let is_news = profile.row() != before;
                    pool.restored(profile);
                    if is_news {
                        pool.note_change(name);
                    }
                }
                Err(what) => bad.push(BadRow { name, what }),
            }
        }
        (pool, bad)
    }
}

impl Profile {
    pub(super) fn row(&self) -> ProfileRow {
        let mut row = ProfileRow {
            name: self.name.clone(),
            user: self.user.clone(),
            kind: self.kind.as_str().to_owned(),
            external: self.external.as_ref().map(ToString::to_string),
            proxy: self.proxy.as_ref().map(ToString::to_string),
            fingerprint: self.fingerprint.clone().map(|it| serde_json::Value::from(it).to_string()),
            state: self.state.word().as_str().to_owned(),
            reason: None,
            holder: None,
            fence: signed(self.fence),
            failures: self.failures,
            uses: signed(self.uses),
            last_used_ms: self.last_used_ms,
            created_ms: self.created_ms,
            since_ms: None,
            since_boottime_ms: None,
            boot_id: None,
            length_ms: None,
        };
        match &self.state {
            State::Idle => {}
            State::Active { holder, until_ms: _, condemned } => {
                (row.holder, row.reason) = (Some(holder.clone()), condemned.clone());
            }
            State::Cooldown(Rest { from, length }) => {
                row.since_ms = Some(from.wall_ms);
                row.since_boottime_ms = Some(from.boottime_ms);
                row.boot_id = Some(from.boot_id.to_string());
                row.length_ms = Some(i64::try_from(length.as_millis()).unwrap_or(i64::MAX));
            }
            State::Quarantined { reason, since_ms } => {
                (row.reason, row.since_ms) = (Some(reason.clone()), Some(*since_ms));
            }
        }
        row
    }
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The profile of a row, or what of the row makes no sense.
fn profile(row: ProfileRow, now: &Moment, most: std::time::Duration) -> Result<Profile, &'static str> {
    let kind = Kind::of(&row.kind).ok_or("kind")?;
    let external = row.external.map(ProfileName::try_from).transpose().map_err(|_| "external name")?;
    if (kind == Kind::AdsPower) != external.is_some() {
        return Err("external name");
    }
    let fingerprint = row.fingerprint.map(|text| {
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|_| "fingerprint")?;
        Fingerprint::try_from(value).map_err(|_| "fingerprint")
    });
    let state = match StateWord::of(&row.state).ok_or("state")? {
        StateWord::Idle => State::Idle,
        StateWord::Active => State::Active {
            holder: row.holder.ok_or("holder")?,
            // Whoever had it has to be there still, or it ends now.
            until_ms: now.boottime_ms,
            condemned: row.reason,
        },
        StateWord::Cooldown => {
            let length = u64::try_from(row.length_ms.ok_or("length")?).map_err(|_| "length")?;
            let from = Moment {
                boot_id: row.boot_id.ok_or("boot")?.into(),
                boottime_ms: row.since_boottime_ms.ok_or("beginning")?,
                wall_ms: row.since_ms.ok_or("beginning")?,
            };
            State::Cooldown(
                Rest { from, length: std::time::Duration::from_millis(length) }.resumed(now, most),
            )
        }
        StateWord::Quarantined => State::Quarantined {
            reason: reason(&row.reason.ok_or("reason")?),
            since_ms: row.since_ms.ok_or("beginning")?,
        },
    };
    Ok(Profile {
        name: row.name,
        user: row.user,
        kind,
        external,
        proxy: row.proxy.map(|text| text.parse()).transpose().map_err(|_| "proxy")?,
        fingerprint: fingerprint.transpose()?,
        state,
        failures: row.failures,
        uses: u64::try_from(row.uses).map_err(|_| "number of uses")?,
        fence: u64::try_from(row.fence).map_err(|_| "fence")?,
        last_used_ms: row.last_used_ms,
        created_ms: row.created_ms,
    })
}
