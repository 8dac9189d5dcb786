//! A second name for a Unix socket, so that it can be reached from another mount namespace. Both names lie in directories that
//! others own, who may put links there: none is followed, and only a socket of the right owner is named.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, linkat, open, openat2, unlinkat,
};

/// A second name. It goes when this is dropped.
#[derive(Debug)]
pub struct Door {
    directory: OwnedFd,
    name: PathBuf,
}

impl Door {
    /// Gives the socket at `from` the further name `to`, in place of what has it. Both are relative to `root`, which is on one
    /// file system and the daemon's own; the socket must belong to `owner`.
    ///
    /// # Errors
    /// When there is a link on the way, or something else than such a socket, and as the kernel gives them.
    pub fn open(root: &Path, from: &Path, to: &Path, owner: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let socket = openat2(&root, from, flags, Mode::empty(), resolve)?;
        let stat = fstat(&socket)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_uid != owner {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a socket of its owner"));
        }
        let (parent, name) = match (to.parent(), to.file_name()) {
            (Some(parent), Some(name)) => (parent, PathBuf::from(name)),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let directory = openat2(&root, parent, flags | OFlags::DIRECTORY, Mode::empty(), resolve)?;
        remove(&directory, &name)?;
        // The very socket that was looked at, whatever has its name by now.
        let from = format!("/proc/self/fd/{}", socket.as_raw_fd());
        linkat(CWD, from.as_str(), &directory, &name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(Self { directory, name })
    }
}

fn remove(directory: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.directory, &self.name) {
            tracing::warn!(name = %self.name.display(), %error, "a socket's second name stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_answers_under_its_second_name_until_that_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let _listener = UnixListener::bind(root.path().join("a/X1")).unwrap();
        let owner = std::fs::metadata(root.path()).unwrap().uid();
        std::fs::write(root.path().join("b/X1"), "stale").unwrap();
        let door = Door::open(root.path(), "a/X1".as_ref(), "b/X1".as_ref(), owner).unwrap();
        UnixStream::connect(root.path().join("b/X1")).unwrap();
        drop(door);
        assert!(!root.path().join("b/X1").exists());
        UnixStream::connect(root.path().join("a/X1")).unwrap();
    }

    #[test]
    fn links_strangers_and_other_files_are_not_named() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "elsewhere"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let owner = std::fs::metadata(root.path()).unwrap().uid();
        std::fs::write(root.path().join("elsewhere/X1"), "secret").unwrap();
        let _listener = UnixListener::bind(root.path().join("elsewhere/X2")).unwrap();
        symlink(root.path().join("elsewhere/X2"), root.path().join("a/X2")).unwrap();
        symlink(root.path().join("elsewhere"), root.path().join("c")).unwrap();
        std::fs::write(root.path().join("a/X1"), "a file").unwrap();
        let open = |from: &str, to: &str, owner| {
            Door::open(root.path(), from.as_ref(), to.as_ref(), owner).map(drop).is_ok()
        };
        for (from, to) in
            [("a/X1", "b/X1"), ("a/X2", "b/X2"), ("c/X2", "b/X2"), ("elsewhere/X2", "c/X3"), ("../x", "b/x")]
        {
            assert!(!open(from, to, owner), "{from} {to}");
        }
        assert!(!open("elsewhere/X2", "b/X2", owner + 1), "somebody else's");
        assert!(open("elsewhere/X2", "b/X2", owner), "control");
    }
}
