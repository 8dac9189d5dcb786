//! Hearing of tabs that crash. They stay as they are: whoever drives the browser decides what becomes of them.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::devtools::{Client, Error};
use super::endpoint::Endpoint;

/// Before another try to connect to a browser that is starting or hangs.
const RETRY: Duration = Duration::from_millis(500);

/// Why a tab's process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashReason {
    /// By its own fault.
    Crashed,
    /// By somebody's SIGKILL.
    Killed,
    /// It ran out of memory, by itself or at the kernel's hands.
    OutOfMemory,
}

impl CrashReason {
    /// As a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::Killed => "killed",
            Self::OutOfMemory => "out_of_memory",
        }
    }

    /// From `Target.targetCrashed`, whose `status` is Chromium's termination status in words.
    fn of(params: &Value) -> Self {
        match params.get("status").and_then(Value::as_str) {
            Some("killed") => Self::Killed,
            Some("oom") => Self::OutOfMemory,
            _ => Self::Crashed,
        }
    }
}

/// Calls `crashed` for each tab that crashes, whichever run of the browser it is by then. Ends when `endpoint` is closed.
pub async fn watch_tabs(
    mut endpoint: watch::Receiver<Option<Endpoint>>,
    mut crashed: impl FnMut(CrashReason) + Send,
) {
    loop {
        let Ok(current) = endpoint.wait_for(Option::is_some).await.map(|endpoint| *endpoint) else { return };
        let Some(current) = current else { continue };
        tokio::select! {
            changed = async { endpoint.wait_for(|endpoint| *endpoint != Some(current)).await.is_ok() } => {
                if !changed {
                    return;
                }
            }
            outcome = listen(current, &mut crashed) => {
                if let Err(error) = outcome {
                    tracing::trace!(error = %crate::errors::chain(&error), "no news of tabs at the moment");
                }
                sleep(RETRY).await;
            }
        }
    }
}

async fn listen(endpoint: Endpoint, crashed: &mut (impl FnMut(CrashReason) + Send)) -> Result<(), Error> {
    let mut client = Client::connect_for_news(endpoint).await?;
    client.discover_tabs().await?;
    loop {
        let (method, params) = client.next_event().await?;
        if method == "Target.targetCrashed" {
            crashed(CrashReason::of(&params));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crash_has_chromiums_reason() {
        let reason =
            |status: &str| CrashReason::of(&json!({ "targetId": "T", "status": status, "errorCode": 9 }));
        assert_eq!(reason("crashed"), CrashReason::Crashed);
        assert_eq!(reason("killed"), CrashReason::Killed);
        assert_eq!(reason("oom"), CrashReason::OutOfMemory);
        assert_eq!(CrashReason::of(&json!({})), CrashReason::Crashed);
    }
}
