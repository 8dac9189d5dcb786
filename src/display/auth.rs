//! The X server's access control: a random cookie in a file that only the session can read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::Path;

use crate::secret::Secret;
use crate::supervise::Identity;

/// Name of the only authorization protocol used, as X spells it.
pub(super) const PROTOCOL: &str = "MIT-MAGIC-COOKIE-1";
/// Length of a cookie: 128 bits.
const COOKIE_BYTES: usize = 16;
/// `FamilyWild` of Xauth.h: the entry is good for any address.
const FAMILY_WILD: u16 = 0xffff;

/// A display's cookie.
#[derive(Debug, Clone)]
pub struct Cookie(Secret<[u8; COOKIE_BYTES]>);

impl Cookie {
    /// A fresh one from the system's random source.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; COOKIE_BYTES];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(Secret::new(bytes)))
    }

    /// One that a test knows.
    #[cfg(test)]
    pub(super) fn of(bytes: [u8; COOKIE_BYTES]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The bytes, as they go to the X server.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Writes an Xauthority file, mode 0600, owned by `owner`. The entry names no display, so that it is good for
    /// whichever number the X server picks. The file must not exist yet: what stands there is not ours.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn write(&self, path: &Path, owner: Option<Identity>) -> std::io::Result<()> {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&self.entry(""))?;
        if let Some(owner) = owner {
            fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        Ok(())
    }

    /// One record of Xauth(7): family, address, display number, protocol and data, each but the first with its length,
    /// big-endian. Without a number it is good for any display.
    pub(super) fn entry(&self, number: &str) -> Vec<u8> {
        let mut record = FAMILY_WILD.to_be_bytes().to_vec();
        for field in [&b""[..], number.as_bytes(), PROTOCOL.as_bytes(), self.expose()] {
            let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
            record.extend_from_slice(&length.to_be_bytes());
            record.extend_from_slice(field);
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_private_holds_one_wildcard_entry_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xauthority");
        let cookie = Cookie(Secret::new(*b"0123456789abcdef"));
        cookie.write(&path, None).unwrap();
        let mut expected = vec![0xff, 0xff, 0, 0, 0, 0, 0, 18];
        expected.extend_from_slice(b"MIT-MAGIC-COOKIE-1");
        expected.extend_from_slice(&[0, 16]);
        expected.extend_from_slice(b"0123456789abcdef");
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(cookie.write(&path, None).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn cookies_differ() {
        let (one, other) = (Cookie::generate().unwrap(), Cookie::generate().unwrap());
        assert_ne!(one.expose(), other.expose());
    }
}
