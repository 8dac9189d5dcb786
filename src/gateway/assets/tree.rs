//! Files of a tree on disk, opened so that no name and no link leads out of it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// No file of a noVNC tree comes near; it is the most that one request can make us hold.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Tried in a folder, in this order.
const INDEX_PAGES: [&str; 2] = ["index.html", "vnc.html"];

/// openat2 gives up with `EAGAIN` when something was renamed meanwhile.
const RESOLVE_ATTEMPTS: u32 = 4;

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// `name` decides the type: for a folder it is that of its index page.
    File {
        name: String,
        /// Entity tag, quotes included.
        tag: String,
        bytes: Bytes,
    },
    /// A folder asked for without its last slash: relative links in its page would go astray.
    FolderWithoutSlash,
    Nothing,
}

/// Looks `path` up below `root`. `path` is as it stood in the URL, without its first slash.
///
/// # Errors
/// When `root` cannot be opened or a file cannot be read.
pub(super) async fn find(root: &Path, path: &str) -> std::io::Result<Found> {
    let Some(names) = decode(path) else { return Ok(Found::Nothing) };
    let slash = path.is_empty() || path.ends_with('/');
    let root = PathBuf::from(root);
    // Disks block.
    tokio::task::spawn_blocking(move || look_up(&root, &names, slash)).await.map_err(std::io::Error::other)?
}

fn look_up(root: &Path, names: &[String], slash: bool) -> std::io::Result<Found> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if names.is_empty() {
        return index_page(&root, names);
    }
    let Some(file) = open_beneath(&root, names)? else { return Ok(Found::Nothing) };
    let kind = file.metadata()?;
    if kind.is_dir() {
        return if slash { index_page(&root, names) } else { Ok(Found::FolderWithoutSlash) };
    }
    if slash {
        return Ok(Found::Nothing);
    }
    read(file, names.last().map_or("", String::as_str))
}

fn index_page(root: &OwnedFd, folder: &[String]) -> std::io::Result<Found> {
    for name in INDEX_PAGES {
        let mut names = folder.to_vec();
        names.push(name.to_owned());
        if let Some(file) = open_beneath(root, &names)? {
            return read(file, name);
        }
    }
    Ok(Found::Nothing)
}

fn read(file: File, name: &str) -> std::io::Result<Found> {
    let about = file.metadata()?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        return Ok(Found::Nothing);
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_FILE_BYTES) {
        return Ok(Found::Nothing);
    }
    let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let tag = format!("\"{:x}-{:x}\"", changed.as_nanos(), read);
    Ok(Found::File { name: name.to_owned(), tag, bytes: bytes.into() })
}

/// Opens the file, following links as long as they stay below `root`; `None` where there is none that may be seen.
fn open_beneath(root: &OwnedFd, names: &[String]) -> std::io::Result<Option<File>> {
    // Without NONBLOCK the open of a FIFO would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let path: PathBuf = names.iter().collect();
    let mut attempt = 1;
    let opened = loop {
        match rustix::fs::openat2(root, &path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if attempt < RESOLVE_ATTEMPTS => attempt += 1,
            // Before Linux 5.6, or hidden by a seccomp filter.
            Err(Errno::NOSYS | Errno::PERM) => break open_without_links(root, names),
            other => break other,
        }
    };
    match opened {
        Ok(file) => Ok(Some(File::from(file))),
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::ACCESS
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::AGAIN,
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same, name by name, following no link at all.
fn open_without_links(root: &OwnedFd, names: &[String]) -> Result<OwnedFd, Errno> {
    let (last, folders) = names.split_last().ok_or(Errno::NOENT)?;
    let mut folder = rustix::io::dup(root)?;
    for name in folders {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&folder, last, flags, Mode::empty())
}

/// The names in a URL's path, percent signs undone. `None` for what cannot be a file of ours: `..`, hidden files, empty
/// names, a slash or a zero byte in a name, what is not UTF-8.
fn decode(path: &str) -> Option<Vec<String>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/').map(decode_name).collect()
}

fn decode_name(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            bytes.push(value(digits[0])? * 16 + value(digits[1])?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    let usable = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    usable.then_some(name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{Found, MAX_FILE_BYTES, decode, find, open_without_links};

    /// A tree with a secret beside it and every kind of way towards that secret.
    fn tree() -> tempfile::TempDir {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("tree");
        fs::create_dir_all(root.join("app/sub")).unwrap();
        fs::write(outside.path().join("secret.txt"), "secret").unwrap();
        fs::write(root.join("vnc.html"), "<p>vnc</p>").unwrap();
        fs::write(root.join("app/ui.js"), "1;").unwrap();
        fs::write(root.join("app/a b.txt"), "spaced").unwrap();
        fs::write(root.join(".hidden"), "hidden").unwrap();
        symlink("vnc.html", root.join("vnc_auto.html")).unwrap();
        symlink("../secret.txt", root.join("out.txt")).unwrap();
        symlink(outside.path().join("secret.txt"), root.join("absolute.txt")).unwrap();
        symlink("..", root.join("app/up")).unwrap();
        symlink("../..", root.join("app/upup")).unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::File::create(root.join("huge.bin")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        outside
    }

    async fn body(tree: &tempfile::TempDir, path: &str) -> Option<(String, Vec<u8>)> {
        match find(&tree.path().join("tree"), path).await.unwrap() {
            Found::File { name, bytes, .. } => Some((name, bytes.to_vec())),
            Found::FolderWithoutSlash | Found::Nothing => None,
        }
    }

    #[tokio::test]
    async fn finds_files_folders_and_links_inside() {
        let tree = tree();
        let vnc = Some(("vnc.html".to_owned(), b"<p>vnc</p>".to_vec()));
        assert_eq!(body(&tree, "vnc.html").await, vnc);
        assert_eq!(body(&tree, "").await, vnc, "the index page of the tree");
        assert_eq!(
            body(&tree, "vnc_auto.html").await,
            Some(("vnc_auto.html".to_owned(), b"<p>vnc</p>".to_vec()))
        );
        assert_eq!(body(&tree, "app/ui.js").await, Some(("ui.js".to_owned(), b"1;".to_vec())));
        assert_eq!(body(&tree, "app/a%20b.txt").await, Some(("a b.txt".to_owned(), b"spaced".to_vec())));
        assert_eq!(body(&tree, "app/up/vnc.html").await, vnc, "up, but not out");
        assert_eq!(find(&tree.path().join("tree"), "app").await.unwrap(), Found::FolderWithoutSlash);
    }

    #[tokio::test]
    async fn nothing_outside_hidden_special_or_huge_is_seen() {
        let tree = tree();
        for path in [
            "../secret.txt",
            "..%2fsecret.txt",
            "%2e%2e/secret.txt",
            "app/../../secret.txt",
            "app/%2e%2e/%2e%2e/secret.txt",
            "/etc/passwd",
            "//etc/passwd",
            "%2fetc%2fpasswd",
            "out.txt",
            "absolute.txt",
            "app/upup/secret.txt",
            ".hidden",
            "app/..%5c..%5csecret.txt",
            "vnc.html%00.js",
            "vnc.html/",
            "vnc.html%",
            "vnc.html%2",
            "%ff%fe",
            "app/",
            "app/sub/",
            "fifo",
            "huge.bin",
            "missing",
            "vnc.html/deeper",
        ] {
            assert_eq!(body(&tree, path).await, None, "{path}");
        }
    }

    #[test]
    fn without_openat2_no_link_is_followed() {
        let tree = tree();
        let root = fs::File::open(tree.path().join("tree")).unwrap().into();
        let opens = |path: &str| open_without_links(&root, &decode(path).unwrap()).is_ok();
        assert!(opens("app/ui.js"));
        assert!(!opens("vnc_auto.html"));
        assert!(!opens("out.txt"));
        assert!(!opens("app/upup/secret.txt"));
    }
}
