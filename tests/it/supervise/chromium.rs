//! The browser's own sandbox under the trampoline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use valetd::supervise::{
    Command, Confinement, Identity, Program, ProgramError, Running, ServiceState, StopReport,
};
use valetd::sys::procfs;

use super::stage::{Script, Stage, signal, spec, wait_for};

const CHROMIUM: &str = "/usr/bin/chromium";

struct Headless {
    home: PathBuf,
    identity: Option<Identity>,
}

impl Program for Headless {
    fn command(&self) -> Result<Command, ProgramError> {
        let data = format!("--user-data-dir={}", self.home.join("data").display());
        let args = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", &data, "about:blank"];
        let env =
            [("HOME", self.home.as_path()), ("TMPDIR", &self.home), ("PATH", Path::new("/usr/bin:/bin"))];
        Ok(Command {
            program: CHROMIUM.into(),
            args: args.map(Into::into).into(),
            env: BTreeMap::from(env.map(|(name, value)| (name.into(), value.into()))),
            cwd: self.home.clone(),
            confinement: Confinement { identity: self.identity, space: None },
            max_open_files: 8192,
            ready_fd: false,
        })
    }

    fn probe<'a>(&'a self, running: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>> {
        Box::pin(async move {
            match renderer(running.pid) {
                Some(_) => Ok(()),
                None => Err(ProgramError::new("has no renderer yet")),
            }
        })
    }
}

/// A renderer among the descendants of `main`, all of which are in its session or children of its children.
fn renderer(main: u32) -> Option<u32> {
    let all = procfs::all().unwrap();
    let mut family = vec![main];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(all.iter().filter(|stat| stat.ppid == parent).map(|stat| stat.pid));
        next += 1;
    }
    let of_type = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("--type=renderer")
    };
    family.into_iter().find(of_type)
}

fn user_namespace(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap()
}

#[tokio::test]
async fn chromium_has_its_namespace_sandbox_and_all_of_it_ends() {
    let root = nix::unistd::geteuid().is_root();
    if !root || !Path::new(CHROMIUM).exists() {
        println!("skipped: needs root and {CHROMIUM}");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let identity = Identity { uid: 23_458, gid: 23_458 };
    std::os::unix::fs::chown(home.path(), Some(identity.uid), Some(identity.gid)).unwrap();
    let mut browser = spec("browser", &[], Script::new("steady.sh", &[]));
    browser.program = Arc::new(Headless { home: home.path().to_owned(), identity: Some(identity) });
    browser.timing.start_deadline = super::stage::PATIENCE;
    let stage = Stage::new(vec![browser]).await;
    let pid = stage.until_state("browser", ServiceState::Up).await.pid.unwrap();
    assert_eq!(user_namespace(pid), user_namespace(std::process::id()));
    let sandboxed = || async { renderer(pid).is_some_and(|it| user_namespace(it) != user_namespace(pid)) };
    wait_for("a renderer in a user namespace of its own", sandboxed).await;
    signal(pid, rustix::process::Signal::KILL);
    stage.until("its end", |all| all.services[0].state == ServiceState::BackingOff).await;
    assert_eq!(stage.end().await, StopReport::default());
}
