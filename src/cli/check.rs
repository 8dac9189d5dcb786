//! `valetd check`.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use super::output::{answer, complain};
use super::{CheckArgs, Exit};
use crate::config::{load, resolved};

/// Prints the settings in force on `out`, or every mistake on `err`.
pub fn run(
    args: &CheckArgs,
    environment: impl Iterator<Item = (OsString, OsString)>,
    credentials_dir: Option<&Path>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    match load(Some(&args.config), environment, credentials_dir) {
        Ok(config) => answer(out, &resolved(&config)),
        Err(mistakes) => complain(err, &mistakes.to_string(), Exit::Configuration),
    }
}
