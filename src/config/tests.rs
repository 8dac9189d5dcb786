//! Of the configuration as a whole: fixtures, the example, what is printed, what a reload changes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::auth::{KeyConfig, Role};
use crate::identity::Choice;
use crate::session::Network;
use crate::sys::Limits;
use crate::telemetry::Format;
use crate::vnc::{RfbAddress, RfbSource};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let dir = root().join("tests/fixtures/config").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    files.sort();
    files
}

/// Credentials and `/files/…` both come from the fixtures' own directory.
fn read(wanted: Wanted<'_>) -> Result<Vec<u8>, String> {
    let name = match wanted {
        Wanted::Secret(name) => Path::new(name).file_name(),
        Wanted::Public(path) => path.file_name(),
    };
    let path = root().join("tests/fixtures/config/files").join(name.unwrap());
    fs::read(path).map_err(|_| "cannot read the file".to_owned())
}

/// `#env NAME=value` lines of a fixture are its environment.
fn environment(text: &str) -> Vec<(OsString, OsString)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("#env "));
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

fn checked(text: &str) -> Result<Config, ConfigErrors> {
    check(text, environment(text).into_iter(), &read)
}

fn fixture(name: &str) -> Config {
    checked(&fs::read_to_string(root().join("tests/fixtures/config/valid").join(name)).unwrap()).unwrap()
}

const KEY: &str = "auth.keys = [{ algorithm = \"HS256\", secret = \"jwt_secret\" }]\n";

#[test]
fn every_valid_fixture_loads() {
    let files = fixtures("valid");
    assert!(files.len() >= 5, "{files:?}");
    for path in files {
        let outcome = checked(&fs::read_to_string(&path).unwrap());
        assert!(outcome.is_ok(), "{}: {}", path.display(), outcome.unwrap_err());
    }
}

#[test]
fn every_invalid_fixture_says_what_stands_beside_it_and_no_secret() {
    let files = fixtures("invalid");
    assert!(files.len() >= 12, "{files:?}");
    for path in files {
        let said = checked(&fs::read_to_string(&path).unwrap()).map(drop).unwrap_err().to_string();
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
        assert_eq!(said, expected.trim_end(), "{}", path.display());
        assert!(!said.contains("canary") && !said.contains("hunter2"), "{}: {said}", path.display());
    }
}

#[test]
fn the_environment_goes_over_the_file_and_is_toml_or_text() {
    let config = fixture("environment-alone.toml");
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:0");
    assert_eq!(config.gateway.public_url.as_deref(), Some("https://host-7.sandbox.example.org"));
    assert_eq!(config.gateway.limits.max_connections, 12);
    assert_eq!(config.gateway.allowed_origins, ["https://app.example.org"]);
    assert_eq!(config.session.id.as_str(), "2026");
    assert!(config.auth.single_use);
    let rfb = RfbSource::External(RfbAddress::Unix("/run/other/rfb.sock".into()));
    assert_eq!(config.session.rfb, rfb);
    let over = format!("#env VALETD_LOG__LEVEL=debug\n{KEY}log.level = \"warn\"\n");
    assert_eq!(checked(&over).unwrap().log.level, "debug");
}

#[test]
fn a_variable_cannot_bring_in_a_second_key() {
    let variables = vec![("VALETD_LOG__LEVEL".into(), "\"info\"\nvalue2 = 1".into())];
    let problem = check(KEY, variables.into_iter(), &read).map(drop).unwrap_err().to_string();
    assert!(problem.starts_with("log.level = ") && problem.contains("VALETD_LOG__LEVEL"), "{problem}");
}

#[test]
fn defaults_are_those_that_operators_are_told() {
    let config = checked(KEY).unwrap();
    assert_eq!(config.host.state_dir, Path::new("/var/lib/valetd"));
    assert_eq!(config.host.runtime_dir, Path::new("/run/valetd"));
    assert_eq!((config.host.first_uid, config.host.uid_count), (20_000, 10_000));
    let isolation = &config.host.isolation;
    assert_eq!((isolation.network, isolation.allow.len()), (Network::Auto, 0));
    assert_eq!((&isolation.devtools_ports, isolation.shm_bytes), (&(21_000..=21_999), 1 << 30));
    assert!(isolation.hide_processes);
    assert_eq!(config.identity.provider, Choice::Auto);
    assert_eq!(config.identity.ec2_endpoint, "http://169.254.169.254");
    assert!(!config.identity.drain_on_rebalance);
    assert_eq!(config.drain_budget, Duration::from_secs(25));
    assert_eq!((config.session.id.as_str(), &config.session.user), ("default", &None));
    assert_eq!((config.session.display.width, config.session.display.height), (1920, 1080));
    assert_eq!(config.session.display.depth, 24);
    assert_eq!(config.session.rfb, RfbSource::Native);
    assert_eq!(config.session.browser.map(|browser| browser.start_url).as_deref(), Some("about:blank"));
    assert_eq!(config.gateway.listen.to_string(), "0.0.0.0:6080");
    assert_eq!(config.gateway.tls, None);
    assert_eq!(config.gateway.limits.max_viewers_per_session, 20);
    assert_eq!(config.gateway.limits.idle_timeout, None);
    assert_eq!(config.gateway.limits.max_cdp_connections_per_session, 16);
    assert_eq!(config.gateway.trusted_proxies, []);
    assert_eq!(config.gateway.cdp, crate::cdp::Settings::default());
    assert_eq!(config.auth.leeway, Duration::from_secs(5));
    assert_eq!(config.auth.default_role, Role::Controller);
    assert!(!config.auth.single_use && !config.auth.allow_query_token);
    assert_eq!(config.api.listen.to_string(), "0.0.0.0:8089");
    assert_eq!(config.api.socket, Path::new("/run/valetd/control.sock"));
    assert_eq!(config.log, Log { level: "info".into(), format: Format::Auto });
}

#[test]
fn keys_keep_their_order_their_kid_and_their_algorithm() {
    let config = fixture("public-keys.toml");
    let [a, b, set] = &config.auth.keys[..] else { panic!("three keys") };
    assert!(
        matches!(a, KeyConfig::PublicKey { kid: Some(kid), pem, .. } if kid == "a" && pem.contains("PUBLIC KEY"))
    );
    assert!(matches!(b, KeyConfig::PublicKey { kid: Some(kid), .. } if kid == "b"));
    assert!(matches!(set, KeyConfig::JwkSet { json } if json.contains("ed-1")));
    assert_eq!(config.auth.jwks_url.unwrap().refresh, Duration::from_secs(3600));
    assert_eq!(config.signing_key.unwrap().bytes, 32);
}

#[test]
fn what_automations_may_not_do_can_be_replaced() {
    let config = fixture("cdp.toml");
    assert_eq!(config.gateway.cdp.deny, ["Browser.close", "Network.*"]);
    assert!(config.gateway.cdp.deny_url_schemes.is_empty());
    assert!(config.gateway.cdp.own_contexts_only);
    let proxies: Vec<String> = config.gateway.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "fd00::1/128"]);
    let text = resolved(&config);
    assert!(text.contains("deny = [\"Browser.close\", \"Network.*\"]\ndeny_url_schemes = []\n"), "{text}");
    let changes = differences(&checked(KEY).unwrap(), &config);
    let parts: Vec<_> = changes.iter().map(|change| (change.part, change.live)).collect();
    assert_eq!(parts, [("gateway.trusted_proxies", false), ("gateway.limits", false), ("cdp", false)]);
}

#[test]
fn the_pool_of_profiles_can_be_set_and_needs_a_restart() {
    let config = fixture("profiles.toml");
    let profiles = &config.profiles;
    assert_eq!((profiles.per_user, profiles.cooldown, profiles.quarantine_after), (3, Duration::ZERO, 2));
    assert_eq!((profiles.proxies.len(), profiles.rotation.as_str()), (2, "profile"));
    assert_eq!(profiles.quota, Some(2 << 30));
    let plain = checked(KEY).unwrap();
    assert_eq!((plain.profiles.per_user, plain.profiles.cooldown), (5, Duration::from_secs(1800)));
    let changes = differences(&plain, &config);
    assert_eq!(changes, [Change { part: "profiles", live: false }]);
}

/// The example with every setting that is off turned on.
fn whole_example() -> String {
    let text = fs::read_to_string(root().join("config/valetd.example.toml")).unwrap();
    let turned_on = |line: &str| {
        let setting = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
        setting.unwrap_or(line).to_owned()
    };
    text.lines().map(turned_on).collect::<Vec<_>>().join("\n")
}

fn keys_of(table: &toml::Table, prefix: &str, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        match value {
            toml::Value::Table(inner) => keys_of(inner, &format!("{path}."), keys),
            _ => drop(keys.insert(path)),
        }
    }
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let mut shown = BTreeSet::new();
    keys_of(&whole_example().parse().unwrap(), "", &mut shown);
    let known: BTreeSet<String> = known_keys().into_iter().filter(|key| !key.contains("[]")).collect();
    assert!(known.len() > 40, "{}", known.len());
    assert_eq!(shown, known);
    let text = whole_example();
    for key in known_keys().iter().filter_map(|key| key.strip_prefix("auth.keys[].")) {
        assert!(text.contains(&format!("{key} = \"")), "auth.keys[].{key}");
    }
}

#[test]
fn every_example_loads_and_shows_the_defaults() {
    let dir = root().join("config");
    let mut count = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        count += 1;
        let config = checked(&fs::read_to_string(&path).unwrap());
        assert!(config.is_ok(), "{}: {}", path.display(), config.unwrap_err());
        if path.ends_with("valetd.example.toml") {
            assert_eq!(resolved(&config.unwrap()), resolved(&checked(KEY).unwrap()));
        }
    }
    assert!(count > 0);
    // With the settings that are off turned on, the only mistakes are that a signing key has both a secret and a file, a
    // host more than one way to say who it is, and a screen of x11vnc a largest size.
    let mistakes = checked(&whole_example()).map(drop).unwrap_err().to_string();
    let lines: Vec<&str> = mistakes.lines().collect();
    let expected = ["auth.signing_key", "control_plane.", "display.max_size"];
    let expected = |line: &&str| expected.iter().any(|start| line.starts_with(start));
    assert!(lines.iter().all(expected), "{mistakes}");
}

#[test]
fn what_is_resolved_loads_again_names_every_key_and_shows_no_secret() {
    let config = fixture("minimal.toml");
    let text = resolved(&config);
    assert!(!text.contains("0123456789abcdef"), "{text}");
    assert!(text.contains("{ algorithm = \"HS256\", secret = \"<32 bytes>\" },"), "{text}");
    for key in known_keys()
        .iter()
        .filter(|key| !key.starts_with("auth.keys[]") && !key.starts_with("auth.signing_key"))
    {
        let name = key.rsplit('.').next().unwrap();
        let shown = text
            .lines()
            .any(|line| line.starts_with(&format!("{name} = ")) || line.starts_with(&format!("# {name}: ")));
        assert!(shown, "{key}\n{text}");
    }
    let again = text.replace("<32 bytes>", "jwt_secret");
    assert_eq!(resolved(&checked(&again).unwrap()), text);
    let external = resolved(&fixture("external-rfb.toml"));
    assert!(external.contains("rfb = { address = \"tcp:[::1]:5901\" }\n# x11vnc: not used\n"), "{external}");
    assert!(external.contains("idle_timeout = \"15m\"\n"), "{external}");
}

#[test]
fn a_reload_knows_what_changed_and_what_needs_a_restart() {
    let old = checked(KEY).unwrap();
    assert_eq!(differences(&old, &old.clone()), []);
    let new = format!(
        "{KEY}auth.leeway = \"1s\"\ngateway.limits.max_connections = 5\ngateway.listen = \"0.0.0.0:1\"\n\
         session.id = \"other\"\nlog.level = \"debug\"\nisolation.allow = [\"10.0.0.0/8\"]\n\
         identity.drain_on_rebalance = true\n"
    );
    let changes = differences(&old, &checked(&new).unwrap());
    let expected = [
        ("isolation", false),
        ("identity", false),
        ("session", false),
        ("gateway.listen", false),
        ("gateway.limits", false),
        ("auth", true),
        ("log.level", true),
    ];
    assert_eq!(changes.iter().map(|change| (change.part, change.live)).collect::<Vec<_>>(), expected);
}

#[test]
fn a_rotated_secret_of_the_same_name_is_a_change() {
    let other = |_: Wanted<'_>| Ok(b"fedcba9876543210fedcba9876543210".to_vec());
    let new = check(KEY, std::iter::empty(), &other).unwrap();
    assert_eq!(differences(&checked(KEY).unwrap(), &new), [Change { part: "auth", live: true }]);
}

#[test]
fn what_may_be_a_pasted_secret_is_not_shown() {
    for text in [
        "auth = \"canary\"",
        "auth.keys = [\"canary\"]",
        "auth.signing_key = \"canary\"",
        "auth.keys = [{ algorithm = \"HS256\", secret = 5, kid = \"canary\" }]\nauth.jwks_url = \"canary\"",
        "auth.keys = [{ algorithm = \"ES256\", public_key_file = \"-----BEGIN PRIVATE KEY-----canary\" }]",
        "#env VALETD_AUTH__KEYS=canary",
        "#env VALETD_AUTH__SIGNING_KEY__SECRET=canary",
    ] {
        let said = checked(text).map(drop).unwrap_err().to_string();
        assert!(said.contains("auth") && !said.contains("canary"), "{text}: {said}");
    }
}

#[test]
fn an_empty_list_of_keys_lets_nobody_in_and_is_refused() {
    let said = checked("auth.keys = []").map(drop).unwrap_err().to_string();
    assert!(said.starts_with("auth.keys = <redacted>: must have a key"), "{said}");
}

#[test]
fn the_line_to_the_control_plane_is_shown_without_its_credential_which_a_reload_renews() {
    let config = fixture("control-plane.toml");
    let text = resolved(&config);
    let shown =
        "[control_plane]\nurl = \"http://127.0.0.1:9090\"\nauth = \"bearer\"\ncredential = \"<26 bytes>\"\n";
    assert!(text.contains(shown) && !text.contains("hunter2"), "{text}");
    assert!(!format!("{config:?}").contains("hunter2"));
    let fly = fixture("control-plane-fly.toml");
    let text = resolved(&fly);
    let shown = "url = \"https://control.example.org/fleet\"\nauth = \"fly_oidc\"\n# credential: not used\n\
                 audience = \"https://control.example.org/fleet\"\nfly_socket = \"/.fly/api\"\n";
    assert!(text.contains(shown) && text.contains("heartbeat = \"30s\"\n"), "{text}");
    let part = |old: &Config, new: &Config| {
        differences(old, new).iter().map(|change| change.part).collect::<Vec<_>>()
    };
    assert_eq!(part(&config, &fly), ["control_plane"]);
    let mut renewed = config.clone();
    let other = crate::secret::Secret::new("another".to_owned());
    renewed.control_plane.as_mut().unwrap().auth = crate::control_plane::Auth::Bearer(other);
    assert_eq!(part(&config, &renewed), [""; 0]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = Path::new("/nonexistent/valetd.toml");
    let said = load(Some(missing), std::iter::empty(), None).map(drop).unwrap_err().to_string();
    assert!(said.starts_with("/nonexistent/valetd.toml: cannot read the file: "), "{said}");
}

#[test]
fn a_file_and_its_credential_are_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("valetd.toml"), KEY).unwrap();
    fs::write(dir.path().join("jwt_secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let config = load(Some(&dir.path().join("valetd.toml")), std::iter::empty(), Some(dir.path())).unwrap();
    let [KeyConfig::SharedSecret { secret, .. }] = &config.auth.keys[..] else { panic!("one secret") };
    assert_eq!(secret.expose(), b"0123456789abcdef0123456789abcdef");
}

#[test]
fn adspower_is_off_unless_it_is_wanted_and_its_key_is_shown_by_its_length() {
    assert_eq!(checked(KEY).unwrap().adspower, None);
    let config = fixture("adspower.toml");
    let text = resolved(&config);
    assert!(text.contains("api_key = \"<27 bytes>\"\nuid = 19000\npace = \"500ms\"\n"), "{text}");
    assert!(text.contains("\nminimum_version = \"7.12.29\"\nargs = [\"--lang=de\"]\n"), "{text}");
    assert!(text.contains("\nmemory_max = \"8GiB\"\npids_max = 10000\ncpu_weight = 200\n"), "{text}");
    assert!(!text.contains("adspower-key-for-tests"), "{text}");
    assert!(!format!("{config:?}").contains("adspower-key-for-tests"));
    let again = text.replace("<32 bytes>", "jwt_secret").replace("<27 bytes>", "adspower_api_key");
    assert_eq!(resolved(&checked(&again).unwrap()), text);
    let parts: Vec<_> =
        differences(&checked(KEY).unwrap(), &config).iter().map(|change| change.part).collect();
    assert_eq!(parts, ["adspower"]);
    let key = format!("{KEY}adspower = {{ enabled = true, api_key = \"adspower_api_key\" }}");
    let adspower = checked(&key).unwrap().adspower.unwrap();
    assert_eq!((adspower.uid, adspower.port, adspower.pace), (19_999, 50_325, None));
    let Limits { memory_bytes, pids, cpu_weight } = adspower.limits;
    assert_eq!((memory_bytes, pids, cpu_weight), (None, Some(32_768), Some(100)));
    let mistakes = checked(&format!("{KEY}adspower.enabled = true")).map(drop).unwrap_err().to_string();
    assert_eq!(mistakes, "adspower.api_key: must name the credential that holds AdsPower's API key");
}
