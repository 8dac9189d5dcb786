//! `[cdp]`.

use super::document::{Document, Section, Show};
use crate::cdp::{Fence, Settings, well_formed_pattern, well_formed_scheme};

/// Most entries of a list; each command is compared with all.
const MAX_ENTRIES: usize = 256;

pub(super) fn cdp(document: &mut Document) -> Settings {
    let mut section = document.section("cdp");
    let defaults = Settings::default();
    let deny = list(
        &mut section,
        "deny",
        well_formed_pattern,
        "must be a method or a domain: \"Browser.close\", \"SystemInfo.*\"",
    );
    let deny_url_schemes = list(
        &mut section,
        "deny_url_schemes",
        well_formed_scheme,
        "must be the scheme of a URL, in lower case and without its colon: \"file\"",
    );
    let own_contexts_only = section.boolean("own_contexts_only", defaults.own_contexts_only);
    let fence = section.parsed("fence_automation", |word| {
        let known = Fence::ALL.into_iter().find(|fence| fence.as_str() == word);
        known.ok_or_else(|| "must be \"open\", \"fail\" or \"wait\"".to_owned())
    });
    section.finish();
    Settings {
        deny: deny.unwrap_or(defaults.deny),
        deny_url_schemes: deny_url_schemes.unwrap_or(defaults.deny_url_schemes),
        own_contexts_only,
        fence: fence.unwrap_or_default(),
    }
}

fn list(section: &mut Section<'_>, key: &str, good: fn(&str) -> bool, problem: &str) -> Option<Vec<String>> {
    let mut refused = Vec::new();
    let given = section.checked(key, Show::Value, |entries: Vec<String>| {
        if entries.len() > MAX_ENTRIES {
            return Err(format!("must be {MAX_ENTRIES} at most"));
        }
        refused = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| !good(entry))
            .map(|(at, entry)| (at, entry.clone()))
            .collect();
        Ok(entries)
    });
    for (index, entry) in refused {
        section.refuse_item(key, index, Some(&entry), problem.to_owned());
    }
    given
}
