//! What a viewer of a stack sees of a scene, and what that costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::procstat::sleeps;
use crate::quantile::quantile;
use crate::report::{Better, Row};
use crate::scene::{Painting, Scene, flipper};
use crate::stacks::Stack;
use crate::viewer::Viewer;
use crate::{Outcome, rest, stamp};

/// For a server to get into its stride.
const SETTLE: Duration = Duration::from_secs(1);
/// A click whose effect is not seen by then is lost.
const LOST: Duration = Duration::from_secs(2);
/// Between clicks: a moment that follows no server's clock.
const PAUSES: [u64; 7] = [37, 61, 43, 83, 53, 71, 47];

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Each scene on each stack.
    pub(crate) time: Duration,
    /// Of which one is asked and the others are only there.
    pub(crate) viewers: usize,
    pub(crate) epoch: Instant,
}

/// The figures of one stack, in the order of their rows.
pub(crate) type Figures = Vec<f64>;

/// Rows of a scene that is drawn.
pub(crate) fn scene_rows(name: &str) -> Vec<Row> {
    vec![
        Row::new(name, "latency p50, ms", Better::Less, 1),
        Row::new(name, "latency p95, ms", Better::Less, 1),
        Row::new(name, "frames per second", Better::More, 1),
        Row::new(name, "KiB per second", Better::Less, 0),
        Row::new(name, "CPU, % of a core", Better::Less, 1),
    ]
}

/// Draws `scene` at `fps`, and looks at its stamps.
pub(crate) fn scene(stack: &Stack, scene: Scene, fps: u32, settings: Settings) -> Outcome<Figures> {
    let Settings { time, viewers, epoch } = settings;
    stack.settle()?;
    let painting = Painting::start(&stack.display, scene, fps, epoch)?;
    let crowd = Crowd::gather(stack, viewers - 1)?;
    let mut viewer = Viewer::connect(&stack.door, false)?;
    viewer.run(Instant::now() + SETTLE, |_| false)?;
    let Some(mut last) = stamp::read(&viewer.picture) else { return Err("no stamp is seen".into()) };
    let (cpu, bytes, start) = (stack.cpu_seconds()?, viewer.received(), Instant::now());
    let (mut latencies, mut unreadable) = (Vec::new(), 0);
    viewer.run(start + time, |picture| {
        match stamp::read(picture) {
            Some(drawn) if drawn > last => {
                last = drawn;
                latencies
                    .push(epoch.elapsed().saturating_sub(Duration::from_micros(drawn)).as_secs_f64() * 1e3);
            }
            Some(_) => {}
            None => unreadable += 1,
        }
        false
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let (cpu, bytes) = (stack.cpu_seconds()? - cpu, viewer.received() - bytes);
    crowd.leave()?;
    painting.end()?;
    if latencies.is_empty() || unreadable > latencies.len() / 10 {
        return Err(format!("{} stamps were read, and {unreadable} not", latencies.len()).into());
    }
    Ok(vec![
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.95),
        f64::from(u32::try_from(latencies.len())?) / seconds,
        f64::from(u32::try_from(bytes / 1024)?) / seconds,
        cpu * 100.0 / seconds,
    ])
}

/// Rows of clicks.
pub(crate) fn click_rows() -> Vec<Row> {
    vec![
        Row::new("click to pixel", "latency p50, ms", Better::Less, 1),
        Row::new("click to pixel", "latency p95, ms", Better::Less, 1),
    ]
}

/// Clicks, and waits for what a program draws in answer.
pub(crate) fn clicks(stack: &Stack, settings: Settings) -> Outcome<Figures> {
    let (x, y) = flipper(&stack.display)?;
    let mut viewer = Viewer::connect(&stack.door, false)?;
    viewer.pointer(false, x, y)?;
    let is_white =
        move |picture: &crate::decode::Picture| stamp::brightness(picture.at(x.into(), y.into())) > 3 * 128;
    viewer.run(Instant::now() + SETTLE, |_| false)?;
    let mut wanted = !is_white(&viewer.picture);
    let (mut latencies, mut lost) = (Vec::new(), 0);
    let end = Instant::now() + settings.time;
    for pause in PAUSES.into_iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        let clicked = Instant::now();
        viewer.pointer(true, x, y)?;
        let seen = viewer.run(clicked + LOST, |picture| is_white(picture) == wanted)?;
        let took = clicked.elapsed();
        viewer.pointer(false, x, y)?;
        if seen {
            latencies.push(took.as_secs_f64() * 1e3);
            wanted = !wanted;
        } else {
            lost += 1;
        }
        viewer.run(Instant::now() + Duration::from_millis(pause), |_| false)?;
    }
    if latencies.is_empty() || lost > latencies.len() / 10 {
        return Err(format!("{} clicks had an effect, and {lost} none", latencies.len()).into());
    }
    Ok(vec![quantile(&latencies, 0.5), quantile(&latencies, 0.95)])
}

/// Rows of a screen at rest.
pub(crate) fn idle_rows() -> Vec<Row> {
    vec![
        Row::new("idle, a viewer", "CPU, % of a core", Better::Less, 2),
        Row::new("idle, a viewer", "memory, MiB", Better::Less, 1),
    ]
}

/// A viewer to whom nothing happens.
pub(crate) fn idle(stack: &Stack, settings: Settings) -> Outcome<Figures> {
    stack.settle()?;
    let mut viewer = Viewer::connect(&stack.door, false)?;
    viewer.run(Instant::now() + SETTLE * 2, |_| false)?;
    let (cpu, start) = (stack.cpu_seconds()?, Instant::now());
    viewer.run(start + settings.time, |_| false)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(vec![(stack.cpu_seconds()? - cpu) * 100.0 / seconds, stack.memory_mib()?])
}

/// Rows of nobody looking; only the daemon's own processes count, and only it is looked at.
pub(crate) fn unwatched_rows() -> Vec<Row> {
    vec![
        Row::new("no viewer, video", "daemon sleeps a s", Better::Less, 1),
        Row::new("no viewer, rest", "daemon sleeps a s", Better::Less, 1),
        Row::new("no viewer", "daemon memory, MiB", Better::Less, 1),
    ]
}

/// How often the daemon wakes up while nobody looks at a video, and while there is none.
pub(crate) fn unwatched(stack: &Stack, settings: Settings) -> Outcome<Figures> {
    let pids = stack.daemon_pids();
    let slept = || pids.iter().map(|pid| sleeps(*pid)).sum::<f64>();
    let rate = || {
        rest(SETTLE);
        let (before, start) = (slept(), Instant::now());
        rest(settings.time);
        (slept() - before) / start.elapsed().as_secs_f64()
    };
    let still = rate();
    let painting =
        Painting::start(&stack.display, Scene::Video { width: 1280, height: 720 }, 30, settings.epoch)?;
    let moving = rate();
    painting.end()?;
    Ok(vec![moving, still, stack.daemon_mib()?])
}

/// Viewers that are only there.
struct Crowd {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Outcome<()>>>,
}

impl Crowd {
    fn gather(stack: &Stack, count: usize) -> Outcome<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _viewer in 0..count {
            let mut viewer = Viewer::connect(&stack.door, true)?;
            let over = Arc::clone(&over);
            threads.push(thread::Builder::new().name("crowd".into()).spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    viewer.run(Instant::now() + Duration::from_millis(100), |_| false)?;
                }
                Ok(())
            })?);
        }
        Ok(Self { over, threads })
    }

    fn leave(self) -> Outcome<()> {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a viewer panicked")??;
        }
        Ok(())
    }
}
