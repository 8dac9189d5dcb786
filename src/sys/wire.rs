//! From the daemon to the trampoline: one message with the command and its file descriptors.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::command::Command;

/// The most descriptors in one message; one for each [`Slot`].
const MAX_FDS: usize = 7;
/// The longest order. Linux takes 2 MiB of arguments and environment in all, and JSON needs up to four bytes for one.
const MAX_ORDER_BYTES: u64 = 8 << 20;

/// What a descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Slot {
    /// Where a failed stage is reported; closed by the exec.
    Status,
    /// The service's stdout.
    Stdout,
    /// The service's stderr.
    Stderr,
    /// The service's readiness pipe.
    Ready,
    /// `cgroup.procs` of its cell.
    Cgroup,
    /// The mount namespace of its session.
    Mounts,
    /// The IPC namespace of its session.
    Ipc,
}

/// A [`Command`] as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) cwd: OsString,
    pub(super) identity: Option<(u32, u32)>,
    pub(super) max_open_files: u64,
    /// Pid of the daemon, to see that it is still the parent.
    pub(super) daemon: u32,
    /// What the descriptors are, in their order.
    pub(super) slots: Vec<Slot>,
}

impl Order {
    pub(super) fn new(command: &Command, marker: (&str, &str), slots: Vec<Slot>) -> Self {
        let mut env: Vec<_> = command.env.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        env.push((marker.0.into(), marker.1.into()));
        Self {
            program: command.program.clone().into(),
            args: command.args.clone(),
            env,
            cwd: command.cwd.clone().into(),
            identity: command.confinement.identity.map(|identity| (identity.uid, identity.gid)),
            max_open_files: command.max_open_files,
            daemon: std::process::id(),
            slots,
        }
    }
}

/// A stage that failed, as the trampoline reports it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StageFailure {
    pub(super) stage: String,
    pub(super) errno: i32,
}

pub(super) fn send(mut socket: UnixStream, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    sendmsg(&socket, &[IoSlice::new(b"v")], &mut ancillary, SendFlags::NOSIGNAL)?;
    socket.write_all(&serde_json::to_vec(order)?)?;
    socket.shutdown(Shutdown::Write)
}

pub(super) fn receive(socket: impl AsFd + Read) -> io::Result<(Order, Vec<(Slot, OwnedFd)>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut first = [0];
    recvmsg(&socket, &mut [IoSliceMut::new(&mut first)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let mut text = Vec::new();
    socket.take(MAX_ORDER_BYTES).read_to_end(&mut text)?;
    let order: Order = serde_json::from_slice(&text)?;
    if order.slots.len() != fds.len() {
        return Err(io::Error::other("descriptors are missing"));
    }
    let slots = order.slots.clone();
    Ok((order, slots.into_iter().zip(fds).collect()))
}
