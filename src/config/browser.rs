//! `[browser]`.

use std::collections::BTreeMap;

use super::document::{Document, Show};
use crate::browser::{Config, check_page};

const DEFAULT_PROGRAM: &str = "/usr/bin/chromium";
/// Loads nothing and nobody.
const DEFAULT_START_URL: &str = "about:blank";
/// Schemes that open a page. `javascript:` and `chrome:` act on the browser.
const SCHEMES: [&str; 5] = ["https", "http", "about", "data", "file"];
/// Most further arguments.
const MAX_ARGS: usize = 64;

/// Switches that would undo what this daemon is for, by how they begin, and why.
const REFUSED: [(&str, &str); 19] = [
    ("no-sandbox", NO_SANDBOX),
    ("disable-setuid-sandbox", NO_SANDBOX),
    ("disable-namespace-sandbox", NO_SANDBOX),
    ("disable-seccomp-filter-sandbox", NO_SANDBOX),
    ("disable-gpu-sandbox", NO_SANDBOX),
    ("no-zygote", NO_SANDBOX),
    ("single-process", NO_SANDBOX),
    ("renderer-cmd-prefix", NO_SANDBOX),
    ("utility-cmd-prefix", NO_SANDBOX),
    ("gpu-launcher", NO_SANDBOX),
    ("browser-subprocess-path", NO_SANDBOX),
    ("remote-debugging-", "would open the browser's control port past the gateway"),
    ("remote-allow-origins", "would let web pages reach the browser's control port"),
    ("disable-web-security", "would let any page read every other page's data"),
    ("user-data-dir", "is set by the session, whose profile it locks and keeps"),
    ("display", "is set by the session's own display"),
    ("headless", "would leave nothing on the display to see"),
    ("ozone-platform", "would leave the session's display"),
    ("load-and-launch-app", "would replace the browser's window"),
];
const NO_SANDBOX: &str = "would take the sandbox away, the wall between a web page and this host";

/// `None` where no browser is wanted.
pub(super) fn browser(document: &mut Document) -> Option<Config> {
    let mut section = document.section("browser");
    let enabled = section.boolean("enabled", true);
    let program = section.path("program", DEFAULT_PROGRAM);
    let start_url = section.parsed("start_url", start_url).unwrap_or_else(|| DEFAULT_START_URL.to_owned());
    let mut refused = Vec::new();
    let given = section.checked("extra_args", Show::Value, |args: Vec<String>| {
        if args.len() > MAX_ARGS {
            return Err(format!("must be {MAX_ARGS} at most"));
        }
        refused = args.iter().enumerate().filter_map(|(index, arg)| Some((index, refusal(arg)?))).collect();
        Ok(args)
    });
    for (index, problem) in refused {
        // Without the value: it may hold a proxy's password.
        section.refuse_item("extra_args", index, None, problem);
    }
    section.finish();
    let extra_args = given.unwrap_or_default();
    enabled.then(|| Config { program, start_url, extra_args, proxy: None, env: BTreeMap::new() })
}

fn start_url(text: &str) -> Result<String, String> {
    check_page(text, &SCHEMES).map(|()| text.to_owned())
}

/// Why an argument is not taken.
fn refusal(arg: &str) -> Option<String> {
    // Chromium takes a switch with one dash as well, and ends them at a bare `--`.
    let Some(switch) =
        arg.strip_prefix("--").filter(|name| name.starts_with(|c: char| c.is_ascii_alphanumeric()))
    else {
        return Some("must begin with \"--\" and a name; the page to open is browser.start_url".to_owned());
    };
    let name = switch.split('=').next().unwrap_or(switch).to_ascii_lowercase();
    if arg.chars().any(char::is_control) {
        return Some("must have no control characters".to_owned());
    }
    let hit = REFUSED.iter().find(|(start, _)| match start.strip_suffix('-') {
        Some(_) => name.starts_with(start),
        None => name == *start || (*start == "no-zygote" && name.starts_with(start)),
    });
    hit.map(|(_, why)| format!("--{name} is refused: it {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_that_take_protection_away_are_refused_however_they_are_written() {
        for bad in [
            "--no-sandbox",
            "--NO-Sandbox",
            "--no-sandbox=1",
            "-no-sandbox",
            "--disable-setuid-sandbox",
            "--disable-namespace-sandbox",
            "--remote-debugging-port=9222",
            "--remote-debugging-pipe",
            "--remote-debugging-address=0.0.0.0",
            "--remote-allow-origins=*",
            "--user-data-dir=/tmp/x",
            "--single-process",
            "--no-zygote",
            "--no-zygote-sandbox",
            "--disable-web-security",
            "--",
            "---no-sandbox",
            "https://example.org",
            "--lang=de\u{0}",
        ] {
            assert!(refusal(bad).is_some(), "{bad}");
        }
        for good in ["--lang=de", "--disable-features=Translate", "--display-something", "--mute-audio"] {
            assert_eq!(refusal(good), None, "{good}");
        }
    }

    #[test]
    fn a_start_url_cannot_be_a_switch_or_act_on_the_browser() {
        for good in
            ["about:blank", "https://example.org/?a=b#c", "data:text/html,x", "file:///srv/start.html"]
        {
            assert_eq!(start_url(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "--no-sandbox", "example.org", "javascript:alert(1)", "chrome://settings", "https://a b"]
        {
            assert!(start_url(bad).is_err(), "{bad}");
        }
    }
}
