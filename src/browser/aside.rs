//! Where the content of a profile is while its browser is tried without it. The daemon may be killed at any moment, and the
//! next session of the profile finds all of it.
//!
//! Beside the profile lies `<profile>.trial`, all of the content, or `<profile>.moving`, some of it, on its way out or back.
//! `<profile>.aside` is what a browser was shown not to start with, for people; `<profile>.old` was that, and goes.
//! `<profile>.snapshot` is a copy of what a browser did start with, and `<profile>.copying` one that is being made.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::profile_dir::{Error, io};
use crate::sys::remove_all;

const MOVING: &str = "moving";
const TRIAL: &str = "trial";
const ASIDE: &str = "aside";
const OLD: &str = "old";
const SNAPSHOT: &str = "snapshot";
const COPYING: &str = "copying";

/// The places beside a profile. Only for whoever has its lock.
pub(super) struct Aside<'a>(pub(super) &'a Path);

impl Aside<'_> {
    /// Empties the profile for a trial. The directory itself stays, since a session's mount of it would stay with the old one.
    ///
    /// # Errors
    /// When something cannot be moved. What was moved comes back with [`Self::undo`].
    pub(super) fn begin(&self) -> Result<(), Error> {
        let (moving, trial) = (self.beside(MOVING), self.beside(TRIAL));
        // Not when it becomes old: that moment is a probe's, and this may take a while.
        let old = self.beside(OLD);
        remove_all(&old).map_err(io("remove", &old))?;
        DirBuilder::new().mode(0o700).create(&moving).map_err(io("make", &moving))?;
        move_all(self.0, &moving)?;
        std::fs::rename(&moving, &trial).map_err(io("move", &moving))
    }

    /// Where its last copy is, if there is one.
    pub(super) fn snapshot(&self) -> PathBuf {
        self.beside(SNAPSHOT)
    }

    /// Where one is that is not whole yet.
    pub(super) fn unfinished_snapshot(&self) -> PathBuf {
        self.beside(COPYING)
    }

    /// In a trial: puts the last copy into the profile, where it goes if the trial is undone. Takes no time.
    ///
    /// # Errors
    /// When something cannot be moved; the trial is to be undone then.
    pub(super) fn restore(&self) -> Result<(), Error> {
        let snapshot = self.snapshot();
        move_all(&snapshot, self.0)?;
        std::fs::remove_dir(&snapshot).map_err(io("remove", &snapshot))
    }

    /// In a trial: takes out what has come since it began.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub(super) fn empty(&self) -> Result<(), Error> {
        for entry in std::fs::read_dir(self.0).map_err(io("list", self.0))? {
            let path = entry.map_err(io("list", self.0))?.path();
            remove_all(&path).map_err(io("remove", &path))?;
        }
        Ok(())
    }

    /// The profile was the reason: what was in it is kept, in place of what an earlier trial kept. Takes no time.
    ///
    /// # Errors
    /// When it cannot be moved. The trial is then undone in the end.
    pub(super) fn keep(&self) -> Result<(), Error> {
        let (trial, aside, old) = (self.beside(TRIAL), self.beside(ASIDE), self.beside(OLD));
        if aside.exists() {
            std::fs::rename(&aside, &old).map_err(io("move", &aside))?;
        }
        std::fs::rename(&trial, &aside).map_err(io("move", &trial))
    }

    /// Puts back what a trial took out, in place of what has come since. Nothing where there is no trial.
    ///
    /// # Errors
    /// When something cannot be moved. No browser may start then, or what it makes would be in the way of what is to come back.
    /// It can be done again.
    pub(super) fn undo(&self) -> Result<(), Error> {
        let (moving, trial) = (self.beside(MOVING), self.beside(TRIAL));
        if trial.exists() {
            self.empty()?;
            // From here on what is in the profile is its own.
            std::fs::rename(&trial, &moving).map_err(io("move", &trial))?;
        }
        if moving.exists() {
            move_all(&moving, self.0)?;
            std::fs::remove_dir(&moving).map_err(io("remove", &moving))?;
        }
        Ok(())
    }

    /// Removes all of them.
    ///
    /// # Errors
    /// When one of them cannot be removed.
    pub(super) fn remove(&self) -> Result<(), Error> {
        for end in [MOVING, TRIAL, ASIDE, OLD, SNAPSHOT, COPYING] {
            let path = self.beside(end);
            remove_all(&path).map_err(io("remove", &path))?;
        }
        Ok(())
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = self.0.as_os_str().to_owned();
        name.push(".");
        name.push(end);
        PathBuf::from(name)
    }
}

fn move_all(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(from).map_err(io("list", from))? {
        let entry = entry.map_err(io("list", from))?;
        let path = entry.path();
        std::fs::rename(&path, to.join(entry.file_name())).map_err(io("move", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Profile(tempfile::TempDir);

    impl Profile {
        /// One with two things in it.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("p");
            std::fs::create_dir_all(path.join("Default")).unwrap();
            std::fs::write(path.join("Default/Cookies"), "old").unwrap();
            std::fs::write(path.join("Local State"), "old").unwrap();
            Self(dir)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// As a browser that starts with an empty profile would.
        fn fill(&self) {
            std::fs::write(self.path("p/Local State"), "new").unwrap();
            std::fs::create_dir(self.path("p/New")).unwrap();
        }

        fn assert_is_as_it_was(&self) {
            assert_eq!(std::fs::read_to_string(self.path("p/Default/Cookies")).unwrap(), "old");
            assert_eq!(std::fs::read_to_string(self.path("p/Local State")).unwrap(), "old");
            assert_eq!(names(&self.path("p")), ["Default", "Local State"]);
            assert_eq!(names(self.0.path()), ["p"], "nothing is left beside it");
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_kept_takes_the_place_of_what_was() {
        let profile = Profile::new();
        std::fs::create_dir(profile.path("p.aside")).unwrap();
        std::fs::write(profile.path("p.aside/older"), "").unwrap();
        let path = profile.path("p");
        let aside = Aside(&path);
        aside.begin().unwrap();
        assert_eq!(names(&path), [""; 0]);
        profile.fill();
        aside.keep().unwrap();
        assert_eq!(names(&profile.path("p.aside")), ["Default", "Local State"]);
        assert_eq!(names(&profile.path("p.old")), ["older"]);
        assert_eq!(names(&path), ["Local State", "New"]);
        aside.undo().unwrap();
        assert_eq!(names(&path), ["Local State", "New"], "the trial is over");
        aside.begin().unwrap();
        assert!(!profile.path("p.old").exists());
    }

    #[test]
    fn a_trial_that_is_undone_leaves_the_profile_as_it_was() {
        let profile = Profile::new();
        let path = profile.path("p");
        Aside(&path).begin().unwrap();
        profile.fill();
        Aside(&path).undo().unwrap();
        profile.assert_is_as_it_was();
        Aside(&path).undo().unwrap();
        profile.assert_is_as_it_was();
    }

    #[test]
    fn what_cannot_come_back_is_not_lost() {
        let profile = Profile::new();
        let path = profile.path("p");
        // As if a browser had been started on what a move had left.
        std::fs::create_dir_all(profile.path("p.moving/Default")).unwrap();
        std::fs::write(profile.path("p.moving/Default/Cookies"), "older").unwrap();
        assert!(Aside(&path).undo().is_err());
        assert_eq!(std::fs::read_to_string(profile.path("p.moving/Default/Cookies")).unwrap(), "older");
        assert_eq!(std::fs::read_to_string(path.join("Default/Cookies")).unwrap(), "old");
        std::fs::remove_dir_all(path.join("Default")).unwrap();
        Aside(&path).undo().unwrap();
        assert_eq!(std::fs::read_to_string(path.join("Default/Cookies")).unwrap(), "older");
    }

    #[test]
    fn a_move_that_was_cut_off_is_completed_backwards() {
        // On the way out, and on the way back after what came since is gone.
        let profile = Profile::new();
        let path = profile.path("p");
        std::fs::create_dir(profile.path("p.moving")).unwrap();
        std::fs::rename(path.join("Default"), profile.path("p.moving/Default")).unwrap();
        Aside(&path).undo().unwrap();
        profile.assert_is_as_it_was();
        // On the way back while that is being removed.
        Aside(&path).begin().unwrap();
        profile.fill();
        std::fs::remove_file(path.join("Local State")).unwrap();
        Aside(&path).undo().unwrap();
        profile.assert_is_as_it_was();
    }
}
