//! `valetd adspower-stand-in`: what stands in for AdsPower where there is none.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::output::complain;
use super::{Exit, StandInArgs};
use crate::adspower::stand_in::{Args, WORD, run as serve};
use crate::errors::chain;
use crate::telemetry;

/// Runs it until it is told to stop.
pub fn run(args: &StandInArgs, home: Option<OsString>, err: &mut dyn Write) -> Exit {
    let Some(home) = home.map(PathBuf::from) else {
        return complain(err, "valetd: the stand-in needs HOME", Exit::Usage);
    };
    // Its output is its supervisor's to log.
    if let Err(error) = telemetry::init("info,valetd=debug", telemetry::Format::Json) {
        return complain(err, &chain(&error), Exit::Failed);
    }
    let args = Args {
        home,
        api_key: args.api_key.clone(),
        port: args.api_port,
        chromium: args.chromium.clone(),
        chromium_args: args.chromium_arg.clone(),
        profiles: args.profile.clone(),
        behaviour: args.behave,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(serve(args))) {
        Ok(Ok(())) => Exit::Clean,
        Ok(Err(error)) => complain(err, &format!("valetd: {}", chain(&error)), Exit::Failed),
        Err(error) => complain(err, &format!("valetd: no runtime: {error}"), Exit::Failed),
    }
}

/// The command line as it is meant: a copy of this program that bears the stand-in's name takes AdsPower's arguments alone.
pub(super) fn named(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut line: Vec<OsString> = line.into_iter().collect();
    let name = line.first().and_then(|first| Path::new(first).file_name());
    if name.is_some_and(|name| name == WORD) {
        line.insert(1, WORD.into());
    }
    line
}
