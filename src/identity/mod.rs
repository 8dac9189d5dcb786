//! Who this machine is: asked of EC2's metadata service, read from what Fly gives its machines, or made up of what the
//! machine knows itself. And what its cloud announces about it: that it is going away.
//!
//! `facts`, `fly`, `time`, `notices` and `docket` judge texts and observations without any I/O; `imds` asks, `watcher` and `poll` ask
//! again and again. **Invariants:** nothing of it is ever fatal, and the last known stays when a source
//! fails; a text from outside is bounded and without control characters before it gets into a log, a label or an answer.

pub mod config;
mod docket;
mod ec2;
mod facts;
mod fly;
mod imds;
mod local;
mod metrics;
mod notices;
mod poll;
mod time;
mod watcher;

pub use config::{Choice, Config};
pub use facts::{Facts, Provider};
pub use fly::Variables as FlyVariables;
pub use notices::{Announced, Call, Kind, Notice, budget};
pub use watcher::Identity;
