//! The `valetd` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The daemon's own helpers come first: they must run while there is one thread, and are none of clap's business.
    match std::env::args_os().nth(1) {
        Some(word) if word == "exec" => valetd::sys::exec_main(),
        Some(word) if word == "keeper" => valetd::sys::keeper_main(),
        Some(word) if word == "space" => valetd::sys::space_main(),
        Some(word) if word == "probe" => valetd::sys::probe_main(),
        _ => valetd::cli::main().into(),
    }
}
