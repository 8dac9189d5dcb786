//! Which contexts and targets a browser has, at one moment, in its own words.

use serde::Deserialize;

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    default: String,
    targets: Vec<Target>,
}

/// What may be known of a target before it is shown to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Target {
    pub(super) target_id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The browser's own target has none.
    pub(super) browser_context_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contexts {
    default_browser_context_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    target_infos: Vec<Target>,
}

impl Target {
    fn placed(&self) -> Option<(&str, &str)> {
        Some((&*self.target_id, self.browser_context_id.as_deref()?))
    }
}

impl Survey {
    /// From the results of `Target.getBrowserContexts` and of `Target.getTargets`.
    ///
    /// # Errors
    /// When they are not what they should be; older browsers do not say which context is the default one.
    pub fn read(
        contexts: &serde_json::Value,
        targets: &serde_json::Value,
    ) -> Result<Self, super::discovery::Unexpected> {
        let contexts = Contexts::deserialize(contexts)?;
        let targets = Targets::deserialize(targets)?;
        Ok(Self { default: contexts.default_browser_context_id, targets: targets.target_infos })
    }

    /// The default context.
    pub fn default_context(&self) -> &str {
        &self.default
    }

    /// Each target that is in a context, and which.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.targets.iter().filter_map(Target::placed)
    }

    /// Whether a target is in the default context.
    pub fn is_shared(&self, target: &str) -> bool {
        self.targets().any(|(id, context)| id == target && context == self.default)
    }

    /// Whether the default context has no page but this one; with `None`, whether it has one at most.
    pub fn is_last_page(&self, target: Option<&str>) -> bool {
        let pages = self.targets.iter().filter(|target| {
            target.kind == "page" && target.browser_context_id.as_deref() == Some(&*self.default)
        });
        let ids: Vec<&str> = pages.map(|page| &*page.target_id).collect();
        match (target, &*ids) {
            (Some(target), [only]) => target == *only,
            (None, ids) => ids.len() <= 1,
            (Some(_), _) => false,
        }
    }
}
