//! What is done for a profile between two sessions: it is kept within its quota, and copied for bad times.
//!
//! Nobody else may change it meanwhile: its lock is held, and its directory is the daemon's. What sessions have put into it is
//! not trusted: no link is followed, and what is no plain file or directory is not copied.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::aside::Aside;
use super::profile_dir::{Error, io, lock_file};
use crate::sys::remove_all;

/// What Chromium makes again when it is gone, below its directory.
const CACHES: [&str; 14] = [
    ".cache",
    "ShaderCache",
    "GrShaderCache",
    "GraphiteDawnCache",
    "GPUPersistentCache",
    "component_crx_cache",
    "extensions_crx_cache",
    "Crash Reports",
    "Default/Cache",
    "Default/Code Cache",
    "Default/GPUCache",
    "Default/DawnGraphiteCache",
    "Default/DawnWebGPUCache",
    "Default/Service Worker/ScriptCache",
];
/// Between two copies. What is lost with a profile that broke is at most so old, and the disk is not kept busy.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);
/// A profile without a quota is copied up to this; above it, the last copy stays.
const MOST_SNAPSHOT_BYTES: u64 = 2 << 30;

/// What is to be looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Care {
    /// What it may hold, in bytes.
    pub quota: Option<u64>,
    /// Whether it is worth a copy: its last session went well.
    pub snapshot: bool,
}

/// How a profile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It can be used again.
    Good,
    /// It holds more than it may, caches aside.
    TooLarge {
        /// So much, in bytes.
        bytes: u64,
    },
}

/// Whether whoever asked still wants it: nobody waits for a thread that copies gigabytes.
type Wanted<'a> = &'a dyn Fn() -> bool;

/// Looks after `<parent>/<name>`. Blocks, for as long as it takes to read all of it and `wanted` holds.
///
/// # Errors
/// When somebody has it, it cannot be read, or it is not wanted any more.
pub fn look_after(parent: &Path, name: &str, care: Care, wanted: Wanted<'_>) -> Result<Condition, Error> {
    let path = parent.join(name);
    let _lock = lock_file(parent, name)?;
    if !is_directory(&path) {
        return Ok(Condition::Good);
    }
    if let Some(quota) = care.quota {
        let bytes = size(&path, wanted)?;
        if bytes > quota {
            remove_caches(&path)?;
            let left = size(&path, wanted)?;
            tracing::info!(path = %path.display(), bytes, left, "the caches of a profile above its quota are removed");
            if left > quota {
                return Ok(Condition::TooLarge { bytes: left });
            }
        }
    }
    if care.snapshot && is_due(&Aside(&path).snapshot()) {
        snapshot(&path, care.quota.unwrap_or(MOST_SNAPSHOT_BYTES), wanted)?;
    }
    Ok(Condition::Good)
}

fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// What the files below take on disk.
fn size(path: &Path, wanted: Wanted<'_>) -> Result<u64, Error> {
    let mut bytes = 0_u64;
    walk(path, wanted, &mut |_path, metadata| {
        bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
        Ok(true)
    })?;
    Ok(bytes)
}

/// Shows all that is below, each directory before what is in it, until `see` says that it is enough.
fn walk(
    path: &Path,
    wanted: Wanted<'_>,
    see: &mut dyn FnMut(&Path, &Metadata) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut left = vec![path.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).map_err(io("list", &dir))? {
            let path = entry.map_err(io("list", &dir))?.path();
            if !wanted() {
                return Err(io("go on with", &path)(std::io::ErrorKind::Interrupted.into()));
            }
            let metadata = std::fs::symlink_metadata(&path).map_err(io("look at", &path))?;
            if !see(&path, &metadata)? {
                return Ok(());
            }
            if metadata.is_dir() {
                left.push(path);
            }
        }
    }
    Ok(())
}

fn remove_caches(path: &Path) -> Result<(), Error> {
    for cache in CACHES {
        // Each step on the way has to be a directory: through a link, it would be somebody else's.
        let mut above = Path::new(cache).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        if above.all(|above| is_directory(&path.join(above))) {
            let at = path.join(cache);
            remove_all(&at).map_err(io("remove", &at))?;
        }
    }
    Ok(())
}

/// A copy from the future is of a clock that was wrong.
fn is_due(snapshot: &Path) -> bool {
    let made = std::fs::symlink_metadata(snapshot).and_then(|metadata| metadata.modified());
    let age = made.ok().and_then(|made| SystemTime::now().duration_since(made).ok());
    age.is_none_or(|age| age >= SNAPSHOT_INTERVAL)
}

/// Copies what a browser needs of it beside it, in place of the last copy.
fn snapshot(path: &Path, most: u64, wanted: Wanted<'_>) -> Result<(), Error> {
    let aside = Aside(path);
    let (fresh, kept) = (aside.unfinished_snapshot(), aside.snapshot());
    remove_all(&fresh).map_err(io("remove", &fresh))?;
    let done = copy(path, &fresh, most, wanted).and_then(|fits| {
        if fits {
            replace(&fresh, &kept)?;
            tracing::debug!(path = %kept.display(), "a profile was copied");
        } else {
            tracing::warn!(path = %path.display(), most, "a profile is too large to be copied");
        }
        Ok(())
    });
    // Also what a full disk has left of it.
    done.and(remove_all(&fresh).map_err(io("remove", &fresh)))
}

/// Whether all of it is there; `false`: it is more than `most`.
fn copy(from: &Path, to: &Path, most: u64, wanted: Wanted<'_>) -> Result<bool, Error> {
    let caches: Vec<PathBuf> = CACHES.iter().map(|cache| from.join(cache)).collect();
    let make = |path: &Path| DirBuilder::new().mode(0o700).create(path).map_err(io("make", path));
    make(to)?;
    let (mut bytes, mut fits) = (0_u64, true);
    walk(from, wanted, &mut |path, metadata| {
        let Ok(below) = path.strip_prefix(from) else { return Ok(true) };
        let target = to.join(below);
        if caches.iter().any(|cache| path.starts_with(cache)) {
            return Ok(true);
        }
        if metadata.is_dir() {
            make(&target)?;
        } else if metadata.is_file() && metadata.nlink() == 1 {
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            fits = bytes <= most;
            if fits {
                copy_file(path, &target).map_err(io("copy", path))?;
            }
        }
        Ok(fits)
    })?;
    Ok(fits)
}

/// Its content alone: what a session said of its rights does not go along.
fn copy_file(from: &Path, to: &Path) -> std::io::Result<u64> {
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    std::io::copy(&mut File::open(from)?, &mut target)
}

/// Puts `fresh` in the place of `kept` in one step; what was there is at `fresh` then.
fn replace(fresh: &Path, kept: &Path) -> Result<(), Error> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if is_directory(kept) {
        let exchanged = renameat_with(CWD, fresh, CWD, kept, RenameFlags::EXCHANGE);
        return exchanged.map_err(|errno| io("exchange", kept)(errno.into()));
    }
    std::fs::rename(fresh, kept).map_err(io("move", fresh))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const MIB: usize = 1 << 20;

    struct Profile(tempfile::TempDir);

    impl Profile {
        fn new() -> Self {
            let profile = Self(tempfile::tempdir().unwrap());
            profile.write("Default/Cookies", b"one");
            profile
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join("p").join(name)
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }

        fn tend(&self, quota: Option<usize>, snapshot: bool) -> Condition {
            let quota = quota.map(|quota| u64::try_from(quota).unwrap());
            look_after(self.0.path(), "p", Care { quota, snapshot }, &|| true).unwrap()
        }

        fn snapshot(&self, name: &str) -> Option<String> {
            std::fs::read_to_string(self.0.path().join("p.snapshot").join(name)).ok()
        }
    }

    #[test]
    fn caches_go_when_a_profile_is_too_large_and_nothing_else_does() {
        let profile = Profile::new();
        profile.write("Default/Cache/Cache_Data/data_1", &[1; 2 * MIB]);
        assert_eq!(profile.tend(Some(3 * MIB), false), Condition::Good);
        assert!(profile.path("Default/Cache").exists(), "it is small enough");
        assert_eq!(profile.tend(Some(MIB), false), Condition::Good);
        assert!(!profile.path("Default/Cache").exists());
        profile.write("Default/IndexedDB/x", &[1; 2 * MIB]);
        let condition = profile.tend(Some(MIB), false);
        assert!(matches!(condition, Condition::TooLarge { bytes } if bytes >= 2 << 20), "{condition:?}");
        assert!(profile.path("Default/IndexedDB/x").exists() && profile.path("Default/Cookies").exists());
    }

    #[test]
    fn f20_links_in_a_profile_lead_nowhere() {
        let profile = Profile::new();
        let outside = profile.0.path().join("outside");
        std::fs::create_dir_all(outside.join("Cache")).unwrap();
        std::fs::write(outside.join("Cache/precious"), "kept").unwrap();
        std::fs::remove_dir_all(profile.path("Default")).unwrap();
        symlink(&outside, profile.path("Default")).unwrap();
        symlink(outside.join("Cache"), profile.path("ShaderCache")).unwrap();
        std::fs::hard_link(outside.join("Cache/precious"), profile.path("second name")).unwrap();
        profile.write("big", &[1; 2 * MIB]);
        assert!(matches!(profile.tend(Some(MIB), true), Condition::TooLarge { .. }));
        assert!(outside.join("Cache/precious").exists());
        assert!(!profile.path("ShaderCache").exists());
        assert_eq!(profile.tend(None, true), Condition::Good);
        assert!(profile.snapshot("big").is_some());
        assert_eq!(
            (profile.snapshot("Default/Cache/precious"), profile.snapshot("second name")),
            (None, None)
        );
    }

    #[test]
    fn f18_a_copy_is_made_now_and_then_without_caches_and_takes_the_place_of_the_last_one() {
        let profile = Profile::new();
        profile.write("Default/Cache/x", b"cached");
        assert_eq!(profile.tend(None, false), Condition::Good);
        assert_eq!(profile.snapshot("Default/Cookies"), None, "it was not asked for");
        profile.tend(None, true);
        assert_eq!(profile.snapshot("Default/Cookies").as_deref(), Some("one"));
        assert_eq!(profile.snapshot("Default/Cache/x"), None);
        profile.write("Default/Cookies", b"two");
        profile.tend(None, true);
        assert_eq!(profile.snapshot("Default/Cookies").as_deref(), Some("one"), "it is not that old");
        let kept = File::open(profile.0.path().join("p.snapshot")).unwrap();
        kept.set_modified(SystemTime::now() - SNAPSHOT_INTERVAL).unwrap();
        profile.tend(None, true);
        assert_eq!(profile.snapshot("Default/Cookies").as_deref(), Some("two"));
        let mut beside: Vec<_> =
            std::fs::read_dir(profile.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["p", "p.lock", "p.snapshot"]);
    }

    #[test]
    fn one_that_is_too_large_keeps_its_last_copy() {
        let profile = Profile::new();
        profile.tend(Some(MIB), true);
        let path = profile.0.path().join("p");
        profile.write("Default/x", &[1; 2 * MIB]);
        snapshot(&path, 1 << 20, &|| true).unwrap();
        assert_eq!(profile.snapshot("Default/Cookies").as_deref(), Some("one"));
        assert_eq!(profile.snapshot("Default/x"), None);
        assert!(!Aside(&path).unfinished_snapshot().exists());
    }

    #[test]
    fn a_copy_that_nobody_waits_for_is_given_up_and_leaves_nothing() {
        let profile = Profile::new();
        for number in 0..10 {
            profile.write(&format!("Default/{number}"), b"x");
        }
        let looks = std::cell::Cell::new(0);
        let wanted = || looks.replace(looks.get() + 1) < 5;
        let care = Care { quota: None, snapshot: true };
        assert!(look_after(profile.0.path(), "p", care, &wanted).is_err());
        assert_eq!(looks.get(), 6);
        let path = profile.0.path().join("p");
        assert!(!Aside(&path).unfinished_snapshot().exists() && !Aside(&path).snapshot().exists());
    }

    #[test]
    fn one_that_is_in_use_is_left_alone() {
        let profile = Profile::new();
        let held = super::super::ProfileDir::lock(profile.0.path(), "p", None).unwrap();
        let care = Care { quota: Some(1), snapshot: true };
        assert!(matches!(look_after(profile.0.path(), "p", care, &|| true), Err(Error::InUse(_))));
        drop(held);
    }
}
