//! The settings of the daemon: a TOML file, the environment over it, and secrets from files of their own.
//!
//! [`load`] gives back a [`Config`] that cannot be wrong, or every mistake at once. `document` reads values and knows the
//! key paths; `host`, `browser`, `adspower`, `gateway` and `auth` hold a section's keys, defaults and ranges; [`resolved`] prints
//! what is in force; [`differences`] says what a reload would change.
//!
//! **Invariant:** the environment and the files come in as arguments; nothing here reads a global.

mod adspower;
mod auth;
mod browser;
mod cdp;
mod changes;
mod control_plane;
mod document;
mod gateway;
mod host;
mod identity;
mod isolation;
mod load;
mod mistake;
mod profiles;
mod resolved;
mod secrets;
mod sessions;
mod settings;
mod spelling;
mod values;

#[cfg(test)]
mod tests;

pub use changes::{Change, differences};
pub use load::{ENVIRONMENT_PREFIX, MAX_FILE_BYTES, check, control_socket, defaults, known_keys, load};
pub use mistake::{ConfigErrors, Mistake};
pub use resolved::resolved;
pub use secrets::{Files, Wanted};
pub use settings::{Config, Log, Signing};
