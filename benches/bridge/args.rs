//! The command line: `cargo bench --bench bridge -- --quick --only latency,rate`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// A thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// CPU time and speed of a stream of picture.
    Throughput,
    /// What a bridge adds to a round trip.
    Latency,
    /// Upgrades with an RFB handshake.
    Rate,
    /// Memory of idle viewers.
    Memory,
    /// The daemon with a session of its own, which has nothing to be compared with.
    Session,
}

impl Part {
    pub(crate) const ALL: [Self; 5] =
        [Self::Throughput, Self::Latency, Self::Rate, Self::Memory, Self::Session];
}

/// valetd's relay beside Debian's websockify.
#[derive(Debug, Parser)]
#[command(name = "bridge")]
pub(crate) struct Args {
    /// Fewer and shorter rounds: does it run, rather than how fast.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the figures there as well.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Fail when a target is missed, or could not be measured.
    #[arg(long)]
    pub(crate) check: bool,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}
