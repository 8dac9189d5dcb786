//! The Chrome DevTools Protocol between an automation and its session's browser, without sockets: which messages a role may
//! send, how discovery answers read from outside, and where WebSocket frames begin and end.
//!
//! **Invariant:** what [`Policy`] lets pass it has understood; anything whose meaning Chromium could see otherwise is
//! answered with an error and never sent on.

mod contexts;
pub mod discovery;
pub mod frames;
mod hearing;
pub mod inbound;
mod json;
pub mod oracle;
mod policy;
mod reply;
mod rules;
mod survey;
mod targets;
#[cfg(test)]
mod tests;
mod url;

pub use contexts::{Contexts, Reach};
pub use hearing::{Passing, Screen, Told};
pub use policy::{Input, Paths, Policy, Settings, Verdict};
pub use reply::{Denial, Reason};
pub use rules::{DEFAULT_DENY, DEFAULT_DENY_URL_SCHEMES, Fence, well_formed_pattern, well_formed_scheme};
pub use survey::Survey;
pub use targets::{Barred, Watch};
