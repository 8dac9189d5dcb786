//! One daemon per state directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Held while the daemon lives; the kernel lets go of it however the daemon ends.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon works on this directory.
    #[error("another valetd{} uses {}", holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), dir.display())]
    Held {
        /// The state directory.
        dir: PathBuf,
        /// Its pid, where the file says so.
        holder: Option<u32>,
    },
    /// The lock file could not be made or locked.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl InstanceLock {
    /// Takes the lock of `state_dir`, making the directory (0700) if it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] when another daemon has it, [`LockError::Io`] when it cannot be told.
    pub fn acquire(state_dir: &Path) -> Result<Self, LockError> {
        let path = state_dir.join("lock");
        let fail = |source| LockError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(fail)?;
        // Not truncated before the lock is ours: the holder's pid is in it.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let holder = match file.read_to_string(&mut text) {
                    Ok(_) => text.trim().parse().ok(),
                    Err(_) => None,
                };
                return Err(LockError::Held { dir: state_dir.to_owned(), holder });
            }
            Err(errno) => return Err(fail(errno.into())),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_two_is_told_who_has_the_lock_and_the_third_may_have_it_after() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = InstanceLock::acquire(&state).unwrap();
        let error = InstanceLock::acquire(&state).unwrap_err();
        let expected = format!("another valetd (pid {}) uses {}", std::process::id(), state.display());
        assert_eq!(error.to_string(), expected);
        drop(first);
        InstanceLock::acquire(&state).unwrap();
    }
}
