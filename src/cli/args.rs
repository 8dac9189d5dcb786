//! What the command line takes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::Exit;
use crate::auth::Role;
use crate::config::parse_duration;
use crate::ids::{SessionId, UserId};

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

const EXIT_CODES: &str = "Exit codes: 0 clean stop, 64 usage, 69 a needed program is missing, 75 already running, \
                          78 configuration, 1 anything else.";

/// The subcommands. `exec` and `keeper` are the daemon's own and never reach this parser.
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
    /// Show what runs, how it is, and who watches.
    Status(StatusArgs),
    /// Ask whether this machine can do it: each check with its remedy.
    Doctor(DoctorArgs),
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

/// Longest life of a token made here. A live connection ends with its token, and a token cannot be taken back.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    // Tokens count whole seconds.
    if (Duration::from_secs(1)..=MAX_TTL).contains(&ttl) {
        Ok(ttl)
    } else {
        Err("must be 1s to 24h".to_owned())
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
