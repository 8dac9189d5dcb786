//! What EC2 announces about a machine: as texts, as notices, and in time that is left. Pure.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::facts::{Odd, word};
use super::time;

/// Of the time until a machine goes, what is left for what comes after its sessions: telling of them, and the system's own end.
const RESERVE: Duration = Duration::from_secs(30);
/// The longest drain that an announcement gives time for. EC2 gives two minutes; a time far ahead is a clock that is wrong.
const MOST_ANNOUNCED: Duration = Duration::from_secs(90);
/// The shortest drain: a machine that is still there after its time has a clock that is wrong, and no reason to kill at once.
const LEAST: Duration = Duration::from_secs(5);

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// EC2 takes the machine back.
    SpotInterruption,
    /// The machine's Auto Scaling group lets go of it.
    LeavingGroup,
    /// It may be taken back soon.
    Rebalance,
}

impl Kind {
    /// All of them, the gravest first.
    pub const ALL: [Self; 3] = [Self::SpotInterruption, Self::LeavingGroup, Self::Rebalance];

    /// The kind as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpotInterruption => "spot_interruption",
            Self::LeavingGroup => "leaving_group",
            Self::Rebalance => "rebalance",
        }
    }
}

/// Something that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub kind: Kind,
    /// What happens to the machine: `terminate`, `Warmed:Stopped`. Nothing more is known of a rebalance.
    pub what: Option<String>,
    /// When it happens, where that is announced.
    pub at: Option<SystemTime>,
    /// When it was given or, where that is not said, first seen.
    pub since: SystemTime,
}

/// `spot/instance-action`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interruption {
    pub(super) action: String,
    pub(super) at: Option<SystemTime>,
}

/// What the host is to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Call {
    /// What it does anyway.
    #[default]
    Serve,
    /// End its sessions and take no more.
    Drain(Notice),
    /// Serve again, after all.
    Return,
}

/// What is announced at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Announced {
    pub(super) spot: Option<Notice>,
    pub(super) group: Option<Notice>,
    pub(super) rebalance: Option<Notice>,
    /// What follows from it.
    pub call: Call,
}

impl Announced {
    /// The notice of that kind.
    pub fn notice(&self, kind: Kind) -> Option<&Notice> {
        match kind {
            Kind::SpotInterruption => self.spot.as_ref(),
            Kind::LeavingGroup => self.group.as_ref(),
            Kind::Rebalance => self.rebalance.as_ref(),
        }
    }

    /// The gravest notice.
    pub fn gravest(&self) -> Option<&Notice> {
        Kind::ALL.into_iter().find_map(|kind| self.notice(kind))
    }
}

/// How long the sessions of a host have from now on. A stop has `drain_budget`; an announced end gives what is left before
/// it, less or more. A longer time costs nothing: sessions are asked to end at once, and only what does not is waited for.
pub fn budget(notice: &Notice, drain_budget: Duration, now: SystemTime) -> Duration {
    let Some(at) = notice.at else { return drain_budget };
    let left = at.duration_since(now).unwrap_or_default();
    let usable = left.saturating_sub(RESERVE).max(left / 2);
    usable.min(drain_budget.max(MOST_ANNOUNCED)).max(drain_budget.min(LEAST))
}

#[derive(Deserialize)]
struct InstanceAction {
    action: String,
    #[serde(default)]
    time: String,
}

/// An action whose time makes no sense is taken all the same: it says that the machine goes.
pub(super) fn interruption(text: &str) -> Result<Interruption, Odd> {
    let said: InstanceAction = serde_json::from_str(text).map_err(|_| Odd::Json)?;
    Ok(Interruption { action: word(&said.action)?, at: time::parse(&said.time) })
}

#[derive(Deserialize)]
struct Recommendation {
    #[serde(rename = "noticeTime")]
    notice_time: String,
}

pub(super) fn recommendation(text: &str) -> Result<Option<SystemTime>, Odd> {
    let said: Recommendation = serde_json::from_str(text).map_err(|_| Odd::Json)?;
    Ok(time::parse(&said.notice_time))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DRAIN: Duration = Duration::from_secs(25);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_631_518 + seconds)
    }

    #[test]
    fn a_drain_has_what_is_left_but_for_a_reserve() {
        let notice = |when: Option<SystemTime>| Notice {
            kind: Kind::SpotInterruption,
            what: None,
            at: when,
            since: at(0),
        };
        let seconds = |when, drain| budget(&notice(when), drain, at(0)).as_secs();
        assert_eq!(seconds(None, DRAIN), 25);
        assert_eq!(seconds(Some(at(115)), DRAIN), 85, "more than a stop has");
        assert_eq!(seconds(Some(at(40)), DRAIN), 20, "less");
        assert_eq!(seconds(Some(at(4)), DRAIN), 5);
        assert_eq!(seconds(Some(UNIX_EPOCH), DRAIN), 5, "a clock that is wrong");
        assert_eq!(seconds(Some(at(86_400)), DRAIN), 90, "a clock that is wrong");
        assert_eq!(seconds(Some(at(86_400)), Duration::from_secs(300)), 300);
        assert_eq!(seconds(Some(at(4)), Duration::from_secs(1)), 2);
    }

    #[test]
    fn an_interruption_is_taken_without_a_time_and_garbage_is_not() {
        let text = r#"{"action": "terminate", "time": "2026-11-25T18:31:58Z", "more": 1}"#;
        assert_eq!(interruption(text), Ok(Interruption { action: "terminate".into(), at: Some(at(0)) }));
        let odd = r#"{"action": "stop", "time": "soon"}"#;
        assert_eq!(interruption(odd), Ok(Interruption { action: "stop".into(), at: None }));
        assert_eq!(interruption(r#"{"action": "stop"}"#), interruption(odd));
        for bad in
            ["", "<html>", "{}", "null", r#"{"action": "a b", "time": ""}"#, r#"{"action": 1, "time": 2}"#]
        {
            assert!(interruption(bad).is_err(), "{bad}");
        }
        assert_eq!(recommendation(r#"{"noticeTime": "2026-11-25T18:31:58Z"}"#), Ok(Some(at(0))));
        assert_eq!(recommendation(r#"{"noticeTime": "?"}"#), Ok(None));
        assert_eq!(recommendation("[]"), Err(Odd::Json));
    }
}
