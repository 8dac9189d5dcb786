//! The directories of a session.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::config::HostConfig;
use crate::browser::park_all;
use crate::supervise::Identity;
use crate::sys::remove_all;

/// Directories of the daemon: a session may pass through, not list.
const PASSAGE: u32 = 0o711;
const PASSAGE_BITS: u32 = 0o011;
/// Directories of a session.
const PRIVATE: u32 = 0o700;

/// A directory could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}")]
pub struct Error {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Where one session keeps what does not outlive it. Removed when dropped.
#[derive(Debug)]
pub(super) struct RuntimeDir {
    pub(super) path: PathBuf,
}

impl RuntimeDir {
    /// A fresh, empty directory for the session in `slot`, whatever an earlier run left there.
    pub(super) fn create(host: &HostConfig, slot: u32, owner: Option<Identity>) -> Result<Self, Error> {
        make(&host.runtime_dir, PASSAGE)?;
        // Short on purpose: sockets below it must stay under 108 bytes, and a session id may have 64 alone.
        let path = host.runtime_dir.join(format!("s{slot}"));
        remove(&path)?;
        make_fresh(&path, owner)?;
        make_fresh(&path.join("tmp"), owner)?;
        make_fresh(&path.join("screen"), owner)?;
        Ok(Self { path })
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.path.join("xauthority")
    }

    pub(super) fn rfb_socket(&self) -> PathBuf {
        self.path.join("rfb.sock")
    }

    /// For the memory of the X server's screen.
    pub(super) fn screen(&self) -> PathBuf {
        self.path.join("screen")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(error = %crate::errors::chain(&error), "a session's directory stays behind");
        }
    }
}

/// The directory in which profiles lie, made where it is missing.
pub(super) fn profiles(host: &HostConfig) -> Result<PathBuf, Error> {
    beneath_state(host, "profiles")
}

/// The place of a blank profile, which goes with its session. Beside the others: it may grow beyond what a tmpfs holds.
pub(super) fn scratch(host: &HostConfig, slot: u32) -> Result<PathBuf, Error> {
    Ok(beneath_state(host, "scratch")?.join(format!("s{slot}")))
}

fn beneath_state(host: &HostConfig, name: &str) -> Result<PathBuf, Error> {
    make(&host.state_dir, PASSAGE)?;
    let path = host.state_dir.join(name);
    make(&path, PASSAGE)?;
    Ok(path)
}

/// Takes back what sessions of an earlier run left: their profiles from their uids, and the blank ones for good. Only safe
/// while no session runs.
pub(super) fn clear_leftovers(host: &HostConfig) -> Result<(), Error> {
    let profiles = profiles(host)?;
    park_all(&profiles).map_err(|source| Error { what: "take back", path: profiles, source })?;
    remove(&beneath_state(host, "scratch")?)
}

fn make(path: &Path, mode: u32) -> Result<(), Error> {
    let error = |what| move |source| Error { what, path: path.to_owned(), source };
    match DirBuilder::new().mode(mode).create(path) {
        // The umask may have taken the passage away.
        Ok(()) => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(error("open"))
        }
        // systemd may have made it, for the daemon alone.
        Err(found) if found.kind() == std::io::ErrorKind::AlreadyExists => {
            open_passage(path).map_err(error("open"))
        }
        Err(source) => Err(error("make")(source)),
    }
}

fn open_passage(path: &Path) -> std::io::Result<()> {
    let permissions = std::fs::metadata(path)?.permissions();
    let mode = permissions.mode() & 0o7777;
    if mode & PASSAGE_BITS == PASSAGE_BITS {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | PASSAGE_BITS))
}

fn make_fresh(path: &Path, owner: Option<Identity>) -> Result<(), Error> {
    let error = |what| move |source| Error { what, path: path.to_owned(), source };
    DirBuilder::new().mode(PRIVATE).create(path).map_err(error("make"))?;
    if let Some(owner) = owner {
        chown(path, Some(owner.uid), Some(owner.gid)).map_err(error("give away"))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    remove_all(path).map_err(|source| Error { what: "remove", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Isolation, Network};

    #[test]
    fn each_run_starts_with_an_empty_private_directory_and_takes_it_along() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostConfig {
            state_dir: dir.path().join("state"),
            runtime_dir: dir.path().join("run"),
            first_uid: 20000,
            uid_count: 1,
            isolation: Isolation {
                network: Network::Open,
                allow: Vec::new(),
                devtools_ports: 21_000..=21_999,
                shm_bytes: 1 << 30,
                hide_processes: true,
                nft: "/usr/sbin/nft".into(),
            },
        };
        std::fs::create_dir_all(host.runtime_dir.join("s0/tmp/left")).unwrap();
        let runtime = RuntimeDir::create(&host, 0, None).unwrap();
        assert_eq!(std::fs::read_dir(runtime.tmp()).unwrap().count(), 0);
        assert_eq!(std::fs::metadata(runtime.tmp()).unwrap().permissions().mode() & 0o777, 0o700);
        let path = runtime.path.clone();
        drop(runtime);
        assert!(!path.exists());
    }
}
