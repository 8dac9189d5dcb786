//! Supervision of a group of services that depend on each other.
//!
//! [`spec`] says what to run, [`machine`] decides (pure, in virtual time), [`actor`] carries out, [`handle`] is what
//! others hold, [`status`] is what
//! everybody else may see.

pub mod actor;
mod capture;
pub mod handle;
pub mod machine;
mod run;
pub mod spec;
pub mod status;

pub use actor::Group;
pub use handle::{Gone, GroupHandle, RestartError, StopReport};
pub use machine::GraphError;
pub use spec::{
    Command, Confinement, Identity, Program, ProgramError, READY_FD, RestartPolicy, Running, ServiceSpec,
    Timing,
};
pub use status::{GroupStatus, ServiceState, ServiceStatus};
