//! Supervision of a group of services that depend on each other.
//!
//! [`spec`] says what to run, [`machine`] decides (pure, in virtual time), [`actor`] carries out, [`status`] is what
//! everybody else may see.

pub mod actor;
pub mod machine;
pub mod spec;
pub mod status;

pub use actor::{Group, GroupHandle};
pub use spec::{Command, Identity, Program, ProgramError, RestartPolicy, Running, ServiceSpec, Timing};
pub use status::{GroupStatus, ServiceState, ServiceStatus};
