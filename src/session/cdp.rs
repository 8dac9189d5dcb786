//! A session's browser as the CDP proxy sees it: DevTools that come and go, and directories.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::viewer::Session;
use crate::browser::Endpoint;

/// Where a session's browser reads and writes, as its own processes name these places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdpPaths {
    /// Where downloads go. Inside `home`.
    pub downloads: PathBuf,
    /// Its `HOME`.
    pub home: PathBuf,
    /// Its `TMPDIR`.
    pub tmp: PathBuf,
}

/// Why a browser does not answer any more, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrowserEnd {
    /// It is being started, for the first time or again.
    Restarting,
    /// So is the session.
    SessionEnded,
}

impl Session {
    /// Whether it has a browser of its own at all, up or not.
    pub fn has_browser(&self) -> bool {
        self.inner.facts.devtools.is_some()
    }

    /// The DevTools of its browser, while one runs.
    pub fn devtools(&self) -> Option<Endpoint> {
        self.inner.facts.devtools.as_ref().and_then(|devtools| *devtools.borrow())
    }

    /// Waits until its browser is no longer the one at `endpoint`, which says nothing about how the browser is before that.
    pub async fn browser_left(&self, endpoint: Endpoint) -> BrowserEnd {
        let over = self.over();
        let restarted = async {
            match &self.inner.facts.devtools {
                // The sender lives as long as the service; its end is the session's.
                Some(now) => drop(now.clone().wait_for(|now| *now != Some(endpoint)).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = over => BrowserEnd::SessionEnded,
            () = restarted => if self.is_over() { BrowserEnd::SessionEnded } else { BrowserEnd::Restarting },
        }
    }

    /// Whether it is being taken down, or gone.
    pub fn is_over(&self) -> bool {
        self.inner.status.borrow().is_over()
    }

    /// Where its browser reads and writes, where it has one of ours.
    pub fn cdp_paths(&self) -> Option<CdpPaths> {
        self.inner.facts.cdp_paths.clone()
    }

    /// Says that an automation acted just now: the session is in use.
    pub fn touch(&self) {
        self.inner.activity.touch(Instant::now());
    }

    /// Counts an automation for as long as what this gives is kept.
    pub fn count_automation(&self) -> AutomationCount {
        self.inner.counts.automations.fetch_add(1, Ordering::Relaxed);
        AutomationCount(self.clone())
    }
}

/// One automation in the count of its session.
pub struct AutomationCount(Session);

impl Drop for AutomationCount {
    fn drop(&mut self) {
        self.0.inner.counts.automations.fetch_sub(1, Ordering::Relaxed);
    }
}
