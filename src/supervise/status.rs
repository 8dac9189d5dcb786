//! What the supervisor publishes.

use std::time::SystemTime;

use serde::Serialize;

/// A group of services at one instant. Level-triggered: a watcher may miss generations, never the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// Grows with every change.
    pub generation: u64,
    /// In the order of the specs.
    pub services: Vec<ServiceStatus>,
}

/// One service at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// Name from the spec.
    pub name: &'static str,
    /// What it is doing.
    pub state: ServiceState,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// Main process, while there is one.
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u32,
    /// Whether it fails again and again ([`super::RestartPolicy::crash_loop_after`]).
    pub crash_loop: bool,
    /// Why it is not up, in words: the last failure, kept until it is up again.
    pub reason: Option<String>,
}

/// The states of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Not running, and not wanted.
    Stopped,
    /// Wanted; waits for a service that it requires.
    Waiting,
    /// Spawned, not ready yet.
    Starting,
    /// Ready, and answered its last probe.
    Up,
    /// Was ready, and did not answer its last probe.
    Unresponsive,
    /// On its way down.
    Stopping,
    /// Ended unasked; waits for its next start.
    BackingOff,
}
