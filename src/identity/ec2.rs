//! A machine of EC2, from what its metadata service answers.

use std::collections::BTreeMap;

use super::facts::{Facts, Odd, Provider, address, instance_id, tag_names, tag_value, word};
use super::imds::{Imds, ImdsError};

/// Starts the vendor of a machine's firmware, where EC2 runs it. It can be read before there is a network.
const VENDOR: &str = "Amazon EC2";
/// Files that say so: of machines on Nitro, and of those on Xen, whose vendor is Xen.
pub(super) const VENDOR_FILES: [&str; 2] = ["/sys/class/dmi/id/sys_vendor", "/sys/hypervisor/uuid"];
/// Starts the id of a machine on Xen.
const XEN_ID: &str = "ec2";

/// Why nothing new is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error(transparent)]
    Imds(#[from] ImdsError),
    #[error("the metadata service has no instance id")]
    NoId,
    #[error("the metadata service's {item} cannot be used")]
    Odd {
        item: &'static str,
        #[source]
        source: Odd,
    },
}

const ID: &str = "instance-id";

/// The id alone: whether there is somebody to ask at all.
pub(super) async fn id(imds: &mut Imds) -> Result<String, LookupError> {
    let text = imds.get(ID).await?.ok_or(LookupError::NoId)?;
    instance_id(&text).map_err(|source| LookupError::Odd { item: ID, source })
}

/// Everything. What is not there is left out; what is there and odd is a failure, since the rest is not to be trusted then.
pub(super) async fn look_up(imds: &mut Imds) -> Result<Facts, LookupError> {
    let mut facts = Facts::bare(Provider::Ec2, id(imds).await?);
    facts.machine_type = item(imds, "instance-type", word).await?;
    facts.life_cycle = item(imds, "instance-life-cycle", word).await?;
    facts.region = item(imds, "placement/region", word).await?;
    facts.zone = item(imds, "placement/availability-zone", word).await?;
    facts.address = item(imds, "local-ipv4", address).await?;
    if facts.address.is_none() {
        facts.address = item(imds, "ipv6", address).await?;
    }
    facts.public_address = item(imds, "public-ipv4", address).await?;
    facts.tags = tags(imds).await?;
    Ok(facts)
}

async fn item<T>(
    imds: &mut Imds,
    item: &'static str,
    parse: fn(&str) -> Result<T, Odd>,
) -> Result<Option<T>, LookupError> {
    let text = imds.get(item).await?;
    text.map(|text| parse(&text)).transpose().map_err(|source| LookupError::Odd { item, source })
}

/// There are none where the machine may not know them.
async fn tags(imds: &mut Imds) -> Result<BTreeMap<String, String>, LookupError> {
    let mut tags = BTreeMap::new();
    let Some(listing) = imds.get("tags/instance").await? else { return Ok(tags) };
    for name in tag_names(&listing) {
        if let Some(value) = imds.get(&format!("tags/instance/{name}")).await?.as_deref().and_then(tag_value)
        {
            tags.insert(name.to_owned(), value);
        }
    }
    Ok(tags)
}

/// Whether one of the files speaks of EC2.
pub(super) fn is_vendor(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with(VENDOR) || text.starts_with(XEN_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ec2_is_told_from_other_firmware() {
        assert!(is_vendor("Amazon EC2\n") && is_vendor("ec2e1916-9099-7caf-fd21-012345abcdef\n"));
        for other in ["", "QEMU\n", "Google\n", "Not Amazon EC2"] {
            assert!(!is_vendor(other), "{other:?}");
        }
    }
}
