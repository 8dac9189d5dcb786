//! `valetd doctor`: can this machine do it? Each check says what it found, and the remedy where that is not good.

use std::fmt::Write as _;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde::Serialize;

use super::output::{answer, complain};
use super::rehearsal;
use super::run::programs;
use super::{DoctorArgs, Exit};
use crate::config::{Config, load};
use crate::sys;

/// Below this, Chromium keeps shared memory on disk, which is slower.
const MIN_SHM_BYTES: u64 = 512 * 1024 * 1024;
/// The daemon, a display and a browser with a few pages.
const MIN_MEMORY_KIB: u64 = 1_500_000;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// Checks the machine, prints what was found, and ends with 69 or 1 when something must be done first.
pub fn run(
    args: &DoctorArgs,
    credentials_dir: Option<&Path>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let config = match &args.config {
        Some(path) => load(Some(path), std::env::vars_os(), credentials_dir),
        None => crate::config::defaults(),
    };
    let config = match config {
        Ok(config) => config,
        Err(mistakes) => return complain(err, &mistakes.to_string(), Exit::Configuration),
    };
    let checks = examine(&config);
    let text = if args.json {
        match serde_json::to_string(&checks) {
            Ok(json) => json + "\n",
            Err(error) => return complain(err, &error.to_string(), Exit::Failed),
        }
    } else {
        report(&checks)
    };
    let written = answer(out, &text);
    let failed = |name: Option<&str>| {
        checks
            .iter()
            .any(|check| check.verdict == Verdict::Fail && name.is_none_or(|name| check.name == name))
    };
    match written {
        Exit::Clean if failed(Some(PROGRAM)) => Exit::ProgramMissing,
        Exit::Clean if failed(None) => Exit::Failed,
        written => written,
    }
}

const PROGRAM: &str = "program";

fn examine(config: &Config) -> Vec<Check> {
    let mut checks = vec![privilege()];
    checks.extend(programs(config).into_iter().map(|(key, path, package)| program(key, path, package)));
    checks.push(containment());
    checks.extend(user_namespaces());
    checks.push(shared_memory(config));
    checks.push(memory());
    checks.push(uid_range(config));
    checks.extend(isolation(config));
    checks.push(port("gateway", config.gateway.listen));
    checks.push(port("api", config.api.listen));
    checks
}

fn report(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{mark}  {:<12} {}", check.name, check.found);
        if let Some(remedy) = &check.remedy {
            let _infallible = writeln!(text, "{:18} -> {remedy}", "");
        }
    }
    text
}

fn privilege() -> Check {
    if nix::unistd::geteuid().is_root() {
        Check::ok("privilege", "root: each session gets a uid of its own")
    } else {
        Check::warn(
            "privilege",
            "not root: sessions run as this user, without a uid of their own",
            "run as root for isolation between sessions and from the host",
        )
    }
}

fn program(key: &'static str, path: &Path, package: &str) -> Check {
    if path.is_file() {
        Check::ok(PROGRAM, format!("{key} = {}", path.display()))
    } else {
        let remedy = format!("apt-get install {package}, or set {key}");
        Check::fail(PROGRAM, format!("{key} = {} is not there", path.display()), remedy)
    }
}

fn containment() -> Check {
    match sys::cgroup::own_dir() {
        Ok(dir) if dir.join("cgroup.procs").exists() && writable(&dir) => {
            Check::ok("cgroup2", format!("{} can be written to", dir.display()))
        }
        Ok(dir) => Check::warn(
            "cgroup2",
            format!("{} cannot be written to: services are held by marker and descent", dir.display()),
            "run as root, or in a systemd unit with Delegate=yes",
        ),
        Err(error) => Check::warn(
            "cgroup2",
            format!("none to be seen ({error}): services are held by marker and descent"),
            "mount cgroup2: mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
    }
}

fn writable(dir: &Path) -> bool {
    nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// What Chromium's sandbox needs; the first two are of Debian and Ubuntu, and missing elsewhere.
fn user_namespaces() -> Vec<Check> {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|text| text.trim().to_owned())
    };
    let mut checks = Vec::new();
    if read("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        checks.push(Check::fail(
            "sandbox",
            "kernel.unprivileged_userns_clone = 0: the browser cannot build its sandbox",
            "sysctl kernel.unprivileged_userns_clone=1",
        ));
    }
    if read("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        checks.push(Check::warn(
            "sandbox",
            "AppArmor restricts user namespaces to programs with a profile that allows them",
            "give the browser an AppArmor profile with `userns,`",
        ));
    }
    match read("user/max_user_namespaces").and_then(|text| text.parse::<u64>().ok()) {
        Some(0) => checks.push(Check::fail(
            "sandbox",
            "user.max_user_namespaces = 0: the browser cannot build its sandbox",
            "sysctl user.max_user_namespaces=10000",
        )),
        Some(max) if checks.is_empty() => {
            checks.push(Check::ok("sandbox", format!("{max} user namespaces allowed")))
        }
        _ => {}
    }
    checks
}

fn shared_memory(config: &Config) -> Check {
    let own = config.host.isolation.shm_bytes;
    if nix::unistd::geteuid().is_root() {
        let found = format!("each session's /dev/shm has {} MiB", own >> 20);
        if own >= MIN_SHM_BYTES {
            return Check::ok("shm", found);
        }
        let slow = format!("{found}: browsers will keep shared memory in their TMPDIR");
        return Check::warn("shm", slow, "set isolation.shm_size to \"512MiB\" or more");
    }
    let bytes = rustix::fs::statvfs("/dev/shm").map(|stat| stat.f_blocks.saturating_mul(stat.f_frsize));
    match bytes {
        Ok(bytes) if bytes >= MIN_SHM_BYTES => Check::ok("shm", format!("/dev/shm has {} MiB", bytes >> 20)),
        Ok(bytes) => Check::warn(
            "shm",
            format!("/dev/shm has {} MiB: browsers will keep shared memory in their TMPDIR", bytes >> 20),
            "mount -o remount,size=1G /dev/shm",
        ),
        Err(error) => {
            Check::warn("shm", format!("no /dev/shm: {error}"), "mount -t tmpfs -o size=1G none /dev/shm")
        }
    }
}

fn memory() -> Check {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    match total {
        Some(kib) if kib < MIN_MEMORY_KIB => Check::warn(
            "memory",
            format!("{} MiB in all: little for a browser", kib >> 10),
            "give the machine 2 GiB or more",
        ),
        Some(kib) => Check::ok("memory", format!("{} MiB in all", kib >> 10)),
        None => Check::warn("memory", "cannot read /proc/meminfo", "mount /proc"),
    }
}

/// uids of sessions must be nobody else's: whoever has one reads that session's profile.
fn uid_range(config: &Config) -> Check {
    let (first, count) = (config.host.first_uid, config.host.uid_count);
    let range = first..first.saturating_add(count);
    let adspower = config.adspower.as_ref().map(|adspower| adspower.uid);
    let taken = std::fs::read_to_string("/etc/passwd").unwrap_or_default().lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse::<u32>().ok()?;
        (range.contains(&uid) || adspower == Some(uid)).then_some((name, uid))
    });
    let shown = format!("{first} to {}", range.end.saturating_sub(1));
    match taken {
        None => Check::ok("uids", format!("{shown} are free for sessions")),
        Some((name, uid)) => Check::fail(
            "uids",
            format!("uid {uid} is {name}'s, and was to be a session's ({shown}) or AdsPower's"),
            "set host.first_uid to a free range, adspower.uid to a free uid beside it",
        ),
    }
}

/// Makes a space and packet filter rules as a session would have them, tries both, and takes them away again.
fn isolation(config: &Config) -> Vec<Check> {
    if !nix::unistd::geteuid().is_root() {
        return Vec::new();
    }
    let found = rehearsal::run(&config.host);
    let space = match found.space {
        Ok(()) => Check::ok("namespaces", "a session has its own /tmp, /dev/shm and process list"),
        Err(problem) => {
            Check::fail("namespaces", problem, "give valetd CAP_SYS_ADMIN; in a container, run it privileged")
        }
    };
    let filter = match found.filter {
        None => Check::warn(
            "network",
            "isolation.network = \"open\": sessions reach this host's services and private networks",
            "set isolation.network to \"auto\" or \"filtered\"",
        ),
        Some(Ok(())) => {
            Check::ok("network", "a connection from a session's uid to this host was tried, and refused")
        }
        Some(Err(problem)) => Check::fail(
            "network",
            problem,
            "apt-get install nftables, on a kernel with nf_tables; or set isolation.network = \"open\"",
        ),
    };
    vec![space, filter]
}

fn port(name: &'static str, address: SocketAddr) -> Check {
    match TcpListener::bind(address) {
        Ok(_listener) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Check::warn(
            name,
            format!("{address} is in use"),
            format!("fine if that is valetd itself; otherwise set {name}.listen"),
        ),
        Err(error) => Check::fail(name, format!("{address}: {error}"), format!("set {name}.listen")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_comes_with_its_package() {
        let check = program("display.xvfb", Path::new("/nonexistent/Xvfb"), "xvfb");
        assert_eq!(check.verdict, Verdict::Fail);
        assert_eq!(
            report(&[check]),
            "FAIL  program      display.xvfb = /nonexistent/Xvfb is not there\n                   -> apt-get install xvfb, or set display.xvfb\n"
        );
    }

    #[test]
    fn a_port_in_use_is_told_from_a_free_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(port("api", address).verdict, Verdict::Warn);
        drop(listener);
        assert_eq!(port("api", address).verdict, Verdict::Ok);
    }
}
