//! `[identity]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::document::Document;
use crate::identity::Choice;
use crate::identity::Config;
use crate::identity::config::EC2_ENDPOINT;

/// Where machines of EC2 find their metadata service. In the clear, so that nobody else is asked.
const ENDPOINTS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

pub(super) fn identity(document: &mut Document) -> Config {
    let mut section = document.section("identity");
    let provider = section.parsed("provider", |text| match text {
        "auto" => Ok(Choice::Auto),
        "ec2" => Ok(Choice::Ec2),
        "fly" => Ok(Choice::Fly),
        "local" => Ok(Choice::Local),
        _ => Err("must be auto, ec2, fly or local".to_owned()),
    });
    let identity = Config {
        provider: provider.unwrap_or(Choice::Auto),
        ec2_endpoint: section.parsed("ec2_endpoint", endpoint).unwrap_or_else(|| EC2_ENDPOINT.to_owned()),
        drain_on_rebalance: section.boolean("drain_on_rebalance", false),
    };
    section.finish();
    identity
}

fn endpoint(text: &str) -> Result<String, String> {
    let refusal = || {
        "must be http:// and 169.254.169.254, [fd00:ec2::254] or a loopback address, with a port or without, and no path"
            .to_owned()
    };
    let url = reqwest::Url::parse(text).map_err(|_| refusal())?;
    let address = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let known = address.is_some_and(|address| address.is_loopback() || ENDPOINTS.contains(&address));
    let anonymous = url.username().is_empty() && url.password().is_none();
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if url.scheme() == "http" && known && anonymous && bare {
        return Ok(url.as_str().trim_end_matches('/').to_owned());
    }
    Err(refusal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_metadata_service_or_a_stand_in_is_asked() {
        for (text, kept) in [
            ("http://169.254.169.254", "http://169.254.169.254"),
            ("http://169.254.169.254/", "http://169.254.169.254"),
            ("http://[fd00:ec2::254]", "http://[fd00:ec2::254]"),
            ("http://127.0.0.1:1338", "http://127.0.0.1:1338"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
        ] {
            assert_eq!(endpoint(text).as_deref(), Ok(kept));
        }
        for bad in [
            "",
            "169.254.169.254",
            "https://169.254.169.254",
            "http://10.0.0.1",
            "http://localhost",
            "http://metadata.example.org",
            "http://127.0.0.1.example.org",
            "http://u@127.0.0.1",
            "http://127.0.0.1/latest",
            "http://127.0.0.1/?x",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
