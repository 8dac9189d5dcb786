//! What a bridge adds to a round trip: a request for one pixel, and the pixel.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::backend::{self, Area};
use crate::client::{Door, Viewer};
use crate::report::{Pair, Row, Target};
use crate::{Bench, Outcome, quantile};

/// Round trips of one turn: short, so that all meet the same disturbances.
const TURN: usize = 50;
/// Untimed ones before the first turn.
const WARM_UP: usize = 200;
const DIRECT: &str = "direct";

pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let (rounds, turns) = if bench.quick { (3, 20) } else { (5, 60) };
    let pixel = backend::update(Area::PIXEL);
    let direct = Door::Direct(bench.backend.address);
    let mut viewers = BTreeMap::new();
    for (name, bridge) in bench.in_turn(0) {
        viewers.insert(name, Viewer::connect(&bridge.door)?);
    }
    viewers.insert(DIRECT, Viewer::connect(&direct)?);
    for viewer in viewers.values_mut() {
        viewer.ask_for_raw()?;
        for _trip in 0..WARM_UP {
            round_trip(viewer, &pixel)?;
        }
    }
    let mut added = BTreeMap::<_, Vec<(f64, f64)>>::new();
    for _round in 0..rounds {
        let mut times = BTreeMap::<_, Vec<f64>>::new();
        for _turn in 0..turns {
            for (name, viewer) in &mut viewers {
                let times = times.entry(*name).or_default();
                for _trip in 0..TURN {
                    times.push(round_trip(viewer, &pixel)?);
                }
            }
        }
        let floor = times.remove(DIRECT).unwrap_or_default();
        for (name, times) in times {
            let over = |share| quantile(&times, share) - quantile(&floor, share);
            added.entry(name).or_default().push((over(0.5), over(0.99)));
        }
    }
    for (_name, viewer) in viewers {
        viewer.leave()?;
    }
    let figures = |of: fn(&(f64, f64)) -> f64| Pair::of_rounds(&added, of);
    Ok(vec![
        Row::new("added_p50_us", "added to a round trip, p50, µs", figures(|(p50, _)| *p50))
            .target(Target::RatioAtMost(0.4)),
        Row::new("added_p99_us", "added to a round trip, p99, µs", figures(|(_, p99)| *p99))
            .target(Target::RatioAtMost(0.5)),
    ])
}

/// In microseconds.
fn round_trip(viewer: &mut Viewer, pixel: &[u8]) -> Outcome<f64> {
    let start = Instant::now();
    viewer.request(Area::PIXEL, false)?;
    viewer.expect(pixel)?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}
