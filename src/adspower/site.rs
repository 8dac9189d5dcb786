//! Where AdsPower runs, as its browsers' sessions need it: whose a DevTools port is, and which displays may be drawn on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::app::look;
use super::client::Opened;
use super::ground::Ground;
use crate::browser::{DevtoolsError, Endpoint, browser_path};
use crate::display::Display;
use crate::sys::procfs::Stat;
use crate::sys::{Cell, Door};
use crate::tasks::blocking;

/// For a look at who holds a browser's port.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);
/// For a browser's answer to who it is.
const VERSION_DEADLINE: Duration = Duration::from_secs(3);

/// Where it runs.
pub(super) struct Site {
    pub(super) ground: Ground,
    pub(super) runtime_dir: PathBuf,
    pub(super) uid: u32,
    pub(super) cell: Cell,
}

/// Why a browser that AdsPower says it opened is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    /// Somebody else listens there, or nobody.
    #[error("its DevTools cannot be trusted: {0}")]
    Stranger(String),
    /// It cannot be told who does.
    #[error("cannot tell who serves its DevTools")]
    Look(#[source] io::Error),
    /// It does not say who it is.
    #[error("its DevTools do not answer")]
    Devtools(#[from] DevtoolsError),
    /// It took too long.
    #[error("its DevTools do not answer in time")]
    Silent,
    /// It says that it is another one.
    #[error("its DevTools are another browser's")]
    Other,
}

/// A browser of AdsPower's that was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    pub(super) endpoint: Endpoint,
    /// Its main process; none where that is AdsPower itself, which is never signalled for a browser's sake.
    pub(super) main: Option<Stat>,
}

impl Site {
    /// Looks at a browser that AdsPower says it opened: whether one of AdsPower's processes listens there, and whether that
    /// says it is the browser that is meant.
    pub(super) async fn accept(
        self: &Arc<Self>,
        opened: &Opened,
        api: Option<u16>,
    ) -> Result<Accepted, NotTaken> {
        let (site, port) = (Arc::clone(self), opened.debug_port);
        let looked = blocking(LOOK_DEADLINE, move || -> io::Result<_> {
            let processes = site.cell.processes()?;
            let found = look(&[port], site.uid, || Ok(processes.clone()))?;
            let holder =
                |port| Ok::<_, io::Error>(crate::sys::listener(port)?.and_then(|it| it.holder(&processes)));
            let own = api.map(holder).transpose()?.flatten();
            Ok((found, holder(port)?.filter(|main| own != Some(*main))))
        });
        let (found, main) = looked.await.and_then(|outcome| outcome).map_err(NotTaken::Look)?;
        let (port, socket) = found.map_err(NotTaken::Stranger)?;
        let endpoint = Endpoint::pinned(port, socket);
        let path = timeout(VERSION_DEADLINE, browser_path(endpoint))
            .await
            .map_err(|_elapsed| NotTaken::Silent)??;
        if path != opened.browser_path {
            return Err(NotTaken::Other);
        }
        Ok(Accepted { endpoint, main })
    }

    /// Lets AdsPower's browsers draw on a display. Blocks briefly.
    pub(super) fn invite(self: &Arc<Self>, display: &Display) -> io::Result<Guest> {
        let address = display.address().map_err(io::Error::other)?;
        let number = address.number;
        self.ground.authority.add(number, display.cookie())?;
        let mut guest = Guest { site: Arc::clone(self), number, door: None };
        // In a space of its own it sees none of the host's sockets.
        if let (Ok(from), Some(owner)) = (address.socket.strip_prefix(&self.runtime_dir), display.owner()) {
            let tmp = self.ground.tmp();
            let tmp = tmp.strip_prefix(&self.runtime_dir).map_err(io::Error::other)?;
            let to = tmp.join(format!(".X11-unix/X{number}"));
            guest.door = Some(Door::open(&self.runtime_dir, from, &to, owner)?);
        }
        Ok(guest)
    }
}

/// A display that AdsPower's browsers may draw on, until this is dropped, which blocks briefly.
pub(super) struct Guest {
    site: Arc<Site>,
    pub(super) number: u32,
    door: Option<Door>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.door = None;
        if let Err(error) = self.site.ground.authority.remove(self.number) {
            tracing::warn!(%error, "a display's cookie stays with AdsPower");
        }
    }
}

/// Waits a little, between looks at something that takes a moment.
pub(super) async fn pause() {
    sleep(Duration::from_millis(50)).await;
}
