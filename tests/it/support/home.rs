//! Where a daemon of a test or of a bench lives: a directory and a configuration of its own.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What its tokens are signed with.
pub(crate) const SECRET: &str = "a-shared-secret-for-tests-0123456789abcdef";

/// An empty directory with a short path, since sockets lie beneath it, that other uids may pass through.
pub(crate) fn directory() -> io::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("vt").tempdir_in("/tmp")?;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711))?;
    Ok(dir)
}

/// Writes the configuration: free ports, this directory, the shared secret, and each of `layers` on top of
/// those before it. Where it is.
pub(crate) fn configure(dir: &Path, layers: &[&str]) -> io::Result<PathBuf> {
    let secret = dir.join("jwt_secret");
    fs::write(&secret, SECRET)?;
    fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    let base = format!(
        r#"
        [host]
        state_dir = "{dir}/state"
        runtime_dir = "{dir}/run"
        [identity]
        provider = "local"
        [gateway]
        listen = "127.0.0.1:0"
        [auth]
        keys = [{{ algorithm = "HS256", secret = "{dir}/jwt_secret" }}]
        [api]
        listen = "127.0.0.1:0"
        socket = "{dir}/control.sock"
        [log]
        format = "json"
        "#,
        dir = dir.display()
    );
    let mut table: toml::Table = base.parse().map_err(io::Error::other)?;
    for layer in layers {
        merge(&mut table, layer.parse().map_err(io::Error::other)?);
    }
    let path = dir.join("valetd.toml");
    fs::write(&path, toml::to_string(&table).map_err(io::Error::other)?)?;
    Ok(path)
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
