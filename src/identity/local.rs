//! A machine that no cloud speaks for: its host name, and an id of its own.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};

use super::facts::{Facts, Provider, word};
use crate::hex;
use crate::sys::procfs;

/// Made when the system was installed, or by its first start.
const MACHINE_ID: &str = "/etc/machine-id";
/// Of the digest, in bytes.
const ID_BYTES: usize = 16;

/// Why the machine does not know itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum LocalError {
    #[error("there is neither a machine id nor a boot id")]
    NoId(#[source] io::Error),
}

/// Without a machine id, the id is that of the boot: better than none, and gone with it.
pub(super) async fn facts() -> Result<Facts, LocalError> {
    let seed = match tokio::fs::read_to_string(MACHINE_ID).await {
        Ok(text) if !text.trim().is_empty() => text,
        _none => procfs::boot_id().map_err(LocalError::NoId)?,
    };
    let mut facts = Facts::bare(Provider::Local, id_from(seed.trim()));
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    facts.name = name.and_then(|name| word(&name).ok());
    Ok(facts)
}

/// The machine's own id is confidential (`machine-id(5)`): keys are made from it. What is shown is a digest of our own.
fn id_from(seed: &str) -> String {
    let mut digest = Context::new(&SHA256);
    digest.update(b"valetd host\0");
    digest.update(seed.as_bytes());
    hex::encode(&digest.finish().as_ref()[..ID_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_knows_itself_and_does_not_show_its_own_id() {
        let facts = facts().await.unwrap();
        assert_eq!((facts.provider, facts.id.len()), (Provider::Local, 32));
        if let Ok(own) = std::fs::read_to_string(MACHINE_ID) {
            assert!(own.trim().is_empty() || !own.contains(&facts.id));
        }
        assert_eq!(id_from("a"), id_from("a"));
        assert_ne!(id_from("a"), id_from("b"));
    }
}
