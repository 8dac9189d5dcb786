//! A process of session A against session B and the host.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::attacker::{Attempt, attempt_in};
use super::seat::{Seat, UIDS, two};
use crate::support::daemon::Daemon;
use crate::support::leaks;
use crate::support::net::{BESIDE, Listener, in_own_network, run};
use crate::support::tokens::token;
use crate::support::viewer::Viewer;

const FILTERED: &str = "[isolation]\nnetwork = \"filtered\"\n";

/// Whom an attempt works for, so that its failure says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Root,
    Victim,
}

struct Attack {
    attempt: Attempt,
    control: Control,
}

fn by(control: Control, attempts: impl IntoIterator<Item = Attempt>) -> Vec<Attack> {
    attempts.into_iter().map(|attempt| Attack { attempt, control }).collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn proc(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

/// The victim's display, however one might get at it.
fn display(victim: &Seat) -> Vec<Attack> {
    let number = victim.display;
    let real = victim.runtime.join(format!("tmp/.X11-unix/X{number}"));
    let tcp = loopback(u16::try_from(6000 + number).unwrap());
    by(
        Control::Root,
        [
            Attempt::Unix(format!("/tmp/.X11-unix/X{number}").into()),
            Attempt::Unix(real),
            Attempt::Unix(proc(victim.xvfb, "root").join(format!("tmp/.X11-unix/X{number}"))),
            Attempt::Tcp(tcp),
        ],
    )
}

/// Its files, as it reaches them itself.
fn files(victim: &Seat) -> Vec<Attack> {
    let Seat { runtime, profile, .. } = victim;
    by(
        Control::Victim,
        [
            Attempt::List(profile.clone()),
            Attempt::Read(profile.join("Local State")),
            Attempt::Write(profile.join("planted")),
            Attempt::List(runtime.clone()),
            Attempt::Read(runtime.join("xauthority")),
            Attempt::Read(runtime.join("screen/Xvfb_screen0")),
            Attempt::Write(runtime.join("planted")),
            Attempt::List(runtime.join("tmp")),
            Attempt::Read("/dev/shm/victims".into()),
            Attempt::Read("/tmp/victims".into()),
            Attempt::Read("/var/tmp/victims".into()),
            Attempt::SysvShm(victim.uid),
        ],
    )
}

/// Its processes.
fn processes(victim: &Seat) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for pid in [victim.xvfb, victim.browser] {
        attacks.extend(by(
            Control::Victim,
            [Attempt::Read(proc(pid, "cmdline")), Attempt::Read(proc(pid, "status")), Attempt::Touch(pid)],
        ));
        attacks.extend(by(
            Control::Root,
            [
                Attempt::Read(proc(pid, "environ")),
                Attempt::List(proc(pid, "fd")),
                Attempt::List(proc(pid, "root").join("tmp")),
                Attempt::Read(proc(pid, "maps")),
                Attempt::Trace(pid),
                Attempt::Steal(pid),
            ],
        ));
    }
    attacks
}

/// The daemon, and what else is on the host and beside it.
fn host(daemon: &mut Daemon, listeners: &[SocketAddr], seats: &[Seat; 2]) -> Vec<Attack> {
    let mut attempts: Vec<Attempt> = listeners.iter().copied().map(Attempt::Tcp).collect();
    attempts.extend(seats.iter().map(|seat| Attempt::Tcp(loopback(seat.devtools))));
    attempts.extend([Attempt::Tcp(daemon.api()), Attempt::Tcp(daemon.gateway())]);
    attempts.push(Attempt::Unix(daemon.path("control.sock")));
    let files = ["jwt_secret", "valetd.toml", "state/state.db", "state/lock"];
    attempts.extend(files.map(|name| Attempt::Read(daemon.path(name))));
    attempts.extend(["", "state", "state/profiles", "run"].map(|name| Attempt::List(daemon.path(name))));
    let pid = i32::try_from(daemon.pid()).unwrap();
    attempts.extend([Attempt::Touch(pid), Attempt::Trace(pid), Attempt::Steal(pid)]);
    attempts.extend(["cmdline", "environ"].map(|name| Attempt::Read(format!("/proc/{pid}/{name}").into())));
    attempts.push(Attempt::Read("/proc/1/cmdline".into()));
    by(Control::Root, attempts)
}

#[test]
fn a_process_of_one_session_reaches_nothing_of_another_nor_of_the_host() {
    in_own_network(|world| {
        let (mut daemon, seats) = two(FILTERED);
        let [a, b] = &seats;
        let beside = world.with(|| BESIDE.map(|ip| Listener::counting(ip, 80)));
        // AdsPower's port, and the X server's were it to listen.
        let x_port = u16::try_from(6000 + b.display).unwrap();
        let here = [Listener::counting("127.0.0.1", 50_325), Listener::counting("127.0.0.1", x_port)];
        let there = Listener::counting("11.22.33.1", 8_080);
        let all = || beside.iter().chain(&here).chain([&there]);
        let addresses: Vec<SocketAddr> = all().map(|listener| listener.address).collect();
        // What the victim has in the places that everybody has.
        let mine =
            ["/dev/shm/victims", "/tmp/victims", "/var/tmp/victims"].map(|path| Attempt::Write(path.into()));
        assert_eq!(attempt_in(b, &mine), [None, None, None]);

        let mut attacks = display(b);
        attacks.extend(files(b));
        attacks.extend(processes(b));
        attacks.extend(host(&mut daemon, &addresses, &seats));
        assert!(attacks.len() >= 58, "only {} attempts", attacks.len());

        let attempts: Vec<Attempt> = attacks.iter().map(|attack| attack.attempt.clone()).collect();
        let outcomes = attempt_in(a, &attempts);
        let worked: Vec<&Attempt> = attempts
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_none())
            .map(|(attempt, _)| attempt)
            .collect();
        assert!(worked.is_empty(), "{worked:#?}");
        for listener in all() {
            assert_eq!(listener.settled(), 0, "{}", listener.address);
        }
        println!("{} attempts, none worked", attempts.len());
        assert_controls(&attacks, b);
        for listener in all() {
            assert!(listener.settled() > 0, "nobody can reach {}", listener.address);
        }

        assert_abstract_sockets_are_not_offered(a, &seats);
        assert_shared_places_are_private(a, b);
        assert_kill_is_refused(a, b);
        assert_chromium_has_its_sandbox(a);
        assert_nothing_is_left(daemon);

        let (mut daemon, seats) = two(&format!("{FILTERED}[display]\nrfb = \"x11vnc\"\n"));
        assert_an_rfb_server_is_its_sessions_alone(&mut daemon, &seats);
        assert_nothing_is_left(daemon);
    });
}

/// Each attempt works for whom it should.
fn assert_controls(attacks: &[Attack], victim: &Seat) {
    let mut failed = Vec::new();
    for attack in attacks.iter().filter(|attack| attack.control == Control::Root) {
        failed.extend(attack.attempt.make().err().map(|error| (attack.attempt.clone(), error.to_string())));
    }
    let own: Vec<Attempt> = attacks
        .iter()
        .filter(|attack| attack.control == Control::Victim)
        .map(|attack| attack.attempt.clone())
        .collect();
    assert!(own.len() >= 15, "{}", own.len());
    for (attempt, outcome) in own.iter().zip(attempt_in(victim, &own)) {
        failed.extend(outcome.map(|error| (attempt.clone(), error)));
    }
    assert!(failed.is_empty(), "controls: {failed:#?}");
}

/// Mount namespaces do not hold abstract sockets, so there must be none of a display's.
fn assert_abstract_sockets_are_not_offered(attacker: &Seat, seats: &[Seat; 2]) {
    let decoy = "valetd-test-decoy";
    let _listener = UnixListener::bind_addr(&UnixAddress::from_abstract_name(decoy).unwrap()).unwrap();
    let mut attempts = vec![Attempt::Abstract(decoy.into())];
    attempts.extend(seats.iter().map(|seat| Attempt::Abstract(format!("/tmp/.X11-unix/X{}", seat.display))));
    let outcomes = attempt_in(attacker, &attempts);
    assert_eq!(
        outcomes.iter().map(Option::is_none).collect::<Vec<_>>(),
        [true, false, false],
        "{outcomes:?}"
    );
}

/// What one plants in a shared place is there for itself alone.
fn assert_shared_places_are_private(attacker: &Seat, victim: &Seat) {
    let places =
        ["/tmp", "/var/tmp", "/dev/shm"].map(|place| PathBuf::from(place).join("valetd-test-planted"));
    let plant = places.clone().map(Attempt::Write);
    assert_eq!(attempt_in(attacker, &plant), [None, None, None], "it may write for itself");
    let look = places.clone().map(Attempt::Read);
    assert_eq!(attempt_in(attacker, &look), [None, None, None], "control: and finds it again");
    assert!(attempt_in(victim, &look).iter().all(Option::is_some));
    assert!(places.iter().all(|path| !path.exists()), "{places:?}");
    for place in ["/tmp", "/dev/shm"] {
        assert!(std::fs::read_dir(place).is_ok());
    }
}

fn assert_kill_is_refused(attacker: &Seat, victim: &Seat) {
    let attempts = [victim.xvfb, victim.browser].map(Attempt::Terminate);
    assert!(attempt_in(attacker, &attempts).iter().all(Option::is_some));
    let alive = [victim.xvfb, victim.browser].map(Attempt::Touch);
    assert!(alive.iter().all(|attempt| attempt.make().is_ok()));
    // Control: a signal does reach a process of one's own.
    assert_eq!(attempt_in(attacker, &[Attempt::Touch(attacker.browser)]), [None]);
}

/// Renderers of this session: seccomp in force, and namespaces of their own within the session's.
fn assert_chromium_has_its_sandbox(seat: &Seat) {
    let link = |pid: i32, name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let renderers: Vec<i32> = leaks::processes(&seat.profile)
        .into_iter()
        .filter(|(_, command)| command.contains("--type=renderer"))
        .map(|(pid, _)| pid)
        .collect();
    assert!(!renderers.is_empty(), "no renderer seen");
    for pid in renderers {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Seccomp:\t2\n"), "{status}");
        for name in ["user", "pid", "net"] {
            assert_ne!(link(pid, name), link(seat.browser, name), "{name}");
        }
        for name in ["mnt", "ipc"] {
            assert_ne!(link(pid, name), link(std::process::id().cast_signed(), name), "{name}");
        }
    }
}

/// A session owns the directory that its RFB socket lies in; the gateway, which is root, would follow a link from there.
fn assert_an_rfb_server_is_its_sessions_alone(daemon: &mut Daemon, seats: &[Seat; 2]) {
    let [a, b] = seats;
    let theirs = [Attempt::Unix(b.runtime.join("rfb.sock"))];
    assert!(attempt_in(a, &theirs)[0].is_some(), "another session's RFB server");
    assert_eq!(attempt_in(b, &theirs), [None], "control: its own");
    let gateway = daemon.gateway();
    let own = Viewer::connect(gateway, "s1", &token("controller", 60));
    assert!(own.is_ok(), "control: {:?}", own.err());
    drop(own);
    let socket = seats[0].runtime.join("rfb.sock");
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(seats[1].runtime.join("rfb.sock"), &socket).unwrap();
    assert!(Attempt::Unix(socket).make().is_ok(), "control: root would get through");
    assert!(Viewer::connect(gateway, "s1", &token("controller", 60)).is_err());
    let stranger = format!("belongs to uid {}", seats[1].uid);
    daemon.wait_log("the probe to notice", |record| {
        ["error", "reason"]
            .iter()
            .any(|field| record[field].as_str().is_some_and(|text| text.contains(&stranger)))
    });
}

fn assert_nothing_is_left(mut daemon: Daemon) {
    assert_eq!(tables().len(), 1, "control: the daemon's table");
    daemon.stop(Duration::from_secs(30));
    let dir = daemon.dir.clone();
    assert_eq!(leaks::processes(&dir), [], "processes");
    assert_eq!(leaks::cgroups(&daemon.path("state")), Vec::<PathBuf>::new(), "cgroups");
    assert_eq!(mounts(&dir), Vec::<String>::new(), "mounts");
    assert_eq!(std::fs::read_dir(daemon.path("run")).unwrap().count(), 0, "runtime directories");
    assert_eq!(leaks::dangling_x_sockets(&dir), Vec::<String>::new(), "links to X sockets");
    assert_eq!(tables(), HashSet::new(), "packet filter tables");
    for uid in UIDS {
        assert!(Attempt::SysvShm(uid).make().is_err(), "shared memory of uid {uid}");
    }
}

/// Mounts that this process sees, of or below `dir`.
fn mounts(dir: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!table.is_empty());
    table.lines().filter(|line| line.contains(dir.to_str().unwrap())).map(str::to_owned).collect()
}

/// Tables of daemons in this network.
pub(super) fn tables() -> HashSet<String> {
    let text = run("nft", &["list", "tables"]);
    text.lines().filter(|line| line.contains("valetd_")).map(str::to_owned).collect()
}
