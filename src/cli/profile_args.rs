//! What `valetd profile` takes.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::ids::{ProfileName, UserId};
use crate::profile::{Kind, StateWord};

/// Arguments of `valetd profile`.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: ProfileAction,
    /// JSON for programs.
    #[arg(long, global = true)]
    pub json: bool,
    /// The configuration file, for the path of the daemon's socket.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

impl ProfileArgs {
    /// The configuration file, for the path of the daemon's socket.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

/// What can be done to profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileAction {
    /// List the pool's profiles.
    List(ListProfiles),
    /// Show one profile.
    Show(NamedProfile),
    /// Add a profile.
    Add(AddProfile),
    /// End a profile's quarantine, or its rest.
    Release(NamedProfile),
    /// Keep a profile from being used; one that is in use, once its session is over.
    Quarantine(QuarantineProfile),
    /// Remove a profile that nobody uses, and what it holds on this host.
    Remove(NamedProfile),
}

/// Arguments of `valetd profile list`.
#[derive(Debug, Args)]
pub struct ListProfiles {
    /// Those of this user.
    #[arg(long, value_name = "USER")]
    pub user: Option<UserId>,
    /// Those in this state: idle, active, cooldown or quarantined; may be given several times.
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub state: Vec<StateWord>,
}

/// A profile by its name.
#[derive(Debug, Args)]
pub struct NamedProfile {
    /// The profile.
    pub name: ProfileName,
}

/// Arguments of `valetd profile add`.
#[derive(Debug, Args)]
pub struct AddProfile {
    /// Whose it is.
    #[arg(long, value_name = "USER")]
    pub user: UserId,
    /// What opens it: chromium or adspower.
    #[arg(long, value_name = "KIND", default_value = "chromium", value_parser = kind)]
    pub kind: Kind,
    /// What AdsPower calls it.
    #[arg(long, value_name = "ID")]
    pub external_id: Option<ProfileName>,
    /// What its pages are fetched through: scheme://host:port. With adspower, AdsPower is told.
    #[arg(long, value_name = "SERVER")]
    pub proxy: Option<String>,
    /// How an AdsPower profile looks to pages, as its fingerprint_config.
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub fingerprint: Option<serde_json::Value>,
}

/// Arguments of `valetd profile quarantine`.
#[derive(Debug, Args)]
pub struct QuarantineProfile {
    /// The profile.
    pub name: ProfileName,
    /// Why, for whoever comes next.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

fn state(word: &str) -> Result<StateWord, String> {
    StateWord::of(word).ok_or_else(|| "must be idle, active, cooldown or quarantined".to_owned())
}

fn kind(word: &str) -> Result<Kind, String> {
    Kind::of(word).ok_or_else(|| "must be chromium or adspower".to_owned())
}

fn object(text: &str) -> Result<serde_json::Value, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("must be a JSON object".to_owned()) }
}
