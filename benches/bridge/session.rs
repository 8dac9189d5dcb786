//! The daemon with a session as it is in earnest: a display, its RFB server, and one viewer to whom nothing happens. What
//! counts is the daemon itself and its keeper; the programs that it supervises are told beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::Viewer;
use crate::daemon::{self, Picture};
use crate::procstat::{self, Tree, others, precise_cpu, pss_kib, sleeps};
use crate::report::{Pair, Row, Target};
use crate::{Outcome, rest};

/// No more bytes for so long: the picture is whole.
const QUIET: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0;

/// What was seen.
pub(crate) struct Session {
    daemon_mib: f64,
    others_mib: f64,
    cpu_percent: f64,
    sleeps_per_second: f64,
    others_names: String,
}

/// What the measurement needs and this machine lacks.
pub(crate) fn missing_program() -> Option<&'static str> {
    ["/usr/bin/Xvfb", "/usr/bin/x11vnc"].into_iter().find(|program| !Path::new(program).exists())
}

pub(crate) fn rows(session: Option<Session>) -> Vec<Row> {
    let of = |figure: fn(&Session) -> f64| Pair::of_valetd(session.as_ref().map(figure));
    let others = session.as_ref().map_or("others", |session| session.others_names.as_str());
    vec![
        Row::new("daemon_pss_mib", "daemon, 1 session, 1 viewer, MiB", of(|session| session.daemon_mib))
            .target(Target::AtMost(15.0)),
        Row::new(
            "supervised_pss_mib",
            &format!("beside it: {others}, MiB"),
            of(|session| session.others_mib),
        ),
        Row::new("idle_cpu_percent", "daemon, viewer idle, % of a core", of(|session| session.cpu_percent))
            .digits(3)
            .target(Target::AtMost(0.2)),
        Row::new(
            "sleeps_per_s",
            "daemon, viewer idle, sleeps per second",
            of(|session| session.sleeps_per_second),
        ),
    ]
}

pub(crate) fn measure(quick: bool) -> Outcome<Session> {
    let (settle, length) = if quick {
        (Duration::from_secs(2), Duration::from_secs(4))
    } else {
        (Duration::from_secs(5), Duration::from_secs(20))
    };
    let mut daemon = daemon::start(&Picture::X11vnc)?;
    let mut viewer = Viewer::connect(&daemon::door(&mut daemon)?)?;
    let screen = viewer.screen;
    viewer.ask_for_raw()?;
    viewer.request(screen, false)?;
    let bytes = viewer.drain(QUIET)?;
    let least = u64::from(screen.width) * u64::from(screen.height) * 4;
    if bytes < least {
        return Err(format!("{bytes} bytes of picture came, less than {least}").into());
    }
    viewer.request(screen, true)?;
    rest(settle);
    let session = watch(daemon::tree(&daemon), length)?;
    viewer.leave()?;
    Ok(session)
}

fn watch(tree: Tree, length: Duration) -> Outcome<Session> {
    let pids = tree.same_program();
    let cpu = || pids.iter().filter_map(|pid| precise_cpu(*pid)).sum::<f64>();
    let slept = || pids.iter().map(|pid| sleeps(*pid)).sum::<f64>();
    let (cpu_before, slept_before, start) = (cpu(), slept(), Instant::now());
    rest(length);
    let (cpu_after, slept_after, seconds) = (cpu(), slept(), start.elapsed().as_secs_f64());
    let sum = |pids: &[u32]| pids.iter().map(|pid| pss_kib(*pid)).sum::<Outcome<f64>>();
    let others = others(tree);
    let names: Vec<_> = others.iter().map(|pid| procstat::name(*pid)).collect();
    Ok(Session {
        daemon_mib: sum(&pids)? / MIB,
        others_mib: sum(&others)? / MIB,
        cpu_percent: (cpu_after - cpu_before) * 100.0 / seconds,
        sleeps_per_second: (slept_after - slept_before) / seconds,
        others_names: names.join(", "),
    })
}
