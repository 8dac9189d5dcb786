//! An Xauthority file for a client that draws on several displays: an entry for each, by number.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::auth::Cookie;
use crate::supervise::Identity;

/// The file. It is rewritten in one step, so that a client that reads it sees the entries of before or those of after.
#[derive(Debug)]
pub struct Authority {
    path: PathBuf,
    owner: Option<Identity>,
    /// A mutex, since sessions come and go on tasks of their own; held for one rewriting.
    entries: Mutex<BTreeMap<u32, Cookie>>,
}

impl Authority {
    /// A file without entries at `path`, mode 0600 and `owner`'s. Only the daemon writes to its directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: PathBuf, owner: Option<Identity>) -> io::Result<Self> {
        let authority = Self { path, owner, entries: Mutex::default() };
        authority.write(&BTreeMap::new())?;
        Ok(authority)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the cookie of a display, or replaces it. Blocks briefly.
    ///
    /// # Errors
    /// When the file cannot be written; the entry is added all the same, with the next one.
    pub fn add(&self, number: u32, cookie: Cookie) -> io::Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(number, cookie);
        self.write(&entries)
    }

    /// Takes the entry of a display away. Blocks briefly.
    ///
    /// # Errors
    /// When the file cannot be written; the entry goes with the next change then.
    pub fn remove(&self, number: u32) -> io::Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&number);
        self.write(&entries)
    }

    fn write(&self, entries: &BTreeMap<u32, Cookie>) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _gone => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        for (number, cookie) in entries {
            file.write_all(&cookie.entry(&number.to_string()))?;
        }
        if let Some(owner) = self.owner {
            fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        fs::rename(draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn each_display_has_an_entry_of_its_own_until_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path().join("xauthority"), None).unwrap();
        let read = || fs::read(authority.path()).unwrap();
        assert_eq!(read(), b"");
        authority.add(101, Cookie::of(*b"0123456789abcdef")).unwrap();
        authority.add(7, Cookie::of(*b"fedcba9876543210")).unwrap();
        let mut expected = b"\xff\xff\0\0\0\x017\0\x12MIT-MAGIC-COOKIE-1\0\x10fedcba9876543210".to_vec();
        expected.extend_from_slice(b"\xff\xff\0\0\0\x03101\0\x12MIT-MAGIC-COOKIE-1\0\x100123456789abcdef");
        assert_eq!(read(), expected);
        authority.remove(7).unwrap();
        assert_eq!(read(), expected[expected.len() / 2 - 1..]);
        assert_eq!(fs::metadata(authority.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }
}
