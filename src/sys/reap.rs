//! Orphans: what services left behind is re-parented to us (we are a child subreaper), and is reaped here.

use std::io;

use rustix::process::{Pid, WaitId};

use super::child::{Owned, reap};
use super::procfs::{self, Stat};

/// Waits for each zombie child that nobody owns, by its pid. A process of our own session is left alone: services and all
/// they start are in other sessions, so it is another part of this program that waits for it.
pub(super) fn orphans() -> io::Result<usize> {
    let own_session = Stat::of(std::process::id())?.session;
    let mut reaped = 0;
    for pid in procfs::own_children()? {
        let Ok(stat) = Stat::of(pid) else { continue };
        if !stat.is_zombie() || stat.session == own_session || Owned::contains(pid) {
            continue;
        }
        let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        match reap(WaitId::Pid(id)) {
            Ok(Some(exit)) => {
                tracing::trace!(pid, %exit, "reaped an orphan");
                reaped += 1;
            }
            Ok(None) => {}
            // Its owner was faster.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::CHILD.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(reaped)
}
