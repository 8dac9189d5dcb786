//! `cargo bench --bench create`: how long a session takes from the request until it is ready, beside Xvfb and Chromium
//! started by hand in the same run, and from spares. Trust the ratios more than the figures.
//!
//! Needs root, as the daemon does to give each session a uid of its own: by hand the two run under a plain uid as well.

#![expect(clippy::print_stdout, reason = "figures are what a bench is for")]

mod api;
mod by_hand;
mod daemon;
#[path = "../support/mod.rs"]
mod support;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use api::Api;
use support::rest;

/// What goes wrong here is told to a person and ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A cold session may take so much longer than its two programs started by hand.
const MOST_COLD_RATIO: f64 = 1.3;
/// A session from a spare with a browser.
const MOST_WARM_MS: f64 = 50.0;

/// A browser that has just come up is busy with itself for a while; most spares wait longer than this.
const SETTLED: Duration = Duration::from_secs(2);
/// A page other than that of the spare.
const PAGE: &str = "data:text/html,<title>asked-for</title>";

/// Sessions beside their programs started by hand.
#[derive(Debug, Parser)]
#[command(name = "create")]
struct Args {
    /// Sessions of each kind.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Fail when a target is missed.
    #[arg(long)]
    check: bool,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) if args.check => ExitCode::FAILURE,
        Ok(false) => ExitCode::SUCCESS,
        Err(error) => {
            println!("create: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and tells; whether all targets are met.
fn run(args: &Args) -> Outcome<bool> {
    let (mut hand, mut cold) = (Vec::new(), Vec::new());
    let mut daemon = daemon::start(0)?;
    let api = Api::of(&mut daemon)?;
    // Once each uncounted: the first ones read programs from the disk.
    for round in 0..=args.rounds {
        let by_hand = by_hand::start_once()?;
        let created = create(&api, "cold", None)?;
        if round > 0 {
            hand.push(by_hand);
            cold.push(created);
        }
    }
    drop(daemon);

    let mut daemon = daemon::start(1)?;
    let api = Api::of(&mut daemon)?;
    let (mut warm, mut page) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        api.wait_for_spare()?;
        warm.push(create(&api, "browser", None)?);
        api.wait_for_spare()?;
        rest(SETTLED);
        page.push(create(&api, "browser", Some(PAGE))?);
    }

    let (hand, cold) = (Spread::of(hand), Spread::of(cold));
    let (warm, page) = (Spread::of(warm), Spread::of(page));
    let ratio = cold.median / hand.median;
    println!("from the request until everything answers, milliseconds ({} rounds)\n", args.rounds);
    println!("{:<44} {:>8} {:>8} {:>8}", "", "least", "median", "p95");
    println!("{:<44} {hand}", "Xvfb and Chromium by hand");
    println!("{:<44} {cold}", "session, cold (with its own uid)");
    println!("{:<44} {warm}", "session, from a spare with a browser");
    println!("{:<44} {page}", "the same, rested, on its way to a page");
    let met = [ratio <= MOST_COLD_RATIO, warm.p95 <= MOST_WARM_MS];
    println!("\ncold, ratio of medians: {ratio:.2} (at most {MOST_COLD_RATIO}: {})", word(met[0]));
    println!("warm, p95: {:.1} ms (at most {MOST_WARM_MS:.0}: {})", warm.p95, word(met[1]));
    Ok(met.iter().all(|met| *met))
}

fn create(api: &Api, warmth: &str, page: Option<&str>) -> Outcome<Duration> {
    let (session, took) = api.create(page)?;
    if session["warmth"] != warmth {
        return Err(format!("a session that should be {warmth}: {session}").into());
    }
    api.delete(session["session_id"].as_str().unwrap_or_default())?;
    Ok(took)
}

fn word(met: bool) -> &'static str {
    if met { "ok" } else { "missed" }
}

/// Least, median and 95th percentile, in milliseconds.
struct Spread {
    least: f64,
    median: f64,
    p95: f64,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |part: usize| {
            let index = (times.len() * part / 100).min(times.len().saturating_sub(1));
            times.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0
        };
        Self { least: at(0), median: at(50), p95: at(95) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>8.1} {:>8.1} {:>8.1}", self.least, self.median, self.p95)
    }
}
