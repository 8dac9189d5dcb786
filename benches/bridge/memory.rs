//! What a viewer that has its picture and sees nothing change holds on to.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backend::{self, Area};
use crate::client::Viewer;
use crate::report::{Pair, Row, Target};
use crate::{Bench, Bridge, Outcome, rest};

const VIEWERS: usize = 50;
/// Before memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let mut runs = BTreeMap::new();
    for (name, bridge) in bench.in_turn(0) {
        runs.insert(name, vec![per_viewer_kib(bridge)?]);
    }
    let row = Row::new(
        "pss_kib_per_viewer",
        "memory per idle viewer of 50, KiB",
        Pair::of_rounds(&runs, |kib| *kib),
    );
    Ok(vec![row.target(Target::AtMost(64.0))])
}

fn per_viewer_kib(bridge: &Bridge) -> Outcome<f64> {
    let update = backend::update(Area::SCREEN);
    // What is set up once is no viewer's.
    let mut first = Viewer::connect(&bridge.door)?;
    see_everything(std::slice::from_mut(&mut first), &update)?;
    first.leave()?;
    rest(SETTLE);
    let before = bridge.tree.pss_kib()?;
    let mut viewers = Vec::new();
    for _viewer in 0..VIEWERS {
        viewers.push(Viewer::connect(&bridge.door)?);
    }
    see_everything(&mut viewers, &update)?;
    rest(SETTLE);
    let after = bridge.tree.pss_kib()?;
    for viewer in viewers {
        viewer.leave()?;
    }
    Ok((after - before) / VIEWERS as f64)
}

/// The whole screen to all at once, as when everything on it changes; then each waits for the next change.
fn see_everything(viewers: &mut [Viewer], update: &[u8]) -> Outcome<()> {
    for viewer in &mut *viewers {
        viewer.ask_for_raw()?;
        viewer.request(Area::SCREEN, false)?;
    }
    for viewer in viewers {
        viewer.expect(update)?;
        viewer.request(Area::SCREEN, true)?;
    }
    Ok(())
}
