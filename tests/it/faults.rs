//! What happens when things break: real processes, each test recording the time to recover, and nothing left behind.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, Home, READY, send};
use crate::support::tokens::token;
use crate::support::viewer::{Viewer, key};
use crate::support::{leaks, wait_for};

/// A display and its RFB server come back within this, loaded machine included; the figure to hold is 3 s.
pub(crate) const DISPLAY_BACK: Duration = Duration::from_secs(15);
/// For a browser's cold start on a loaded machine; the figure to hold is 2 s.
pub(crate) const BROWSER_BACK: Duration = Duration::from_secs(30);

pub(crate) const NO_BROWSER: &str = "[browser]\nenabled = false";
/// With an RFB server behind the gateway, which is a second service.
pub(crate) const X11VNC: &str = "[browser]\nenabled = false\n[display]\nrfb = \"x11vnc\"";

pub(crate) fn record(fault: &str, recovered: Duration) {
    println!("{fault}: recovered in {} ms", recovered.as_millis());
}

/// Stops the daemon and checks that nothing of it is left: processes, cgroups, X locks, sockets, its runtime directory.
pub(crate) fn stop_without_leaks(mut daemon: Daemon) {
    daemon.stop(Duration::from_secs(30));
    assert_no_leaks(&daemon);
}

pub(crate) fn assert_no_leaks(daemon: &Daemon) {
    assert_eq!(leaks::processes(&daemon.dir), [], "processes");
    assert_eq!(leaks::cgroups(&daemon.path("state")), Vec::<std::path::PathBuf>::new(), "cgroups");
    // Other tests kill displays at the same time; theirs go as well.
    wait_for("X locks to go", Duration::from_secs(10), || leaks::dead_x_locks().is_empty().then_some(()));
    assert!(!daemon.path("run/s0").exists(), "the session's runtime directory");
    assert!(!daemon.path("control.sock").exists(), "the control socket");
}

pub(crate) fn wait_component(
    daemon: &mut Daemon,
    name: &str,
    status: &str,
    deadline: Duration,
) -> serde_json::Value {
    wait_for(&format!("{name} to be {status}"), deadline, || {
        let component = daemon.component(name);
        (component["status"] == status).then_some(component)
    })
}

/// The service runs again under another pid, and the session is whole.
pub(crate) fn wait_restarted(daemon: &mut Daemon, name: &str, old: i32, deadline: Duration) {
    wait_for(&format!("{name} to be back"), deadline, || {
        let component = daemon.component(name);
        let back = component["status"] == "ok" && component["pid"].as_i64() != Some(old.into());
        back.then_some(())
    });
}

#[test]
fn f1_a_killed_display_comes_back_with_its_dependants_and_viewers_are_told_to_reconnect() {
    let mut daemon = Daemon::start(X11VNC);
    daemon.wait_ready();
    let gateway = daemon.gateway();
    let (xvfb, x11vnc) = (daemon.service_pid("xvfb"), daemon.service_pid("x11vnc"));
    let mut viewer = Viewer::connect(gateway, "s1", &token("controller", 60)).unwrap();
    assert_eq!(viewer.size, (800, 600));

    let killed = Instant::now();
    send(xvfb, Signal::SIGKILL);
    assert_eq!(viewer.close_code(Duration::from_secs(10)), 1012);
    let mut again = wait_for("a viewer to get in again", DISPLAY_BACK, || {
        Viewer::connect(gateway, "s1", &token("controller", 60)).ok()
    });
    assert_eq!(again.pixels(0, 0, 8, 8).len(), 64);
    record("F1 Xvfb SIGKILL", killed.elapsed());
    assert_eq!(again.size, (800, 600), "the same size as before");
    assert_ne!(daemon.service_pid("x11vnc"), x11vnc, "what draws on a display restarts with it");
    assert_eq!(daemon.component("xvfb")["starts"], 2);
    drop(again);
    stop_without_leaks(daemon);
}

#[test]
fn f2_a_killed_browser_comes_back_with_its_profile_and_nothing_of_the_old_one() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let browser = daemon.service_pid("browser");
    std::fs::write(daemon.path("state/profiles/s1/kept"), "").unwrap();

    let killed = Instant::now();
    send(browser, Signal::SIGKILL);
    wait_restarted(&mut daemon, "browser", browser, BROWSER_BACK);
    record("F2 Chromium SIGKILL", killed.elapsed());
    assert_eq!(daemon.component("xvfb")["starts"], 1, "the display is not the browser's dependant");
    assert!(daemon.path("state/profiles/s1/kept").exists());
    let new = daemon.service_pid("browser");
    let mains: Vec<_> = leaks::processes(&daemon.dir)
        .into_iter()
        .filter(|(_pid, command)| command.contains("--user-data-dir") && !command.contains("--type="))
        .map(|(pid, _command)| pid)
        .collect();
    assert_eq!(mains, [new], "one browser, not two");
    stop_without_leaks(daemon);
}

#[test]
fn f5_a_hung_display_shows_in_health_at_once_and_is_replaced() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let xvfb = daemon.service_pid("xvfb");
    let stopped = Instant::now();
    send(xvfb, Signal::SIGSTOP);
    let component = wait_component(&mut daemon, "xvfb", "failing", Duration::from_secs(5));
    println!("F5 shown in health after {} ms", stopped.elapsed().as_millis());
    assert!(component["reason"].is_string(), "{component}");
    wait_restarted(&mut daemon, "xvfb", xvfb, DISPLAY_BACK + Duration::from_secs(6));
    record("F5 Xvfb SIGSTOP", stopped.elapsed());
    daemon.wait_ready();
    stop_without_leaks(daemon);
}

#[test]
fn f6_a_hung_browser_shows_in_health_at_once_and_is_replaced() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let browser = daemon.service_pid("browser");
    let stopped = Instant::now();
    send(browser, Signal::SIGSTOP);
    wait_component(&mut daemon, "browser", "failing", Duration::from_secs(5));
    println!("F6 shown in health after {} ms", stopped.elapsed().as_millis());
    wait_restarted(&mut daemon, "browser", browser, BROWSER_BACK + Duration::from_secs(10));
    record("F6 Chromium SIGSTOP", stopped.elapsed());
    stop_without_leaks(daemon);
}

#[test]
fn f16_a_profile_that_another_host_left_locked_is_no_obstacle() {
    let home = Home::new();
    home.configure("");
    let profile = home.0.path().join("state/profiles/s1");
    std::fs::create_dir_all(&profile).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&profile, Some(20000), Some(20000)).unwrap();
    }
    // Chromium exits with status 21 on a lock of another host.
    std::os::unix::fs::symlink("another-host-4711", profile.join("SingletonLock")).unwrap();
    std::os::unix::fs::symlink("/tmp/gone/SingletonSocket", profile.join("SingletonSocket")).unwrap();
    let mut daemon = home.start();
    daemon.wait_ready();
    assert_eq!(daemon.component("browser")["starts"], 1);
    stop_without_leaks(daemon);
}

/// A browser that does not start with a file called `poison` in its profile; without one it is the real Chromium.
/// A session of its own uid has a `/tmp` of its own, so the script lies elsewhere.
pub(crate) fn touchy_browser() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let place = if nix::unistd::geteuid().is_root() { "/opt" } else { "/tmp" };
    let dir = tempfile::tempdir_in(place).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("touchy-browser");
    let script = "#!/bin/sh\n[ -e \"$HOME/poison\" ] && exit 1\nexec /usr/bin/chromium \"$@\"\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

#[test]
fn f18_a_profile_that_keeps_its_browser_from_starting_is_replaced_and_kept_aside() {
    let home = Home::new();
    let (_dir, browser) = touchy_browser();
    home.configure(&format!("[browser]\nprogram = {browser:?}"));
    let profiles = home.0.path().join("state/profiles");
    std::fs::create_dir_all(profiles.join("s1")).unwrap();
    std::fs::write(profiles.join("s1/poison"), "kept").unwrap();
    let begun = Instant::now();
    let mut daemon = home.start();
    daemon.wait_ready();
    record("F18 corrupt profile", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(daemon.component("browser")["starts"], 3, "two starts with it, and one without");
    assert!(!profiles.join("s1/poison").exists());
    assert_eq!(std::fs::read_to_string(profiles.join("s1.aside/poison")).unwrap(), "kept");
    assert!(daemon.log_text().contains("the profile kept the browser from starting"), "never silent");
    stop_without_leaks(daemon);
}

#[test]
fn f18_a_profile_that_was_not_the_reason_is_left_as_it_was() {
    let home = Home::new();
    home.configure("[browser]\nprogram = \"/bin/false\"");
    let profile = home.0.path().join("state/profiles/s1");
    std::fs::create_dir_all(&profile).unwrap();
    std::fs::write(profile.join("Cookies"), "kept").unwrap();
    let mut daemon = home.start();
    wait_for("a fourth start of the browser", READY, || {
        (daemon.component("browser")["starts"].as_u64() >= Some(4)).then_some(())
    });
    assert_eq!(std::fs::read_to_string(profile.join("Cookies")).unwrap(), "kept");
    assert!(!profile.with_extension("aside").exists());
    stop_without_leaks(daemon);
}

#[test]
fn f17_a_profile_in_use_is_not_opened_a_second_time() {
    let home = Home::new();
    home.configure("");
    let profiles = home.0.path().join("state/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    let lock = std::fs::File::create(profiles.join("s1.lock")).unwrap();
    let _held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    let mut daemon = home.start();
    let status = daemon.wait_exit(READY);
    assert_eq!(status.code(), Some(70), "the session that it is there for failed");
    assert!(daemon.log_text().contains("is in use by another session"), "{}", daemon.log_text());
    assert_no_leaks(&daemon);
}

#[test]
fn f44_when_the_daemon_is_killed_for_good_everything_it_started_dies() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    assert!(leaks::processes(&daemon.dir).len() > 8, "a browser has many processes");
    let killed = Instant::now();
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit(Duration::from_secs(5));
    wait_for("its processes to go", Duration::from_secs(12), || {
        leaks::processes(&daemon.dir).is_empty().then_some(())
    });
    record("F44 daemon SIGKILL", killed.elapsed());
    wait_for("its cgroups to go", Duration::from_secs(5), || {
        leaks::cgroups(&daemon.path("state")).is_empty().then_some(())
    });
    wait_for("X locks to go", Duration::from_secs(5), || leaks::dead_x_locks().is_empty().then_some(()));
}

#[test]
fn f43_a_daemon_that_is_killed_and_started_again_begins_cleanly() {
    let home = Home::new();
    home.configure(NO_BROWSER);
    let mut first = home.start();
    first.wait_ready();
    let old = first.service_pid("xvfb");
    first.signal(Signal::SIGKILL);
    first.wait_exit(Duration::from_secs(5));
    let restarted = Instant::now();
    let mut second = home.start();
    second.wait_ready();
    record("F43 daemon SIGKILL and restart", restarted.elapsed());
    assert_ne!(second.service_pid("xvfb"), old);
    wait_for("the old display to be gone", Duration::from_secs(12), || {
        let mains = leaks::processes(&second.dir);
        let displays = mains.iter().filter(|(_pid, command)| command.contains("Xvfb")).count();
        (displays == 1).then_some(())
    });
    drop(first);
    stop_without_leaks(second);
}

#[test]
fn f48_a_second_daemon_on_the_same_state_does_not_start() {
    let home = Home::new();
    home.configure(NO_BROWSER);
    let mut first = home.start();
    first.wait_ready();
    let mut second = home.start();
    assert_eq!(second.wait_exit(READY).code(), Some(75));
    assert!(second.log_text().contains(&format!("(pid {})", first.pid())), "{}", second.log_text());
    assert_eq!(first.get("/readyz").0, 200, "the first one is unharmed");
    stop_without_leaks(first);
}

#[test]
fn f51_a_drain_tells_viewers_closes_the_browser_cleanly_and_keeps_its_budget() {
    let mut daemon = Daemon::start("[host]\ndrain_budget = \"20s\"");
    daemon.wait_ready();
    let mut viewer = Viewer::connect(daemon.gateway(), "s1", &token("spectator", 60)).unwrap();
    let began = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(viewer.close_code(Duration::from_secs(5)), 1001);
    let status = daemon.wait_exit(Duration::from_secs(20));
    record("F51 SIGTERM", began.elapsed());
    assert!(status.success(), "{status:?}");
    let preferences = std::fs::read_to_string(daemon.path("state/profiles/s1/Default/Preferences")).unwrap();
    let preferences: serde_json::Value = serde_json::from_str(&preferences).unwrap();
    assert_eq!(preferences["profile"]["exit_type"], "Normal", "a clean exit, as Chromium sees it");
    assert_no_leaks(&daemon);
}

#[test]
fn f55_a_viewer_that_stops_reading_is_put_out_and_costs_little() {
    let mut daemon = Daemon::start(&format!("{NO_BROWSER}\n[gateway.limits]\nsend_deadline = \"2s\"\n"));
    daemon.wait_ready();
    let gateway = daemon.gateway();
    let mut slow = Viewer::connect(gateway, "s1", &token("spectator", 120)).unwrap();
    let mut other = Viewer::connect(gateway, "s1", &token("controller", 120)).unwrap();
    let before = resident_kib(daemon.pid());
    let began = Instant::now();
    // Asks for the whole picture again and again and reads nothing of it.
    let request = [3, 0, 0, 0, 0, 0, 3, 32, 2, 88];
    let put_out = wait_for("the slow viewer to be put out", Duration::from_secs(60), || {
        let sent = slow.try_send(&request.repeat(64));
        let left = daemon.log().iter().any(|record| {
            record["message"].as_str().is_some_and(|text| text.contains("left"))
                && record.to_string().contains("slow")
        });
        (!sent || left).then(|| began.elapsed())
    });
    record("F55 a viewer that does not read", put_out);
    let growth = resident_kib(daemon.pid()).saturating_sub(before);
    assert!(growth <= 4096, "{growth} KiB for one slow viewer");
    assert_eq!(other.pixels(0, 0, 4, 4).len(), 16, "the other viewer is served as before");
    drop((slow, other));
    stop_without_leaks(daemon);
}

#[test]
fn f56_a_viewer_that_reads_a_byte_at_a_time_is_put_out_as_well() {
    let mut daemon = Daemon::start(&format!("{NO_BROWSER}\n[gateway.limits]\nsend_deadline = \"2s\"\n"));
    daemon.wait_ready();
    let mut slow = Viewer::connect(daemon.gateway(), "s1", &token("spectator", 120)).unwrap();
    let began = Instant::now();
    // More of the picture than all buffers between here and the display hold.
    let request = [3, 0, 0, 0, 0, 0, 3, 32, 2, 88];
    let put_out = wait_for("the trickling viewer to be put out", Duration::from_secs(60), || {
        let open = slow.try_send(&request.repeat(64)) && slow.trickle();
        let left = daemon.log().iter().any(|record| record["why"] == "too_slow");
        (!open || left).then(|| began.elapsed())
    });
    record("F56 a viewer that trickles", put_out);
    wait_for("the log to say why", Duration::from_secs(10), || {
        daemon.log().iter().any(|record| record["why"] == "too_slow").then_some(())
    });
    drop(slow);
    stop_without_leaks(daemon);
}

#[test]
fn f63_keys_held_by_a_controller_that_vanishes_are_released() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let display = crate::support::x::Display::of(&mut daemon);
    let mut viewer = Viewer::connect(daemon.gateway(), "s1", &token("controller", 60)).unwrap();
    viewer.send(&key(true, 0x61));
    viewer.send(&key(true, 0xffe1));
    wait_for("two keys to be down", Duration::from_secs(10), || (display.keys_down() == 2).then_some(()));
    let gone = Instant::now();
    drop(viewer);
    wait_for("all keys to be up", Duration::from_secs(5), || (display.keys_down() == 0).then_some(()));
    record("F63 controller vanished", gone.elapsed());
    drop(display);
    stop_without_leaks(daemon);
}

#[test]
fn f65_a_token_that_expires_ends_its_connection_within_a_second_and_releases_its_keys() {
    let mut daemon = Daemon::start(&format!("{NO_BROWSER}\n[auth]\nleeway = \"0s\""));
    daemon.wait_ready();
    let display = crate::support::x::Display::of(&mut daemon);
    let expires = crate::support::tokens::now() + 3;
    let mut viewer = Viewer::connect(daemon.gateway(), "s1", &token("controller", 3)).unwrap();
    viewer.send(&key(true, 0x61));
    wait_for("the key to be down", Duration::from_secs(3), || (display.keys_down() == 1).then_some(()));
    assert_eq!(viewer.close_code(Duration::from_secs(10)), 4401);
    let late = crate::support::tokens::now().saturating_sub(expires);
    assert!(late <= 2, "closed {late} s after the token's end");
    wait_for("the key to be up", Duration::from_secs(5), || (display.keys_down() == 0).then_some(()));
    drop(display);
    stop_without_leaks(daemon);
}

#[test]
fn f67_nonsense_from_a_viewer_closes_its_connection_and_nothing_else() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let gateway = daemon.gateway();
    let mut bystander = Viewer::connect(gateway, "s1", &token("spectator", 60)).unwrap();
    let colour_map = [0, 0, 0, 0, 8, 8, 0, 0, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0];
    let no_bits = [0, 0, 0, 0, 0, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
    let wild_shift = [0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 200, 8, 0, 0, 0, 0];
    let encodings = [2, 0, 255, 255];
    let unknown = [99, 0, 0, 0];
    let huge_cut_text = [6, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    let cases: [&[u8]; 6] = [&colour_map, &no_bits, &wild_shift, &encodings, &unknown, &huge_cut_text];
    for case in cases {
        let mut viewer = Viewer::connect(gateway, "s1", &token("controller", 60)).unwrap();
        viewer.send(case);
        assert_eq!(viewer.close_code(Duration::from_secs(10)), 1008, "{case:?}");
    }
    assert_eq!(bystander.pixels(0, 0, 2, 2).len(), 4);
    assert!(!daemon.log_text().contains("panicked"), "{}", daemon.log_text());
    drop(bystander);
    stop_without_leaks(daemon);
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
