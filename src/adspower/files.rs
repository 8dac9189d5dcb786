//! Directories in which an automation and a browser of AdsPower's give files to each other: one for each session's browser,
//! gone with it. They lie apart from AdsPower's `HOME`, in a directory of the daemon's: what stands in AdsPower's own could be
//! a link to anywhere by the time that the daemon follows it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use super::ids::ProfileId;
use crate::hex;
use crate::supervise::Identity;
use crate::sys::remove_all;

/// Beneath the state directory: downloads can be larger than what a tmpfs holds.
const NAME: &str = "adspower-files";
/// How names of what is to be removed begin.
const LEFT: &str = ".adspower-left-";

/// All of them lie here.
pub(super) fn root(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

/// One browser's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Both lie here.
    pub home: PathBuf,
    /// Where downloads go.
    pub downloads: PathBuf,
    /// For files that are to be uploaded.
    pub tmp: PathBuf,
}

impl Files {
    /// That of the browser that has this profile.
    pub(super) fn of(state_dir: &Path, profile: &ProfileId) -> Self {
        let home = root(state_dir).join(profile.as_str());
        Self { downloads: home.join("Downloads"), tmp: home.join("tmp"), home }
    }

    /// Makes them where they are missing; blocks.
    pub(super) fn make(&self, owner: Option<Identity>) -> io::Result<()> {
        let private = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        match private(&self.home) {
            // Of an earlier life of the same browser.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            outcome => outcome?,
        }
        // The inner ones first: nobody but the daemon can put anything in their place yet.
        for path in [&self.downloads, &self.tmp] {
            private(path)?;
        }
        for path in [&self.downloads, &self.tmp, &self.home] {
            if let Some(Identity { uid, gid }) = owner {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        Ok(())
    }

    /// Removes them; blocks. However long that takes, the next session of the profile finds nothing of it.
    pub(super) fn remove(&self) -> io::Result<()> {
        set_aside(&self.home)?.map_or(Ok(()), |left| remove_all(&left))
    }
}

/// Makes room for what is to come; blocks, and not for what an earlier run left: gives where that is now, to be removed.
pub(super) fn begin(root: &Path) -> io::Result<Vec<PathBuf>> {
    set_aside(root)?;
    DirBuilder::new().mode(0o711).create(root)?;
    // The umask may have taken the passage away.
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    let parent = root.parent().unwrap_or(root);
    let mut left = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(LEFT)) {
            left.push(entry.path());
        }
    }
    Ok(left)
}

/// Gives what is there another name, which no profile has and no earlier one had. None where nothing is there.
fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
    let left = path.with_file_name(format!("{LEFT}{}", hex::encode(&random)));
    match fs::rename(path, &left) {
        Ok(()) => Ok(Some(left)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_s_files_stay_for_as_long_as_it_has_them_and_no_link_is_followed() {
        let state = tempfile::tempdir().unwrap();
        begin(&root(state.path())).unwrap();
        let files = Files::of(state.path(), &"k1".parse().unwrap());
        files.make(None).unwrap();
        fs::write(files.downloads.join("cv.pdf"), "x").unwrap();
        files.make(None).unwrap();
        assert!(files.downloads.join("cv.pdf").exists(), "the browser was opened again");
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), files.home.join("link")).unwrap();
        files.remove().unwrap();
        assert!(!files.home.exists() && elsewhere.path().join("kept").exists());
        files.remove().unwrap();
        files.make(None).unwrap();
        fs::write(files.downloads.join("large"), "").unwrap();
        for _ in 0..2 {
            let left = begin(&root(state.path())).unwrap();
            assert!(!files.home.exists(), "an earlier run's are not there");
            // Whether or not the run before had time to remove it.
            let large = left.iter().filter(|left| left.join("k1/Downloads/large").exists());
            assert_eq!(large.count(), 1, "{left:?}");
        }
    }
}
