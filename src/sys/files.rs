//! Files and directories, beyond what the standard library does in one call.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::{fs, io};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// So many directories within one another are open at once. Deeper ones are moved up: whoever wrote the tree says how deep
/// it is, and neither the stack nor the limit of open files may be theirs to use up.
const DEEPEST: usize = 32;

/// Removes a file, or a directory and all in it, through no link and however deep. Nothing there is not an error.
///
/// # Errors
/// When something cannot be removed; what came before it is gone then.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_tree(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let mut dir = Dir::open(path, AS_DIRECTORY, Mode::empty())?;
    // Listing borrows the directory, and what is listed is removed by it.
    let top = dir.as_fd().try_clone_to_owned()?;
    let mut removal = Removal { top: top.as_fd(), moved: 0 };
    loop {
        let before = removal.moved;
        for name in names(&mut dir)? {
            removal.remove(&top, &name, 0)?;
        }
        if removal.moved == before {
            break;
        }
    }
    fs::remove_dir(path)
}

const AS_DIRECTORY: OFlag =
    OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// The removal of one tree.
struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// How many directories were moved up into `top` so far.
    moved: u64,
}

impl Removal<'_> {
    /// Removes what `parent` has by this name, or has moved up what is too deep.
    fn remove(&mut self, parent: &impl AsFd, name: &CStr, depth: usize) -> nix::Result<()> {
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            // EPERM is what POSIX has for a directory.
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(Errno::ENOENT) => return Ok(()),
            outcome => return outcome,
        }
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            outcome => return outcome,
        }
        if depth == DEEPEST {
            return self.move_up(parent, name);
        }
        let mut dir = Dir::openat(parent, name, AS_DIRECTORY, Mode::empty())?;
        for inner in names(&mut dir)? {
            self.remove(&dir, &inner, depth + 1)?;
        }
        unlinkat(parent, name, UnlinkatFlags::RemoveDir)
    }

    fn move_up(&mut self, parent: &impl AsFd, name: &CStr) -> nix::Result<()> {
        loop {
            self.moved += 1;
            let free = CString::new(format!(".removed-{}", self.moved)).map_err(|_| Errno::EINVAL)?;
            match renameat2(parent, name, self.top, free.as_c_str(), RenameFlags::RENAME_NOREPLACE) {
                Err(Errno::EEXIST) => {}
                outcome => return outcome,
            }
        }
    }
}

/// What a directory holds. Read to its end before anything of it is removed: what a listing shows of changes is nowhere said.
fn names(dir: &mut Dir) -> nix::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::fcntl::openat;
    use nix::sys::stat::mkdirat;

    use super::*;

    /// Directories within one another. No path is long enough to name the last.
    fn dig(top: &Path, levels: usize) {
        let mut at = nix::fcntl::open(top, AS_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..levels {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            drop(openat(&at, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR).unwrap());
            at = openat(&at, "d", AS_DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_goes_and_what_its_links_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        fs::write(tree.join("a/b/file"), "").unwrap();
        symlink(&other, tree.join("a/link")).unwrap();
        remove_all(&tree).unwrap();
        assert!(!tree.exists());
        assert!(other.join("kept").exists());
        remove_all(&tree).unwrap();
        let link = dir.path().join("link");
        symlink(&other, &link).unwrap();
        remove_all(&link).unwrap();
        assert!(other.join("kept").exists() && fs::symlink_metadata(&link).is_err());
    }

    #[test]
    fn no_depth_is_too_deep() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Where a name is taken that a directory would be moved to, another is found.
        fs::write(tree.join(".removed-1"), "").unwrap();
        dig(&tree, 20_000);
        remove_all(&tree).unwrap();
        assert!(!tree.exists());
    }
}
