//! The life of the packet filter's rules: there before the first session, gone with the daemon however it ends, and
//! nobody else's touched.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::attacks::tables;
use crate::support::daemon::{Daemon, Home};
use crate::support::net::{in_own_network, run};
use crate::support::{leaks, wait_for};

const FILTERED: &str = "[isolation]\nnetwork = \"filtered\"\n[browser]\nenabled = false\n";

#[test]
fn f45_a_killed_daemons_rules_go_with_its_sessions_and_others_stay() {
    in_own_network(|_world| {
        run("nft", &["add", "table", "inet", "somebody_elses"]);
        let home = Home::new();
        home.configure(FILTERED);
        let mut daemon = home.start();
        daemon.wait_ready();
        let before = tables();
        assert_eq!(before.len(), 1);
        daemon.signal(Signal::SIGKILL);
        daemon.wait_exit(Duration::from_secs(5));
        wait_for("the keeper's work", Duration::from_secs(20), || {
            (tables().is_empty() && leaks::processes(&daemon.dir).is_empty()).then_some(())
        });
        assert!(!daemon.path("run/s0").exists());

        // What even the keeper could not remove is replaced by the next daemon on this state directory, not added to.
        let name = before.iter().next().unwrap().strip_prefix("table inet ").unwrap().to_owned();
        run("nft", &["add", "table", "inet", &name]);
        run("nft", &["add", "chain", "inet", &name, "stale"]);
        let mut daemon = home.start();
        daemon.wait_ready();
        assert_eq!(tables(), before);
        assert!(!run("nft", &["list", "table", "inet", &name]).contains("stale"));
        daemon.stop(Duration::from_secs(30));
        assert!(tables().is_empty());
        assert!(run("nft", &["list", "tables"]).contains("somebody_elses"));
    });
}

#[test]
fn without_the_program_for_rules_no_session_starts_and_the_remedy_is_named() {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: nothing was tested");
        return;
    }
    let home = Home::new();
    home.configure(
        "[isolation]\nnetwork = \"auto\"\nnft = \"/nonexistent/nft\"\n[browser]\nenabled = false\n",
    );
    let mut daemon = home.start();
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).code(), Some(69));
    let log = daemon.log_text();
    for needed in ["isolation.nft = /nonexistent/nft", "nftables", "isolation.network"] {
        assert!(log.contains(needed), "{log}");
    }
}

#[test]
fn rules_that_do_not_hold_are_found_out_before_the_first_session() {
    in_own_network(|_world| {
        // A program that takes every rule and does nothing, as a broken kernel might.
        let daemon = Home::new();
        daemon.configure(
            "[isolation]\nnetwork = \"filtered\"\nnft = \"/bin/true\"\n[browser]\nenabled = false\n",
        );
        let mut daemon: Daemon = daemon.start();
        assert_eq!(daemon.wait_exit(Duration::from_secs(20)).code(), Some(1));
        let log = daemon.log_text();
        assert!(
            log.contains("the packet filter is not in force: uid 29999 could connect to 127.0.0.1:"),
            "{log}"
        );
    });
}
