//! From a file and an environment to a [`Config`], or to every mistake in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Table;

use super::document::Document;
use super::mistake::{ConfigErrors, Mistake};
use super::secrets::{Files, Wanted};
use super::settings::Config;
use super::{
    adspower, auth, browser, cdp, control_plane, gateway, host, identity, isolation, profiles, sessions,
};

/// Variables that begin so are ours: `VALETD_GATEWAY__LISTEN` sets `gateway.listen`.
pub const ENVIRONMENT_PREFIX: &str = "VALETD_";
/// Variables with our prefix that set no key: `VALETD_RUN` marks the processes of one run of the daemon.
const NOT_SETTINGS: [&str; 1] = ["VALETD_RUN"];
/// Largest configuration file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads a file (`None`: defaults and environment alone) and what it names. Blocks on the disk.
///
/// # Errors
/// Every mistake at once; where the file cannot be read or is not TOML, that alone.
pub fn load(
    path: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    credentials_dir: Option<&Path>,
) -> Result<Config, ConfigErrors> {
    let text = match path {
        Some(path) => read(path)?,
        None => String::new(),
    };
    let files = Files { credentials_dir: credentials_dir.map(Path::to_owned) };
    check(&text, environment, &|wanted| files.read(wanted))
}

/// The same without a disk: `read` answers for the files that the settings name.
///
/// # Errors
/// As [`load`].
pub fn check(
    text: &str,
    environment: impl Iterator<Item = (OsString, OsString)>,
    read: &dyn Fn(Wanted<'_>) -> Result<Vec<u8>, String>,
) -> Result<Config, ConfigErrors> {
    let (config, mistakes, _) = check_all(text, environment, read)?;
    if mistakes.is_empty() { Ok(config) } else { Err(ConfigErrors { mistakes }) }
}

/// What is in force where nothing is set, for looking at a machine that has no configuration yet. It has no keys, so that
/// nobody could get in.
///
/// # Errors
/// Never in practice: an empty document is read.
pub fn defaults() -> Result<Config, ConfigErrors> {
    check_all("", std::iter::empty(), &|_| Err(String::new())).map(|(config, _mistakes, _known)| config)
}

/// Where the daemon with this configuration has its control socket. Reads no secrets: whoever asks a running daemon may not
/// be allowed to.
///
/// # Errors
/// When the file cannot be read, or the socket's own setting is wrong.
pub fn control_socket(
    path: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<PathBuf, ConfigErrors> {
    let text = match path {
        Some(path) => read(path)?,
        None => String::new(),
    };
    let (config, mistakes, _known) = check_all(&text, environment, &|_| Err(String::new()))?;
    match mistakes.into_iter().find(|mistake| mistake.key == "api.socket") {
        Some(mistake) => Err(mistake.into()),
        None => Ok(config.api.socket),
    }
}

/// Every key there is, in the form `gateway.limits.max_connections` and `auth.keys[].kid`.
pub fn known_keys() -> BTreeSet<String> {
    // One entry of the list, so that its keys are asked for too.
    let one_key = "auth.keys = [{}]";
    match check_all(one_key, std::iter::empty(), &|_| Err(String::new())) {
        Ok((_, _, known)) => known,
        Err(_) => BTreeSet::new(),
    }
}

fn check_all(
    text: &str,
    environment: impl Iterator<Item = (OsString, OsString)>,
    read: &dyn Fn(Wanted<'_>) -> Result<Vec<u8>, String>,
) -> Result<(Config, Vec<Mistake>, BTreeSet<String>), ConfigErrors> {
    let table = parse(text)?;
    let (variables, mistakes) = ours(environment);
    let mut document = Document::new(table, variables, mistakes);
    let isolation = isolation::isolation(&mut document);
    let (host, drain_budget) = host::host(&mut document, isolation);
    let identity = identity::identity(&mut document);
    let session = host::session(&mut document)?;
    let rules = sessions::sessions(&mut document, host.uid_count, session.exit_when_ended);
    let profiles = profiles::profiles(&mut document);
    let display = host::display(&mut document);
    let browser = browser::browser(&mut document);
    let adspower = adspower::adspower(&mut document, &host, read);
    let cdp = cdp::cdp(&mut document);
    let gateway = gateway::gateway(&mut document, cdp);
    let (auth, signing_key) = auth::auth(&mut document, read);
    let api = host::api(&mut document, gateway.listen);
    let control_plane = control_plane::control_plane(&mut document, read);
    let log = host::log(&mut document);
    let (mistakes, known) = document.finish();
    let session = crate::session::Config {
        autostart: session.autostart,
        exit_when_ended: session.exit_when_ended,
        id: session.id,
        user: session.user,
        display: display.screen,
        rfb: display.rfb,
        browser,
    };
    let config = Config {
        host,
        drain_budget,
        identity,
        session,
        rules,
        adspower,
        profiles,
        gateway,
        auth,
        signing_key,
        api,
        control_plane,
        log,
    };
    Ok((config, mistakes, known))
}

fn read(path: &Path) -> Result<String, Mistake> {
    let failed = |what: String| Mistake::new(path.display().to_string(), what);
    let file = std::fs::File::open(path).map_err(|error| failed(format!("cannot read the file: {error}")))?;
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| failed(format!("cannot read the file: {error}")))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(failed(format!("the file has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// Shows where the syntax is wrong, never the text itself: it may be a secret.
fn parse(text: &str) -> Result<Table, Mistake> {
    text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        Mistake::new(format!("line {line}, column {column}"), format!("not TOML: {message}"))
    })
}

/// The variables with our prefix, and a mistake for each that is not text.
fn ours(environment: impl Iterator<Item = (OsString, OsString)>) -> (BTreeMap<String, String>, Vec<Mistake>) {
    let mut variables = BTreeMap::new();
    let mut mistakes = Vec::new();
    for (name, value) in environment {
        let shown = name.to_string_lossy().into_owned();
        if !shown.starts_with(ENVIRONMENT_PREFIX) || NOT_SETTINGS.contains(&shown.as_str()) {
            continue;
        }
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => drop(variables.insert(name, value)),
            _ => mistakes.push(Mistake::new(shown, "must be UTF-8")),
        }
    }
    (variables, mistakes)
}
