//! Tasks with an owner. [`Scope`] is the only caller of `tokio::spawn`'s kin in the crate.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned.
    Completed,
    /// It panicked with this message; the owner decides what that means.
    Panicked(String),
    /// It was aborted.
    Aborted,
}

/// A task that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The name it was spawned under.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// A set of named tasks that die with their owner: dropped, it aborts them; [`Scope::shutdown`] asks first.
pub struct Scope {
    token: CancellationToken,
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl Scope {
    /// A scope with a token of its own.
    pub fn new() -> Self {
        Self::with_token(CancellationToken::new())
    }

    /// A scope that is cancelled when `parent` is, and can be cancelled alone.
    pub fn child_of(parent: &CancellationToken) -> Self {
        Self::with_token(parent.child_token())
    }

    fn with_token(token: CancellationToken) -> Self {
        Self { token, tasks: JoinSet::new(), names: HashMap::new() }
    }

    /// The token that tells this scope's tasks to end.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a task under `name`.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// How many tasks have not been reaped.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no task is left.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for the next task to end; `None` at once when there is none. Cancel safe.
    pub async fn join_next(&mut self) -> Option<Finished> {
        let (id, outcome) = match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => (id, Outcome::Completed),
            Err(error) if error.is_panic() => {
                let id = error.id();
                (id, Outcome::Panicked(panic_text(&*error.into_panic())))
            }
            Err(error) => (error.id(), Outcome::Aborted),
        };
        let name = self.names.remove(&id).unwrap_or("unnamed");
        Some(Finished { name, outcome })
    }

    /// Cancels the token and waits up to `budget` for the tasks. Those still running then are aborted, and their names
    /// returned.
    pub async fn shutdown(&mut self, budget: Duration) -> Vec<&'static str> {
        self.token.cancel();
        let deadline = Instant::now() + budget;
        loop {
            match timeout_at(deadline, self.join_next()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Vec::new(),
                Err(_) => break,
            }
        }
        let stragglers = self.names.values().copied().collect();
        self.tasks.abort_all();
        while self.join_next().await.is_some() {}
        stragglers
    }
}

/// Runs `work` on a thread that may block; past the deadline the thread goes on alone, and its outcome is dropped.
///
/// # Errors
/// When it took too long, or panicked.
pub async fn blocking<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match Blocking::start(work).within(limit).await {
        Ok(outcome) => outcome,
        Err(_unfinished) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("took over {} s", limit.as_secs())))
        }
    }
}

/// Work on a thread that may block. It cannot be stopped: dropped, it goes on alone.
pub struct Blocking<T>(JoinHandle<T>);

impl<T: Send + 'static> Blocking<T> {
    /// Starts it.
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(tokio::task::spawn_blocking(work))
    }

    /// Its outcome, an error where it panicked; or itself again, where it takes longer than `limit`.
    pub async fn within(mut self, limit: Duration) -> Result<io::Result<T>, Self> {
        match timeout(limit, &mut self.0).await {
            Ok(outcome) => Ok(outcome.map_err(io::Error::other)),
            Err(_) => Err(self),
        }
    }

    /// Its outcome, however long that takes.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn done(self) -> io::Result<T> {
        self.0.await.map_err(io::Error::other)
    }
}

/// Runs `work` in this task and gives its outcome, or the message of the panic that ended it: for whoever has to put in order
/// what a fault leaves.
///
/// # Errors
/// The message.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| panic_text(&*payload))
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_outcome_not_the_end_of_the_owner() {
        let mut scope = Scope::new();
        scope.spawn("bad", async { panic!("boom {}", 1) });
        let finished = scope.join_next().await.unwrap();
        assert_eq!(finished, Finished { name: "bad", outcome: Outcome::Panicked("boom 1".into()) });
        assert_eq!(scope.join_next().await, None);
    }

    #[tokio::test]
    async fn what_panics_can_be_caught_where_it_ran() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let number = 1;
        assert_eq!(
            caught(async {
                if number == 1 {
                    panic!("boom {number}")
                }
            })
            .await,
            Err("boom 1".into())
        );
    }

    #[tokio::test]
    async fn blocking_work_that_takes_longer_can_be_waited_for_again() {
        let (go, wait) = std::sync::mpsc::sync_channel(1);
        let work = Blocking::start(move || wait.recv().unwrap());
        let work = work.within(Duration::ZERO).await.err().unwrap();
        go.send(7).unwrap();
        assert_eq!(work.done().await.unwrap(), 7);
        let bad = Blocking::start(|| panic!("boom")).within(Duration::from_secs(60)).await;
        assert!(bad.ok().unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_names_who_did_not_listen() {
        let mut scope = Scope::new();
        let token = scope.token();
        scope.spawn("polite", async move { token.cancelled().await });
        scope.spawn("deaf", std::future::pending());
        assert_eq!(scope.shutdown(Duration::from_secs(1)).await, ["deaf"]);
        assert!(scope.is_empty());
    }
}
