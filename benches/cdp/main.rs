//! `cargo bench --bench cdp`: CDP through the gateway beside a connection straight to the DevTools port of the same browser, in
//! one run and by turns, so that what the machine does meanwhile touches both alike. Trust the ratios more than the figures.

#![expect(clippy::print_stdout, reason = "figures are what a bench is for")]

mod client;
mod daemon;
#[path = "../support/quantile.rs"]
mod quantile;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/token.rs"]
mod token;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde_json::json;

use client::Client;
use daemon::Daemon;
use quantile::quantile;

/// What goes wrong here is told to a person and ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Of the direct connection's throughput on screenshots, at least.
const MIN_RATIO: f64 = 0.90;
/// Milliseconds that the median command may take longer.
const MAX_ADDED_MS: f64 = 0.2;

/// A page whose picture does not compress, so that a screenshot is megabytes.
const NOISE: &str = "document.body.innerHTML = '<canvas width=1920 height=1080></canvas>'; \
    document.body.style.margin = 0; \
    { const c = document.querySelector('canvas').getContext('2d'), d = c.createImageData(1920, 1080); \
    for (let i = 0, s = 1; i < d.data.length; i++) { s = (s * 1103515245 + 12345) & 0x7fffffff; \
    d.data[i] = i % 4 == 3 ? 255 : s >> 16; } c.putImageData(d, 0, 0); }";

/// CDP through the gateway beside a direct connection.
#[derive(Debug, Parser)]
#[command(name = "cdp")]
struct Args {
    /// Fewer rounds: does it run, rather than how fast.
    #[arg(long)]
    quick: bool,
    /// With `cdp.own_contexts_only`, under which answers about targets are read and not only passed on.
    #[arg(long)]
    own_contexts: bool,
    /// Fail when a target is missed.
    #[arg(long)]
    check: bool,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One way to the browser, and what was measured on it.
struct Way {
    name: &'static str,
    client: Client,
    session: String,
    screenshot_bytes: f64,
    screenshot_seconds: f64,
    echo_bytes: f64,
    echo_seconds: f64,
    commands_ms: Vec<f64>,
}

impl Way {
    fn new(name: &'static str, mut client: Client) -> Outcome<Self> {
        let target = client.call(None, "Target.createTarget", json!({ "url": "about:blank" }))?;
        let params = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = client.call(None, "Target.attachToTarget", params)?;
        let session = attached["sessionId"].as_str().unwrap_or_default().to_owned();
        let metrics = json!({ "width": 1920, "height": 1080, "deviceScaleFactor": 1, "mobile": false });
        client.call(Some(&session), "Emulation.setDeviceMetricsOverride", metrics)?;
        client.call(Some(&session), "Runtime.evaluate", json!({ "expression": NOISE }))?;
        Ok(Self {
            name,
            client,
            session,
            screenshot_bytes: 0.0,
            screenshot_seconds: 0.0,
            echo_bytes: 0.0,
            echo_seconds: 0.0,
            commands_ms: Vec::new(),
        })
    }

    fn round(&mut self, rounds: &Rounds) -> Outcome<()> {
        let session = Some(self.session.as_str());
        self.client.call(session, "Page.bringToFront", json!({}))?;
        // The first after a switch of tabs waits for a frame.
        self.client.length_of(session, "Page.captureScreenshot", json!({ "format": "png" }))?;
        for _ in 0..rounds.screenshots {
            let start = Instant::now();
            let params = json!({ "format": "png", "optimizeForSpeed": true });
            self.screenshot_bytes += self.client.length_of(session, "Page.captureScreenshot", params)?;
            self.screenshot_seconds += start.elapsed().as_secs_f64();
        }
        for _ in 0..rounds.screenshots {
            let start = Instant::now();
            let params = json!({ "expression": "'x'.repeat(8000000)", "returnByValue": true });
            self.echo_bytes += self.client.length_of(session, "Runtime.evaluate", params)?;
            self.echo_seconds += start.elapsed().as_secs_f64();
        }
        for _ in 0..rounds.commands {
            let start = Instant::now();
            self.client.length_of(session, "Runtime.evaluate", json!({ "expression": "1" }))?;
            self.commands_ms.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    }
}

/// How much is measured.
struct Rounds {
    count: usize,
    screenshots: usize,
    commands: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(passed) if args.check && !passed => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome<bool> {
    let rounds = if args.quick {
        Rounds { count: 2, screenshots: 2, commands: 200 }
    } else {
        Rounds { count: 10, screenshots: 6, commands: 1000 }
    };
    let daemon = Daemon::start(args.own_contexts)?;
    let mut ways = [
        Way::new("direct", daemon.direct()?)?,
        Way::new("proxy, filtered", daemon.proxied("automation")?)?,
        Way::new("proxy, operator", daemon.proxied("operator")?)?,
    ];
    for round in 0..rounds.count {
        // Nobody is always first.
        for at in 0..ways.len() {
            let at = (at + round) % ways.len();
            if let Some(way) = ways.get_mut(at) {
                way.round(&rounds)?;
            }
        }
    }
    Ok(report(&ways))
}

fn report(ways: &[Way; 3]) -> bool {
    println!(
        "{:16} {:>16} {:>16} {:>10} {:>10}",
        "", "screenshots MB/s", "8 MB texts MB/s", "p50 ms", "p99 ms"
    );
    let megabytes = |bytes: f64, seconds: f64| bytes / seconds / 1e6;
    for way in ways {
        println!(
            "{:16} {:16.1} {:16.1} {:10.3} {:10.3}",
            way.name,
            megabytes(way.screenshot_bytes, way.screenshot_seconds),
            megabytes(way.echo_bytes, way.echo_seconds),
            quantile(&way.commands_ms, 0.5),
            quantile(&way.commands_ms, 0.99),
        );
    }
    let [direct, filtered, _] = ways;
    let speed = |way: &Way| megabytes(way.screenshot_bytes, way.screenshot_seconds);
    let ratio = speed(filtered) / speed(direct);
    let added = quantile(&filtered.commands_ms, 0.5) - quantile(&direct.commands_ms, 0.5);
    let verdict = |good| if good { "ok" } else { "MISSED" };
    println!(
        "screenshots, filtered to direct: {ratio:.3} (at least {MIN_RATIO}): {}",
        verdict(ratio >= MIN_RATIO)
    );
    println!("added at p50: {added:.3} ms (at most {MAX_ADDED_MS}): {}", verdict(added <= MAX_ADDED_MS));
    ratio >= MIN_RATIO && added <= MAX_ADDED_MS
}
