//! The package's parts against each other, against the configuration and against the programs that read them: a short look
//! that needs no build of a package. `make image-test` boots the whole.

#![expect(clippy::unwrap_used, reason = "a test outside a test function")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// `systemd-analyze security`, times ten, as systemd 252 reckons. What is left has its reason in the unit.
const MAX_EXPOSURE: &str = "39";
/// What a stop needs beyond the drain: for the kill, for the last tasks, for what survives SIGKILL.
const BEYOND_DRAIN: Duration = Duration::from_secs(15);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test asks other programs")]
fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).env("SYSTEMD_COLORS", "0").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The values of a key in a unit, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let start = format!("{key}=");
    unit.lines().filter_map(|line| Some(line.strip_prefix(&start)?.trim().to_owned())).collect()
}

fn example() -> valetd::config::Config {
    let secret = |_: valetd::config::Wanted<'_>| Ok(b"0123456789abcdef0123456789abcdef".to_vec());
    valetd::config::check(&text("config/valetd.example.toml"), std::iter::empty(), &secret).unwrap()
}

/// The units, with programs that are there in place of those that the package brings.
fn units() -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for entry in fs::read_dir(root().join("systemd")).unwrap() {
        let from = entry.unwrap().path();
        if from.extension().is_some_and(|end| end == "service" || end == "socket") {
            let unit = fs::read_to_string(&from).unwrap();
            let unit = unit
                .replace("/usr/bin/valetd", "/bin/true")
                .replace("/usr/lib/valetd/make-secret", "/bin/true");
            let to = dir.path().join(from.file_name().unwrap());
            fs::write(&to, unit).unwrap();
            paths.push(to.to_str().unwrap().to_owned());
        }
    }
    assert_eq!(paths.len(), 5, "{paths:?}");
    (dir, paths)
}

#[test]
fn systemd_takes_the_units_without_a_complaint() {
    let (dir, paths) = units();
    let verify = |path: &str| run("systemd-analyze", &["verify", "--man=no", "--recursive-errors=no", path]);
    for path in &paths {
        let output = verify(path);
        assert!(output.status.success() && said(&output).is_empty(), "{path}: {}", said(&output));
    }
    let broken = dir.path().join("broken.service");
    let daemon = fs::read_to_string(dir.path().join("valetd.service")).unwrap();
    fs::write(&broken, daemon.replace("Type=", "Tpye=")).unwrap();
    assert!(said(&verify(broken.to_str().unwrap())).contains("Tpye"), "a mistake goes unnoticed");
}

#[test]
fn socket_units_listen_where_the_configuration_says_and_start_only_where_they_are_wanted() {
    let config = example();
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let started = deb["systemd-units"].to_string();
    assert!(started.contains("valetd-firewall"), "{started}");
    for (name, listen) in [("gateway", config.gateway.listen), ("api", config.api.listen)] {
        let unit = text(&format!("systemd/valetd-{name}.socket"));
        assert_eq!(values(&unit, "ListenStream"), [listen.to_string()]);
        assert_eq!(values(&unit, "FileDescriptorName"), [name]);
        assert_eq!(values(&unit, "Service"), ["valetd.service"]);
        let path: toml::Value = format!("systemd/valetd-{name}.socket").into();
        assert!(deb["assets"].as_array().unwrap().iter().any(|asset| asset[0] == path), "{path}");
        assert!(!started.contains(&format!("valetd-{name}")), "{started}");
    }
}

#[test]
fn the_daemon_is_exposed_no_more_than_its_work_asks_for() {
    let unit = root().join("systemd/valetd.service");
    let threshold = format!("--threshold={MAX_EXPOSURE}");
    let output = run("systemd-analyze", &["security", "--offline=true", &threshold, unit.to_str().unwrap()]);
    let last = said(&output).lines().last().unwrap_or_default().to_owned();
    assert!(output.status.success(), "{last}");
    assert!(last.contains("exposure level for valetd.service: "), "{last}");
    println!("{last}");
}

#[test]
fn each_protection_that_stays_off_has_its_reason_in_the_unit() {
    let unit = text("systemd/valetd.service");
    let off = unit.split("# What stays off:").nth(1).unwrap();
    for directive in [
        "User=",
        "PrivateUsers=",
        "PrivateNetwork=",
        "IPAddressDeny=",
        "ProtectControlGroups=",
        "MemoryDenyWriteExecute=",
        "ProcSubset=",
        "RootDirectory=",
        "DynamicUser=",
    ] {
        assert!(off.contains(directive), "{directive} has no reason");
        assert!(!unit.lines().any(|line| line.starts_with(directive)), "{directive} is on");
    }
}

#[test]
fn a_stop_is_given_the_time_that_a_drain_takes() {
    let unit = text("systemd/valetd.service");
    let stop = Duration::from_secs(values(&unit, "TimeoutStopSec")[0].parse().unwrap());
    assert_eq!(stop, example().drain_budget + BEYOND_DRAIN);
}

#[test]
fn the_unit_keeps_what_supervision_relies_on() {
    let unit = text("systemd/valetd.service");
    for (key, value) in [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("KillMode", "mixed"),
        ("OOMPolicy", "continue"),
        ("Restart", "always"),
        ("StartLimitIntervalSec", "0"),
        ("Delegate", "cpu memory pids"),
        ("StateDirectory", "valetd"),
        ("RuntimeDirectory", "valetd"),
        ("LoadCredential", "jwt_secret:/etc/valetd/credentials/jwt_secret"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        // 64 usage, 69 a program is missing, 78 configuration.
        ("RestartPreventExitStatus", "64 69 78"),
    ] {
        assert_eq!(values(&unit, key), [value], "{key}");
    }
    for old in ["xvfb.service", "x11vnc.service", "websockify.service", "health.service"] {
        assert!(values(&unit, "Conflicts")[0].split(' ').any(|name| name == old), "{old} could run beside");
    }
    let config = example().host;
    assert_eq!(config.state_dir, Path::new("/var/lib/valetd"));
    assert_eq!(config.runtime_dir, Path::new("/run/valetd"));
}

#[test]
fn the_rules_of_the_boot_are_for_the_uids_of_the_configuration_and_are_taken() {
    let host = example().host;
    let rules = text("deb/boot.nft");
    let last = host.first_uid + host.uid_count - 1;
    assert!(rules.contains(&format!("define sessions = {}-{last}\n", host.first_uid)), "other uids");
    for network in [
        "169.254.169.254",
        "fd00:ec2::254",
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
    ] {
        assert!(rules.contains(network), "{network} is open");
    }
    if !nix::unistd::geteuid().is_root() {
        println!("not looked at: whether nft takes the rules, which needs root");
        return;
    }
    let file = root().join("deb/boot.nft");
    let nft = |file: &Path| run("unshare", &["--net", "/usr/sbin/nft", "--file", file.to_str().unwrap()]);
    let output = nft(&file);
    assert!(output.status.success(), "{}", said(&output));
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.nft");
    fs::write(&broken, rules.replace("daddr @private4", "daddr @nowhere")).unwrap();
    assert!(!nft(&broken).status.success(), "a mistake goes unnoticed");
}

#[test]
fn the_steps_of_an_image_are_programs_with_a_check_each() {
    let mut steps: Vec<PathBuf> =
        fs::read_dir(root().join("ami")).unwrap().map(|entry| entry.unwrap().path()).collect();
    steps
        .retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    assert!(steps.len() >= 12, "{steps:?}");
    let mut names = BTreeSet::new();
    for step in steps {
        let shown = step.display();
        assert!(fs::metadata(&step).unwrap().permissions().mode() & 0o111 == 0o111, "{shown} is no program");
        let script = fs::read_to_string(&step).unwrap();
        for part in ["\nSTEP=", "\napply() {", "\ncheck() {", "\nstep \"$@\"\n"] {
            assert!(script.contains(part), "{shown} lacks {part:?}");
        }
        let name = script.lines().find_map(|line| line.strip_prefix("STEP=")).unwrap();
        assert!(names.insert(name.to_owned()), "{shown}: two steps are called {name}");
    }
}

#[test]
fn what_goes_into_the_package_is_there() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let deb = manifest["package"]["metadata"]["deb"].as_table().unwrap();
    let assets = deb["assets"].as_array().unwrap();
    assert!(assets.len() >= 10);
    for asset in assets {
        let from = asset[0].as_str().unwrap();
        // Made by deb/build.
        if !from.starts_with("target/") {
            let path = root().join(from.trim_end_matches("/*"));
            assert!(path.exists(), "{from} is missing");
        }
    }
    for file in deb["conf-files"].as_array().unwrap() {
        let file = file.as_str().unwrap().trim_start_matches('/');
        assert!(file.starts_with("etc/valetd/"), "{file}");
    }
}

/// A configuration of the `fly` folder, as its environment completes it.
fn fly_config() -> valetd::config::Config {
    let secret = |_: valetd::config::Wanted<'_>| Ok(b"0123456789abcdef0123456789abcdef".to_vec());
    let machine: serde_json::Value = serde_json::from_str(&text("fly/machine.json")).unwrap();
    let env = machine["config"]["env"].as_object().unwrap();
    let env = env.iter().map(|(key, value)| (key.clone().into(), value.as_str().unwrap().to_owned().into()));
    valetd::config::check(&text("fly/valetd.toml"), env.collect::<Vec<_>>().into_iter(), &secret).unwrap()
}

#[test]
fn a_sandbox_on_fly_is_private_and_is_stopped_with_the_time_that_a_drain_takes() {
    let app: toml::Table = text("fly/sandbox.toml").parse().unwrap();
    let machine: serde_json::Value = serde_json::from_str(&text("fly/machine.json")).unwrap();
    let machine = &machine["config"];
    for service in ["services", "http_service"] {
        assert!(app.get(service).is_none() && machine.get(service).is_none(), "{service}: on the internet");
    }
    let config = fly_config();
    let stop = (config.drain_budget + BEYOND_DRAIN).as_secs();
    assert_eq!(app["kill_signal"].as_str(), Some("SIGTERM"));
    assert_eq!(app["kill_timeout"].as_integer().map(i64::unsigned_abs), Some(stop));
    assert_eq!(machine["stop_config"]["signal"], "SIGTERM");
    assert_eq!(machine["stop_config"]["timeout"], format!("{stop}s"));
    // A session that has ended is not begun again, and its Machine goes.
    assert_eq!(app["restart"][0]["policy"].as_str(), Some("never"));
    assert_eq!(machine["restart"]["policy"], "no");
    assert_eq!(machine["auto_destroy"], true);
    assert!(config.session.exit_when_ended, "the Machine would stay when its session has ended");
}

#[test]
fn fly_asks_where_the_daemon_answers() {
    let app: toml::Table = text("fly/sandbox.toml").parse().unwrap();
    let machine: serde_json::Value = serde_json::from_str(&text("fly/machine.json")).unwrap();
    let config = fly_config();
    let port = u64::from(config.api.listen.port());
    assert!(config.api.listen.is_ipv6() && config.gateway.listen.is_ipv6(), "the private network is IPv6");
    for (check, path) in [("live", "/livez"), ("ready", "/readyz")] {
        assert_eq!(app["checks"][check]["path"].as_str(), Some(path));
        assert_eq!(app["checks"][check]["port"].as_integer().map(i64::unsigned_abs), Some(port));
        assert_eq!(machine["config"]["checks"][check]["path"], path);
        assert_eq!(machine["config"]["checks"][check]["port"], port);
    }
    assert_eq!(machine["config"]["metrics"]["port"], port);
    let memory = machine["config"]["guest"]["memory_mb"].as_u64().unwrap();
    assert!(memory.is_multiple_of(256), "Fly counts in 256 MiB");
    let secret = machine["config"]["files"][0]["guest_path"].as_str().unwrap();
    assert_eq!(secret, "/etc/valetd/credentials/jwt_secret");
    assert!(text("fly/Dockerfile").contains("ENV CREDENTIALS_DIRECTORY=/etc/valetd/credentials\n"));
}

/// What is wrong with a Dockerfile.
fn complaints(dockerfile: &str) -> Vec<String> {
    let joined = dockerfile.replace("\\\n", " ");
    let lines: Vec<&str> =
        joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut wrong = Vec::new();
    for line in &lines {
        let mut complain = |what: &str| wrong.push(format!("{what}: {line}"));
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "FROM" if !rest.contains(':') || rest.contains(":latest") => complain("a base without a version"),
            "ADD" => complain("COPY fetches nothing"),
            "ARG" | "ENV" if ["SECRET", "TOKEN", "PASSWORD"].iter().any(|name| rest.contains(name)) => {
                complain("a secret in the image")
            }
            "ENTRYPOINT" | "CMD" if !rest.starts_with('[') => complain("a shell takes the signals"),
            "RUN" if rest.contains("apt-get install") && !rest.contains("--no-install-recommends") => {
                complain("packages that nobody asked for")
            }
            "RUN" if rest.contains("apt-get update") && !rest.contains("rm -rf /var/lib/apt/lists/*") => {
                complain("lists of packages are left")
            }
            _ => {}
        }
    }
    let user = lines.iter().position(|line| line.starts_with("USER "));
    let build = lines.iter().position(|line| line.contains("deb/build"));
    if user.is_none_or(|user| build.is_none_or(|build| build < user)) {
        wrong.push("root builds".to_owned());
    }
    wrong
}

#[test]
fn the_dockerfile_keeps_the_rules_of_its_kind() {
    let dockerfile = text("fly/Dockerfile");
    assert_eq!(complaints(&dockerfile), Vec::<String>::new());
    for (good, bad) in [
        ("debian:12-slim", "debian"),
        ("debian:12-slim", "debian:latest"),
        ("COPY fly", "ADD fly"),
        ("[\"/usr/bin/valetd\"]", "valetd"),
        ("ENV CREDENTIALS_DIRECTORY=", "ENV JWT_SECRET="),
        ("--no-install-recommends", ""),
        ("rm -rf /var/lib/apt/lists/*", "true"),
        ("USER builder\n", ""),
    ] {
        assert!(dockerfile.contains(good), "{good}");
        assert!(!complaints(&dockerfile.replace(good, bad)).is_empty(), "{bad} goes unnoticed");
    }
}
