//! The one thread that starts processes and reaps orphans.
//!
//! One thread for as long as the daemon lives, since a child's death signal fires when the *thread* that started it ends.

use std::io::{self, PipeReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, pidfd_open, set_child_subreaper};
use tokio::sync::{mpsc, oneshot};

use super::child::Owned;
use super::marker;
use super::reap;
use super::tool::ToolProgram;
use super::wire::{self, Order};

/// Requests that may wait for the thread; more wait with their senders.
const QUEUE: usize = 16;
/// A trampoline reads its order at once; one that does not must not hold up the others.
const ORDER_DEADLINE: Duration = Duration::from_secs(2);

/// A process that has just been started.
pub(super) struct Born {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
}

/// A tool, its input, and what it prints.
pub(super) type BornTool = (Born, Option<ChildStdin>, PipeReader);

pub(super) enum Request {
    Service { order: Box<Order>, fds: Vec<OwnedFd>, marker: String, reply: oneshot::Sender<io::Result<Born>> },
    Keeper { reply: oneshot::Sender<io::Result<(Born, ChildStdin)>> },
    Tool { program: ToolProgram, reply: oneshot::Sender<io::Result<BornTool>> },
    Reap,
}

/// Asks for a look at the orphans, and keeps nothing alive.
#[derive(Debug, Clone)]
pub(super) struct Poke(mpsc::WeakSender<Request>);

impl Poke {
    /// One that nobody hears.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self(mpsc::channel(1).0.downgrade())
    }

    pub(super) fn reap(&self) {
        if let Some(sender) = self.0.upgrade()
            && sender.try_send(Request::Reap).is_err()
        {
            tracing::trace!("the spawner is busy: the next SIGCHLD does it");
        }
    }

    /// `false` when the spawner has ended.
    pub(super) async fn reap_now(&self) -> bool {
        match self.0.upgrade() {
            Some(sender) => sender.send(Request::Reap).await.is_ok(),
            None => false,
        }
    }
}

/// The thread's owner: dropped, it ends the thread, and with it (by their death signal) the children.
pub(super) struct Spawner {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Spawner {
    pub(super) fn start(trampoline: PathBuf) -> io::Result<Self> {
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let (requests, inbox) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || serve(&trampoline, inbox))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    pub(super) fn poke(&self) -> Poke {
        // The sender is there until the drop.
        Poke(self.requests.as_ref().map_or_else(|| mpsc::channel(1).0.downgrade(), mpsc::Sender::downgrade))
    }

    pub(super) async fn service(&self, order: Order, fds: Vec<OwnedFd>, marker: String) -> io::Result<Born> {
        self.ask(|reply| Request::Service { order: Box::new(order), fds, marker, reply }).await
    }

    pub(super) async fn keeper(&self) -> io::Result<(Born, ChildStdin)> {
        self.ask(|reply| Request::Keeper { reply }).await
    }

    pub(super) async fn tool(&self, program: ToolProgram) -> io::Result<BornTool> {
        self.ask(|reply| Request::Tool { program, reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Request) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the spawner panicked");
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the spawner has ended")
}

fn serve(trampoline: &Path, mut inbox: mpsc::Receiver<Request>) {
    while let Some(request) = inbox.blocking_recv() {
        match request {
            // An asker that has given up drops what it would have got, which kills it.
            Request::Service { order, fds, marker, reply } => {
                let born = service(trampoline, &order, &fds, &marker);
                if let Err(Ok(born)) = reply.send(born) {
                    abandon(&born);
                }
            }
            Request::Keeper { reply } => {
                if let Err(Ok((born, _stdin))) = reply.send(keeper(trampoline)) {
                    abandon(&born);
                }
            }
            Request::Tool { program, reply } => {
                if let Err(Ok((born, ..))) = reply.send(tool(trampoline, program)) {
                    abandon(&born);
                }
            }
            Request::Reap => {
                if let Err(error) = reap::orphans() {
                    tracing::warn!(error = %crate::errors::chain(&error), "cannot reap orphans");
                }
            }
        }
    }
}

fn abandon(born: &Born) {
    if let Err(error) = rustix::process::pidfd_send_signal(&born.pidfd, rustix::process::Signal::KILL) {
        tracing::debug!(pid = born.pid, %error, "an abandoned child has ended by itself");
    }
    Owned::remove(born.pid);
}

fn service(trampoline: &Path, order: &Order, fds: &[OwnedFd], marker: &str) -> io::Result<Born> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_write_timeout(Some(ORDER_DEADLINE))?;
    let mut command = own(trampoline, "exec");
    command.env(marker::VARIABLE, marker).stdin(OwnedFd::from(theirs)).stderr(Stdio::null());
    let (born, _) = start(command)?;
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if let Err(error) = wire::send(ours, order, &borrowed) {
        abandon(&born);
        return Err(error);
    }
    Ok(born)
}

fn keeper(trampoline: &Path) -> io::Result<(Born, ChildStdin)> {
    let mut command = own(trampoline, "keeper");
    command.stdin(Stdio::piped()).stderr(Stdio::inherit());
    let (born, stdin) = start(command)?;
    let stdin = stdin.ok_or_else(|| io::Error::other("no pipe"))?;
    Ok((born, stdin))
}

fn tool(trampoline: &Path, which: ToolProgram) -> io::Result<BornTool> {
    let mut command = match which {
        ToolProgram::Own(word) => own(trampoline, word),
        ToolProgram::Other(path, args) => {
            let mut command = program(&path);
            command.args(args);
            command
        }
    };
    let (output, theirs) = io::pipe()?;
    command.stdin(Stdio::piped()).stdout(theirs.try_clone()?).stderr(theirs);
    let (born, stdin) = start(command)?;
    Ok((born, stdin, output))
}

fn own(trampoline: &Path, subcommand: &str) -> std::process::Command {
    let mut command = program(trampoline);
    command.arg0("valetd").arg(subcommand);
    command
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
fn program(path: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(path);
    command.env_clear().current_dir("/").stdout(Stdio::null());
    command
}

fn start(mut command: std::process::Command) -> io::Result<(Born, Option<ChildStdin>)> {
    let mut child = command.spawn()?;
    let pid = child.id();
    Owned::add(pid);
    let pidfd = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("a pid that is none"))
        .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
    match pidfd {
        Ok(pidfd) => Ok((Born { pid, pidfd }, child.stdin.take())),
        Err(error) => {
            Owned::remove(pid);
            // Not waited for by anybody yet, so the pid is still this child's.
            child.kill().and_then(|()| child.wait())?;
            Err(error)
        }
    }
}
