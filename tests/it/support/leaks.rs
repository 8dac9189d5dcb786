//! What must not be left behind.

use std::path::{Path, PathBuf};

/// Processes that name `dir`, a daemon's directory, in their arguments or environment: everything the daemon has started. Zombies do not count, their parent is about to reap them.
pub(crate) fn processes(dir: &Path) -> Vec<(i32, String)> {
    let needle = dir.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let ours = command.contains(needle) || String::from_utf8_lossy(&environ).contains(needle);
            (ours && pid != std::process::id().cast_signed()).then_some((pid, command))
        })
        .collect()
}

/// X lock files and sockets whose server is gone.
pub(crate) fn dead_x_locks() -> Vec<PathBuf> {
    std::fs::read_dir("/tmp")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(".X") && name.ends_with("-lock") && {
                let pid = std::fs::read_to_string(path).unwrap_or_default();
                pid.trim().parse::<i32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
            }
        })
        .collect()
}

/// The directories in the cgroup2 hierarchy that belong to the daemon on this state directory; none where the host has no
/// cgroup2.
pub(crate) fn cgroups(state_dir: &Path) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(own) = valetd::sys::cgroup::own_dir() else { return Vec::new() };
    let path = state_dir.canonicalize().unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, path.as_os_str().as_bytes());
    let hash: String = hash.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let dir = own.join(format!("valetd-{hash}"));
    if dir.exists() { vec![dir] } else { Vec::new() }
}

/// Open descriptors of a process.
pub(crate) fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Names in the X socket directory that lead into `dir`, or nowhere.
pub(crate) fn dangling_x_sockets(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/tmp/.X11-unix") else { return Vec::new() };
    let ours = |path: &Path| std::fs::read_link(path).is_ok_and(|target| target.starts_with(dir));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| ours(path)).map(|path| path.display().to_string()).collect()
}

/// Segments of System V shared memory whose owner is one of these uids (proc(5), `/proc/sysvipc/shm`).
pub(crate) fn shared_memory_of(uids: std::ops::Range<u32>) -> usize {
    const UID_COLUMN: usize = 7;
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let uid = |line: &str| line.split_ascii_whitespace().nth(UID_COLUMN)?.parse::<u32>().ok();
    table.lines().skip(1).filter(|line| uid(line).is_some_and(|uid| uids.contains(&uid))).count()
}
