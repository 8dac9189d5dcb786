//! The mount and IPC namespaces of one session: its own `/tmp` and `/dev/shm`, no sight of other sessions' files and
//! processes, and shared memory that goes when it does.
//!
//! They are made by `valetd space`, a process with one thread that lives for an instant, and held by the daemon as open
//! descriptors. Nothing is mounted on the host, so nothing is left there when the daemon dies.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use super::spawn::Spawner;
use super::tool::{Tool, ToolProgram};
use super::wire::Slot;

/// A few dozen system calls.
const DEADLINE: Duration = Duration::from_secs(10);
/// What `valetd space` says when all is made.
const MADE: &str = "made";
/// The longest order that it reads.
const MAX_ORDER_BYTES: u64 = 64 << 10;
/// Places that everybody may write to, each the session's own directory in its space.
const SHARED: [&str; 2] = ["/tmp", "/var/tmp"];
/// Where X servers listen.
const X_SOCKETS: &str = "/tmp/.X11-unix";
/// Services of the host that a session has no business with: Fly's machine API, the system bus, systemd's credentials.
const ALWAYS_HIDDEN: [&str; 3] = ["/.fly", "/run/dbus", "/run/credentials"];
/// Of a directory that hides another: enough for the mount points of what is kept, each of which is one inode.
const COVER: &str = "size=64k,nr_inodes=64,mode=0711";
/// A directory on the way to one that is kept.
const PASSAGE: u32 = 0o711;

/// What a space is made of. All paths are the host's; those that are kept are the same in the space.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpaceSpec {
    /// The directory that is `/tmp` and `/var/tmp` in there. It exists, is the session's, and no process of it runs yet.
    pub tmp: PathBuf,
    /// Directories whose content cannot be seen in there: the daemon's, with those of other sessions.
    pub hide: Vec<PathBuf>,
    /// Directories that are seen although they lie in a hidden one: the session's own. They exist.
    pub keep: Vec<PathBuf>,
    /// Size of `/dev/shm`, in bytes. What is in it counts as the session's memory.
    pub shm_bytes: u64,
    /// Whether processes of other users are invisible in there.
    pub hide_processes: bool,
}

/// The namespaces of one session. Cheap to clone; they go with the last clone and the last process in them.
#[derive(Debug, Clone)]
pub struct Space {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    mounts: OwnedFd,
    ipc: OwnedFd,
    tmp: PathBuf,
    shm_bytes: u64,
}

/// Why there is no space.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// The process that makes it could not be run.
    #[error("cannot run the process that makes namespaces")]
    Tool(#[source] io::Error),
    /// It could not do its work; in its own words.
    #[error("cannot make the session's namespaces: {0}")]
    Failed(String),
}

impl Space {
    pub(super) async fn make(spawner: &Spawner, spec: &SpaceSpec) -> Result<Self, SpaceError> {
        let mut tool = Tool::start(spawner, ToolProgram::Own("space")).await.map_err(SpaceError::Tool)?;
        let order = serde_json::to_string(spec).map_err(|error| SpaceError::Tool(error.into()))?;
        tool.write(&(order + "\n")).map_err(SpaceError::Tool)?;
        let mut line = String::new();
        let said = timeout(DEADLINE, BufReader::new(&mut tool.output).read_line(&mut line)).await;
        said.map_err(|_elapsed| SpaceError::Failed(format!("not done in {} s", DEADLINE.as_secs())))?
            .map_err(SpaceError::Tool)?;
        if line.trim() != MADE {
            return Err(SpaceError::Failed(line.trim().to_owned()));
        }
        // It waits for the end of its input, so the pid is still its own.
        let open = |name| File::open(format!("/proc/{}/ns/{name}", tool.child.pid())).map(OwnedFd::from);
        let (mounts, ipc) = (open("mnt").map_err(SpaceError::Tool)?, open("ipc").map_err(SpaceError::Tool)?);
        tool.finish(DEADLINE).await.map_err(SpaceError::Tool)?;
        let inner = Inner { mounts, ipc, tmp: spec.tmp.clone(), shm_bytes: spec.shm_bytes };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where what is `/tmp` in there lies on the host. The session may put anything there, links to elsewhere included.
    pub fn tmp(&self) -> &Path {
        &self.inner.tmp
    }

    /// Size of its `/dev/shm`, in bytes.
    pub fn shm_bytes(&self) -> u64 {
        self.inner.shm_bytes
    }

    /// To be entered by the trampoline.
    pub(super) fn namespaces(&self) -> [(Slot, BorrowedFd<'_>); 2] {
        [(Slot::Mounts, self.inner.mounts.as_fd()), (Slot::Ipc, self.inner.ipc.as_fd())]
    }
}

/// What could not be done, and why.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
struct Failure {
    what: String,
    source: io::Error,
}

fn failed<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Failure {
    move |error| Failure { what: what.into(), source: error.into() }
}

/// `valetd space`. Must run before anything else of the program, while there is one thread.
pub fn space_main() -> ExitCode {
    let mut input = io::stdin().lock();
    let mut line = String::new();
    let read =
        (&mut input).take(MAX_ORDER_BYTES).read_line(&mut line).map_err(failed("cannot read the order"));
    let made = read
        .and_then(|_| serde_json::from_str(&line).map_err(failed("cannot read the order")))
        .and_then(|spec| make(&spec));
    let (text, code) = match made {
        Ok(()) => (MADE.to_owned(), ExitCode::SUCCESS),
        Err(failure) => (failure.to_string(), ExitCode::FAILURE),
    };
    // A daemon that is gone needs neither.
    let _unread = writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush());
    // Until the daemon has the namespaces open.
    let _closed = io::copy(&mut input, &mut io::sink());
    code
}

fn make(spec: &SpaceSpec) -> Result<(), Failure> {
    // The modes given below are meant as they stand.
    rustix::process::umask(Mode::empty());
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC).map_err(failed("unshare"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(failed("make mounts private"))?;
    // Held from here on, since what follows covers the paths.
    let tmp = hold(&spec.tmp)?;
    let kept =
        spec.keep.iter().map(|path| Ok((path.as_path(), hold(path)?))).collect::<Result<Vec<_>, _>>()?;
    for place in SHARED.into_iter().map(Path::new).filter(|place| place.is_dir()) {
        bind(&tmp, place)?;
    }
    // X servers want it made by root, and a session's is not.
    match DirBuilder::new().mode(0o1777).create(X_SOCKETS) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(format!("make {X_SOCKETS}"))(error));
        }
        _there => {}
    }
    let covers = cover(spec)?;
    for (path, directory) in kept {
        keep(path, &directory)?;
    }
    for path in covers {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | PLAIN;
        mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
            .map_err(failed(format!("make {} read-only", path.display())))?;
    }
    let options = format!("mode=1777,size={}", spec.shm_bytes);
    fresh("tmpfs", Path::new("/dev/shm"), Some(&options))?;
    if Path::new("/dev/mqueue").is_dir() {
        // The one that is mounted there shows the queues of the host's namespace.
        fresh("mqueue", Path::new("/dev/mqueue"), None)?;
    }
    if spec.hide_processes {
        // Last, since the descriptors above are named through the old one. 2 is `invisible`, also before Linux 5.8.
        fresh("proc", Path::new("/proc"), Some("hidepid=2"))?;
    }
    Ok(())
}

/// No program starts from there with more rights than it has, no device is reached through it, and nothing is executed.
const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

fn hold(path: &Path) -> Result<OwnedFd, Failure> {
    // The last part may not be a link; those before it are the daemon's own directories.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(failed(format!("open {}", path.display())))
}

fn bind(directory: &OwnedFd, at: &Path) -> Result<(), Failure> {
    let from = format!("/proc/self/fd/{}", directory.as_raw_fd());
    mount(Some(from.as_str()), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(failed(format!("bind {}", at.display())))
}

fn fresh(kind: &str, at: &Path, options: Option<&str>) -> Result<(), Failure> {
    mount(Some(kind), at, Some(kind), PLAIN, options)
        .map_err(failed(format!("mount {kind} on {}", at.display())))
}

/// Covers what is to be hidden; outer directories first, so that an inner one is gone when its turn comes.
fn cover(spec: &SpaceSpec) -> Result<Vec<&Path>, Failure> {
    let mut hidden: Vec<&Path> = spec.hide.iter().map(PathBuf::as_path).collect();
    hidden.extend(ALWAYS_HIDDEN.into_iter().map(Path::new));
    hidden.sort_by_key(|path| path.components().count());
    let mut covers = Vec::new();
    for path in hidden {
        if path.is_dir() {
            fresh("tmpfs", path, Some(COVER))?;
            covers.push(path);
        }
    }
    Ok(covers)
}

/// Shows `directory` at `path`, where the covers have hidden it.
fn keep(path: &Path, directory: &OwnedFd) -> Result<(), Failure> {
    let stat = rustix::fs::fstat(directory).map_err(failed(format!("look at {}", path.display())))?;
    let seen = fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (stat.st_dev, stat.st_ino));
    if seen {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(PASSAGE)
        .create(path)
        .map_err(failed(format!("make {}", path.display())))?;
    bind(directory, path)
}
