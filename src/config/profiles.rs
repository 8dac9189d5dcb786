//! `[profiles]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::{Document, Section, Show};
use super::values::size_within;
use crate::profile::{Rotation, Settings};
use crate::proxy::Proxy;

/// Some, so that one can rest while another is used.
const DEFAULT_PER_USER: usize = 5;
/// A user with more does not rotate any more but hoard.
const PER_USER: RangeInclusive<usize> = 1..=50;
/// Sites forget a visitor's last minutes within about this.
const DEFAULT_COOLDOWN: Duration = Duration::from_secs(30 * 60);
const MOST_COOLDOWN: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Twice may be the host's fault.
const DEFAULT_QUARANTINE_AFTER: u32 = 3;
const MOST_PROXIES: usize = 256;
/// A fresh profile of Chromium has some 20 MiB.
const QUOTA: RangeInclusive<u64> = 64 << 20..=1 << 40;

pub(super) fn profiles(document: &mut Document) -> Settings {
    let mut section = document.section("profiles");
    let quota = |text: &str| match text {
        "none" => Ok(None),
        text => size_within(text, &QUOTA).map(Some).map_err(|problem| format!("{problem}, or \"none\"")),
    };
    let settings = Settings {
        per_user: section.number("per_user", DEFAULT_PER_USER, PER_USER),
        cooldown: section.duration("cooldown", DEFAULT_COOLDOWN, Duration::ZERO..=MOST_COOLDOWN),
        quarantine_after: section.number("quarantine_after", DEFAULT_QUARANTINE_AFTER, 1..=100),
        proxies: proxies(&mut section),
        rotation: section.parsed("proxy_rotation", rotation).unwrap_or(Rotation::Off),
        quota: section.parsed("quota", quota).flatten(),
    };
    if settings.rotation != Rotation::Off && settings.proxies.is_empty() {
        section.refuse("proxy_rotation", "needs profiles.proxies");
    }
    section.finish();
    settings
}

fn rotation(word: &str) -> Result<Rotation, String> {
    let known = Rotation::ALL.into_iter().find(|rotation| rotation.as_str() == word);
    known.ok_or_else(|| "must be \"off\", \"profile\" or \"session\"".to_owned())
}

fn proxies(section: &mut Section<'_>) -> Vec<Proxy> {
    let mut refused = Vec::new();
    let given = section.checked("proxies", Show::Redacted, |texts: Vec<String>| {
        if texts.len() > MOST_PROXIES {
            return Err(format!("must be {MOST_PROXIES} at most"));
        }
        let mut proxies = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(proxy) => proxies.push(proxy),
                Err(error) => refused.push((index, format!("{error}"))),
            }
        }
        Ok(proxies)
    });
    for (index, problem) in refused {
        // Without the value: it may hold a password.
        section.refuse_item("proxies", index, None, problem);
    }
    given.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_one_of_three_words() {
        for known in Rotation::ALL {
            assert_eq!(rotation(known.as_str()), Ok(known));
        }
        assert!(rotation("each").is_err());
    }
}
