//! `cargo bench --bench bridge`: valetd's relay beside Debian's websockify, in one run and with the same RFB server behind
//! both, so that what the machine does meanwhile touches both alike. Trust the ratios more than the figures.
//!
//! The RFB server and the viewers are threads of this process; what a bridge uses is read from `/proc` for its processes
//! alone.

#![expect(clippy::print_stdout, reason = "figures are what a bench is for")]

mod args;
mod backend;
mod client;
mod daemon;
mod latency;
mod memory;
mod procstat;
#[path = "../support/quantile.rs"]
mod quantile;
mod rate;
mod report;
mod session;
#[path = "../support/mod.rs"]
mod support;
mod throughput;
#[path = "../support/token.rs"]
mod token;
mod websockify;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Part};
use backend::Backend;
use client::Door;
use daemon::Picture;
use procstat::Tree;
use quantile::quantile;
use report::{Report, Row};
use support::rest;
use websockify::Websockify;

/// What goes wrong here is told to a person and ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// One part of the comparison.
type Measure = fn(&Bench) -> Outcome<Vec<Row>>;

/// A bridge that runs.
struct Bridge {
    door: Door,
    tree: Tree,
}

/// What all bridges are measured with. The one of valetd comes last; websockify may be missing.
struct Bench {
    backend: Backend,
    websockify: Option<Bridge>,
    valetd: Bridge,
    quick: bool,
}

impl Bench {
    /// The bridges in an order that changes from round to round, so that neither is always first.
    fn in_turn(&self, round: usize) -> Vec<(&'static str, &Bridge)> {
        let mut bridges = Vec::new();
        bridges.extend(self.websockify.as_ref().map(|bridge| ("websockify", bridge)));
        bridges.push(("valetd", &self.valetd));
        if round % 2 == 1 {
            bridges.reverse();
        }
        bridges
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(report) if args.check && !report.passed() => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome<Report> {
    let mut report = Report::default();
    if Part::ALL.iter().any(|part| *part != Part::Session && args.wants(*part)) {
        compare(args, &mut report)?;
    }
    if args.wants(Part::Session) {
        match session::missing_program() {
            Some(program) => {
                let why = format!("session: {program} is not installed");
                report.skip(&why, session::rows(None));
            }
            None => report.extend(session::rows(Some(session::measure(args.quick)?))),
        }
    }
    print!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{:#}\n", report.json()))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(report)
}

fn compare(args: &Args, report: &mut Report) -> Outcome<()> {
    let backend = Backend::start()?;
    let mut daemon = daemon::start(&Picture::External(backend.address))?;
    let websockify = Websockify::start(backend.address)?;
    if websockify.is_none() {
        report.note("websockify is not installed (apt install websockify): nothing to compare with");
    }
    let valetd = Bridge { door: daemon::door(&mut daemon)?, tree: daemon::tree(&daemon) };
    let websockify_bridge = websockify.as_ref().map(Websockify::bridge);
    let bench = Bench { backend, websockify: websockify_bridge, valetd, quick: args.quick };
    let parts: [(Part, Measure); 4] = [
        (Part::Throughput, throughput::measure),
        (Part::Latency, latency::measure),
        (Part::Rate, rate::measure),
        (Part::Memory, memory::measure),
    ];
    for (part, measure) in parts {
        if args.wants(part) {
            report.extend(
                measure(&bench).map_err(|error| format!("{part:?}: {error}\n{}", daemon.last_words()))?,
            );
        }
    }
    Ok(())
}
