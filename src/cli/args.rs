//! What the command line takes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::Exit;
use super::profile_args::ProfileArgs;
use crate::adspower::stand_in::Behaviour;
use crate::auth::{MAX_TTL, Role};
use crate::durations;
use crate::ids::{ProfileName, SessionId, UserId};
use crate::secret::Secret;
use crate::session::Kind;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/valetd/valetd.toml";

/// A browser on a virtual display, shown to the right person.
///
/// valetd supervises Xvfb, an RFB server and Chromium on this host, and serves the screen over WebSocket to viewers whose
/// token allows it. To see it at once, without any setup: valetd dev
#[derive(Debug, Parser)]
#[command(name = "valetd", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 clean stop, 64 usage, 69 a needed program is missing, 70 its session failed, \
                          75 already running, 78 configuration, 1 anything else.";

/// The subcommands. `exec` and its like are the daemon's own and never reach this parser.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon.
    ///
    /// SIGTERM and SIGINT drain and stop it, SIGHUP reads the configuration again.
    Run(RunArgs),
    /// Run the whole thing on this machine with no setup, and print a link to look at.
    ///
    /// Makes its own keys and starts one session. Works as root, and as an ordinary user with less isolation. Ctrl-C leaves
    /// nothing behind.
    Dev(DevArgs),
    /// Check a configuration and print what is in force.
    ///
    /// Secrets are shown by their length only. Every mistake is listed, one to a line, and the exit code is 78.
    Check(CheckArgs),
    /// Make a token for a viewer and print it.
    ///
    /// Signs with auth.signing_key, or else with the first shared secret of auth.keys.
    Token(TokenArgs),
    /// Create, list, show, stop or open sessions of the daemon on this host.
    Session(SessionArgs),
    /// List, show, add, release, quarantine or remove profiles of the pool.
    Profile(ProfileArgs),
    /// Show what runs, how it is, and who watches.
    Status(StatusArgs),
    /// Ask whether this machine can do it: each check with its remedy.
    Doctor(DoctorArgs),
    /// Behave like AdsPower, for tests and for `valetd dev --adspower`.
    #[command(hide = true, name = "adspower-stand-in")]
    AdspowerStandIn(StandInArgs),
    /// Write the manual pages and the shells' completions, for a package.
    #[command(hide = true)]
    Manual(ManualArgs),
}

/// Arguments of `valetd run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Arguments of `valetd dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Port of the gateway on loopback; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 6080)]
    pub port: u16,
    /// Print one line of JSON on standard output once ready, and nothing else there.
    #[arg(long)]
    pub json: bool,
    /// Start the display alone, without Chromium.
    #[arg(long)]
    pub no_browser: bool,
    /// The page to open.
    #[arg(long, value_name = "URL", conflicts_with = "no_browser")]
    pub url: Option<String>,
    /// Run a stand-in for AdsPower as well, for sessions of kind adspower. It is not AdsPower, and opens plain Chromium.
    #[arg(long)]
    pub adspower: bool,
    /// Further settings, over those of dev.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Certificate chain in PEM, to serve over wss.
    #[arg(long, value_name = "FILE", requires = "tls_private_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_private_key: Option<PathBuf>,
    /// Size of the display.
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    pub display_size: Option<String>,
}

/// Arguments of `valetd check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Arguments of `valetd token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The session it is for.
    #[arg(long, value_name = "ID")]
    pub session: SessionId,
    /// The user it is for.
    #[arg(long, value_name = "USER")]
    pub user: UserId,
    /// What it allows: spectator, controller, automation or operator. Without one, the gateway takes auth.default_role.
    #[arg(long, value_name = "ROLE")]
    pub role: Option<Role>,
    /// How long it is good for: "250ms", "5s", "2m", "1h".
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = ttl)]
    pub ttl: Duration,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Arguments of `valetd session`.
#[derive(Debug, Args)]
pub struct SessionArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: SessionAction,
}

/// What can be done to sessions.
#[derive(Debug, Subcommand)]
pub enum SessionAction {
    /// Create a session, and wait until it is ready.
    Create(CreateSession),
    /// List the sessions that are there.
    List(ListSessions),
    /// Show one session.
    Show(ShowSession),
    /// End a session, and wait until nothing of it is left.
    Stop(EndSession),
    /// Print a link to look at a session with, with a fresh token in it.
    Open(OpenSession),
}

impl SessionAction {
    /// The configuration file, for the path of the daemon's socket.
    pub fn config(&self) -> Option<&Path> {
        let config = match self {
            Self::Create(args) => &args.config,
            Self::List(args) => &args.config,
            Self::Show(args) => &args.config,
            Self::Stop(args) => &args.config,
            Self::Open(args) => &args.config,
        };
        config.as_deref()
    }
}

/// Arguments of `valetd session create`. What is not given is as the daemon's configuration has it.
#[derive(Debug, Args)]
pub struct CreateSession {
    /// Whose it is.
    #[arg(long, value_name = "USER")]
    pub user: UserId,
    /// Its id; without one, the daemon makes it up.
    #[arg(long, value_name = "ID")]
    pub id: Option<SessionId>,
    /// What browser: chromium or adspower.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub kind: Option<Kind>,
    /// A profile that outlives the session; with the kind adspower, the id of one of AdsPower's.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<ProfileName>,
    /// One of the user's profiles in the pool: the one that was used longest ago.
    #[arg(long, conflicts_with = "profile")]
    pub pool: bool,
    /// The page to open.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Size of the display.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    pub size: Option<(u16, u16)>,
    /// What pages are fetched through: scheme://host:port.
    #[arg(long, value_name = "SERVER")]
    pub proxy: Option<String>,
    /// A variable for the browser; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// A word of yours, kept with the session; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// Ends it when nobody has used it for so long.
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    pub idle_timeout: Option<Duration>,
    /// Ends it so long after its creation.
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    pub max_duration: Option<Duration>,
    /// Wait until it is ready; this is what happens anyway.
    #[arg(long, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Answer as soon as it is starting.
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait, 120s at most.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = wait)]
    pub timeout: Duration,
    /// JSON for programs.
    #[arg(long)]
    pub json: bool,
    /// The configuration file, for the path of the daemon's socket.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `valetd session list`.
#[derive(Debug, Args)]
pub struct ListSessions {
    /// Those that have ended lately as well.
    #[arg(long)]
    pub all: bool,
    /// JSON for programs, in place of a table.
    #[arg(long)]
    pub json: bool,
    /// The configuration file, for the path of the daemon's socket.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `valetd session show`.
#[derive(Debug, Args)]
pub struct ShowSession {
    /// The session.
    pub id: SessionId,
    /// JSON for programs.
    #[arg(long)]
    pub json: bool,
    /// The configuration file, for the path of the daemon's socket.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `valetd session stop`.
#[derive(Debug, Args)]
pub struct EndSession {
    /// The session.
    pub id: SessionId,
    /// Why, for the log and for those who listen to events.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Answer as soon as it is ending.
    #[arg(long)]
    pub no_wait: bool,
    /// JSON for programs.
    #[arg(long)]
    pub json: bool,
    /// The configuration file, for the path of the daemon's socket.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `valetd session open`.
#[derive(Debug, Args)]
pub struct OpenSession {
    /// The session.
    pub id: SessionId,
    /// What the link allows: controller, spectator, or automation (then the CDP address and a token).
    #[arg(long, value_name = "ROLE", default_value = "controller", value_parser = session_role)]
    pub role: Role,
    /// How long it is good for.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = ttl)]
    pub ttl: Duration,
    /// JSON for programs: every link, and the token.
    #[arg(long)]
    pub json: bool,
    /// The configuration file, for the path of the daemon's socket.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `valetd status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show it again whenever it changes, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// JSON for programs, in place of a table.
    #[arg(long)]
    pub json: bool,
    /// The configuration file, for the path of the daemon's socket.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `valetd doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration file; without one, the defaults are checked.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// JSON for programs, in place of a table.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of the stand-in for AdsPower: those that AdsPower takes, and its own.
#[derive(Debug, Args)]
pub struct StandInArgs {
    /// AdsPower's; whether its window is hidden. This one has none.
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true)]
    pub headless: bool,
    /// What every call must show.
    #[arg(long, value_name = "KEY", value_parser = secret)]
    pub api_key: Secret<String>,
    /// Where to listen, if that is free.
    #[arg(long, value_name = "PORT")]
    pub api_port: u16,
    /// The browser that profiles are opened in.
    #[arg(long, value_name = "PROGRAM", default_value = "/usr/bin/chromium")]
    pub chromium: PathBuf,
    /// A further argument of every browser; may be given several times.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub chromium_arg: Vec<String>,
    /// A profile that is to be there; may be given several times.
    #[arg(long, value_name = "ID")]
    pub profile: Vec<String>,
    /// What it does badly.
    #[arg(long, value_name = "HOW", default_value = "well", value_parser = behaviour)]
    pub behave: Behaviour,
}

fn secret(text: &str) -> Result<Secret<String>, String> {
    Ok(Secret::new(text.to_owned()))
}

fn behaviour(text: &str) -> Result<Behaviour, String> {
    Behaviour::parse(text).ok_or_else(|| "no such behaviour".to_owned())
}

/// Arguments of `valetd manual`.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// Where to; it must be there.
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = durations::parse(text)?;
    // Tokens count whole seconds.
    if (Duration::from_secs(1)..=MAX_TTL).contains(&ttl) {
        Ok(ttl)
    } else {
        Err("must be 1s to 24h".to_owned())
    }
}

/// How long the daemon waits at most for a session to be ready.
const MAX_WAIT: Duration = Duration::from_secs(120);

fn wait(text: &str) -> Result<Duration, String> {
    durations::parse_within(text, &(Duration::from_secs(1)..=MAX_WAIT))
}

fn kind(text: &str) -> Result<Kind, String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| format!("must be {}", Kind::ALL.map(Kind::as_str).join(" or ")))
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let sides =
        text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides.ok_or_else(|| "must be WIDTHxHEIGHT in pixels: 1280x720".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "must be NAME=VALUE".to_owned())
}

fn session_role(text: &str) -> Result<Role, String> {
    match text.parse() {
        Ok(Role::Operator) | Err(_) => Err("must be controller, spectator or automation".to_owned()),
        Ok(role) => Ok(role),
    }
}

/// Parses a command line, program name first. On `--help` and `--version` the answer has been printed, and on a mistake
/// what is wrong; the program then ends with the code given back.
///
/// # Errors
/// When there is nothing to run.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(line).map_err(|error| {
        let exit = if error.use_stderr() { Exit::Usage } else { Exit::Clean };
        match error.print() {
            Err(failure) if failure.kind() != std::io::ErrorKind::BrokenPipe => Exit::Failed,
            _ => exit,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(line: &str) -> Result<Cli, Exit> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_end_with_64_and_help_with_0() {
        for line in [
            "valetd",
            "valetd fly",
            "valetd run --conf",
            "valetd dev --port 65536",
            "valetd dev --tls-certificate /c.pem",
            "valetd token --session a",
            "valetd token --session ../a --user u",
            "valetd token --session a --user u --role admin",
            "valetd token --session a --user u --ttl 0s",
            "valetd token --session a --user u --ttl 25h",
            "valetd session",
            "valetd session create",
            "valetd session create --user u --size 5",
            "valetd session create --user u --kind opera",
            "valetd session create --user u --label x",
            "valetd session create --user u --wait --no-wait",
            "valetd session create --user u --timeout 121s",
            "valetd session open s --role operator",
            "valetd session show ../s",
            "valetd session create --user u --pool --profile p",
            "valetd profile",
            "valetd profile add",
            "valetd profile add --user u --kind firefox",
            "valetd profile quarantine p",
            "valetd profile remove ../p",
        ] {
            assert_eq!(parsed(line).map(drop).unwrap_err(), Exit::Usage, "{line}");
        }
        for line in ["valetd --help", "valetd --version", "valetd token --help"] {
            assert_eq!(parsed(line).map(drop).unwrap_err(), Exit::Clean, "{line}");
        }
    }

    #[test]
    fn defaults_are_those_that_the_manual_states() {
        let Command::Run(run) = parsed("valetd run").unwrap().command else { panic!("run") };
        assert_eq!(run.config.to_str(), Some("/etc/valetd/valetd.toml"));
        let Command::Dev(dev) = parsed("valetd dev --port 0 --json").unwrap().command else { panic!("dev") };
        assert_eq!((dev.port, dev.json, dev.no_browser), (0, true, false));
        let line = "valetd token --session s --user u";
        let Command::Token(token) = parsed(line).unwrap().command else { panic!("token") };
        assert_eq!((token.ttl, token.role), (Duration::from_secs(900), None));
    }
}
