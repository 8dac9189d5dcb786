//! That the control plane refuses this host, written down: a daemon that starts anew must not serve until it has been heard.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs;
use tokio::time::timeout;

use crate::errors::chain;

/// Beneath the state directory.
const NAME: &str = "control-plane-refused";
/// For the disk: reports wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// A file that is there while the host is refused. It names who refuses: another control plane is asked first.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    url: String,
}

impl Mark {
    pub(super) fn new(state_dir: &Path, url: String) -> Self {
        Self { path: state_dir.join(NAME), url }
    }

    pub(super) async fn is_set(&self) -> bool {
        match in_time(fs::read(&self.path)).await {
            Ok(text) => text == self.url.as_bytes(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(error = %chain(&error), "cannot tell whether this host was refused before");
                }
                false
            }
        }
    }

    /// On a disk that is full, the next run has to find out anew.
    pub(super) async fn set(&self) {
        self.did(in_time(fs::write(&self.path, &self.url)).await);
    }

    pub(super) async fn clear(&self) {
        match in_time(fs::remove_file(&self.path)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => self.did(outcome),
        }
    }

    fn did(&self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(path = %self.path.display(), error = %chain(&error), "a restart may take this host for one that is or is not refused");
        }
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}
