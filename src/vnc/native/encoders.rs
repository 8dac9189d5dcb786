//! The threads that encode, for all displays of the host.

use std::collections::VecDeque;
use std::io;
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::turns::Turns;
use crate::rfb::encode::{Encoder, Error};

/// However many processors there are.
const MOST_THREADS: usize = 16;
/// The daemon's other threads go first where processors are short; by little, since a browser that draws what is encoded would as
/// well, where it is not weighed against the daemon as a group.
const NICE: i32 = 1;

/// A handle on the threads. They are started when there is work for the first time, one for each processor, and end with the
/// last handle. Cheap to clone.
#[derive(Clone, Default)]
pub struct Encoders(Arc<Owner>);

#[derive(Default)]
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Of work that is done where it comes up; no more than were busy with that at once.
    desks: Mutex<Vec<Desk>>,
}

#[derive(Default)]
struct Queue {
    turns: Turns<Work>,
    is_over: bool,
}

/// Something to encode, which tells its outcome itself, and that it panicked too. It must not hold the last [`Encoders`].
pub(super) type Work = Box<dyn FnOnce(&mut Desk) + Send>;

/// What a thread encodes with; its encoder is made when it is first needed: it has tables of some hundred KiB.
#[derive(Default)]
pub(super) struct Desk(Option<Encoder>);

impl Desk {
    pub(super) fn encoder(&mut self) -> Result<&mut Encoder, Error> {
        Ok(match &mut self.0 {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new()?),
        })
    }
}

impl Encoders {
    /// Queues the pieces of an update of `display`.
    ///
    /// # Errors
    /// When no thread can be started; nothing is queued then.
    pub(super) fn add(&self, display: usize, pieces: VecDeque<Work>) -> io::Result<()> {
        self.start()?;
        lock(&self.0.shared.queue).turns.add(display, pieces);
        self.0.shared.wake.notify_all();
        Ok(())
    }

    /// Does work where it comes up.
    pub(super) fn at_once(&self, work: impl FnOnce(&mut Desk)) {
        let desk = lock(&self.0.shared.desks).pop();
        let mut desk = desk.unwrap_or_default();
        work(&mut desk);
        lock(&self.0.shared.desks).push(desk);
    }

    fn start(&self) -> io::Result<()> {
        let mut threads = lock(&self.0.threads);
        if !threads.is_empty() {
            return Ok(());
        }
        let count = std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        for _ in 0..count {
            let shared = Arc::clone(&self.0.shared);
            let thread = std::thread::Builder::new().name("encoder".to_owned()).spawn(move || shared.run());
            match thread {
                Ok(thread) => threads.push(thread),
                // Fewer do as well.
                Err(error) if !threads.is_empty() => {
                    tracing::warn!(%error, threads = threads.len(), "not all threads for encoding can be started");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Owner {
    /// Waits for the pieces that are being encoded.
    fn drop(&mut self) {
        lock(&self.shared.queue).is_over = true;
        self.shared.wake.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a thread that encodes panicked");
            }
        }
    }
}

impl Shared {
    fn run(&self) {
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(%error, "a thread that encodes keeps its priority");
        }
        let mut desk = Desk::default();
        while let Some(work) = self.next() {
            work(&mut desk);
        }
    }

    fn next(&self) -> Option<Work> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.is_over {
                return None;
            }
            if let Some(work) = queue.turns.next() {
                return Some(work);
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What is locked here is whole whenever the lock is free.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
