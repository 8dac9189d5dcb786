//! Xvfb as a service.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, watch};

use super::auth::Cookie;
use super::client::Client;
use super::config::{Bounds, Config};
use super::connection::Connection;
use super::number::Reservation;
use super::randr;
use crate::supervise::spec::READY_FD;
use crate::supervise::{Command, Confinement, Program, ProgramError, Running};
use crate::sys::Space;

/// Xvfb holds a socket a client, and little else.
const MAX_OPEN_FILES: u64 = 4096;

/// A display that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The number in `:N`.
    pub number: u32,
    /// Its socket, as the host sees it.
    pub socket: PathBuf,
}

/// Where a session's X server is, as it comes and goes. Cheap to clone.
#[derive(Clone)]
pub struct Display {
    address: watch::Receiver<Option<Address>>,
    /// The file that clients present as `XAUTHORITY`.
    pub authority: Arc<Path>,
    cookie: Cookie,
    /// The directory of its screen's memory.
    screen: Arc<Path>,
    /// Its width and height, and between which they are.
    size: Arc<watch::Sender<(u16, u16)>>,
    bounds: Bounds,
    /// Whose the server must be.
    owner: Option<u32>,
}

impl Display {
    /// One that never comes up.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        let nowhere: Arc<Path> = Arc::from(Path::new("/nonexistent"));
        Self {
            address: watch::Sender::new(None).subscribe(),
            authority: Arc::clone(&nowhere),
            cookie: Cookie::generate().unwrap(),
            screen: nowhere,
            size: Arc::new(watch::Sender::new((1, 1))),
            bounds: Bounds { least: (1, 1), most: (1, 1) },
            owner: None,
        }
    }

    /// The variables by which X clients find the running X server.
    ///
    /// # Errors
    /// When none is up.
    pub fn variables(&self) -> Result<Vec<(OsString, OsString)>, ProgramError> {
        let number = self.address()?.number;
        let authority = self.authority.as_os_str().to_owned();
        Ok(vec![("DISPLAY".into(), format!(":{number}").into()), ("XAUTHORITY".into(), authority)])
    }

    /// The running X server's address.
    ///
    /// # Errors
    /// When none is up.
    pub fn address(&self) -> Result<Address, ProgramError> {
        self.address.borrow().clone().ok_or_else(|| ProgramError::new("the display is not up"))
    }

    /// What it takes to get into the running X server: its socket, the cookie, and whose it must be.
    pub(super) fn door(&self) -> std::io::Result<(PathBuf, Cookie, Option<u32>)> {
        let address = self.address.borrow().clone();
        let address = address.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected))?;
        Ok((address.socket, self.cookie.clone(), self.owner))
    }

    /// Waits until a server is up. Pending for ever once there will be none any more.
    pub(super) async fn up(&self) {
        if self.address.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Where the running server keeps its screen, whose the file must be, and how large the screen was when it was started.
    pub(super) fn screen(&self) -> (&Path, Option<u32>, (u16, u16)) {
        (&self.screen, self.owner, self.bounds.most)
    }

    /// Width and height of the screen, as they were last heard of.
    pub fn size(&self) -> (u16, u16) {
        *self.size.borrow()
    }

    /// Notes another size, as who watches the screen hears of it.
    pub(super) fn note_size(&self, size: (u16, u16)) {
        self.size.send_replace(size);
    }

    /// Between which widths and heights it is.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whose uid the server has, where that is not the daemon's.
    pub fn owner(&self) -> Option<u32> {
        self.owner
    }

    /// What clients of it show, for those who get a file of their own.
    pub fn cookie(&self) -> Cookie {
        self.cookie.clone()
    }

    /// A connection to the running X server.
    ///
    /// # Errors
    /// When none is up, or it does not let us in.
    pub async fn connect(&self) -> Result<Connection, ProgramError> {
        Connection::open(&self.address()?.socket, &self.cookie, self.owner)
            .await
            .map_err(|error| ProgramError::caused_by("no connection to the X server", error))
    }
}

/// The X server of one session.
pub struct Xvfb {
    config: Config,
    confinement: Confinement,
    home: PathBuf,
    authority: Arc<Path>,
    cookie: Cookie,
    screen: Arc<Path>,
    number: u32,
    /// Where it listens, as the host sees it.
    socket: PathBuf,
    /// Where X clients of the host look for it, if that is another place.
    link: Option<PathBuf>,
    address: watch::Sender<Option<Address>>,
    size: Arc<watch::Sender<(u16, u16)>>,
    // One probe runs at a time; the lock only makes that visible to the compiler.
    connection: Mutex<Option<Connection>>,
}

impl Xvfb {
    /// An X server that will run in `confinement` with the cookie that stands in `authority`, always under the number of
    /// `reservation`, which has to outlive it. In a space its socket lies in the session's own `/tmp`, and a link stands
    /// for it in the host's. The memory of its screen is a file in `screen`, a directory of the session's.
    pub fn new(
        config: Config,
        reservation: &Reservation,
        confinement: Confinement,
        home: PathBuf,
        (authority, screen): (PathBuf, PathBuf),
        cookie: Cookie,
    ) -> Self {
        let (authority, screen) = (Arc::from(authority), Arc::from(screen));
        let usual = reservation.socket();
        let (socket, link) = match &confinement.space {
            Some(space) => (inside(space, &usual), Some(usual)),
            None => (usual, None),
        };
        let size = Arc::new(watch::Sender::new(config.size()));
        Self {
            config,
            confinement,
            home,
            authority,
            cookie,
            screen,
            number: reservation.number(),
            socket,
            link,
            address: watch::Sender::new(None),
            size,
            connection: Mutex::new(None),
        }
    }

    /// Where it can be found, for those who draw on it or watch it.
    pub fn display(&self) -> Display {
        Display {
            address: self.address.subscribe(),
            authority: Arc::clone(&self.authority),
            cookie: self.cookie.clone(),
            screen: Arc::clone(&self.screen),
            size: Arc::clone(&self.size),
            bounds: self.config.bounds(),
            owner: self.confinement.uid(),
        }
    }

    fn args(&self) -> Vec<OsString> {
        // It takes other sizes by RandR, and none beyond this one.
        let ((width, height), depth) = (self.config.bounds().most, self.config.depth);
        let mut args: Vec<OsString> = vec![format!(":{}", self.number).into()];
        args.extend(["-displayfd", READY_FD, "-screen", "0"].into_iter().map(OsString::from));
        args.push(format!("{width}x{height}x{depth}").into());
        args.push("-fbdir".into());
        args.push(self.screen.as_os_str().to_owned());
        args.push("-auth".into());
        args.push(self.authority.as_os_str().to_owned());
        // -auth alone turns access control on; without -nolisten local the abstract socket would be open to other
        // mount namespaces; without -noreset the screen is lost when the last client leaves. RECORD stays on: without it
        // x11vnc takes XTEST to be missing too, and discards all input.
        args.extend(
            ["-nolisten", "tcp", "-nolisten", "local", "-noreset", "-dpi", "96"]
                .into_iter()
                .map(OsString::from),
        );
        args
    }

    fn tell_address(&self) {
        self.address.send_replace(Some(Address { number: self.number, socket: self.socket.clone() }));
    }

    /// Gives a server that was started larger its configured size, before anybody hears of it.
    async fn begin(&self) -> Result<(), ProgramError> {
        if self.address.borrow().is_some() {
            return Ok(());
        }
        let failed = |error| ProgramError::caused_by("cannot size the screen", error);
        let owner = self.confinement.uid();
        let mut client = Client::connect(&self.socket, &self.cookie, owner).await.map_err(failed)?;
        let root = client.setup().roots.first().map_or(0, |screen| screen.root);
        let wanted = self.config.size();
        let size = randr::resize(&mut client, root, wanted).await.map_err(failed)?;
        if size != wanted {
            tracing::warn!(?size, ?wanted, "the X server does not take its configured size");
        }
        self.size.send_replace(self.config.bounds().nearest(size));
        self.tell_address();
        Ok(())
    }
}

impl Program for Xvfb {
    fn command(&self) -> Result<Command, ProgramError> {
        self.address.send_replace(None);
        self.size.send_replace(self.config.size());
        // In a space the server makes its own: what lies there is the session's, and not to be touched by root.
        let usual = self.link.as_ref().unwrap_or(&self.socket);
        if let Some(sockets) = usual.parent() {
            make_socket_dir(sockets).map_err(|error| {
                ProgramError::caused_by(format!("cannot make {}", sockets.display()), error)
            })?;
        }
        let env = BTreeMap::from([
            ("HOME".into(), self.home.clone().into_os_string()),
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("LANG".into(), "C.UTF-8".into()),
        ]);
        Ok(Command {
            program: self.config.xvfb.clone(),
            args: self.args(),
            env,
            cwd: self.home.clone(),
            confinement: self.confinement.clone(),
            max_open_files: MAX_OPEN_FILES,
            ready_fd: true,
        })
    }

    fn ready_line(&self, line: &str) -> Result<(), ProgramError> {
        let number: u32 = line
            .trim()
            .parse()
            .map_err(|error| ProgramError::caused_by("Xvfb wrote no display number on -displayfd", error))?;
        if number != self.number {
            return Err(ProgramError::new(format!(
                "Xvfb took display :{number} in place of :{}",
                self.number
            )));
        }
        if let Some(link) = &self.link {
            point(link, &self.socket)
                .map_err(|error| ProgramError::caused_by(format!("cannot link {}", link.display()), error))?;
        }
        if self.config.bounds().most == self.config.size() {
            self.tell_address();
        }
        Ok(())
    }

    fn probe<'a>(&'a self, _running: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>> {
        Box::pin(async move {
            let mut kept = self.connection.lock().await;
            // Taken out while in use: a probe that is dropped half-way must not leave a connection out of step.
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => {
                    self.begin().await?;
                    self.display().connect().await?
                }
            };
            connection
                .round_trip()
                .await
                .map_err(|error| ProgramError::caused_by("no round trip to the X server", error))?;
            *kept = Some(connection);
            Ok(())
        })
    }

    fn clean_up(&self, _ended: &Running) {
        if let Ok(mut connection) = self.connection.try_lock() {
            *connection = None;
        }
        self.address.send_replace(None);
        // A killed server leaves it; the number is reserved, so it is ours. One in a space goes with its session, or when
        // the next server of that number finds nobody behind it.
        let usual = self.link.as_ref().unwrap_or(&self.socket);
        match std::fs::remove_file(usual) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %usual.display(), %error, "cannot remove the X socket"),
        }
    }
}

/// Where something in `/tmp` of a space lies on the host.
fn inside(space: &Space, path: &Path) -> PathBuf {
    space.tmp().join(path.strip_prefix("/tmp").unwrap_or(path))
}

/// Puts a link to `socket` at `link`, in place of one that is left from a dead server.
fn point(link: &Path, socket: &Path) -> std::io::Result<()> {
    match std::os::unix::fs::symlink(socket, link) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(link)?;
            std::os::unix::fs::symlink(socket, link)
        }
        outcome => outcome,
    }
}

/// Makes the socket directory as Xorg would at boot: sticky, owned by whoever comes first, which should be root.
fn make_socket_dir(path: &Path) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o1777).create(path) {
        // The mode given to mkdir is cut by the umask.
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o1777)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xvfb() -> (Reservation, Xvfb) {
        let reservation = Reservation::take().unwrap();
        let xvfb = Xvfb::new(
            Config { xvfb: "/usr/bin/Xvfb".into(), width: 800, height: 600, max_size: None, depth: 24 },
            &reservation,
            Confinement::default(),
            "/".into(),
            ("/run/a".into(), "/run/fb".into()),
            Cookie::generate().unwrap(),
        );
        (reservation, xvfb)
    }

    #[test]
    fn the_server_is_never_open_to_everybody() {
        let (reservation, xvfb) = xvfb();
        let args = xvfb.args();
        let text: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let line = text.join(" ");
        assert!(line.starts_with(&format!(":{} ", reservation.number())), "{line}");
        assert!(line.contains("-fbdir /run/fb -auth /run/a"), "{line}");
        assert!(line.contains("-nolisten tcp -nolisten local"), "{line}");
        assert!(line.contains("-screen 0 800x600x24"), "{line}");
        assert!(!text.iter().any(|arg| arg == "-ac"), "{line}");
    }

    #[test]
    fn the_display_is_known_from_the_ready_line_until_the_end() {
        let (reservation, xvfb) = xvfb();
        let display = xvfb.display();
        assert!(display.address().is_err());
        assert!(xvfb.ready_line("no number").is_err());
        assert!(xvfb.ready_line("0\n").is_err(), "another display than the one reserved");
        let number = reservation.number();
        xvfb.ready_line(&format!("{number}\n")).unwrap();
        assert_eq!(display.address().unwrap(), Address { number, socket: reservation.socket() });
        xvfb.clean_up(&Running { pid: 1, attempt: 0 });
        assert!(display.address().is_err());
    }
}
