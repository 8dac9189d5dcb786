//! What one `valetd dev` has for itself: a directory, and a control plane that stands in for a real one.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::control_plane::stand_in::StandIn;
use crate::errors::chain;
use crate::hex;
use crate::tasks::Scope;

/// Beneath the directory.
const CREDENTIAL: &str = "control_plane_token";

/// The directory of one `valetd dev`, removed with it.
pub(super) struct Place {
    pub(super) dir: PathBuf,
}

impl Place {
    pub(super) fn make() -> std::io::Result<Self> {
        let mut random = [0; 4];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| std::io::Error::other("no random bytes"))?;
        // Short, since sockets lie beneath it, and in /tmp, since it has to be passable for the session's uid.
        let dir = PathBuf::from(format!("/tmp/valetd-{:08x}", u32::from_be_bytes(random)));
        std::fs::DirBuilder::new().mode(0o711).create(&dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711))?;
        Ok(Self { dir })
    }

    pub(super) fn secret(&self) -> PathBuf {
        self.dir.join("jwt_secret")
    }

    pub(super) fn credential(&self) -> PathBuf {
        self.dir.join(CREDENTIAL)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "cannot remove the directory of this run");
        }
    }
}

/// A port of loopback for the stand-in, and what the daemon is to show there.
pub(super) struct StandInPlace {
    listener: TcpListener,
    pub(super) url: String,
    pub(super) credential: String,
}

impl StandInPlace {
    pub(super) fn take() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        Ok(Self { listener, url, credential: secret()? })
    }

    /// Serves for as long as `scope` is there.
    pub(super) fn serve(self, scope: &mut Scope) {
        match StandIn::new(Some(self.credential)).serve(self.listener, scope.token()) {
            Ok(server) => scope.spawn("stand-in control plane", server),
            Err(error) => tracing::error!(error = %chain(&error), "no stand-in for a control plane"),
        }
    }
}

fn secret() -> std::io::Result<String> {
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| std::io::Error::other("no random bytes"))?;
    Ok(hex::encode(&random))
}

pub(super) fn write_secret(path: &Path) -> std::io::Result<()> {
    write_file(path, &secret()?)
}

pub(super) fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
