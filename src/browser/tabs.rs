//! Hearing of tabs that crash. They stay as they are: whoever drives the browser decides what becomes of them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::devtools::{Client, Error};

/// Before another try to connect to a browser that is starting or hangs.
const RETRY: Duration = Duration::from_millis(500);

/// Calls `crashed` for each tab that crashes, whichever browser is behind `port` by then. Ends when `port` is closed.
pub async fn watch_tabs(mut port: watch::Receiver<Option<u16>>, crashed: impl Fn() + Send) {
    loop {
        let Ok(current) = port.wait_for(Option::is_some).await.map(|port| *port) else { return };
        let Some(current) = current else { continue };
        tokio::select! {
            changed = async { port.wait_for(|port| *port != Some(current)).await.is_ok() } => {
                if !changed {
                    return;
                }
            }
            outcome = listen(current, &crashed) => {
                if let Err(error) = outcome {
                    tracing::trace!(error = %crate::errors::chain(&error), "no news of tabs at the moment");
                }
                sleep(RETRY).await;
            }
        }
    }
}

async fn listen(port: u16, crashed: &(impl Fn() + Send)) -> Result<(), Error> {
    let mut client = Client::connect_for_news(port).await?;
    client.discover_tabs().await?;
    loop {
        if client.next_event().await? == "Target.targetCrashed" {
            crashed();
        }
    }
}
