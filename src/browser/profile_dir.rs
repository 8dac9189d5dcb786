//! The directory that Chromium keeps a profile in, and our lock on it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown,
};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::aside::Aside;
use crate::errors::chain;
use crate::supervise::Identity;
use crate::sys::remove_all;

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

/// Who a profile belongs to while it is in use, and who it may have belonged to before.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The session's.
    pub identity: Identity,
    /// The uids reserved for sessions. What belongs to anybody else is not ours to give away.
    pub sessions: Range<u32>,
}

/// A profile directory that is this process's alone.
#[derive(Debug)]
pub struct ProfileDir {
    path: PathBuf,
    keep: Keep,
}

/// What becomes of a profile when its session is over.
#[derive(Debug)]
enum Keep {
    /// It stays, locked against everybody else until then. The lock goes with the value, and with the process.
    Kept { owner: Option<Identity>, _lock: Flock<File> },
    /// It goes.
    Blank,
}

impl ProfileDir {
    /// Makes `<parent>/<name>` (0700, of `owner`) where it is missing, and locks it through `<parent>/<name>.lock`.
    /// `parent` belongs to the daemon, so no session can put a lock of its own there. What an earlier session left under
    /// another uid is given to `owner`, and when this is dropped the directory is the daemon's again, so that whoever gets
    /// that uid next cannot enter it.
    ///
    /// # Errors
    /// When somebody else holds the lock, or what stands there is not a directory of a session's.
    pub fn lock(parent: &Path, name: &str, owner: Option<&Owner>) -> Result<Self, Error> {
        let path = parent.join(name);
        let lock = lock_file(parent, name)?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io("make", &path)(error));
            }
            _there => {}
        }
        let metadata = std::fs::symlink_metadata(&path).map_err(io("look at", &path))?;
        if !metadata.is_dir() {
            return Err(Error::Foreign { path, what: "is not a directory" });
        }
        if let Some(owner) = owner {
            let daemon = nix::unistd::geteuid().as_raw();
            if metadata.uid() != daemon && !owner.sessions.contains(&metadata.uid()) {
                return Err(Error::Foreign { path, what: "belongs to another user" });
            }
        }
        // A trial that the end of the daemon cut off.
        Aside(&path).undo()?;
        if let Some(owner) = owner {
            give(&path, owner.identity)?;
        }
        Ok(Self { path, keep: Keep::Kept { owner: owner.map(|owner| owner.identity), _lock: lock } })
    }

    /// Removes `<parent>/<name>` and all that belongs to it, which is no error where nothing is there.
    ///
    /// # Errors
    /// When somebody has it, or something cannot be removed.
    pub fn remove(parent: &Path, name: &str) -> Result<(), Error> {
        let path = parent.join(name);
        let _lock = lock_file(parent, name)?;
        remove_all(&path).map_err(io("remove", &path))?;
        Aside(&path).remove()?;
        // Last, and while it is held: whoever opens the name from here on makes another file.
        let lock_path = lock_path(parent, name);
        remove_all(&lock_path).map_err(io("remove", &lock_path))
    }

    /// An empty directory at `path` (0700, of `owner`), whatever stood there before. It goes when this is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn blank(path: PathBuf, owner: Option<&Owner>) -> Result<Self, Error> {
        remove_all(&path).map_err(io("remove", &path))?;
        DirBuilder::new().mode(0o700).create(&path).map_err(io("make", &path))?;
        if let Some(Owner { identity, .. }) = owner {
            lchown(&path, Some(identity.uid), Some(identity.gid)).map_err(io("give away", &path))?;
        }
        Ok(Self { path, keep: Keep::Blank })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes when this is dropped.
    pub fn is_blank(&self) -> bool {
        matches!(self.keep, Keep::Blank)
    }

    /// Where its content is while its browser is tried without it.
    pub(super) fn aside(&self) -> Aside<'_> {
        Aside(&self.path)
    }

    /// Whether there is a copy of what a browser started with.
    pub(super) fn has_snapshot(&self) -> bool {
        self.aside().snapshot().is_dir()
    }

    /// Puts that copy into the profile, which a trial has emptied.
    ///
    /// # Errors
    /// When it cannot be moved or given to the session.
    pub(super) fn restore(&self) -> Result<(), Error> {
        // While only the daemon can get at it: in the profile, programs of the session could put links in its way.
        if let Keep::Kept { owner: Some(identity), .. } = &self.keep {
            give_content(&self.aside().snapshot(), *identity)?;
        }
        self.aside().restore()
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

impl Drop for ProfileDir {
    fn drop(&mut self) {
        let done = match &self.keep {
            Keep::Kept { owner, .. } => {
                // One that the end of the session cut off.
                if let Err(error) = self.aside().undo() {
                    tracing::error!(error = %chain(&error), "the content of a profile stays beside it until its next session");
                }
                if owner.is_some() { park(&self.path) } else { Ok(()) }
            }
            Keep::Blank => remove_all(&self.path),
        };
        if let Err(error) = done {
            tracing::warn!(path = %self.path.display(), %error, "a profile stays as its session left it");
        }
    }
}

fn lock_path(parent: &Path, name: &str) -> PathBuf {
    parent.join(format!("{name}.lock"))
}

pub(super) fn lock_file(parent: &Path, name: &str) -> Result<Flock<File>, Error> {
    let path = lock_path(parent, name);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_file, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => Error::InUse(parent.join(name)),
        errno => Error::Io { what: "lock", path, source: errno.into() },
    })
}

/// Takes all profiles beneath `parent` back from the uids of sessions that are over. Only safe while no session runs.
///
/// # Errors
/// When they cannot be listed.
pub fn park_all(parent: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            park(&entry.path())?;
        }
    }
    Ok(())
}

/// Makes the directory the daemon's, in which nobody else can then look. What is in it keeps its uid until the next session.
fn park(path: &Path) -> std::io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    lchown(path, Some(0), Some(0))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Gives a directory and all in it to a session; the directory itself last, so that nobody looks in meanwhile. Links are not
/// followed. A file with a second name may be somebody else's: a session that managed to make a hard link to it would be
/// given it.
fn give(path: &Path, identity: Identity) -> Result<(), Error> {
    give_content(path, identity)?;
    lchown(path, Some(identity.uid), Some(identity.gid)).map_err(io("give away", path))
}

fn give_content(path: &Path, identity: Identity) -> Result<(), Error> {
    let mut left = vec![path.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).map_err(io("list", &dir))? {
            let path = entry.map_err(io("list", &dir))?.path();
            let metadata = std::fs::symlink_metadata(&path).map_err(io("look at", &path))?;
            if metadata.is_dir() {
                left.push(path.clone());
            } else if metadata.nlink() > 1 {
                return Err(Error::Foreign { path, what: "has a second name" });
            }
            if metadata.uid() != identity.uid || metadata.gid() != identity.gid {
                lchown(&path, Some(identity.uid), Some(identity.gid)).map_err(io("give away", &path))?;
            }
        }
    }
    Ok(())
}

pub(super) fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::Io { what, path: path.to_owned(), source }
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

    fn owner(uid: u32) -> Owner {
        Owner { identity: Identity { uid, gid: uid }, sessions: 20_000..20_010 }
    }

    fn uid_of(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().uid()
    }

    /// These give files away, which takes root.
    fn may_give_away() -> bool {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            println!("not root: nothing was tested");
        }
        root
    }

    #[test]
    fn a_profile_goes_from_one_session_to_the_next_and_to_nobody_in_between() {
        if !may_give_away() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let first = ProfileDir::lock(dir.path(), "p", Some(&owner(20_001))).unwrap();
        let path = first.path().to_owned();
        std::fs::create_dir(path.join("Default")).unwrap();
        std::fs::write(path.join("Default/Cookies"), "kept").unwrap();
        symlink("/etc/hostname", path.join("link")).unwrap();
        for inner in ["Default", "Default/Cookies", "link"] {
            lchown(path.join(inner), Some(20_001), Some(20_001)).unwrap();
        }
        drop(first);
        assert_eq!((uid_of(&path), uid_of(&path.join("Default"))), (0, 20_001), "parked");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let second = ProfileDir::lock(dir.path(), "p", Some(&owner(20_002))).unwrap();
        for inner in ["", "Default", "Default/Cookies", "link"] {
            assert_eq!(uid_of(&path.join(inner)), 20_002, "{inner}");
        }
        assert_eq!(uid_of(Path::new("/etc/hostname")), 0, "no link is followed");
        drop(second);
    }

    #[test]
    fn f20_what_a_session_may_have_smuggled_in_is_not_given_away() {
        if !may_give_away() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "root's").unwrap();
        let path = dir.path().join("p");
        drop(ProfileDir::lock(dir.path(), "p", Some(&owner(20_001))).unwrap());
        std::fs::hard_link(&victim, path.join("linked")).unwrap();
        let error = ProfileDir::lock(dir.path(), "p", Some(&owner(20_002))).unwrap_err();
        assert!(matches!(error, Error::Foreign { what: "has a second name", .. }), "{error}");
        assert_eq!(uid_of(&victim), 0);
        std::fs::remove_file(path.join("linked")).unwrap();
        lchown(&path, Some(65_534), Some(65_534)).unwrap();
        let error = ProfileDir::lock(dir.path(), "p", Some(&owner(20_002))).unwrap_err();
        assert!(matches!(error, Error::Foreign { what: "belongs to another user", .. }), "{error}");
    }

    #[test]
    fn f18_a_trial_that_was_cut_off_is_undone_before_anybody_gets_the_profile() {
        let dir = tempfile::tempdir().unwrap();
        let path = ProfileDir::lock(dir.path(), "p", None).unwrap().path().to_owned();
        let file = path.join("Cookies");
        std::fs::write(&file, "kept").unwrap();
        // As the end of the daemon leaves it: nothing is dropped.
        Aside(&path).begin().unwrap();
        assert!(!file.exists());
        let next = ProfileDir::lock(dir.path(), "p", None).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
        // By the end of the session.
        next.aside().begin().unwrap();
        drop(next);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn f18_a_copy_comes_back_as_the_session_s_own() {
        if !may_give_away() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let profile = ProfileDir::lock(dir.path(), "p", Some(&owner(20_001))).unwrap();
        let path = profile.path().to_owned();
        std::fs::write(path.join("Cookies"), "spoilt").unwrap();
        assert!(!profile.has_snapshot());
        let copied = dir.path().join("p.snapshot/Default");
        std::fs::create_dir_all(&copied).unwrap();
        std::fs::write(copied.join("Cookies"), "good").unwrap();
        assert!(profile.has_snapshot());
        profile.aside().begin().unwrap();
        profile.restore().unwrap();
        assert_eq!(std::fs::read_to_string(path.join("Default/Cookies")).unwrap(), "good");
        assert_eq!((uid_of(&path.join("Default")), uid_of(&path.join("Default/Cookies"))), (20_001, 20_001));
        assert!(!path.join("Cookies").exists() && !profile.has_snapshot());
        // The session ends before the browser has shown that it starts with it.
        drop(profile);
        assert_eq!(std::fs::read_to_string(path.join("Cookies")).unwrap(), "spoilt");
    }

    #[test]
    fn a_profile_is_removed_with_all_that_belongs_to_it_unless_somebody_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let profile = ProfileDir::lock(dir.path(), "p", None).unwrap();
        std::fs::write(profile.path().join("Cookies"), "kept").unwrap();
        Aside(profile.path()).begin().unwrap();
        assert!(matches!(ProfileDir::remove(dir.path(), "p"), Err(Error::InUse(_))));
        assert!(profile.path().exists());
        Aside(profile.path()).keep().unwrap();
        drop(profile);
        let other = ProfileDir::lock(dir.path(), "other", None).unwrap();
        ProfileDir::remove(dir.path(), "p").unwrap();
        ProfileDir::remove(dir.path(), "p").unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other", "other.lock"]);
        drop(other);
    }

    #[test]
    fn a_blank_profile_starts_empty_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "").unwrap();
        let path = dir.path().join("s0");
        symlink(&outside, &path).unwrap();
        let blank = ProfileDir::blank(path.clone(), None).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        symlink(&outside, path.join("link")).unwrap();
        drop(blank);
        assert!(!path.exists());
        assert!(outside.join("file").exists(), "no link is followed");
    }
}
