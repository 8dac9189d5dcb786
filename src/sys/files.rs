//! Files and directories, beyond what the standard library does in one call.

use std::path::Path;
use std::{fs, io};

/// Removes a file, or a directory and all in it, through no link. Nothing there is not an error.
///
/// # Errors
/// When something cannot be removed; what came before it is gone then.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
