//! cgroup2 directories: where ours may be, and what can be done with one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::marker::{self, timespec};
use super::procfs::Stat;

/// Where the daemon itself is beneath a cgroup that systemd has delegated to it.
const LEAF: &str = "supervisor";
/// What systemd writes on a cgroup that it has delegated: to root, and since 251 to ordinary users.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];

/// Re-read at least so often, should a notification have been lost.
const BACKSTOP: Duration = Duration::from_millis(250);

/// The directory of the cgroup2 that this process is in, wherever the host mounts the hierarchy.
///
/// # Errors
/// `NotFound` when there is none that this process can see.
pub fn own_dir() -> io::Result<PathBuf> {
    dir_in("/proc/self/cgroup")
}

/// The directory of the cgroup2 that the process `pid` is in.
///
/// # Errors
/// `NotFound` when there is no such process, or no mount that this process can see holds it.
pub fn dir_of(pid: u32) -> io::Result<PathBuf> {
    dir_in(&format!("/proc/{pid}/cgroup"))
}

fn dir_in(membership: &str) -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    resolve(&mounts, &fs::read_to_string(membership)?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 mount holds this process"))
}

/// The directory that is this process's own to divide: the delegated one above the leaf that it has moved to, or its own.
///
/// # Errors
/// As [`own_dir`].
pub fn unit_dir() -> io::Result<PathBuf> {
    let own = own_dir()?;
    let above = own.parent().filter(|above| own.ends_with(LEAF) && is_delegated(above)).map(Path::to_owned);
    Ok(above.unwrap_or(own))
}

/// Gives back [`unit_dir`], and leaves it for a leaf beneath it where systemd has delegated it: the kernel hands controllers on
/// to cgroups beneath one only when no process is in it, and without controllers there are no limits.
///
/// # Errors
/// As the kernel gives them.
pub fn settle() -> io::Result<PathBuf> {
    let unit = unit_dir()?;
    if is_delegated(&unit) && own_dir()? == unit {
        let leaf = unit.join(LEAF);
        fs::create_dir_all(&leaf)?;
        // 0 is the writer, with all of its threads.
        io::Write::write_all(&mut join_file(&leaf)?, b"0")?;
    }
    Ok(unit)
}

fn is_delegated(dir: &Path) -> bool {
    let mut value = [0; 8];
    DELEGATED.iter().any(|name| {
        rustix::fs::getxattr(dir, *name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

fn resolve(mountinfo: &str, membership: &str) -> Option<PathBuf> {
    let own = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A path outside of the mounted part (seen as `/..`) cannot be reached through this mount.
        let inside = Path::new(own).strip_prefix(unescape(root)).ok()?;
        if inside.components().any(|part| part == std::path::Component::ParentDir) {
            return None;
        }
        Some(Path::new(&unescape(point)).join(inside))
    })
}

/// mountinfo writes space, tab, newline and backslash as octal.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// The file through which a process joins `dir`. The right to write is the opener's, so a process that has dropped its own
/// can still join.
///
/// # Errors
/// As the kernel gives them.
pub fn join_file(dir: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(dir.join("cgroup.procs"))
}

/// SIGKILL to all in `dir` and beneath. Nothing there is not an error.
///
/// # Errors
/// As the kernel gives them.
pub fn kill(dir: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(dir.join("cgroup.kill")) {
        Ok(mut file) => io::Write::write_all(&mut file, b"1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => kill_one_by_one(dir),
        Err(error) => Err(error),
    }
}

/// For kernels before 5.14, which lack `cgroup.kill`: [`wait_empty`]'s caller repeats it.
fn kill_one_by_one(dir: &Path) -> io::Result<()> {
    let killed = marker::kill(&processes(dir)?);
    tracing::debug!(dir = %dir.display(), count = killed.len(), "killed one by one");
    Ok(())
}

/// The live processes in `dir` and beneath; none when it is gone.
///
/// # Errors
/// As the kernel gives them.
pub fn processes(dir: &Path) -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    let text = match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    // One that cannot be read has ended since.
    found.extend(text.lines().filter_map(|pid| Stat::of(pid.parse().ok()?).ok()));
    for child in children(dir)? {
        found.extend(processes(&child)?);
    }
    Ok(found)
}

/// Whether no live process is in `dir` or beneath. A directory that is gone is empty.
///
/// # Errors
/// As the kernel gives them.
pub fn is_empty(dir: &Path) -> io::Result<bool> {
    match fs::read_to_string(dir.join("cgroup.events")) {
        Ok(text) => Ok(text.lines().any(|line| line == "populated 0")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Waits until `dir` is empty; `false` when it is not after `budget`. Blocks.
///
/// # Errors
/// As the kernel gives them.
pub fn wait_empty(dir: &Path, budget: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + budget;
    let events = match File::open(dir.join("cgroup.events")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    loop {
        if is_empty(dir)? {
            return Ok(true);
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(false);
        }
        // The read above and this one arm the notification; what came in between makes poll return at once.
        let mut polls = [PollFd::new(&events, PollFlags::PRI)];
        let mut armed = String::new();
        io::Read::read_to_string(&mut &events, &mut armed)?;
        io::Seek::rewind(&mut &events)?;
        if armed.lines().any(|line| line == "populated 0") {
            return Ok(true);
        }
        match poll(&mut polls, Some(&timespec(rest.min(BACKSTOP)))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Removes `dir` and all beneath it, which must be empty. How many directories.
///
/// # Errors
/// `ResourceBusy` while a process is in one.
pub fn remove(dir: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for child in children(dir)? {
        removed += remove(&child)?;
    }
    match fs::remove_dir(dir) {
        Ok(()) => Ok(removed + 1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(removed),
        Err(error) => Err(error),
    }
}

/// Cgroups directly beneath `dir`; none when it is gone.
///
/// # Errors
/// As the kernel gives them.
pub fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// What the kernel has counted of a cgroup's shortage of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OomFacts {
    /// Processes in it that the out-of-memory killer took, whoever ran short: the group or the whole host.
    pub kills: u64,
    /// The most memory that the group ever had, in bytes; kernels before 5.19 do not say.
    pub peak: Option<u64>,
    /// The limit on the group, in bytes.
    pub limit: Option<u64>,
}

/// Reads them for the cell at `dir`, with peak and limit of the group above it. `None` where memory is not accounted for.
pub fn oom(dir: &Path) -> Option<OomFacts> {
    let events = fs::read_to_string(dir.join("memory.events")).ok()?;
    let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())?;
    let group = dir.parent().unwrap_or(dir);
    // `max` is no number, and no limit.
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse().ok();
    Some(OomFacts { kills, peak: number("memory.peak"), limit: number("memory.max") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_own_directory_is_found_on_hybrid_unified_and_namespaced_hosts() {
        let membership = "9:name=systemd:/x\n4:memory:/y\n0::/\n";
        assert_eq!(resolve(HYBRID, membership), Some("/sys/fs/cgroup/unified".into()));
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let unit = "0::/system.slice/valetd.service\n";
        assert_eq!(resolve(unified, unit), Some("/sys/fs/cgroup/system.slice/valetd.service".into()));
        let part = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(resolve(part, "0::/docker/abc/in\n"), Some("/sys/fs/cgroup/in".into()));
    }

    #[test]
    fn a_cgroup_that_the_mount_does_not_show_is_not_guessed() {
        let part = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(resolve(part, "0::/elsewhere\n"), None);
        assert_eq!(resolve("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 c rw\n", "0::/../up\n"), None);
        assert_eq!(resolve(HYBRID, "4:memory:/y\n"), None);
        let spaced = "30 23 0:26 / /mnt/c\\040g rw - cgroup2 c rw\n";
        assert_eq!(resolve(spaced, "0::/a\n"), Some("/mnt/c g/a".into()));
    }

    #[test]
    fn a_directory_is_delegated_when_systemd_has_written_so_on_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_delegated(dir.path()));
        let flags = rustix::fs::XattrFlags::empty();
        for (value, delegated) in [("0", false), ("1", true), ("1 and more", false)] {
            match rustix::fs::setxattr(dir.path(), "user.delegate", value.as_bytes(), flags) {
                // Of a file system without such attributes nothing can be asked.
                Err(rustix::io::Errno::OPNOTSUPP) => return,
                outcome => outcome.unwrap(),
            }
            assert_eq!(is_delegated(dir.path()), delegated, "{value}");
        }
    }

    /// A file on a disk tells nobody that it has changed.
    #[test]
    fn f33_a_cgroup_that_empties_without_a_word_is_found_empty() {
        let dir = tempfile::tempdir().unwrap();
        let say = |text: &str| {
            // In one step, as the kernel would.
            let next = dir.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, dir.path().join("cgroup.events")).unwrap();
        };
        say("populated 1\nfrozen 0\n");
        assert!(!wait_empty(dir.path(), Duration::from_millis(10)).unwrap());
        let began = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_empty(dir.path(), Duration::from_secs(60)).unwrap());
            say("populated 0\nfrozen 0\n");
            assert!(waiting.join().unwrap());
        });
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn f29_kills_are_the_cells_and_peak_and_limit_the_groups() {
        let group = tempfile::tempdir().unwrap();
        let cell = group.path().join("browser");
        fs::create_dir(&cell).unwrap();
        assert_eq!(oom(&cell), None, "no memory controller here");
        fs::write(cell.join("memory.events"), "low 0\nhigh 0\nmax 41\noom 2\noom_kill 3\noom_group_kill 0\n")
            .unwrap();
        assert_eq!(oom(&cell), Some(OomFacts { kills: 3, peak: None, limit: None }));
        fs::write(group.path().join("memory.peak"), "1395864371\n").unwrap();
        fs::write(group.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(oom(&cell), Some(OomFacts { kills: 3, peak: Some(1_395_864_371), limit: None }));
        fs::write(group.path().join("memory.max"), "1395864371\n").unwrap();
        assert_eq!(oom(&cell).unwrap().limit, Some(1_395_864_371));
    }
}
