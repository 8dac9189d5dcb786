//! A space by itself: what a process in it sees, and that the host sees nothing of it.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use valetd::sys::{Command, Confinement, Exit, Host, Identity, Limits, Space, SpaceError, SpaceSpec};
use valetd::tasks::Scope;

use super::stage::{params, record};

/// A host, a session's directories on it, and those of another.
struct Site {
    host: Host,
    _scope: Scope,
    dir: tempfile::TempDir,
    session: Identity,
}

impl Site {
    /// With a uid for this test alone, since tests run side by side and processes are told apart by it. `None` where it takes
    /// more rights than the caller has.
    async fn make(uid: u32) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("not root: nothing was tested");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let passage = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(dir.path(), passage).unwrap();
        for (name, owner) in [("run/mine/tmp", uid), ("run/other", uid + 1), ("state/mine", uid)] {
            let path = dir.path().join(name);
            std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&path).unwrap();
            std::fs::write(path.join("file"), name).unwrap();
            chown(&path, Some(owner), Some(owner)).unwrap();
        }
        chown(dir.path().join("run/mine"), Some(uid), Some(uid)).unwrap();
        let mut scope = Scope::new();
        let host = Host::start(&mut scope, params(dir.path())).await.unwrap();
        Some(Self { host, _scope: scope, dir, session: Identity { uid, gid: uid } })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self) -> SpaceSpec {
        SpaceSpec {
            tmp: self.path("run/mine/tmp"),
            hide: vec![self.path("run"), self.path("state")],
            keep: vec![self.path("run/mine"), self.path("state/mine")],
            shm_bytes: 64 << 20,
            hide_processes: true,
        }
    }

    /// What a shell of the session prints in there.
    async fn ask(&self, space: &Space, script: &str) -> String {
        let command = Command {
            program: "/bin/sh".into(),
            args: ["-c", &format!("{{ {script}\n}} >/tmp/answer 2>&1")].map(Into::into).into(),
            env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            cwd: "/".into(),
            confinement: Confinement { identity: Some(self.session), space: Some(space.clone()) },
            max_open_files: 64,
            ready_fd: false,
        };
        let cell = self.host.cell("space", "shell", Limits::default()).unwrap();
        let spawned = self.host.spawn(&command, &cell).await.unwrap();
        assert_eq!(spawned.child.wait().await.unwrap(), Exit::Status(0));
        cell.remove().unwrap();
        // It is the session's own /tmp, in another place.
        std::fs::read_to_string(space.tmp().join("answer")).unwrap().trim().to_owned()
    }

    async fn end(self) {
        self.host.containment().remove_group("space").unwrap();
        assert_eq!(self.host.finish().await.unwrap(), 0);
        assert_eq!(mounts_of(self.dir.path()), 0);
    }
}

fn mounts_of(dir: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(dir.to_str().unwrap())).count()
}

#[tokio::test]
async fn a_session_sees_its_own_places_under_their_usual_names_and_nobody_elses() {
    let Some(site) = Site::make(23_470).await else { return };
    let started = Instant::now();
    let space = site.host.space(&site.spec()).await.unwrap();
    record("a space made", started.elapsed());
    let [mine, state, other, run] =
        ["run/mine", "state/mine", "run/other", "run"].map(|name| site.path(name));
    let show = |path: &Path| path.display().to_string();
    let script = format!(
        "cat {}/file\necho\ncat {}/file\necho\ncat {}/tmp/file\necho\n[ -e {} ] || echo no other\ntouch {}/x || echo read-only",
        show(&mine),
        show(&state),
        show(&mine),
        show(&other),
        show(&run),
    );
    std::fs::write(mine.join("file"), "the runtime directory").unwrap();
    let answer = site.ask(&space, &script).await;
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines[..4], ["the runtime directory", "state/mine", "run/mine/tmp", "no other"], "{answer}");
    assert!(answer.ends_with("read-only"), "{answer}");
    let answer = site.ask(&space, "cat /tmp/file; cat /var/tmp/file; stat -c %a:%u /tmp/.X11-unix").await;
    assert_eq!(answer, "run/mine/tmprun/mine/tmp1777:0");
    site.end().await;
}

#[tokio::test]
async fn f35_shared_memory_is_the_sessions_own_however_the_host_is() {
    let Some(site) = Site::make(23_472).await else { return };
    let space = site.host.space(&site.spec()).await.unwrap();
    let answer = site.ask(&space, "df -k --output=size /dev/shm | tail -1; stat -c %a /dev/shm").await;
    assert_eq!(answer.split_whitespace().collect::<Vec<_>>(), ["65536", "1777"]);
    // Full is full, for this session alone.
    let fill = "head -c 70000000 /dev/zero >/dev/shm/much 2>/dev/null || echo full";
    assert_eq!(site.ask(&space, fill).await, "full");
    let neighbour = site.host.space(&site.spec()).await.unwrap();
    assert_eq!(site.ask(&neighbour, "ls /dev/shm; echo some >/dev/shm/some && echo room").await, "room");
    assert!(!Path::new("/dev/shm/much").exists() && !Path::new("/dev/shm/some").exists());
    site.end().await;
}

#[tokio::test]
async fn processes_of_others_and_the_hosts_shared_memory_are_out_of_sight() {
    let Some(site) = Site::make(23_474).await else { return };
    let space = site.host.space(&site.spec()).await.unwrap();
    let count =
        "ls /proc | grep -c '^[0-9]'; tail -n +2 /proc/sysvipc/shm | wc -l; [ -e /proc/1 ] || echo no init";
    let answer = site.ask(&space, count).await;
    let [processes, segments, init] = answer.lines().collect::<Vec<_>>()[..] else { panic!("{answer}") };
    // The shell, and what it runs.
    assert!((1..=4).contains(&processes.parse::<u32>().unwrap()), "{answer}");
    assert_eq!((segments, init), ("0", "no init"));
    let open = SpaceSpec { hide_processes: false, ..site.spec() };
    let space = site.host.space(&open).await.unwrap();
    assert_eq!(site.ask(&space, "[ -e /proc/1 ] && echo init").await, "init", "control");
    site.end().await;
}

#[tokio::test]
async fn what_cannot_be_made_says_at_which_step() {
    let Some(site) = Site::make(23_476).await else { return };
    let missing = SpaceSpec { tmp: site.path("nowhere"), ..site.spec() };
    let error = site.host.space(&missing).await.unwrap_err();
    let SpaceError::Failed(said) = &error else { panic!("{error}") };
    assert!(said.starts_with("open ") && said.contains("nowhere: No such file"), "{said}");
    // A link in the session's directory is not followed to somebody else's.
    std::os::unix::fs::symlink(site.path("run/other"), site.path("run/mine/link")).unwrap();
    let linked = SpaceSpec { tmp: site.path("run/mine/link"), ..site.spec() };
    assert!(matches!(site.host.space(&linked).await, Err(SpaceError::Failed(_))));
    let cell = site.host.cell("space", "none", Limits::default()).unwrap();
    cell.remove().unwrap();
    site.end().await;
}
