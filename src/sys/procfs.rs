//! The little of `/proc` that supervision needs.

use std::fs;
use std::io;

/// One line of `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: u32,
    /// `R`, `S`, `D`, `Z`, …
    pub state: char,
    /// Its parent.
    pub ppid: u32,
    /// Its session.
    pub session: u32,
    /// Start time in clock ticks since boot: with the pid, it names a process for as long as the host is up.
    pub start_time: u64,
}

impl Stat {
    /// Reads it.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        parse_stat(&text).ok_or_else(|| io::Error::other("a stat line that is not one"))
    }

    /// Whether it has ended and waits to be reaped.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

fn parse_stat(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(' ')?;
    // The name may hold spaces and parentheses; the last one closes it.
    let mut fields = rest.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let start_time = fields.nth(15)?.parse().ok()?;
    Some(Stat { pid: pid.parse().ok()?, state, ppid, session, start_time })
}

/// All processes that can be seen.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|text| text.parse().ok()) else { continue };
        // It may have ended since it was listed.
        if let Ok(stat) = Stat::of(pid) {
            found.push(stat);
        }
    }
    Ok(found)
}

/// Children of this process, of all its threads.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own_children() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(task?.path().join("children")) {
            Ok(text) => found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // The thread has ended, or the kernel is built without the file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        let own = std::process::id();
        found = all()?.into_iter().filter(|stat| stat.ppid == own).map(|stat| stat.pid).collect();
    }
    Ok(found)
}

/// The value of a variable in the environment that a process was started with; `None` as well when it may not be read.
pub fn environment(pid: u32, name: &str) -> Option<String> {
    // Unreadable is unset here: kernel threads, other users' processes, processes that have just ended.
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    bytes.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// Memory that this process and its children may use, in bytes: the host's, or less where its cgroup says so.
///
/// # Errors
/// When `/proc/meminfo` cannot be read.
pub fn memory_bytes() -> io::Result<u64> {
    let of_host = parse_memory(&fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::other("/proc/meminfo without MemTotal"))?;
    let of_cgroup = super::cgroup::unit_dir()
        .ok()
        .and_then(|dir| fs::read_to_string(dir.join("memory.max")).ok())
        // "max" where there is no limit.
        .and_then(|text| text.trim().parse().ok());
    Ok(of_cgroup.map_or(of_host, |limit: u64| limit.min(of_host)))
}

fn parse_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Names this boot of the host: pids and start times mean something within one boot only.
///
/// # Errors
/// When `/proc` does not say it.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    match text.trim() {
        "" => Err(io::Error::other("a boot id that is empty")),
        id => Ok(id.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b) (c) S 7 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 200 0\n";
        let stat = Stat { pid: 42, state: 'S', ppid: 7, session: 39, start_time: 123_456 };
        assert_eq!(parse_stat(line), Some(stat));
        assert_eq!(parse_stat("42 (x"), None);
    }

    #[test]
    fn memory_is_told_in_bytes() {
        assert_eq!(parse_memory("MemTotal:        3886720 kB\nMemFree: 1 kB\n"), Some(3_980_001_280));
        assert_eq!(parse_memory("MemFree: 1 kB\n"), None);
        assert!(memory_bytes().unwrap() > 64 << 20);
    }

    #[test]
    fn this_process_is_found_among_all() {
        let own = Stat::of(std::process::id()).unwrap();
        assert!(all().unwrap().iter().any(|stat| stat.pid == own.pid && stat.start_time == own.start_time));
        assert!(!own.is_zombie());
    }

    #[test]
    fn a_boot_has_one_id_which_is_not_the_one_that_changes_with_each_read() {
        let id = boot_id().unwrap();
        assert_eq!((id.len(), boot_id().unwrap()), (36, id.clone()));
        assert!(id.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "{id}");
    }
}
