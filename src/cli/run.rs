//! `valetd run`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::output::complain;
use super::{Exit, RunArgs};
use crate::app::{App, Error, Listeners, Reload};
use crate::config::{Config, load};
use crate::errors::chain;
use crate::sys::handed_over;
use crate::telemetry::{self, LevelHandle};
use crate::vnc::RfbSource;

/// The machines have two cores; viewers, supervision and health share them.
const WORKERS: usize = 2;
/// For threads that wait for the system when everything else has ended.
const LAST_THREADS: Duration = Duration::from_millis(500);

/// The one program that can be done without.
const NFT_KEY: &str = "isolation.nft";

/// Runs the daemon until it is told to stop.
pub fn run(args: &RunArgs, credentials_dir: Option<&Path>, err: &mut dyn Write) -> Exit {
    // Before there are other threads.
    let handed = match handed_over() {
        Ok(handed) => handed,
        Err(error) => return complain(err, &format!("valetd: {}", chain(&error)), Exit::Configuration),
    };
    let config = match load(Some(&args.config), std::env::vars_os(), credentials_dir) {
        Ok(config) => config,
        Err(mistakes) => return complain(err, &mistakes.to_string(), Exit::Configuration),
    };
    let listeners = match Listeners::assign(handed, &config) {
        Ok(listeners) => listeners,
        Err(error) => return complain(err, &format!("valetd: {}", chain(&error)), Exit::Configuration),
    };
    if let Some(missing) = missing_program(&config) {
        return complain(err, &missing, Exit::ProgramMissing);
    }
    let level = match telemetry::init(&config.log.level, config.log.format) {
        Ok(level) => level,
        Err(error) => return complain(err, &chain(&error), Exit::Failed),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
    let reload = reload_from(args.config.clone(), credentials_dir.map(Path::to_owned), level);
    let outcome = runtime().map(|runtime| {
        let outcome = runtime.block_on(async {
            let app = App::build(config, listeners).await?;
            Box::pin(app.run(reload)).await
        });
        // A name that is being looked up cannot be called off, and may take longer than the whole drain.
        runtime.shutdown_timeout(LAST_THREADS);
        outcome
    });
    match outcome {
        Ok(Ok(())) => Exit::Clean,
        Ok(Err(error)) => {
            tracing::error!(error = %chain(&error), "ended");
            complain(err, &format!("valetd: {}", chain(&error)), exit_of(&error))
        }
        Err(error) => complain(err, &format!("valetd: no runtime: {error}"), Exit::Failed),
    }
}

/// The runtime of a daemon.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("valetd")
        .enable_all()
        .build()
}

/// The exit code that tells a service manager whether trying again makes sense.
pub(super) fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Locked(crate::sys::LockError::Held { .. }) => Exit::AlreadyRunning,
        Error::Session { .. } | Error::SessionFailed { .. } => Exit::SessionFailed,
        _ => Exit::Failed,
    }
}

/// The first program that the configuration needs and this machine lacks, in words with a remedy.
pub(super) fn missing_program(config: &Config) -> Option<String> {
    programs(config).into_iter().find(|(_key, path, _package)| !path.is_file()).map(|(key, path, package)| {
        let other = if key == NFT_KEY { ", or set isolation.network = \"open\"" } else { "" };
        format!("{key} = {}: no such program; install {package}{other}", path.display())
    })
}

/// The programs that the configuration needs: key, path, Debian package.
pub(super) fn programs(config: &Config) -> Vec<(&'static str, &Path, &'static str)> {
    let session = &config.session;
    let mut programs = Vec::new();
    let x11vnc = match &session.rfb {
        RfbSource::X11vnc { program } => Some(program.as_path()),
        RfbSource::Native | RfbSource::External(_) => None,
    };
    if session.browser.is_some() || !matches!(session.rfb, RfbSource::External(_)) {
        programs.push(("display.xvfb", session.display.xvfb.as_path(), "xvfb"));
    }
    programs.extend(x11vnc.map(|path| ("display.x11vnc", path, "x11vnc")));
    programs.extend(
        session.browser.iter().map(|browser| ("browser.program", browser.program.as_path(), "chromium")),
    );
    if let Some(adspower) = &config.adspower {
        programs.push(("adspower.program", adspower.program.as_path(), "AdsPower's own package"));
    }
    if config.host.isolation.filters() {
        programs.push((NFT_KEY, config.host.isolation.nft.as_path(), "nftables"));
    }
    programs
}

/// What SIGHUP works on: the same file, environment and credentials again.
fn reload_from(path: PathBuf, credentials_dir: Option<PathBuf>, level: LevelHandle) -> Reload {
    Reload {
        read: Box::new(move || {
            let config = load(Some(&path), std::env::vars_os(), credentials_dir.as_deref())
                .map_err(|mistakes| mistakes.to_string())?;
            // Before anything is in force: the filter's grammar is finer than the configuration's.
            telemetry::check_level(&config.log.level).map_err(|error| chain(&error))?;
            Ok(config)
        }),
        set_level: Box::new(move |text| level.set(text).map_err(|error| chain(&error))),
    }
}
