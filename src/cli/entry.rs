//! From the command line to a subcommand.

use std::env;
use std::io::{stderr, stdout};
use std::path::PathBuf;

use super::{
    Command, Exit, args, check, dev, doctor, manual, profile, run, session, stand_in, status, token,
};

/// Parses the command line of this process, runs what it says, and gives back how it went.
pub fn main() -> Exit {
    let cli = match args::parse(stand_in::named(env::args_os())) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credentials = credentials.as_deref();
    let (mut out, mut err) = (stdout().lock(), stderr());
    match cli.command {
        Command::Run(args) => run::run(&args, credentials, &mut err),
        Command::Dev(args) => dev::run(&args, credentials, &mut out, &mut err),
        Command::Check(args) => check::run(&args, env::vars_os(), credentials, &mut out, &mut err),
        Command::Token(args) => token::run(&args, env::vars_os(), credentials, &mut out, &mut err),
        Command::Session(args) => session::run(&args, &mut out, &mut err),
        Command::Profile(args) => profile::run(&args, &mut out, &mut err),
        Command::Status(args) => status::run(&args, &mut out, &mut err),
        Command::Doctor(args) => doctor::run(&args, credentials, &mut out, &mut err),
        Command::AdspowerStandIn(args) => stand_in::run(&args, env::var_os("HOME"), &mut err),
        Command::Manual(args) => manual::run(&args, &mut err),
    }
}
