//! Hearing of tabs that crash. They stay as they are: whoever drives the browser decides what becomes of them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::devtools::{Client, Error};
use super::endpoint::Endpoint;

/// Before another try to connect to a browser that is starting or hangs.
const RETRY: Duration = Duration::from_millis(500);

/// Calls `crashed` for each tab that crashes, whichever run of the browser it is by then. Ends when `endpoint` is closed.
pub async fn watch_tabs(mut endpoint: watch::Receiver<Option<Endpoint>>, crashed: impl Fn() + Send) {
    loop {
        let Ok(current) = endpoint.wait_for(Option::is_some).await.map(|endpoint| *endpoint) else { return };
        let Some(current) = current else { continue };
        tokio::select! {
            changed = async { endpoint.wait_for(|endpoint| *endpoint != Some(current)).await.is_ok() } => {
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

async fn listen(endpoint: Endpoint, crashed: &(impl Fn() + Send)) -> Result<(), Error> {
    let mut client = Client::connect_for_news(endpoint).await?;
    client.discover_tabs().await?;
    loop {
        if client.next_event().await? == "Target.targetCrashed" {
            crashed();
        }
    }
}
