//! What AdsPower has on the host: a directory that stays, and one that goes with the daemon.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::files;
use crate::display::{Authority, Cookie, Reservation, ReserveError};
use crate::supervise::Identity;
use crate::sys::remove_all;

/// Beneath the state directory, and beneath the runtime directory.
const NAME: &str = "adspower";
/// Directories of the daemon's, which others pass through.
const PASSAGE: u32 = 0o711;
/// Directories of AdsPower's.
const PRIVATE: u32 = 0o700;

/// Why AdsPower cannot be given a place.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// A directory or file cannot be made.
    #[error("cannot make {}", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What is there is another user's.
    #[error("{} belongs to uid {found}, and AdsPower runs as uid {wanted}: adspower.uid was changed", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        wanted: u32,
    },
    /// It is no directory.
    #[error("{} is no directory", .0.display())]
    Kind(PathBuf),
    /// There is no display for its window.
    #[error("cannot have a display")]
    Display(#[from] ReserveError),
    /// No randomness for the cookie.
    #[error("the system gives no random bytes")]
    Random(#[source] aws_lc_rs::error::Unspecified),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> GroundError + '_ {
    move |source| GroundError::Make { path: path.to_owned(), source }
}

/// All of it. What goes with the daemon goes when this is dropped, which blocks.
#[derive(Debug)]
pub(super) struct Ground {
    /// Its `HOME`.
    pub(super) home: PathBuf,
    /// What its browsers and automations give each other lies beneath.
    pub(super) files: PathBuf,
    /// What earlier runs left, to be removed.
    pub(super) left: Vec<PathBuf>,
    /// Whom it runs as; none where the daemon is not root.
    pub(super) owner: Option<Identity>,
    /// Beneath the runtime directory; the daemon's own, since it puts cookies there.
    pub(super) runtime: PathBuf,
    /// A number for its own display.
    pub(super) reservation: Reservation,
    /// The cookie of that.
    pub(super) cookie: Cookie,
    /// All displays that it may draw on.
    pub(super) authority: Authority,
}

impl Ground {
    /// Makes it; blocks.
    pub(super) fn prepare(
        state_dir: &Path,
        runtime_dir: &Path,
        owner: Option<Identity>,
    ) -> Result<Self, GroundError> {
        for path in [state_dir, runtime_dir] {
            passage(path)?;
        }
        let home = state_dir.join(NAME);
        own(&home, owner)?;
        let files = files::root(state_dir);
        let left = files::begin(&files).map_err(failed(&files))?;
        let runtime = runtime_dir.join(NAME);
        remove_all(&runtime).map_err(failed(&runtime))?;
        passage(&runtime)?;
        own(&runtime.join("tmp"), owner)?;
        own(&runtime.join("screen"), owner)?;
        let cookie = Cookie::generate().map_err(GroundError::Random)?;
        let server = runtime.join("server-xauthority");
        cookie.write(&server, owner).map_err(failed(&server))?;
        let file = runtime.join("xauthority");
        let authority = Authority::create(file.clone(), owner).map_err(failed(&file))?;
        let reservation = Reservation::take()?;
        authority.add(reservation.number(), cookie.clone()).map_err(failed(&file))?;
        Ok(Self { home, files, left, owner, runtime, reservation, cookie, authority })
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.runtime.join("tmp")
    }

    /// For the memory of its own display's screen.
    pub(super) fn screen(&self) -> PathBuf {
        self.runtime.join("screen")
    }

    /// What its own X server reads: no session's cookie.
    pub(super) fn server_authority(&self) -> PathBuf {
        self.runtime.join("server-xauthority")
    }

    /// All that goes with the daemon, and what a file has to hold to go.
    pub(super) fn paths(&self) -> [(PathBuf, Option<String>); 4] {
        let number = &self.reservation;
        [
            (self.runtime.clone(), None),
            (self.files.clone(), None),
            (number.socket(), None),
            (number.lock_file(), Some(Reservation::lock_text())),
        ]
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for path in [&self.runtime, &self.files] {
            if let Err(error) = remove_all(path) {
                tracing::warn!(path = %path.display(), %error, "a directory of AdsPower's stays behind");
            }
        }
    }
}

/// A directory of the daemon's own.
fn passage(path: &Path) -> Result<(), GroundError> {
    match DirBuilder::new().recursive(true).mode(PASSAGE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(path)(error)),
        _there => {}
    }
    // The umask may have taken the passage away.
    let mode = fs::metadata(path).map_err(failed(path))?.permissions().mode() & 0o7777;
    fs::set_permissions(path, Permissions::from_mode(mode | PASSAGE & 0o011)).map_err(failed(path))
}

/// A directory of AdsPower's own. One that is there is taken as it is, if it is that.
fn own(path: &Path, owner: Option<Identity>) -> Result<(), GroundError> {
    match DirBuilder::new().mode(PRIVATE).create(path) {
        Ok(()) => match owner {
            Some(owner) => chown(path, Some(owner.uid), Some(owner.gid)).map_err(failed(path)),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(failed(path))?;
            match owner {
                _ if !found.is_dir() => Err(GroundError::Kind(path.to_owned())),
                Some(owner) if owner.uid != found.uid() => {
                    Err(GroundError::Owner { path: path.to_owned(), found: found.uid(), wanted: owner.uid })
                }
                _ => Ok(()),
            }
        }
        Err(error) => Err(failed(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_home_stays_and_the_rest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        let ground = Ground::prepare(&state, &run, None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&ground.home), mode(&ground.tmp())), (0o700, 0o700));
        fs::write(ground.home.join("kept"), "").unwrap();
        fs::write(ground.tmp().join("left"), "").unwrap();
        drop(ground);
        assert!(!run.join("adspower").exists());
        let again = Ground::prepare(&state, &run, None).unwrap();
        assert!(again.home.join("kept").exists());
        assert!(!again.tmp().join("left").exists());
    }

    #[test]
    fn f20_a_home_that_is_a_link_or_another_users_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        fs::create_dir(&state).unwrap();
        std::os::unix::fs::symlink(dir.path(), state.join("adspower")).unwrap();
        let error = Ground::prepare(&state, &run, None).unwrap_err();
        assert!(matches!(error, GroundError::Kind(_)), "{error}");
        fs::remove_file(state.join("adspower")).unwrap();
        fs::create_dir(state.join("adspower")).unwrap();
        let uid = nix::unistd::geteuid().as_raw() + 1;
        let error = Ground::prepare(&state, &run, Some(Identity { uid, gid: uid })).unwrap_err();
        assert!(matches!(error, GroundError::Owner { .. }), "{error}");
    }
}
