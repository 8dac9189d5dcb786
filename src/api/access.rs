//! Who may ask on the Unix socket.

use nix::unistd::{Gid, Group, Uid, User, geteuid};

/// Members of this group may operate the host, besides root and the daemon's own user.
pub(super) const OPERATORS: &str = "valetd";

/// Whether a process with these credentials (of `SO_PEERCRED`) may operate the host. The socket's mode says the same to
/// the kernel; this is the second lock.
pub(super) fn may_operate(uid: u32, gid: u32) -> bool {
    let uid = Uid::from_raw(uid);
    uid.is_root() || uid == geteuid() || is_operator(uid, Gid::from_raw(gid))
}

fn is_operator(uid: Uid, gid: Gid) -> bool {
    let Ok(Some(group)) = Group::from_name(OPERATORS) else { return false };
    group.gid == gid
        || matches!(User::from_uid(uid), Ok(Some(user)) if user.gid == group.gid || group.mem.contains(&user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_ourselves_may_and_a_session_may_not() {
        assert!(may_operate(0, 0));
        assert!(may_operate(geteuid().as_raw(), 65534));
        assert!(!may_operate(20007, 20007));
    }
}
