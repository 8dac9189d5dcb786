//! What is known of a machine, and what may stand in it.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Longest id, region and the like; EC2's and Fly's are below 64.
const MAX_WORD_BYTES: usize = 128;
/// What EC2 allows.
const MAX_TAG_NAME_BYTES: usize = 128;
const MAX_TAG_CHARS: usize = 256;
pub(super) const MOST_TAGS: usize = 50;

/// Who says who this machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// EC2's metadata service.
    Ec2,
    /// Fly's environment.
    Fly,
    /// The machine itself.
    Local,
}

impl Provider {
    /// The provider as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Fly => "fly",
            Self::Local => "local",
        }
    }
}

/// What is known of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who says so.
    pub provider: Provider,
    /// The provider's name for it; of a machine without a provider, a digest that stays the same.
    pub id: String,
    /// Host name, or Fly's app.
    pub name: Option<String>,
    /// Type of the instance.
    pub machine_type: Option<String>,
    /// `spot`, `on-demand` and the like.
    pub life_cycle: Option<String>,
    /// Where it is.
    pub region: Option<String>,
    /// Where in the region.
    pub zone: Option<String>,
    /// Where its own network reaches it.
    pub address: Option<IpAddr>,
    /// Where the world reaches it.
    pub public_address: Option<IpAddr>,
    /// What whoever runs it has tagged it with, where the machine may know. For operators only.
    pub tags: BTreeMap<String, String>,
}

impl Facts {
    /// A machine of which no more than this is known.
    pub(super) fn bare(provider: Provider, id: String) -> Self {
        Self {
            provider,
            id,
            name: None,
            machine_type: None,
            life_cycle: None,
            region: None,
            zone: None,
            address: None,
            public_address: None,
            tags: BTreeMap::new(),
        }
    }
}

/// Why a text is not taken. It does not show the text, which may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Odd {
    #[error("not a word of 1 to {MAX_WORD_BYTES} plain characters")]
    Word,
    #[error("not an IP address")]
    Address,
    #[error("not an instance id")]
    InstanceId,
    #[error("not the JSON that belongs there")]
    Json,
}

/// A word: printable ASCII without blanks.
pub(super) fn word(text: &str) -> Result<String, Odd> {
    let good = (1..=MAX_WORD_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err(Odd::Word) }
}

pub(super) fn address(text: &str) -> Result<IpAddr, Odd> {
    text.parse().map_err(|_| Odd::Address)
}

/// `i-0123456789abcdef0`. Whatever else answers at the address of a metadata service does not give one.
pub(super) fn instance_id(text: &str) -> Result<String, Odd> {
    let digits = text.strip_prefix("i-").ok_or(Odd::InstanceId)?;
    let good = (8..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good { Ok(text.to_owned()) } else { Err(Odd::InstanceId) }
}

/// The names of tags in a listing that can be asked for one by one: they become part of a path.
pub(super) fn tag_names(listing: &str) -> Vec<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-=._:@".contains(&byte);
    let good = |name: &&str| {
        (1..=MAX_TAG_NAME_BYTES).contains(&name.len())
            && name.bytes().all(allowed)
            && !matches!(*name, "." | ".." | "_index")
    };
    listing.lines().filter(good).take(MOST_TAGS).collect()
}

/// The value of a tag, where it is one that may be shown.
pub(super) fn tag_value(text: &str) -> Option<String> {
    let good = text.chars().count() <= MAX_TAG_CHARS && !text.chars().any(char::is_control);
    good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_short_plain_and_whole() {
        assert_eq!(word("eu-central-1a").as_deref(), Ok("eu-central-1a"));
        assert_eq!(word(&"x".repeat(128)).map(|text| text.len()), Ok(128));
        for bad in ["", " ", "a b", "a\nb", "\u{1b}[31m", "größe", &"x".repeat(129)] {
            assert_eq!(word(bad), Err(Odd::Word), "{bad:?}");
        }
    }

    #[test]
    fn an_instance_id_is_no_web_page() {
        for good in ["i-1234abcd", "i-0123456789abcdef0"] {
            assert_eq!(instance_id(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "i-", "i-123", "i-0123456789abcdeg", "vm-0123456789", "<html>", "i-0123456789abcdef0\n"]
        {
            assert_eq!(instance_id(bad), Err(Odd::InstanceId), "{bad:?}");
        }
    }

    #[test]
    fn a_tag_that_could_lead_elsewhere_or_garble_a_log_is_left_out() {
        let listing = "Name\nteam:owner\na/b\n..\n_index\nwith space\n\nCost-Center";
        assert_eq!(tag_names(listing), ["Name", "team:owner", "Cost-Center"]);
        assert_eq!(tag_names(&"n\n".repeat(80)).len(), MOST_TAGS);
        assert_eq!(tag_value("Größe 5").as_deref(), Some("Größe 5"));
        assert_eq!(tag_value("a\u{7}b"), None);
        assert_eq!(tag_value(&"ö".repeat(256)).map(|text| text.chars().count()), Some(256));
        assert_eq!(tag_value(&"ö".repeat(257)), None);
    }
}
