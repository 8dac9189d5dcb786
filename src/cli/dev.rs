//! `valetd dev`: the whole thing on this machine, with no setup and nothing left behind.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::output::{answer, complain};
use super::place::{Place, StandInPlace, write_file, write_secret};
use super::run::{exit_of, missing_program, runtime};
use super::{DevArgs, Exit, TokenArgs, token};
use crate::adspower::stand_in;
use crate::app::{Addresses, App, Listeners, Reload};
use crate::auth::Role;
use crate::config::{Config, load};
use crate::errors::chain;
use crate::ids::{BadUserId, SessionId, UserId};
use crate::session::{Session, SessionState, Sessions};
use crate::tasks::Scope;
use crate::telemetry;

/// The session's id and its user's.
const SESSION: &str = "dev";
const USER: &str = "developer";
/// The page of a sandbox that was not told what to show. Encoded, since a start URL has no spaces.
const WELCOME: &str = "data:text/html,<title>valetd</title><body%20style='font:28px/1.5%20system-ui;margin:15vh%20auto;\
    max-width:24em'><h1>This%20browser%20runs%20in%20a%20sandbox.</h1><p>Click%20below%20and%20type:</p>\
    <input%20autofocus%20size=30%20style='font:inherit'>";
/// The stand-in for AdsPower has these profiles from the start: two can take turns.
const STAND_IN_PROFILES: [&str; 2] = ["demo", "demo-2"];
/// Tokens outlive a working day.
const TOKEN_TTL: Duration = Duration::from_secs(12 * 60 * 60);

/// Runs a daemon of its own directory, keys and session until Ctrl-C.
pub fn run(args: &DevArgs, credentials_dir: Option<&Path>, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let place = match Place::make() {
        Ok(place) => place,
        Err(error) => {
            return complain(err, &format!("valetd: cannot make a directory in /tmp: {error}"), Exit::Failed);
        }
    };
    let stand_in = match StandInPlace::take() {
        Ok(stand_in) => stand_in,
        Err(error) => {
            return complain(err, &format!("valetd: no port for a control plane: {error}"), Exit::Failed);
        }
    };
    let config = match configure(args, &place, &stand_in, credentials_dir) {
        Ok(config) => config,
        Err(mistakes) => return complain(err, &mistakes, Exit::Configuration),
    };
    if let Some(missing) = missing_program(&config) {
        return complain(err, &missing, Exit::ProgramMissing);
    }
    let format = match config.log.format {
        // The log belongs to the terminal that this runs in, not to the host's journal.
        telemetry::Format::Auto if args.json => telemetry::Format::Json,
        telemetry::Format::Auto => telemetry::Format::Text,
        chosen => chosen,
    };
    if let Err(error) = telemetry::init(&config.log.level, format) {
        return complain(err, &chain(&error), Exit::Failed);
    }
    let served = runtime().map(|runtime| runtime.block_on(serve(args, config, (&place, stand_in), out)));
    match served {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => complain(err, &format!("valetd: {}", chain(&error)), exit_of(&error)),
        Err(error) => complain(err, &format!("valetd: no runtime: {error}"), Exit::Failed),
    }
}

async fn serve(
    args: &DevArgs,
    config: Config,
    (place, stand_in): (&Place, StandInPlace),
    out: &mut dyn Write,
) -> Result<Exit, crate::app::Error> {
    // Until after the daemon's end, which it hears of.
    let mut beside = Scope::new();
    let control_plane = config.control_plane.as_ref().map(|line| line.url.clone());
    if control_plane.as_deref() == Some(&*stand_in.url) {
        stand_in.serve(&mut beside);
    }
    let app = App::build(config.clone(), Listeners::default()).await?;
    app.system().remove_on_death(&place.dir).await;
    let (addresses, sessions) = (app.addresses(), app.sessions());
    let announce = async {
        let session = ready_session(sessions, &config.session.id).await;
        let text = match links(&config, addresses, &session, place) {
            Ok(links) if args.json => format!("{}\n", links.json(control_plane.as_deref())),
            Ok(links) => links.text(control_plane.as_deref()),
            Err(error) => {
                tracing::error!(error = %chain(&error), "no link to print");
                return Exit::Failed;
            }
        };
        let exit = answer(out, &text);
        if exit != Exit::Clean {
            return exit;
        }
        std::future::pending().await
    };
    let reload = Reload {
        read: Box::new(|| Err("valetd dev has no configuration to read again".to_owned())),
        set_level: Box::new(|_level| Ok(())),
    };
    tokio::select! {
        ended = app.run(reload) => ended.map(|()| Exit::Clean),
        exit = announce => Ok(exit),
    }
}

/// Waits until the session answers end to end.
async fn ready_session(sessions: Sessions, id: &SessionId) -> Session {
    let session = sessions.wait_for(id).await;
    let mut status = session.watch();
    // Closed only when the session ends, and then this is dropped with everything else.
    if status.wait_for(|status| status.state == SessionState::Ready).await.is_err() {
        std::future::pending::<()>().await;
    }
    session
}

fn configure(
    args: &DevArgs,
    place: &Place,
    stand_in: &StandInPlace,
    credentials_dir: Option<&Path>,
) -> Result<Config, String> {
    write_secret(&place.secret()).map_err(|error| format!("cannot write the signing secret: {error}"))?;
    write_file(&place.credential(), &stand_in.credential)
        .map_err(|error| format!("cannot write the control plane's credential: {error}"))?;
    let mut table = settings(args, place, &stand_in.url);
    if let Some(path) = &args.config {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let further: toml::Table = text.parse().map_err(|error| failed(&error))?;
        merge(&mut table, further);
    }
    if args.adspower {
        let adspower = adspower_stand_in(place, &table)
            .map_err(|error| format!("cannot set up the stand-in for AdsPower: {error}"))?;
        merge(&mut table, adspower);
    }
    let path = place.dir.join("valetd.toml");
    let text = toml::to_string(&table).map_err(|error| error.to_string())?;
    std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    load(Some(&path), std::env::vars_os(), credentials_dir).map_err(|mistakes| mistakes.to_string())
}

fn settings(args: &DevArgs, place: &Place, control_plane: &str) -> toml::Table {
    let path = |name: &str| place.dir.join(name).to_string_lossy().into_owned();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)).to_string();
    let value = json!({
        "host": { "state_dir": path("state"), "runtime_dir": path("run"), "drain_budget": "15s" },
        // Pages under development are served from loopback.
        "isolation": { "network": "open" },
        // Nobody's cloud has a say in what a developer tries out.
        "identity": { "provider": "local" },
        "session": { "id": SESSION },
        "display": { "size": args.display_size.as_deref().unwrap_or("1280x800") },
        "browser": {
            "enabled": !args.no_browser,
            "start_url": args.url.as_deref().unwrap_or(WELCOME),
        },
        "gateway": { "listen": listen },
        "auth": { "keys": [{ "algorithm": "HS256", "secret": path("jwt_secret") }] },
        "api": { "listen": "127.0.0.1:0", "socket": path("control.sock") },
        "control_plane": { "url": control_plane, "credential": path("control_plane_token") },
        "log": { "level": if args.json { "info" } else { "warn" } },
    });
    let mut table = toml::Table::try_from(value).unwrap_or_default();
    if let (Some(certificate), Some(key)) = (&args.tls_certificate, &args.tls_private_key) {
        let absolute = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            toml::Value::String(path.to_string_lossy().into_owned())
        };
        if let Some(gateway) = table.get_mut("gateway").and_then(toml::Value::as_table_mut) {
            gateway.insert("tls_certificate".to_owned(), absolute(certificate));
            gateway.insert("tls_private_key".to_owned(), absolute(key));
        }
    }
    table
}

/// The section of AdsPower with what stands in for it: a copy of this program that AdsPower's uid can get at.
fn adspower_stand_in(place: &Place, settings: &toml::Table) -> std::io::Result<toml::Table> {
    let dir = place.dir.join("stand-in");
    std::fs::DirBuilder::new().mode(0o711).create(&dir)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711))?;
    let program = dir.join(stand_in::WORD);
    std::fs::copy("/proc/self/exe", &program)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let key = place.dir.join("adspower_api_key");
    write_secret(&key)?;
    let chromium = settings.get("browser").and_then(|browser| browser.get("program"));
    let mut args = STAND_IN_PROFILES.map(|profile| format!("--profile={profile}")).to_vec();
    args.extend(chromium.and_then(toml::Value::as_str).map(|program| format!("--chromium={program}")));
    let value = json!({ "adspower": { "enabled": true, "program": program, "api_key": key, "args": args } });
    toml::Table::try_from(value).map_err(std::io::Error::other)
}

/// `from` over `into`, table by table.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Everything that somebody needs to use the running session.
struct Links {
    gateway: String,
    api: String,
    websocket: String,
    session: SessionId,
    tokens: [(Role, String); 4],
    cdp: Option<String>,
    devtools: Option<String>,
    display: Option<String>,
    authority: Option<PathBuf>,
    secret_file: PathBuf,
    /// Where the settings are, if a stand-in for AdsPower runs.
    stand_in: Option<PathBuf>,
}

/// Why there are no links to show.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the developer's name is no user id")]
    User(#[from] BadUserId),
    #[error("cannot make a token")]
    Token(#[from] token::TokenError),
}

fn links(
    config: &Config,
    addresses: Addresses,
    session: &Session,
    place: &Place,
) -> Result<Links, LinkError> {
    let user: UserId = USER.parse()?;
    let mut gateway = addresses.gateway;
    if gateway.ip().is_unspecified() {
        gateway.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let secure = if config.gateway.tls.is_some() { "s" } else { "" };
    let mint = |role| {
        let args = TokenArgs {
            session: session.id().clone(),
            user: user.clone(),
            role: Some(role),
            ttl: TOKEN_TTL,
            config: PathBuf::new(),
        };
        token::mint(config, &args, SystemTime::now()).map(|token| (role, token))
    };
    let facts = session.facts();
    let display = facts.display.as_ref().and_then(|display| display.address().ok());
    Ok(Links {
        gateway: format!("http{secure}://{gateway}"),
        api: format!("http://{}", addresses.api),
        websocket: format!("ws{secure}://{gateway}"),
        session: session.id().clone(),
        tokens: [
            mint(Role::Controller)?,
            mint(Role::Spectator)?,
            mint(Role::Automation)?,
            mint(Role::Operator)?,
        ],
        cdp: session.has_browser().then(|| format!("http{secure}://{gateway}/sessions/{}/cdp", session.id())),
        devtools: session.devtools().map(|endpoint| format!("http://{}", endpoint.address())),
        display: display.map(|address| format!(":{}", address.number)),
        authority: facts.display.as_ref().map(|display| display.authority.to_path_buf()),
        secret_file: place.secret(),
        stand_in: config.adspower.is_some().then(|| place.dir.join("valetd.toml")),
    })
}

impl Links {
    fn viewer_url(&self, token: &str) -> String {
        format!("{}/#session={}&token={token}", self.gateway, self.session)
    }

    /// The line that programs read.
    fn json(&self, control_plane: Option<&str>) -> serde_json::Value {
        let [(_, controller), (_, spectator), (_, automation), (_, operator)] = &self.tokens;
        json!({
            "ready": true,
            "gateway_url": self.gateway,
            "api_url": self.api,
            "control_plane_url": control_plane,
            "session_id": self.session,
            "viewer_url": self.viewer_url(controller),
            "vnc_url": format!("{}/sessions/{}/vnc", self.websocket, self.session),
            "cdp_url": self.cdp,
            "devtools_url": self.devtools,
            "token": controller,
            "spectator_token": spectator,
            "automation_token": automation,
            "operator_token": operator,
            "display": self.display,
            "xauthority": self.authority,
            "secret_file": self.secret_file,
            "adspower_stand_in": self.stand_in.is_some(),
            "pid": std::process::id(),
        })
    }

    /// The lines that people read.
    fn text(&self, control_plane: Option<&str>) -> String {
        let [(_, controller), (_, spectator), ..] = &self.tokens;
        let shared_uid = if nix::unistd::geteuid().is_root() {
            ""
        } else {
            "\nNot root: the browser runs as your own user, without a uid of its own.\n"
        };
        let stand_in = self.stand_in.as_ref().map_or_else(String::new, |settings| format!(
            "\nA stand-in for AdsPower runs. It is not AdsPower, and opens plain Chromium:\n\n  valetd session create --config {} --user {USER} --kind adspower --profile {}\n",
            settings.display(),
            STAND_IN_PROFILES[0],
        ));
        format!(
            "\nThe sandbox is up.\n\n  look and act   {}\n  look only      {}\n  health         {}/health\n  reports        {}/\n{shared_uid}{stand_in}\nCtrl-C ends it and leaves nothing behind.\n",
            self.viewer_url(controller),
            self.viewer_url(spectator),
            self.api,
            control_plane.unwrap_or_default(),
        )
    }
}
