//! Programs of the daemon's own, run with its own rights for an instant: they end before anything relies on what they did.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ChildStdin;
use std::time::Duration;

use rustix::fd::OwnedFd;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::child::{Child, Exit};
use super::host::adopt;
use super::spawn::Spawner;

/// What is written to a tool at once fits into an empty pipe, so that writing never waits.
const MAX_INPUT_BYTES: usize = 64 << 10;
/// A complaint is a few lines.
const MAX_OUTPUT_BYTES: u64 = 16 << 10;

/// Which program.
#[derive(Debug)]
pub(super) enum ToolProgram {
    /// This one, with a word that `main` knows.
    Own(&'static str),
    /// Another.
    Other(PathBuf, Vec<OsString>),
}

/// A running tool. Dropped, it is killed.
pub(super) struct Tool {
    pub(super) child: Child,
    stdin: Option<ChildStdin>,
    /// Its stdout and stderr.
    pub(super) output: pipe::Receiver,
}

impl Tool {
    pub(super) async fn start(spawner: &Spawner, program: ToolProgram) -> io::Result<Self> {
        let (born, stdin, output) = spawner.tool(program).await?;
        let child = adopt(born, spawner)?;
        Ok(Self { child, stdin, output: pipe::Receiver::from_owned_fd(OwnedFd::from(output))? })
    }

    /// Gives it all its input but for the end.
    pub(super) fn write(&mut self, input: &str) -> io::Result<()> {
        if input.len() > MAX_INPUT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too much for a tool's input"));
        }
        let stdin = self.stdin.as_mut().ok_or_else(|| io::Error::other("its input is closed"))?;
        stdin.write_all(input.as_bytes())
    }

    /// Ends its input, and waits for its end: how, and what it printed.
    pub(super) async fn finish(mut self, deadline: Duration) -> io::Result<(Exit, String)> {
        self.stdin = None;
        let rest = async {
            let mut text = Vec::new();
            (&mut self.output).take(MAX_OUTPUT_BYTES).read_to_end(&mut text).await?;
            let exit = self.child.wait().await?;
            Ok((exit, String::from_utf8_lossy(&text).trim().to_owned()))
        };
        let late =
            || io::Error::new(io::ErrorKind::TimedOut, format!("not done in {} s", deadline.as_secs()));
        timeout(deadline, rest).await.unwrap_or_else(|_elapsed| Err(late()))
    }
}
