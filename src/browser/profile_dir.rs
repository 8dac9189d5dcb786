//! The directory that Chromium keeps a profile in, and our lock on it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::supervise::Identity;

/// What Chromium leaves after a crash, and trips over. The first three are symbolic links, dangling as a rule; a
/// `SingletonLock` that names another host makes it exit with status 21.
const LEFTOVERS: [&str; 4] = ["SingletonLock", "SingletonCookie", "SingletonSocket", "DevToolsActivePort"];

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another session, or another daemon, has it.
    #[error("profile {0} is in use by another session")]
    InUse(PathBuf),
    /// It is there, and not as we made it.
    #[error("profile {path} {what}")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file system does not let us.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// A profile directory that this process has locked. The lock goes with the value, and with the process.
#[derive(Debug)]
pub struct ProfileDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl ProfileDir {
    /// Makes `<parent>/<name>` (0700, of `owner`) where it is missing, and locks it through `<parent>/<name>.lock`.
    /// `parent` belongs to the daemon, so no session can put a lock of its own there.
    ///
    /// # Errors
    /// When somebody else holds the lock, or what stands there is not a directory of `owner`'s.
    pub fn lock(parent: &Path, name: &str, owner: Option<Identity>) -> Result<Self, Error> {
        let path = parent.join(name);
        let lock_path = parent.join(format!("{name}.lock"));
        let io = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what, path, source }
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io("open", &lock_path))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_file, errno)| match errno {
                nix::errno::Errno::EWOULDBLOCK => Error::InUse(path.clone()),
                errno => Error::Io { what: "lock", path: lock_path.clone(), source: errno.into() },
            })?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                if let Some(owner) = owner {
                    chown(&path, Some(owner.uid), Some(owner.gid)).map_err(io("give away", &path))?;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io("make", &path)(error)),
        }
        let metadata = std::fs::symlink_metadata(&path).map_err(io("look at", &path))?;
        if !metadata.is_dir() {
            return Err(Error::Foreign { path, what: "is not a directory" });
        }
        if owner.is_some_and(|owner| owner.uid != metadata.uid()) {
            return Err(Error::Foreign { path, what: "belongs to another user" });
        }
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an earlier Chromium left. Only safe while no browser of ours runs in it, which the lock and the
    /// supervisor together guarantee.
    ///
    /// # Errors
    /// When one of them cannot be removed.
    pub fn remove_leftovers(&self) -> Result<(), Error> {
        for name in LEFTOVERS {
            let path = self.path.join(name);
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::debug!(path = %path.display(), "removed what an earlier browser left"),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { what: "remove", path, source }),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn exactly_one_may_hold_a_profile() {
        let dir = tempfile::tempdir().unwrap();
        let first = ProfileDir::lock(dir.path(), "p", None).unwrap();
        assert!(matches!(ProfileDir::lock(dir.path(), "p", None), Err(Error::InUse(_))));
        drop(first);
        assert!(ProfileDir::lock(dir.path(), "p", None).is_ok());
    }

    #[test]
    fn dangling_singleton_links_go_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let profile = ProfileDir::lock(dir.path(), "p", None).unwrap();
        symlink("another-host-4711", profile.path().join("SingletonLock")).unwrap();
        std::fs::write(profile.path().join("DevToolsActivePort"), "1").unwrap();
        std::fs::write(profile.path().join("Cookies"), "kept").unwrap();
        profile.remove_leftovers().unwrap();
        let left: Vec<_> =
            std::fs::read_dir(profile.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["Cookies"]);
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("p")).unwrap();
        let error = ProfileDir::lock(dir.path(), "p", None).unwrap_err();
        assert!(matches!(error, Error::Foreign { what: "is not a directory", .. }), "{error}");
    }
}
