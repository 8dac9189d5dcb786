//! One run of a service, from its preparation until nobody holds its output any more.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::capture::{Capture, Entry, Stream};
use super::handle::Label;
use super::machine::{RunEvent, RunId};
use super::spec::Program;
use crate::errors::chain;
use crate::secret::Secret;
use crate::sys::{Cell, Child, Exit, Host, Limits, Spawned, cgroup};
use crate::tasks::blocking;

/// For a program to prepare a start, and to clean up after an end.
pub(super) const PROGRAM_DEADLINE: Duration = Duration::from_secs(20);
/// For a cell to become empty before it is called stuck.
pub(super) const KILL_BUDGET: Duration = Duration::from_secs(2);
/// How much is read at once.
const READ_BYTES: usize = 64 << 10;
/// Reads of one stream before others have their turn.
const READS_PER_TURN: usize = 16;
/// A service that floods its output is read from so often, which slows it to some ten megabytes a second and never stops it.
const FLOOD_PAUSE: Duration = Duration::from_millis(10);
/// SIGKILL.
const KILL: i32 = 9;
/// A readiness line is a number or a word.
const MAX_READY_LINE_BYTES: usize = 256;

/// To the actor.
pub(super) enum News {
    /// It has been exec'd.
    Launched { child: Arc<Child>, cell: Cell, says_when_ready: bool },
    /// Anything else. With a main process's end come its last lines.
    Event(RunEvent, Vec<String>),
}

pub(super) type Inbox = mpsc::Sender<(usize, RunId, News)>;

/// What a run's task needs.
pub(super) struct Run {
    pub(super) host: Host,
    pub(super) group: Arc<str>,
    pub(super) label: Label,
    pub(super) limits: Limits,
    /// Whether other processes of it may carry it on when its first one ends.
    pub(super) may_be_orphaned: bool,
    pub(super) service: &'static str,
    pub(super) program: Arc<dyn Program>,
    pub(super) index: usize,
    pub(super) run: RunId,
    pub(super) inbox: Inbox,
    /// Cancelled when the run is over.
    pub(super) token: CancellationToken,
}

impl Run {
    /// The task.
    pub(super) async fn drive(self) {
        match self.launch().await {
            Ok((spawned, cell)) => {
                let child = Arc::new(spawned.child);
                let says_when_ready = spawned.ready.is_some();
                let memory = Memory::of(&cell);
                let rest = self.may_be_orphaned.then(|| cell.clone());
                let launched = News::Launched { child: Arc::clone(&child), cell, says_when_ready };
                if self.tell(launched).await.is_continue() {
                    let output = Output::new(spawned.stdout, spawned.stderr, self.program.secrets());
                    let token = self.token.clone();
                    token
                        .run_until_cancelled(self.watch(&child, output, spawned.ready, (memory, rest)))
                        .await;
                }
            }
            Err(reason) => {
                let _actor_gone = self.event(RunEvent::SpawnFailed(reason)).await;
            }
        }
    }

    async fn launch(&self) -> Result<(Spawned, Cell), String> {
        let program = Arc::clone(&self.program);
        let command = blocking(PROGRAM_DEADLINE, move || program.command())
            .await
            .map_err(|error| format!("cannot be prepared: {}", chain(&error)))?
            .map_err(|error| chain(&error))?;
        let (host, group, service) = (self.host.clone(), Arc::clone(&self.group), self.service);
        let limits = self.limits;
        let cell = blocking(PROGRAM_DEADLINE, move || host.cell(&group, service, limits))
            .await
            .and_then(|cell| cell)
            .map_err(|error| format!("cannot make its cell: {}", chain(&error)))?;
        match self.host.spawn(&command, &cell).await {
            Ok(spawned) => Ok((spawned, cell)),
            Err(error) => {
                let removed = blocking(2 * KILL_BUDGET, move || {
                    cell.kill_until_empty(KILL_BUDGET).and_then(|_| cell.remove())
                });
                if let Err(error) = removed.await.and_then(|outcome| outcome) {
                    tracing::warn!(session = %self.label, service, error = %chain(&error), "cell kept");
                }
                Err(format!("cannot start {}: {}", command.program.display(), chain(&error)))
            }
        }
    }

    /// Logs output, reports readiness and the end. Returns when all is said and both streams are closed.
    async fn watch(
        &self,
        child: &Child,
        mut output: Output,
        ready: Option<pipe::Receiver>,
        (memory, rest): (Option<Memory>, Option<Cell>),
    ) {
        let pid = child.pid();
        let (mut exited, mut line) = (false, ReadyLine::new(ready));
        while !exited || output.is_open() {
            tokio::select! {
                // Not biased: a flood must not hide the end, nor the end the last words (they are drained below).
                entries = output.read() => self.log(pid, entries),
                text = line.next(), if line.is_awaited() => {
                    let program = Arc::clone(&self.program);
                    let outcome = blocking(PROGRAM_DEADLINE, move || program.ready_line(&text))
                        .await
                        .map_err(|error| chain(&error))
                        .and_then(|outcome| outcome.map_err(|error| chain(&error)));
                    if self.event(RunEvent::ReadyLine(outcome)).await.is_break() {
                        return;
                    }
                }
                exit = child.wait(), if !exited => {
                    exited = true;
                    let exit = exit.unwrap_or_else(|error| {
                        tracing::error!(session = %self.label, service = self.service, pid, %error, "cannot wait");
                        Exit::Unseen
                    });
                    let exit = memory.as_ref().map_or(exit, |memory| memory.explain(exit));
                    self.log(pid, output.drain());
                    let last_line = output.capture.last_complaint();
                    let others_left = match rest.clone() {
                        Some(cell) => self.is_populated(cell).await,
                        None => false,
                    };
                    let exited = RunEvent::Exited { exit, last_line, others_left };
                    let news = News::Event(exited, output.capture.tail());
                    if self.tell(news).await.is_break() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether anything of the run is left. What cannot be told is not relied on.
    async fn is_populated(&self, cell: Cell) -> bool {
        let is_empty = blocking(PROGRAM_DEADLINE, move || cell.is_empty()).await.and_then(|outcome| outcome);
        !is_empty.unwrap_or_else(|error| {
            tracing::warn!(session = %self.label, service = self.service, error = %chain(&error), "cannot tell what is left");
            true
        })
    }

    fn log(&self, pid: u32, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Line(stream, line) => tracing::debug!(
                    session = %self.label, service = self.service, pid, stream = stream.name(), "{line}"
                ),
                Entry::Dropped(count) => tracing::warn!(
                    session = %self.label, service = self.service, pid, count, "prints too much: lines dropped"
                ),
            }
        }
    }

    async fn event(&self, what: RunEvent) -> ControlFlow<()> {
        self.tell(News::Event(what, Vec::new())).await
    }

    async fn tell(&self, news: News) -> ControlFlow<()> {
        match self.inbox.send((self.index, self.run, news)).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// The out-of-memory killer's count for a cell when its run began.
struct Memory {
    dir: PathBuf,
    kills_before: u64,
}

impl Memory {
    /// `None` where memory is not accounted for.
    fn of(cell: &Cell) -> Option<Self> {
        let dir = cell.dir()?.to_owned();
        cgroup::oom(&dir).map(|facts| Self { dir, kills_before: facts.kills })
    }

    /// The killer's own signal is no other than an operator's, so its count has to tell.
    fn explain(&self, exit: Exit) -> Exit {
        match (exit, cgroup::oom(&self.dir)) {
            (Exit::Signal(KILL), Some(facts)) if facts.kills > self.kills_before => {
                Exit::OutOfMemory { peak: facts.peak, limit: facts.limit }
            }
            _ => exit,
        }
    }
}

struct Output {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    capture: Capture,
    buffer: Vec<u8>,
    pausing: bool,
}

impl Output {
    fn new(stdout: pipe::Receiver, stderr: pipe::Receiver, secrets: Vec<Secret<String>>) -> Self {
        Self {
            stdout: Some(stdout),
            stderr: Some(stderr),
            capture: Capture::new(Instant::now(), secrets),
            buffer: Vec::new(),
            pausing: false,
        }
    }

    fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// The next entries, from either stream; never when both are closed. Cancel safe.
    async fn read(&mut self) -> Vec<Entry> {
        if self.pausing {
            sleep(FLOOD_PAUSE).await;
            self.pausing = false;
        }
        let stream = tokio::select! {
            () = readable(self.stdout.as_ref()) => Stream::Stdout,
            () = readable(self.stderr.as_ref()) => Stream::Stderr,
        };
        self.read_some(stream)
    }

    /// What is there now, without waiting.
    fn drain(&mut self) -> Vec<Entry> {
        let mut entries = self.read_some(Stream::Stdout);
        entries.extend(self.read_some(Stream::Stderr));
        entries
    }

    fn read_some(&mut self, stream: Stream) -> Vec<Entry> {
        let pipe = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        // Kept between reads only where there is much to read.
        self.buffer.resize(READ_BYTES, 0);
        let mut entries = Vec::new();
        for _ in 0..READS_PER_TURN {
            let Some(open) = pipe.as_ref() else { break };
            match open.try_read(&mut self.buffer) {
                Ok(0) => {
                    entries.extend(self.capture.end(stream, Instant::now()));
                    *pipe = None;
                }
                Ok(count) => entries.extend(self.capture.take(stream, &self.buffer[..count], Instant::now())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, stream = stream.name(), "cannot read output");
                    *pipe = None;
                }
            }
        }
        self.pausing = self.capture.is_flooded();
        if !self.pausing {
            self.buffer = Vec::new();
        }
        entries
    }
}

async fn readable(pipe: Option<&pipe::Receiver>) {
    match pipe {
        // An error shows at the read.
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}

/// The first line on the readiness pipe. The pipe stays open after it, so that a chatty service is not killed for writing.
struct ReadyLine {
    pipe: Option<pipe::Receiver>,
    bytes: Vec<u8>,
    awaited: bool,
}

impl ReadyLine {
    fn new(pipe: Option<pipe::Receiver>) -> Self {
        Self { awaited: pipe.is_some(), pipe, bytes: Vec::new() }
    }

    fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Never returns when the pipe is closed before a line: the end of the process, or its start deadline, says more.
    async fn next(&mut self) -> String {
        loop {
            let Some(pipe) = &self.pipe else { return std::future::pending().await };
            readable(Some(pipe)).await;
            let mut buffer = [0; MAX_READY_LINE_BYTES];
            match pipe.try_read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.pipe = None,
            }
            let end = self.bytes.iter().position(|byte| *byte == b'\n');
            if end.is_some() || self.bytes.len() > MAX_READY_LINE_BYTES {
                self.awaited = false;
                let line = &self.bytes[..end.unwrap_or(MAX_READY_LINE_BYTES)];
                return String::from_utf8_lossy(line).trim().to_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f29_a_kill_is_the_want_of_memory_only_where_the_count_has_grown() {
        let group = tempfile::tempdir().unwrap();
        let dir = group.path().join("browser");
        std::fs::create_dir(&dir).unwrap();
        let kills = |count: u64| {
            std::fs::write(dir.join("memory.events"), format!("oom 9\noom_kill {count}\n")).unwrap();
        };
        std::fs::write(group.path().join("memory.max"), "1048576\n").unwrap();
        kills(2);
        let memory = Memory { dir: dir.clone(), kills_before: 2 };
        assert_eq!(memory.explain(Exit::Signal(9)), Exit::Signal(9), "somebody else's kill");
        kills(3);
        let named = Exit::OutOfMemory { peak: None, limit: Some(1 << 20) };
        assert_eq!(memory.explain(Exit::Signal(9)), named);
        assert_eq!(memory.explain(Exit::Status(0)), Exit::Status(0), "a tab was taken, not the browser");
    }
}
