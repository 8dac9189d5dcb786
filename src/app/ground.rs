//! What has to be there before there is a session: the state file, the manager, and the packet rules.

use std::path::Path;
use std::time::Duration;

use prometheus::Registry;

use super::error::Error;
use crate::adspower::AdsPower;
use crate::config::Config;
use crate::session::{self, HostConfig, Manager, Network};
use crate::store::{self, SetAside, Store};
use crate::sys::{self, AppFilter, Filter, Firewall, Host};
use crate::tasks::blocking;
use crate::vnc::native;

/// For the state file to be opened and looked through.
const STORE_DEADLINE: Duration = Duration::from_secs(20);

/// Opens the file of sessions. One that is of no use is set aside, which people are told.
pub(super) async fn open_store(path: &Path, registry: &Registry) -> Result<Store, Error> {
    let metrics = store::Metrics::register(registry)?;
    let path = path.to_owned();
    let opened =
        blocking(STORE_DEADLINE, move || Store::open(&path, metrics)).await.map_err(Error::Slow)??;
    if let Some(SetAside { path, damage }) = opened.set_aside {
        tracing::error!(kept = %path.display(), %damage, "the state file is of no use: the history of sessions begins anew");
    }
    Ok(opened.store)
}

/// The manager of sessions, and AdsPower, where the host has it; neither runs yet.
pub(super) fn manager(config: &Config, registry: &Registry) -> Result<(Manager, Option<AdsPower>), Error> {
    let adspower = config.adspower.clone();
    let adspower = adspower.map(|it| session::adspower(it, &config.host, &config.session, registry));
    let adspower = adspower.transpose()?;
    let manager = Manager::new(session::Params {
        host: config.host.clone(),
        rules: config.rules.clone(),
        template: config.session.clone(),
        profiles: config.profiles.clone(),
        memory_bytes: sys::procfs::memory_bytes().map_err(Error::Proc)?,
        adspower: adspower.clone(),
        native: native::Metrics::register(registry)?,
    });
    Ok((manager, adspower))
}

/// Puts the rules for sessions in force and proves them, before there is a session. `None` where none are wanted.
///
/// # Errors
/// When they cannot be had, or do not hold; they are out of force again then.
pub async fn filter(
    system: &Host,
    host: &HostConfig,
    app: Option<AppFilter>,
) -> Result<Option<Firewall>, Error> {
    let root = nix::unistd::geteuid().is_root();
    if !host.isolation.filters() {
        if host.isolation.network == Network::Auto {
            tracing::warn!("not root: sessions can reach this host's services and private networks");
        }
        return Ok(None);
    }
    if !root {
        return Err(Error::NotRoot);
    }
    let resolvers = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_else(|error| {
        tracing::warn!(%error, "no /etc/resolv.conf: sessions reach public name servers only");
        String::new()
    });
    let last = host.first_uid + (host.uid_count - 1);
    let filter = Filter {
        uids: host.first_uid..=last,
        daemon_uid: nix::unistd::geteuid().as_raw(),
        devtools_ports: host.isolation.devtools_ports.clone(),
        resolvers: sys::ruleset::resolvers(&resolvers),
        allow: host.isolation.allow.clone(),
        app,
    };
    let firewall = system.filter(&host.isolation.nft, &filter).await?;
    if let Err(error) = sys::firewall::prove(system, &filter).await {
        firewall.remove().await?;
        return Err(error.into());
    }
    tracing::info!(table = firewall.table(), "sessions reach the public internet only");
    Ok(Some(firewall))
}
