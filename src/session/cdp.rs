//! A session's browser as the CDP proxy sees it: a port that comes and goes, and directories.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::viewer::Session;

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
        self.inner.facts.devtools_port.is_some()
    }

    /// The DevTools port of its browser, while one runs.
    pub fn devtools_port(&self) -> Option<u16> {
        self.inner.facts.devtools_port.as_ref().and_then(|port| *port.borrow())
    }

    /// Waits until its browser is no longer the one behind `port`, which says nothing about how the browser is before that.
    pub async fn browser_left(&self, port: u16) -> BrowserEnd {
        let over = self.over();
        let restarted = async {
            match &self.inner.facts.devtools_port {
                // The sender lives as long as the service; its end is the session's.
                Some(now) => drop(now.clone().wait_for(|now| *now != Some(port)).await),
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
