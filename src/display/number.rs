//! Reserving a display number. Xvfb with `-displayfd` writes no lock file, and without an abstract socket nothing keeps it
//! from taking the socket of a live server: so the number is chosen and locked here, in the way that X servers understand.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Numbers that we give out: above those of people's own servers.
const NUMBERS: Range<u32> = 100..1000;

/// A lock file holds a pid.
const MAX_LOCK_BYTES: u64 = 64;

/// A display number is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Every one of ours is locked.
    #[error("all display numbers from {} to {} are taken", NUMBERS.start, NUMBERS.end - 1)]
    AllTaken,
    /// Lock files cannot be written.
    #[error("cannot reserve a display number")]
    Io(#[from] io::Error),
}

/// Where X servers keep their marks. Both places are fixed by the X servers and libraries of this world.
#[derive(Debug, Clone)]
struct Directories {
    /// Lock files: `.X<number>-lock`, a pid as ten columns of text.
    locks: PathBuf,
    /// Sockets: `X<number>`.
    sockets: PathBuf,
}

/// A display number that is ours while this lives.
#[derive(Debug)]
pub struct Reservation {
    number: u32,
    directories: Directories,
}

impl Reservation {
    /// Takes a number that no live server has. The search begins at random, so that two daemons that start at once rarely
    /// meet.
    ///
    /// # Errors
    /// When there is none, or `/tmp` cannot be written to.
    pub fn take() -> Result<Self, ReserveError> {
        let mut random = [0; 4];
        aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
        Self::search(Directories::usual(), u32::from_be_bytes(random))
    }

    fn search(directories: Directories, random: u32) -> Result<Self, ReserveError> {
        let count = NUMBERS.end - NUMBERS.start;
        for step in 0..count {
            let number = NUMBERS.start + (random % count + step) % count;
            if !lock(&directories.lock(number))? {
                continue;
            }
            let reservation = Self { number, directories: directories.clone() };
            // A server of somebody who keeps no locks.
            if UnixStream::connect(reservation.socket()).is_err() {
                return Ok(reservation);
            }
        }
        Err(ReserveError::AllTaken)
    }

    /// Removes the marks of dead servers that nobody was left to remove: where a daemon was killed and its keeper with it.
    /// How many numbers that concerns. What is not ours to remove stays, and is in nobody's way.
    pub fn clear_stale() -> usize {
        Self::clear(&Directories::usual())
    }

    fn clear(directories: &Directories) -> usize {
        let is_stale = |number: &u32| {
            let text = read(&directories.lock(*number));
            text.is_ok_and(|text| text.trim().parse().is_ok_and(|pid| !lives(pid)))
        };
        let mut cleared = 0;
        for number in NUMBERS.filter(is_stale) {
            // Taken in the usual way, and given back.
            if !matches!(lock(&directories.lock(number)), Ok(true)) {
                continue;
            }
            let reservation = Self { number, directories: directories.clone() };
            if UnixStream::connect(reservation.socket()).is_err() {
                // None there is as good.
                let _outcome = fs::remove_file(reservation.socket());
                cleared += 1;
            }
        }
        cleared
    }

    /// The number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where the server of this number listens.
    pub fn socket(&self) -> PathBuf {
        self.directories.socket(self.number)
    }

    /// The lock file.
    pub fn lock_file(&self) -> PathBuf {
        self.directories.lock(self.number)
    }

    /// What the lock file holds.
    pub fn lock_text() -> String {
        format!("{:>10}\n", std::process::id())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let lock = self.lock_file();
        // Only what is still ours: somebody may have found our pid wanting, and taken the number.
        if read(&lock).is_ok_and(|text| text == Self::lock_text())
            && let Err(error) = fs::remove_file(&lock)
        {
            tracing::warn!(path = %lock.display(), %error, "a display's lock file stays behind");
        }
    }
}

impl Directories {
    fn usual() -> Self {
        Self { locks: "/tmp".into(), sockets: "/tmp/.X11-unix".into() }
    }

    fn lock(&self, number: u32) -> PathBuf {
        self.locks.join(format!(".X{number}-lock"))
    }

    fn socket(&self, number: u32) -> PathBuf {
        self.sockets.join(format!("X{number}"))
    }
}

/// Puts a lock with our pid in it at `path`, with its content from the first instant; a stale one gives way. `false` when
/// a live process has it.
fn lock(path: &Path) -> io::Result<bool> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", u64::from_be_bytes(random)));
    let draft = PathBuf::from(draft);
    // Everybody may put a link into /tmp: what stands at a name already is never written to.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
    file.write_all(Reservation::lock_text().as_bytes())?;
    let outcome = link(&draft, path);
    fs::remove_file(&draft)?;
    outcome
}

fn link(draft: &Path, path: &Path) -> io::Result<bool> {
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        outcome => return outcome.map(|()| true),
    }
    // A live pid counts, whosever it is; text without a pid is nobody's.
    let text = read(path).unwrap_or_default();
    if text.trim().parse().is_ok_and(lives) {
        return Ok(false);
    }
    match fs::remove_file(path) {
        // Another user's, in a sticky directory.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(false),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// The text of a lock file that anybody may have put there: no link is followed, and a pipe keeps nobody waiting.
fn read(path: &Path) -> io::Result<String> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut text = String::new();
    file.take(MAX_LOCK_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn directories() -> (tempfile::TempDir, Directories) {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories { locks: dir.path().to_owned(), sockets: dir.path().to_owned() };
        (dir, directories)
    }

    fn number(directories: &Directories, random: u32) -> u32 {
        Reservation::search(directories.clone(), random).unwrap().number()
    }

    #[test]
    fn f15_locks_of_live_pids_and_sockets_of_live_servers_are_passed_over() {
        let (_dir, directories) = directories();
        fs::write(directories.lock(105), format!("{:>10}\n", std::process::id())).unwrap();
        let _server = UnixListener::bind(directories.socket(106)).unwrap();
        assert_eq!(number(&directories, 5), 107);
        assert!(directories.lock(105).exists(), "not ours to remove");
        assert!(!directories.lock(106).exists(), "taken for an instant, and given back");
    }

    #[test]
    fn f15_stale_locks_and_sockets_are_in_nobodys_way() {
        let (_dir, directories) = directories();
        fs::write(directories.lock(100), "  99999999\n").unwrap();
        fs::write(directories.lock(101), "garbage").unwrap();
        drop(UnixListener::bind(directories.socket(102)).unwrap());
        for (random, expected) in [(0, 100), (1, 101), (2, 102)] {
            assert_eq!(number(&directories, random), expected);
        }
    }

    #[test]
    fn f45_marks_of_dead_servers_go_and_those_of_live_ones_stay() {
        let (dir, directories) = directories();
        fs::write(directories.lock(100), "  99999999\n").unwrap();
        std::os::unix::fs::symlink("/nowhere/X100", directories.socket(100)).unwrap();
        fs::write(directories.lock(101), "  99999999\n").unwrap();
        let _server = UnixListener::bind(directories.socket(101)).unwrap();
        fs::write(directories.lock(102), Reservation::lock_text()).unwrap();
        // Others' numbers, and what is no lock.
        fs::write(directories.lock(7), "  99999999\n").unwrap();
        fs::write(directories.lock(103), "garbage").unwrap();
        assert_eq!(Reservation::clear(&directories), 1);
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".X102-lock", ".X103-lock", ".X7-lock", "X101"]);
    }

    #[test]
    fn a_reservation_is_seen_by_others_until_it_is_dropped() {
        let (dir, directories) = directories();
        let first = Reservation::search(directories.clone(), 7).unwrap();
        let second = Reservation::search(directories.clone(), 7).unwrap();
        assert_eq!((first.number(), second.number()), (107, 108));
        assert_eq!(fs::read_to_string(first.lock_file()).unwrap(), Reservation::lock_text());
        drop((first, second));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_not_followed_and_a_pipe_does_not_hold_us_up() {
        let (dir, directories) = directories();
        let victim = dir.path().join("victim");
        fs::write(&victim, std::process::id().to_string()).unwrap();
        std::os::unix::fs::symlink(&victim, directories.lock(100)).unwrap();
        nix::unistd::mkfifo(&directories.lock(101), nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Neither is a lock with a live pid in it: both give way.
        assert_eq!((number(&directories, 0), number(&directories, 1)), (100, 101));
        assert_eq!(fs::read_to_string(&victim).unwrap(), std::process::id().to_string());
    }

    #[test]
    fn when_all_are_taken_there_is_none() {
        let (_dir, directories) = directories();
        for number in NUMBERS {
            fs::write(directories.lock(number), Reservation::lock_text()).unwrap();
        }
        assert!(matches!(Reservation::search(directories, 3), Err(ReserveError::AllTaken)));
    }
}
