//! `cargo bench --bench rfb`: a display served by the daemon beside x11vnc, x0vncserver and Xvnc behind websockify, in one run
//! and scene by scene in turns, so that what the machine does meanwhile touches all alike. Trust the ratios more than the figures.
//!
//! The painters and the viewer are threads of this process. A painter draws the time at which it drew, and the viewer reads it in the picture that it
//! decoded: that is the latency. What a stack uses is read from `/proc`, the X server included.

#![expect(clippy::print_stdout, reason = "figures are what a bench is for")]

mod decode;
mod measure;
mod photo;
#[path = "../bridge/procstat.rs"]
mod procstat;
#[path = "../support/quantile.rs"]
mod quantile;
mod report;
mod scene;
mod stacks;
mod stamp;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/token.rs"]
mod token;
mod viewer;
mod wire;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use measure::{Figures, Settings};
use report::{Report, Row};
use scene::Scene;
use stacks::{Kind, Stack};
use support::rest;

/// What goes wrong here is told to a person and ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The size of all screens.
const SCREEN: &str = "1920x1080";

/// A thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Characters, one at a time.
    Typing,
    /// A screen of text that scrolls.
    Scroll,
    /// A window that moves.
    Windows,
    /// A video of 1280×720.
    Video720,
    /// One of the whole screen.
    Video1080,
    /// From a click to what it changes.
    Click,
    /// A viewer to whom nothing happens.
    Idle,
    /// Nobody looks.
    Unwatched,
}

/// A display served by the daemon beside others' servers.
#[derive(Debug, Parser)]
#[command(name = "rfb")]
struct Args {
    /// Only these stacks.
    #[arg(long, value_delimiter = ',')]
    stacks: Vec<Kind>,
    /// Only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Each part on each stack, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Viewers of each scene that moves. All but one only read.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    viewers: u16,
    /// Where the figures are written as well.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/../bench-rfb.json"))]
    json: PathBuf,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome<()> {
    let mut report = Report::default();
    let mut stacks = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| args.stacks.is_empty() || args.stacks.contains(kind)) {
        match kind.missing() {
            Some(program) => report.note(format!("{}: {program} is not installed", kind.name())),
            None => stacks.push(Stack::start(kind).map_err(|error| format!("{}: {error}", kind.name()))?),
        }
    }
    for stack in &stacks {
        report.note(format!("{}: {}", stack.kind.name(), stack.programs()));
    }
    let settings = Settings {
        time: Duration::from_secs(args.seconds),
        viewers: args.viewers.into(),
        epoch: Instant::now(),
    };
    for part in Part::value_variants().iter().filter(|part| args.only.is_empty() || args.only.contains(part))
    {
        let mut rows = part.rows();
        for stack in &stacks {
            if *part == Part::Unwatched && stack.kind != Kind::Valetd {
                continue;
            }
            // What one of them cannot do is told, and the others go on.
            match part.measure(stack, settings) {
                Ok(figures) => {
                    rows.iter_mut().zip(figures).for_each(|(row, figure)| row.add(stack.kind, figure))
                }
                Err(error) => report.note(format!("{part:?} on {}: {error}", stack.kind.name())),
            }
        }
        report.extend(rows);
    }
    if args.viewers > 1 {
        report.note(format!("{} viewers of each scene that moves", args.viewers));
    }
    print!("{report}");
    std::fs::write(&args.json, format!("{:#}\n", report.json()))
        .map_err(|error| format!("cannot write {}: {error}", args.json.display()))?;
    println!("written to {}", args.json.display());
    Ok(())
}

impl Part {
    /// What is drawn, and how often a second.
    fn scene(self) -> Option<(Scene, u32)> {
        Some(match self {
            Self::Typing => (Scene::Typing, 20),
            Self::Scroll => (Scene::Scroll, 30),
            Self::Windows => (Scene::Windows, 30),
            Self::Video720 => (Scene::Video { width: 1280, height: 720 }, 30),
            Self::Video1080 => (Scene::Video { width: 1920, height: 1080 }, 30),
            Self::Click | Self::Idle | Self::Unwatched => return None,
        })
    }

    fn rows(self) -> Vec<Row> {
        let name = match self {
            Self::Typing => "typing, 20/s",
            Self::Scroll => "scrolling, 30/s",
            Self::Windows => "window, 30/s",
            Self::Video720 => "video 720, 30/s",
            Self::Video1080 => "video 1080, 30/s",
            Self::Click => return measure::click_rows(),
            Self::Idle => return measure::idle_rows(),
            Self::Unwatched => return measure::unwatched_rows(),
        };
        measure::scene_rows(name)
    }

    fn measure(self, stack: &Stack, settings: Settings) -> Outcome<Figures> {
        match (self.scene(), self) {
            (Some((scene, fps)), _) => measure::scene(stack, scene, fps, settings),
            (None, Self::Idle) => measure::idle(stack, settings),
            (None, Self::Unwatched) => measure::unwatched(stack, settings),
            (None, _) => measure::clicks(stack, settings),
        }
    }
}
