//! The daemon as its operators see it: listeners, systemd, reload, secrets, exit codes.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, Home, READY};
use crate::support::home::SECRET;
use crate::support::tokens::{sign, token};
use crate::support::viewer::{Viewer, get, key, pointer, request};
use crate::support::x::Display;
use crate::support::{leaks, tokens, wait_for};

const NO_BROWSER: &str = "[browser]\nenabled = false";

#[test]
fn a_viewer_sees_the_real_pixels_of_the_display_and_a_controller_acts_on_it() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let display = Display::of(&mut daemon);
    display.fill(10, 20, 60, 40, 0x00_12_89_ef);
    let mut viewer = Viewer::connect(daemon.gateway(), "s1", &token("controller", 60)).unwrap();
    assert_eq!((viewer.size, viewer.name.as_str()), ((800, 600), "valetd s1"));
    wait_for("the rectangle in the picture", Duration::from_secs(10), || {
        let inside = viewer.pixels(10, 20, 60, 40);
        inside.iter().all(|pixel| pixel[..3] == [0xef, 0x89, 0x12]).then_some(())
    });
    viewer.send(&pointer(0, 321, 123));
    wait_for("the pointer to move", Duration::from_secs(10), || {
        (display.pointer() == (321, 123)).then_some(())
    });
    viewer.send(&key(true, 0x61));
    wait_for("a key to go down", Duration::from_secs(10), || (display.keys_down() == 1).then_some(()));
}

#[test]
fn a_spectator_sees_and_nothing_it_sends_reaches_the_display() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let display = Display::of(&mut daemon);
    let before = display.pointer();
    let mut viewer = Viewer::connect(daemon.gateway(), "s1", &token("spectator", 60)).unwrap();
    viewer.send(&key(true, 0x61));
    viewer.send(&pointer(1, before.0.unsigned_abs() + 50, before.1.unsigned_abs() + 50));
    // A QEMU key event, and text for the clipboard.
    viewer.send(&[255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 30]);
    viewer.send(&[6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
    // All of it has been handled when the picture that is asked for after it has come.
    assert_eq!(viewer.pixels(0, 0, 16, 16).len(), 256);
    // A controller's input takes the same way to the display; when it has arrived, a spectator's would have.
    let mut controller = Viewer::connect(daemon.gateway(), "s1", &token("controller", 60)).unwrap();
    controller.send(&key(true, 0x62));
    wait_for("the controller's key", Duration::from_secs(10), || (display.keys_down() > 0).then_some(()));
    assert_eq!(display.keys_down(), 1, "the controller's key alone");
    assert_eq!(display.pointer(), before);
}

#[test]
fn nothing_listens_on_tcp_but_the_gateway_the_api_and_the_browsers_loopback_port() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let expected = BTreeSet::from([daemon.gateway().to_string(), daemon.api().to_string()]);
    let pids: Vec<_> = leaks::processes(&daemon.dir)
        .into_iter()
        .map(|(pid, _)| pid)
        .chain([daemon.pid().cast_signed()])
        .collect();
    assert!(pids.len() > 5);
    let devtools = daemon.control("/v1/status")["sessions"][0]["devtools_port"].as_u64().unwrap();
    let mut expected = expected;
    expected.insert(format!("127.0.0.1:{devtools}"));
    assert_eq!(crate::support::sockets::tcp_listeners(&pids), expected);
    assert_eq!(
        crate::support::sockets::abstract_listeners(&pids),
        BTreeSet::new(),
        "an abstract socket is open to every mount namespace"
    );
}

#[test]
fn the_display_refuses_whoever_has_no_cookie() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let display = daemon.control("/v1/status")["sessions"][0]["display"].as_str().unwrap().to_owned();
    let socket = format!("/tmp/.X11-unix/X{}", &display[1..]);
    let stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let (stream, _peer) = x11rb::rust_connection::DefaultStream::from_unix_stream(stream).unwrap();
    let refused = x11rb::rust_connection::RustConnection::connect_to_stream(stream, 0).err().unwrap();
    assert!(matches!(refused, x11rb::errors::ConnectError::SetupFailed(_)), "{refused}");
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(daemon.path("run/s0/xauthority")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn viewers_that_come_and_go_leave_no_descriptor_and_no_place_taken() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let gateway = daemon.gateway();
    drop(Viewer::connect(gateway, "s1", &token("spectator", 60)).unwrap());
    let viewers = |daemon: &Daemon| daemon.control("/v1/status")["sessions"][0]["viewers"].clone();
    let nobody = serde_json::json!({ "spectators": 0, "controllers": 0 });
    let settle = |daemon: &Daemon| {
        wait_for("viewers to be gone", Duration::from_secs(10), || (viewers(daemon) == nobody).then_some(()));
    };
    settle(&daemon);
    let before = leaks::open_files(daemon.pid());
    for round in 0..20 {
        let role = if round % 2 == 0 { "controller" } else { "spectator" };
        let mut viewer = Viewer::connect(gateway, "s1", &token(role, 60)).unwrap();
        assert_eq!(viewer.pixels(0, 0, 4, 4).len(), 16);
    }
    settle(&daemon);
    wait_for("descriptors to be given back", Duration::from_secs(10), || {
        // One or two of the probes' own may be open at the moment of the count.
        (leaks::open_files(daemon.pid()) <= before + 2).then_some(())
    });
}

#[test]
fn health_readiness_and_metrics_agree_and_hold_nothing_secret() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    assert_eq!(daemon.get("/livez"), (200, "alive".to_owned()));
    assert_eq!(daemon.get("/readyz"), (200, "ready".to_owned()));
    let health = daemon.health();
    assert_eq!(health["status"], "ok", "{health}");
    let names: Vec<_> =
        health["components"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["manager", "store", "xvfb"]);
    let (status, metrics) = daemon.get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("valetd_service_up{service=\"xvfb\"} 1"), "{metrics}");
    let api = daemon.api();
    assert_eq!(get(api, "/v1/status").0, 404, "details are for the Unix socket");
    assert_eq!(request(api, "POST", "/health", &[]).0, 405);
}

#[test]
fn secrets_and_tokens_stay_out_of_logs_arguments_and_environments() {
    let mut daemon = Daemon::start("[log]\nlevel = \"trace\"");
    daemon.wait_ready();
    let gateway = daemon.gateway();
    let good = token("controller", 60);
    let bad = sign(&serde_json::json!({ "session_id": "other", "user_id": "u", "exp": tokens::now() + 60 }));
    let viewer = Viewer::connect(gateway, "s1", &good).unwrap();
    assert_eq!(Viewer::connect(gateway, "s1", &bad).err(), Some(403));
    let bearer = format!("Bearer {good}");
    let (status, body) = request(gateway, "POST", "/sessions/s1/ticket", &[("Authorization", &bearer)]);
    assert_eq!(status, 200, "{body}");
    let ticket: serde_json::Value = serde_json::from_str(&body).unwrap();
    let ticket = ticket["ticket"].as_str().unwrap().to_owned();
    assert_eq!(request(gateway, "GET", &format!("/sessions/s1/vnc?token={good}"), &[]).0, 401);
    drop(viewer);
    let cookie = std::fs::read(daemon.path("run/s0/xauthority")).unwrap();
    let cookie: String = cookie[cookie.len() - 16..].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut seen = vec![("metrics", daemon.get("/metrics").1), ("health", daemon.get("/health").1)];
    for (pid, command) in leaks::processes(&daemon.dir) {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        seen.push(("command line", command));
        seen.push(("environment", String::from_utf8_lossy(&environ).into_owned()));
    }
    daemon.stop(Duration::from_secs(30));
    seen.push(("log", daemon.log_text()));
    assert!(daemon.log().len() > 20, "the log was looked at");
    for (place, text) in seen {
        for (what, canary) in [
            ("secret", SECRET),
            ("token", good.as_str()),
            ("refused token", bad.as_str()),
            ("signature", good.rsplit('.').next().unwrap()),
            ("ticket", ticket.as_str()),
            ("cookie", cookie.as_str()),
        ] {
            assert!(!text.contains(canary), "the {what} stands in the {place}");
        }
    }
}

#[test]
fn systemd_is_told_ready_status_reload_watchdog_and_stop() {
    let home = Home::new();
    home.configure(NO_BROWSER);
    let path = home.0.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(READY)).unwrap();
    let mut daemon =
        home.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")]);
    let receive = |wanted: &str| {
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        while !seen.lines().any(|line| line.starts_with(wanted)) {
            let length =
                socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}\n{seen}"));
            seen.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            seen.push('\n');
        }
        seen
    };
    let start = receive("READY=1");
    assert!(start.contains("STATUS=session s1: ready"), "{start}");
    assert!(!start.contains("STOPPING=1"));
    receive("WATCHDOG=1");
    receive("WATCHDOG=1");

    std::fs::write(daemon.path("valetd.toml"), "[gateway]\nlisten = 7\n[auth]\nkeys = []\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    let refused = receive("STATUS=configuration not reloaded");
    assert!(refused.contains("RELOADING=1") && refused.contains("MONOTONIC_USEC="), "{refused}");
    assert_eq!(daemon.get("/readyz").0, 200, "an invalid file changes nothing");
    let mut viewer = Viewer::connect(daemon.gateway(), "s1", &token("spectator", 60)).unwrap();

    home.configure(&format!("{NO_BROWSER}\n[auth]\naudience = \"this-host\"\n"));
    daemon.signal(Signal::SIGHUP);
    receive("STATUS=configuration reloaded");
    assert_eq!(Viewer::connect(daemon.gateway(), "s1", &token("spectator", 60)).err(), Some(401));
    let aimed = sign(&serde_json::json!({
        "session_id": "s1", "user_id": "u", "aud": "this-host", "exp": tokens::now() + 60
    }));
    assert!(Viewer::connect(daemon.gateway(), "s1", &aimed).is_ok());
    assert_eq!(viewer.pixels(0, 0, 2, 2).len(), 4, "a live viewer is not disturbed");

    daemon.signal(Signal::SIGTERM);
    receive("STOPPING=1");
    assert!(daemon.wait_exit(Duration::from_secs(30)).success());
}

#[test]
fn a_host_that_cannot_do_it_says_so_in_its_exit_code() {
    let home = Home::new();
    home.configure("[display]\nxvfb = \"/nonexistent/Xvfb\"");
    let mut daemon = home.start();
    assert_eq!(daemon.wait_exit(READY).code(), Some(69));
    assert!(daemon.log_text().contains("apt-get install xvfb") || daemon.log_text().contains("install xvfb"));
    home.configure("[gateway]\nlisten = \"nowhere\"");
    assert_eq!(home.start().wait_exit(READY).code(), Some(78));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.configure(&format!("[gateway]\nlisten = \"{}\"", taken.local_addr().unwrap()));
    let mut daemon = home.start();
    assert_eq!(daemon.wait_exit(READY).code(), Some(1));
    assert!(daemon.log_text().contains("Address already in use"), "{}", daemon.log_text());
    assert_eq!(leaks::processes(home.0.path()), []);
}

#[test]
fn an_external_rfb_server_is_shown_and_its_loss_shows_in_health() {
    let mut inner = Daemon::start(&format!("{NO_BROWSER}\n[display]\nrfb = \"x11vnc\""));
    inner.wait_ready();
    let socket = inner.path("run/s0/rfb.sock");
    let external = format!("{NO_BROWSER}\n[display]\nrfb = {{ address = \"unix:{}\" }}", socket.display());
    let mut outer = Daemon::start(&external);
    outer.wait_ready();
    let display = Display::of(&mut inner);
    display.fill(0, 0, 30, 30, 0x00_00_80_ff);
    let mut viewer = Viewer::connect(outer.gateway(), "s1", &token("controller", 60)).unwrap();
    wait_for("the picture", Duration::from_secs(10), || {
        viewer.pixels(5, 5, 10, 10).iter().all(|pixel| pixel[..3] == [0xff, 0x80, 0]).then_some(())
    });
    assert_eq!(
        outer.health()["components"].as_array().unwrap().len(),
        3,
        "manager, store and the server: no display of its own"
    );
    drop(display);
    inner.stop(Duration::from_secs(30));
    assert_eq!(viewer.close_code(Duration::from_secs(10)), 1012);
    wait_for("health to say so", Duration::from_secs(5), || {
        (outer.get("/health").0 == 503 && outer.component("rfb")["status"] == "failing").then_some(())
    });
    assert_eq!(outer.get("/readyz").0, 503);
    assert!(!Path::new(&socket).exists());
}

#[test]
fn an_external_rfb_server_that_is_back_is_shown_at_once() {
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let external = format!("{NO_BROWSER}\n[display]\nrfb = {{ address = \"tcp:{address}\" }}");
    let mut daemon = Daemon::start(&external);
    let gateway = daemon.gateway();
    wait_for("health to see that nobody is there", READY, || {
        (daemon.component("rfb")["status"] == "failing").then_some(())
    });
    assert_eq!(Viewer::connect(gateway, "s1", &token("spectator", 60)).err(), Some(503));
    let listener = std::net::TcpListener::bind(address).unwrap();
    let server =
        std::thread::Builder::new().name("rfb server".into()).spawn(move || greet_all(&listener)).unwrap();
    // Long before the next probe of its own accord could be relied on.
    let viewer = Viewer::connect(gateway, "s1", &token("spectator", 60)).unwrap();
    assert_eq!(viewer.size, (64, 48));
    drop(viewer);
    daemon.stop(Duration::from_secs(30));
    // Its loop ends with a connection that says nothing.
    drop(std::net::TcpStream::connect(address).unwrap());
    server.join().unwrap();
}

/// Shakes hands with every client as an RFB 3.8 server of 64 by 48 pixels, until one leaves before it has said anything.
fn greet_all(listener: &std::net::TcpListener) {
    use std::io::{Read as _, Write as _};
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut version = [0; 12];
        stream.write_all(b"RFB 003.008\n").unwrap();
        if stream.read_exact(&mut version).is_err() {
            return;
        }
        let mut init = vec![0, 64, 0, 48, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
        init.extend_from_slice(&[0, 0, 0, 1, b'x']);
        let mut byte = [0];
        // A probe leaves after the list of security types.
        let shaken = stream.write_all(&[1, 1]).and_then(|()| stream.read_exact(&mut byte));
        let shaken =
            shaken.and_then(|()| stream.write_all(&[0; 4])).and_then(|()| stream.read_exact(&mut byte));
        if shaken.and_then(|()| stream.write_all(&init)).is_ok() {
            // Serves this viewer, who asks for nothing, until it leaves.
            while matches!(stream.read(&mut byte), Ok(1)) {}
        }
    }
}
