//! A headless Chromium to look on with.

use std::net::SocketAddr;
use std::process::Stdio;

use super::stage::{PATIENCE, Running, command};
use crate::support::automation::Automation;
use crate::support::wait_for;

pub(super) struct Chromium {
    pub(super) automation: Automation,
    _browser: Running,
    _profile: tempfile::TempDir,
}

impl Chromium {
    pub(super) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut browser = command("chromium");
        // It shows pages of ours only, and its sandbox does not start as root.
        browser.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
        browser.args(["--remote-debugging-port=0", "about:blank"]);
        browser.arg(format!("--user-data-dir={}", profile.path().display()));
        let browser = Running::start(browser.stdout(Stdio::null()));
        let (address, path) = wait_for("Chromium's port", PATIENCE, || {
            let told = std::fs::read_to_string(profile.path().join("DevToolsActivePort")).ok()?;
            let (port, path) = told.split_once('\n')?;
            Some((SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)), path.trim().to_owned()))
        });
        let automation = Automation::connect(address, &path, &[]).unwrap();
        Self { automation, _browser: browser, _profile: profile }
    }
}
