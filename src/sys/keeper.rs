//! A small process that outlives the daemon by an instant, to end what the daemon started.
//!
//! The daemon holds the write end of its stdin. When that closes without a word, the daemon was killed: the services get
//! TERM from the kernel, the keeper kills what is left of the run a little later, removes what it was told to, and goes too.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::child::Child;
use super::containment::Containment;
use super::files::remove_all;
use super::firewall;
use super::host::adopt;
use super::spawn::Spawner;
use crate::backoff::Backoff;
use crate::tasks::Scope;

/// What was started gets TERM from the kernel when the daemon dies; so long after that, what is left is killed.
const TERM_GRACE: Duration = Duration::from_secs(3);
/// Requests that may wait.
const QUEUE: usize = 16;
/// For the keeper to go when released.
const RELEASE_DEADLINE: Duration = Duration::from_secs(2);
/// For the keeper to end a run.
const WORK_DEADLINE: Duration = Duration::from_secs(15);
/// Before a keeper that has died is replaced.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) };

/// One line on the keeper's stdin.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// What to end; the first word.
    Hold(Containment),
    /// What to remove afterwards.
    Remove(PathBuf, Only),
    /// What is not to be removed after all: it is gone, or will be somebody else's.
    Forget(PathBuf),
    /// A table of packet filter rules to remove afterwards, and the program that can.
    Unfilter(PathBuf, String),
    /// The daemon stops cleanly: go without doing anything.
    Release,
}

/// Whether what is found at a path is what was meant: the next daemon may have put its own there by then.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Only {
    Always,
    /// A file that holds this text and nothing else.
    IfHolds(String),
    /// The very file: its device and its number there.
    IfIs(u64, u64),
}

impl Only {
    /// What is at `path` now, and nothing that takes its place.
    pub(super) fn as_is(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self::IfIs(found.dev(), found.ino()))
    }

    fn allows(&self, path: &Path) -> bool {
        match self {
            Self::Always => true,
            Self::IfHolds(text) => fs::read_to_string(path).map_or(true, |found| found == *text),
            Self::IfIs(device, number) => {
                fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (*device, *number))
            }
        }
    }
}

/// `valetd keeper`. Must run before anything else of the program, while there is one thread.
pub fn keeper_main() -> ExitCode {
    // Both can only fail in ways that leave the keeper more exposed, not wrong.
    if let Err(error) = SigSet::all().thread_block().and_then(|()| setsid().map(|_| ())) {
        complain(&format!("cannot detach: {error}"));
    }
    let (mut held, mut remove, mut unfilter) = (None, Vec::new(), None);
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Word::Hold(containment)) => held = Some(containment),
            Ok(Word::Remove(path, only)) => remove.push((path, only)),
            Ok(Word::Forget(forgotten)) => remove.retain(|(path, _)| *path != forgotten),
            Ok(Word::Unfilter(nft, table)) => unfilter = Some((nft, table)),
            Ok(Word::Release) => return ExitCode::SUCCESS,
            // Cut off in the middle of a word by the daemon's death.
            Err(_) => break,
        }
    }
    let Some(containment) = held else { return ExitCode::FAILURE };
    let mut code = ExitCode::SUCCESS;
    if let Err(error) = containment.wait_empty(TERM_GRACE) {
        complain(&format!("cannot see whether the services have ended: {error}"));
    }
    match containment.end_run() {
        Ok(count) => complain(&format!("the daemon was killed, and {count} of its processes had to be")),
        Err(error) => {
            complain(&format!("the daemon was killed, and its services cannot be ended: {error}"));
            code = ExitCode::FAILURE;
        }
    }
    // After the sessions, which must not have an instant without them.
    if let Some((nft, table)) = unfilter
        && let Err(error) = firewall::remove_now(&nft, &table)
    {
        complain(&format!("the packet filter table {table} is left: {error}"));
        code = ExitCode::FAILURE;
    }
    for (path, only) in remove {
        if only.allows(&path)
            && let Err(error) = remove_all(&path)
        {
            complain(&format!("cannot remove {}: {error}", path.display()));
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// The daemon's own stderr; nobody may be there to read it any more.
fn complain(text: &str) {
    let _unread = writeln!(io::stderr(), "valetd keeper: {text}");
}

enum Request {
    /// To be told to this keeper, and what then still holds to those after it.
    Say(Word),
    Release(oneshot::Sender<()>),
}

/// The daemon's side.
pub(super) struct KeeperHandle {
    requests: mpsc::Sender<Request>,
    pid: watch::Receiver<Option<u32>>,
}

impl KeeperHandle {
    /// Starts one, and a task that replaces it should it die.
    pub(super) async fn start(
        scope: &mut Scope,
        spawner: &Arc<Spawner>,
        containment: &Containment,
    ) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (published, pid) = watch::channel(None);
        let hold = word(&Word::Hold(containment.clone()))?;
        let mut tether = Tether { hold, removals: BTreeMap::new(), unfilter: None, published };
        let alive = tether.tie(spawner).await?;
        // Weak, so that the host's end is not put off by this task.
        let spawner = Arc::downgrade(spawner);
        let token = scope.token();
        scope.spawn("keeper", async move {
            tether.watch(alive, inbox, move || spawner.upgrade(), token).await;
        });
        Ok(Self { requests, pid })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    pub(super) async fn remove(&self, path: &Path, only: Only) {
        let word = Word::Remove(path.to_owned(), only);
        if self.requests.send(Request::Say(word)).await.is_err() {
            tracing::warn!(path = %path.display(), "no keeper will remove it");
        }
    }

    pub(super) async fn forget(&self, path: &Path) {
        if self.requests.send(Request::Say(Word::Forget(path.to_owned()))).await.is_err() {
            tracing::debug!(path = %path.display(), "no keeper to forget it");
        }
    }

    pub(super) async fn unfilter(&self, nft: &Path, table: &str) {
        let word = Word::Unfilter(nft.to_owned(), table.to_owned());
        if self.requests.send(Request::Say(word)).await.is_err() {
            tracing::warn!(table, "no keeper will remove the packet filter table");
        }
    }

    pub(super) async fn release(&self) {
        let (reply, done) = oneshot::channel();
        if self.requests.send(Request::Release(reply)).await.is_err() {
            return;
        }
        if timeout(RELEASE_DEADLINE, done).await.is_err() {
            tracing::warn!("the keeper did not go in time");
        }
    }
}

fn word(word: &Word) -> io::Result<String> {
    Ok(serde_json::to_string(word)? + "\n")
}

struct Alive {
    child: Child,
    stdin: ChildStdin,
}

struct Tether {
    /// Said to each keeper, first this one.
    hold: String,
    /// What is to be removed at the moment, and how that is said.
    removals: BTreeMap<PathBuf, String>,
    /// The table of packet filter rules that is to go, and how that is said.
    unfilter: Option<String>,
    published: watch::Sender<Option<u32>>,
}

impl Tether {
    async fn tie(&mut self, spawner: &Spawner) -> io::Result<Alive> {
        let (born, mut stdin) = spawner.keeper().await?;
        // A dropped tether has to make it work, not die.
        let child = adopt(born, spawner)?.may_outlive_its_owner();
        // Three short lines a session, which it reads as they come.
        let words = std::iter::once(&self.hold).chain(&self.unfilter).chain(self.removals.values());
        words.into_iter().try_for_each(|word| stdin.write_all(word.as_bytes()))?;
        self.published.send_replace(Some(child.pid()));
        Ok(Alive { child, stdin })
    }

    async fn watch(
        &mut self,
        mut alive: Alive,
        mut inbox: mpsc::Receiver<Request>,
        spawner: impl Fn() -> Option<Arc<Spawner>>,
        token: CancellationToken,
    ) {
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(Request::Say(word)) => self.say(&mut alive, word),
                    Some(Request::Release(reply)) => {
                        self.say(&mut alive, Word::Release);
                        log_end(alive.child.wait().await);
                        self.published.send_replace(None);
                        // The asker may have stopped waiting.
                        let _late = reply.send(());
                        return;
                    }
                    None => return let_work(alive).await,
                },
                exit = alive.child.wait() => {
                    log_end(exit);
                    self.published.send_replace(None);
                    match self.replace(&spawner, &token).await {
                        Some(next) => alive = next,
                        None => return,
                    }
                }
            }
        }
    }

    async fn replace(
        &mut self,
        spawner: &impl Fn() -> Option<Arc<Spawner>>,
        token: &CancellationToken,
    ) -> Option<Alive> {
        tracing::warn!("the keeper has died, starting another");
        for retry in 0.. {
            token.run_until_cancelled(sleep(BACKOFF.delay(retry, 1.0))).await?;
            match self.tie(&*spawner()?).await {
                Ok(alive) => return Some(alive),
                Err(error) => {
                    tracing::error!(error = %crate::errors::chain(&error), "cannot start a keeper");
                }
            }
        }
        None
    }

    fn say(&mut self, alive: &mut Alive, what: Word) {
        match word(&what) {
            Ok(line) => {
                if let Err(error) = alive.stdin.write_all(line.as_bytes()) {
                    tracing::debug!(%error, "the keeper has just died");
                }
                match what {
                    Word::Remove(path, _) => {
                        self.removals.insert(path, line);
                    }
                    Word::Forget(path) => {
                        self.removals.remove(&path);
                    }
                    Word::Unfilter(..) => self.unfilter = Some(line),
                    Word::Hold(_) | Word::Release => {}
                }
            }
            Err(error) => tracing::error!(%error, "a word that cannot be said"),
        }
    }
}

/// The host is gone without a finish: the closing tether makes the keeper end the run.
async fn let_work(alive: Alive) {
    let Alive { child, stdin } = alive;
    drop(stdin);
    match timeout(WORK_DEADLINE, child.wait()).await {
        Ok(exit) => log_end(exit),
        Err(_) => tracing::warn!("the keeper is not done in time"),
    }
}

fn log_end(exit: io::Result<super::child::Exit>) {
    match exit {
        Ok(exit) => tracing::debug!(%exit, "the keeper has ended"),
        Err(error) => tracing::error!(%error, "cannot wait for the keeper"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_took_its_place_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("api.sock"), dir.path().join("old"));
        fs::write(&path, "").unwrap();
        let only = Only::as_is(&path).unwrap();
        assert!(only.allows(&path));
        fs::rename(&path, &aside).unwrap();
        assert!(!only.allows(&path));
        fs::write(&path, "").unwrap();
        assert!(!only.allows(&path) && only.allows(&aside));
    }
}
