//! The browser of a session: Chromium as a service, its profile directory, and a DevTools client.
//!
//! **Invariant:** the browser never runs as root and never without its own sandbox; nothing is removed from a profile
//! that this process has not locked; DevTools are reached through [`Endpoint::connect`] alone, which knows the browser from
//! whoever else listens.

mod aside;
mod chromium;
pub mod config;
mod devtools;
mod endpoint;
mod profile_dir;
mod tabs;
mod trial;
mod upkeep;

pub use chromium::{Chromium, Places, Screen, Variables};
pub use config::{Config, check_page};
pub use devtools::{Client, Error as DevtoolsError, browser_path};
pub use endpoint::{Endpoint, Ports};
pub use profile_dir::{Error as ProfileError, Owner, ProfileDir, park_all};
pub use tabs::{CrashReason, watch_tabs};
pub use upkeep::{Care, Condition, look_after};
