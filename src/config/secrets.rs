//! Files that the configuration names: secrets and public keys.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Largest secret or key file, in bytes; a JWK set of a hundred RSA keys is about 50 KiB.
const MAX_BYTES: u64 = 256 * 1024;
/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

/// A file that the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// A secret: the name of a credential, or an absolute path.
    Secret(&'a str),
    /// Something public, by its absolute path.
    Public(&'a Path),
}

/// Reads them.
#[derive(Debug, Clone)]
pub struct Files {
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts what `LoadCredential=` names.
    pub credentials_dir: Option<PathBuf>,
}

impl Files {
    /// The content without the line breaks at its end. An error completes "key = value: …" and never quotes a
    /// credential's name, since people paste secrets there.
    pub fn read(&self, wanted: Wanted<'_>) -> Result<Vec<u8>, String> {
        let mut content = match wanted {
            Wanted::Public(path) => read_file(path, Access::Anyone)?,
            Wanted::Secret(path) if path.starts_with('/') => read_file(Path::new(path), Access::OwnerOnly)?,
            Wanted::Secret(name) => self.read_credential(name)?,
        };
        while content.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            content.pop();
        }
        if content.is_empty() { Err("the file is empty".to_owned()) } else { Ok(content) }
    }

    fn read_credential(&self, name: &str) -> Result<Vec<u8>, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.bytes().all(allowed) {
            return Err("must be the name of a credential (A-Z a-z 0-9 _ - .) or an absolute path, \
                        not the secret itself"
                .to_owned());
        }
        let Some(dir) = &self.credentials_dir else {
            return Err(
                "names a credential, and $CREDENTIALS_DIRECTORY is not set: start with LoadCredential=, \
                        or give an absolute path"
                    .to_owned(),
            );
        };
        // systemd itself guards that directory, and some of its versions show files there as group readable.
        read_file(&dir.join(name), Access::Anyone)
            .map_err(|problem| format!("no such credential in {}: {problem}", dir.display()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Anyone,
    OwnerOnly,
}

fn read_file(path: &Path, access: Access) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot read the file: {error}");
    // Without O_NONBLOCK, opening a FIFO waits for its writer.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err("must be a regular file".to_owned());
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if access == Access::OwnerOnly && mode & OTHERS != 0 {
        return Err(format!("the file has mode {mode:04o}: others may read it; must be 0600 or 0400"));
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(format!("the file has more than {MAX_BYTES} bytes"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(dir: &Path, name: &str, mode: u32, content: &[u8]) -> String {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_outside_the_credentials_directory() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { credentials_dir: Some(dir.path().to_owned()) };
        for mode in [0o640, 0o604, 0o620, 0o610] {
            let path = file(dir.path(), "open", mode, b"s3cret");
            let problem = files.read(Wanted::Secret(&path)).unwrap_err();
            assert!(problem.contains(&format!("mode {mode:04o}")), "{problem}");
        }
        for mode in [0o600, 0o400] {
            let path = file(dir.path(), &format!("closed{mode}"), mode, b"s3cret\r\n\n");
            assert_eq!(files.read(Wanted::Secret(&path)).unwrap(), b"s3cret");
        }
        file(dir.path(), "credential", 0o640, b"from systemd\n");
        assert_eq!(files.read(Wanted::Secret("credential")).unwrap(), b"from systemd");
    }

    #[test]
    fn a_name_cannot_leave_the_credentials_directory_nor_be_a_pasted_secret() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { credentials_dir: Some(dir.path().to_owned()) };
        for name in ["", "..", "../x", "a/b", ".hidden", "pa$$ word", &"x".repeat(256)] {
            let problem = files.read(Wanted::Secret(name)).unwrap_err();
            assert!(problem.starts_with("must be the name of a credential"), "{name:?}: {problem}");
        }
        let problem = files.read(Wanted::Secret("canary")).unwrap_err();
        assert!(problem.starts_with("no such credential") && !problem.contains("canary"), "{problem}");
        let problem = Files { credentials_dir: None }.read(Wanted::Secret("canary")).unwrap_err();
        assert!(problem.contains("$CREDENTIALS_DIRECTORY is not set"), "{problem}");
    }

    #[test]
    fn what_is_not_a_small_regular_file_is_refused_without_waiting_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { credentials_dir: None };
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(files.read(Wanted::Public(&fifo)), Err("must be a regular file".to_owned()));
        assert_eq!(files.read(Wanted::Public(dir.path())), Err("must be a regular file".to_owned()));
        let big = file(dir.path(), "big", 0o600, &vec![b'x'; 262_145]);
        assert_eq!(files.read(Wanted::Secret(&big)), Err("the file has more than 262144 bytes".to_owned()));
        let empty = file(dir.path(), "empty", 0o600, b"\n");
        assert_eq!(files.read(Wanted::Secret(&empty)), Err("the file is empty".to_owned()));
    }
}
