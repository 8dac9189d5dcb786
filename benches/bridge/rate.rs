//! How many viewers can come, one after another: connection, upgrade (with valetd: the token checked), RFB up to ServerInit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::Viewer;
use crate::report::{Pair, Row, Target};
use crate::{Bench, Bridge, Outcome};

/// One bridge's turn.
struct Run {
    per_second: f64,
    cpu_ms: f64,
}

pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let (rounds, length) =
        if bench.quick { (3, Duration::from_millis(700)) } else { (5, Duration::from_millis(1500)) };
    let mut runs = BTreeMap::<_, Vec<Run>>::new();
    for round in 0..rounds {
        for (name, bridge) in bench.in_turn(round) {
            runs.entry(name).or_default().push(connect_for(bridge, length)?);
        }
    }
    let figures = |of: fn(&Run) -> f64| Pair::of_rounds(&runs, of);
    Ok(vec![
        Row::new("connections_per_s", "upgrades + RFB handshakes per second", figures(|run| run.per_second))
            .target(Target::RatioAtLeast(8.0)),
        Row::new("cpu_ms_per_connection", "CPU of each, ms", figures(|run| run.cpu_ms)).digits(3),
    ])
}

fn connect_for(bridge: &Bridge, length: Duration) -> Outcome<Run> {
    let cpu = bridge.tree.settled_cpu_seconds()?;
    let start = Instant::now();
    let mut count = 0.0;
    while start.elapsed() < length {
        Viewer::connect(&bridge.door)?.leave()?;
        count += 1.0;
    }
    let seconds = start.elapsed().as_secs_f64();
    // What the last ones cost to end belongs to them.
    let cpu = bridge.tree.settled_cpu_seconds()? - cpu;
    Ok(Run { per_second: count / seconds, cpu_ms: cpu * 1e3 / count })
}
