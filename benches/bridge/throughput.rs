//! How fast a stream of picture goes through, and what that costs.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::backend::{self, Area};
use crate::client::Viewer;
use crate::report::{Pair, Row, Target};
use crate::{Bench, Bridge, Outcome};

/// One update: a quarter of a megabyte, of a size that a screen in motion has.
const AREA: Area = Area { width: 256, height: 256 };
const GIGABYTE: f64 = 1e9;

/// One bridge's stream.
struct Run {
    cpu_seconds_per_gb: f64,
    mb_per_second: f64,
}

pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let (rounds, updates) = if bench.quick { (3, 1000) } else { (5, 4000) };
    let update = backend::update(AREA);
    bench.backend.answer_with(updates);
    let mut runs = BTreeMap::<_, Vec<Run>>::new();
    for round in 0..rounds {
        for (name, bridge) in bench.in_turn(round) {
            runs.entry(name).or_default().push(stream(bridge, &update, updates)?);
        }
    }
    bench.backend.answer_with(1);
    let figures = |of: fn(&Run) -> f64| Pair::of_rounds(&runs, of);
    Ok(vec![
        Row::new("cpu_s_per_gb", "CPU seconds per GB", figures(|run| run.cpu_seconds_per_gb))
            .digits(3)
            .target(Target::RatioAtMost(0.8)),
        Row::new("mb_per_s", "MB per second, one viewer", figures(|run| run.mb_per_second)),
    ])
}

fn stream(bridge: &Bridge, update: &[u8], updates: usize) -> Outcome<Run> {
    let mut viewer = Viewer::connect(&bridge.door)?;
    viewer.ask_for_raw()?;
    let (cpu, start) = (bridge.tree.cpu_seconds()?, Instant::now());
    viewer.request(AREA, false)?;
    for _update in 0..updates {
        viewer.expect(update)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    // The viewer is still there, and so is the process that websockify has for it.
    let cpu = bridge.tree.cpu_seconds()? - cpu;
    viewer.leave()?;
    let bytes = update.len() as f64 * updates as f64;
    Ok(Run { cpu_seconds_per_gb: cpu * GIGABYTE / bytes, mb_per_second: bytes / 1e6 / seconds })
}
