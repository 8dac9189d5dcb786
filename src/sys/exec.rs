//! The trampoline: what happens between fork and exec, as an ordinary single-threaded program.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, geteuid, getgid, getppid, getuid, setgroups, setresgid, setresuid, setsid};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, set_parent_process_death_signal, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::command::READY_FD;
use super::wire::{self, Order, Slot, StageFailure};

/// Exit status when there was nobody to report a failure to.
const NO_ORDER: u8 = 125;
/// Exit status after a reported failure.
const STAGE_FAILED: u8 = 126;

struct Plan {
    order: Order,
    fds: BTreeMap<Slot, OwnedFd>,
}

type Stage = (&'static str, fn(&mut Plan) -> io::Result<()>);

/// In this order, because: a cgroup holds what comes after it; namespaces are entered with the daemon's rights, and the
/// paths of later stages are those of the service; the bounding set needs a capability that the uid change
/// takes; groups before gid before uid, each needs the right that the next one gives up; the kernel forgets the death
/// signal at a uid change; the working directory is entered with the rights of the service.
const STAGES: [Stage; 15] = [
    ("descriptors", descriptors),
    ("cgroup", cgroup),
    ("namespaces", namespaces),
    ("session", session),
    ("oom score", oom_score),
    ("limits", limits),
    ("bounding set", bounding_set),
    ("groups", groups),
    ("gid", gid),
    ("uid", uid),
    ("capabilities", no_capabilities),
    ("no_new_privs", no_new_privileges),
    ("death signal", death_signal),
    ("working directory", working_directory),
    ("exec", exec),
];

/// `valetd exec`: takes an order from the socket on stdin and becomes the service. Must run before anything else of the
/// program, while there is one thread.
pub fn exec_main() -> ExitCode {
    let Ok((order, fds)) = wire::receive(io::stdin().lock()) else {
        return ExitCode::from(NO_ORDER);
    };
    let mut plan = Plan { order, fds: fds.into_iter().collect() };
    let Some(status) = plan.fds.remove(&Slot::Status) else {
        return ExitCode::from(NO_ORDER);
    };
    for (stage, run) in STAGES {
        if let Err(error) = run(&mut plan) {
            let errno = error.raw_os_error().unwrap_or(0);
            let report = StageFailure { stage: stage.to_owned(), errno };
            let text = serde_json::to_vec(&report).unwrap_or_default();
            return match File::from(status).write_all(&text) {
                Ok(()) => ExitCode::from(STAGE_FAILED),
                // The daemon is gone.
                Err(_) => ExitCode::from(NO_ORDER),
            };
        }
    }
    // The last stage does not return but by failing.
    ExitCode::from(STAGE_FAILED)
}

fn descriptors(plan: &mut Plan) -> io::Result<()> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    if let Some(stdout) = plan.fds.remove(&Slot::Stdout) {
        rustix::stdio::dup2_stdout(stdout)?;
    }
    if let Some(stderr) = plan.fds.remove(&Slot::Stderr) {
        rustix::stdio::dup2_stderr(stderr)?;
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|text| text.parse().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            close_on_exec(number)?;
        }
    }
    if let Some(ready) = plan.fds.get(&Slot::Ready) {
        fcntl_setfd(ready, FdFlags::empty())?;
        let number = ready.as_raw_fd().to_string();
        for arg in plan.order.args.iter_mut().filter(|arg| *arg == READY_FD) {
            *arg = number.clone().into();
        }
    }
    Ok(())
}

/// What a library of the daemon opened without the flag must not reach a service.
#[expect(unsafe_code, reason = "neither nix nor rustix has close_range, or any other way from a number")]
fn close_on_exec(number: i32) -> io::Result<()> {
    // SAFETY: the number was just listed in /proc/self/fd of this single-threaded process, which closes nothing but the
    // directory that it lists, so it is open; the borrow ends with this function, and setting a flag does not touch what
    // the descriptor's owner relies on.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(fcntl_setfd(fd, FdFlags::CLOEXEC)?)
}

fn cgroup(plan: &mut Plan) -> io::Result<()> {
    match plan.fds.remove(&Slot::Cgroup) {
        // 0 is the writer.
        Some(procs) => File::from(procs).write_all(b"0"),
        None => Ok(()),
    }
}

fn namespaces(plan: &mut Plan) -> io::Result<()> {
    for (slot, kind) in [(Slot::Ipc, CloneFlags::CLONE_NEWIPC), (Slot::Mounts, CloneFlags::CLONE_NEWNS)] {
        if let Some(namespace) = plan.fds.remove(&slot) {
            setns(namespace, kind)?;
        }
    }
    Ok(())
}

fn session(_plan: &mut Plan) -> io::Result<()> {
    setsid()?;
    umask(Mode::from_raw_mode(0o077));
    Ok(())
}

/// A daemon that is spared by the OOM killer must not have its services spared.
fn oom_score(_plan: &mut Plan) -> io::Result<()> {
    let path = "/proc/self/oom_score_adj";
    if std::fs::read_to_string(path)?.starts_with('-') {
        std::fs::write(path, "0")?;
    }
    Ok(())
}

fn limits(plan: &mut Plan) -> io::Result<()> {
    let mut files = plan.order.max_open_files;
    if !geteuid().is_root() {
        files = files.min(getrlimit(Resource::RLIMIT_NOFILE)?.1);
    }
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

fn bounding_set(_plan: &mut Plan) -> io::Result<()> {
    if !capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // Past the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// An ordinary user's daemon may name its own identity, which needs no change.
fn changes_identity(order: &Order) -> Option<(Uid, Gid)> {
    let (uid, gid) = order.identity?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    (geteuid().is_root() || uid != getuid() || gid != getgid()).then_some((uid, gid))
}

fn groups(plan: &mut Plan) -> io::Result<()> {
    match changes_identity(&plan.order) {
        Some(_) => Ok(setgroups(&[])?),
        None => Ok(()),
    }
}

fn gid(plan: &mut Plan) -> io::Result<()> {
    match changes_identity(&plan.order) {
        Some((_, gid)) => Ok(setresgid(gid, gid, gid)?),
        None => Ok(()),
    }
}

fn uid(plan: &mut Plan) -> io::Result<()> {
    match changes_identity(&plan.order) {
        Some((uid, _)) => Ok(setresuid(uid, uid, uid)?),
        None => Ok(()),
    }
}

fn no_capabilities(_plan: &mut Plan) -> io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

fn no_new_privileges(_plan: &mut Plan) -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

fn death_signal(plan: &mut Plan) -> io::Result<()> {
    // Not KILL: a browser saves its profile, an X server removes its lock. The keeper kills who does not listen.
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have died before that was set.
    if u32::try_from(getppid().as_raw()) != Ok(plan.order.daemon) {
        return Err(rustix::io::Errno::SRCH.into());
    }
    Ok(())
}

fn working_directory(plan: &mut Plan) -> io::Result<()> {
    std::env::set_current_dir(&plan.order.cwd)
}

#[expect(clippy::disallowed_methods, reason = "replaces this process and starts none")]
fn exec(plan: &mut Plan) -> io::Result<()> {
    let order = &plan.order;
    let env = order.env.iter().map(|(key, value)| (key, value));
    Err(std::process::Command::new(&order.program).args(&order.args).env_clear().envs(env).exec())
}

#[cfg(test)]
mod tests {
    use super::STAGES;

    #[test]
    fn rights_are_given_up_in_the_order_that_leaves_the_next_stage_its_own() {
        let order = [
            "descriptors",
            "cgroup",
            "namespaces",
            "session",
            "oom score",
            "limits",
            "bounding set",
            "groups",
            "gid",
            "uid",
            "capabilities",
            "no_new_privs",
            "death signal",
            "working directory",
            "exec",
        ];
        assert_eq!(STAGES.map(|(name, _)| name), order);
    }
}
