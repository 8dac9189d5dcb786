//! The command line: what it takes, and a file per subcommand. The only place that prints.
//!
//! Settings come from the file and the environment, so that a flag exists only where a person types it: for `dev`, and for
//! what a command prints.

pub mod args;
mod ask;
pub mod check;
mod columns;
pub mod dev;
pub mod doctor;
mod entry;
pub mod exit;
pub mod manual;
pub mod output;
mod place;
pub mod profile;
pub mod profile_args;
mod rehearsal;
pub mod run;
pub mod session;
pub mod stand_in;
pub mod status;
pub mod token;

pub use args::{
    CheckArgs, Cli, Command, DevArgs, DoctorArgs, ManualArgs, RunArgs, SessionArgs, StandInArgs, StatusArgs,
    TokenArgs, parse,
};
pub use entry::main;
pub use exit::Exit;
