//! What others hold of a screen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::xvfb::Display;
use super::figures::{CaptureFigures, CaptureMeter, CaptureMetrics};
use super::resizing::{Wish, Wishes};
use super::watcher::{News, Watcher};
use crate::rfb::{Cursor, Frame, SizeStatus};

/// Acts that may wait for the X server. A viewer waits with more.
const ACTS: usize = 256;

/// Something that a viewer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A key goes down or up.
    Key {
        /// Pressed, else released.
        down: bool,
        /// X keysym; 0 where only the scancode is known.
        keysym: u32,
        /// XT scancode, with 0x80 for those behind 0xE0, where it is known.
        scancode: Option<u32>,
    },
    /// The pointer is there now, with these buttons down: bit 0 is button 1, bit 8 is button 9.
    Pointer {
        /// Column.
        x: u16,
        /// Row.
        y: u16,
        /// Buttons.
        buttons: u16,
    },
    /// Text is copied, for programs to paste.
    Copy(Arc<str>),
    /// The viewer goes: what it holds down is released.
    Leave,
}

/// One viewer among those of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(u64);

impl Seat {
    /// Which it is: no two viewers of a screen have the same.
    pub fn number(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(super) const fn of(number: u64) -> Self {
        Self(number)
    }
}

/// A screen. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Screen {
    frame: watch::Receiver<Arc<Frame>>,
    cursor: watch::Receiver<Arc<Cursor>>,
    text: watch::Receiver<Option<Arc<str>>>,
    leds: watch::Receiver<u8>,
    figures: watch::Receiver<CaptureFigures>,
    acts: mpsc::Sender<(Seat, Act)>,
    /// Counts the viewers that there ever were.
    seats: Arc<AtomicU64>,
    /// None where nobody may have another size.
    wishes: Option<Wishes>,
    interest: Interest,
}

/// The task of a screen, before it runs.
pub struct ScreenTask(Watcher);

/// How many look on, and how many of those wait for a picture.
#[derive(Debug, Clone)]
pub(super) struct Interest {
    pub(super) looking: Arc<watch::Sender<usize>>,
    pub(super) waiting: Arc<watch::Sender<usize>>,
    /// How many see the pointer as a part of the picture.
    pub(super) painting: Arc<watch::Sender<usize>>,
    /// Counts those who want to know that the picture is of now, and up to which of them that was so.
    pub(super) asked: Arc<watch::Sender<u64>>,
    pub(super) answered: Arc<watch::Sender<u64>>,
    /// Viewers that have gone and may hold something: each once, until that is seen to.
    pub(super) gone: Arc<watch::Sender<Vec<Seat>>>,
}

impl Interest {
    /// Those that have gone since this was asked last.
    pub(super) fn take_gone(&self) -> Vec<Seat> {
        let mut gone = Vec::new();
        self.gone.send_if_modified(|known| {
            std::mem::swap(known, &mut gone);
            false
        });
        gone
    }
}

impl Screen {
    /// The screen of `display`, and the task that watches it. Between two frames lies `interval` at least.
    pub fn new(display: Display, interval: Duration, metrics: CaptureMetrics) -> (Self, ScreenTask) {
        let frame = watch::Sender::new(Arc::new(Frame::blank(1, 1)));
        let cursor = watch::Sender::new(Arc::default());
        let text = watch::Sender::new(None);
        let leds = watch::Sender::new(0);
        let (meter, figures) = CaptureMeter::new(metrics);
        let (acts, inbox) = mpsc::channel(ACTS);
        let wishes = Wishes::default();
        let none = || Arc::new(watch::Sender::new(0));
        let counter = || Arc::new(watch::Sender::new(0));
        let interest = Interest {
            looking: none(),
            waiting: none(),
            painting: none(),
            asked: counter(),
            answered: counter(),
            gone: Arc::default(),
        };
        let screen = Self {
            frame: frame.subscribe(),
            cursor: cursor.subscribe(),
            text: text.subscribe(),
            leds: leds.subscribe(),
            figures,
            acts,
            seats: Arc::default(),
            wishes: (!display.bounds().is_fixed()).then(|| wishes.clone()),
            interest: interest.clone(),
        };
        let news = News { frame, cursor, text, leds, meter };
        (screen, ScreenTask(Watcher::new(display, interval, news, (inbox, wishes), interest)))
    }

    /// Begins to look on, until what this gives is dropped.
    pub fn look(&self) -> Look {
        let seat = Seat(self.seats.fetch_add(1, Ordering::Relaxed));
        Look { screen: self.clone(), seat, _counted: Counted::new(&self.interest.looking) }
    }

    /// What looking at it has come to.
    pub fn figures(&self) -> CaptureFigures {
        *self.figures.borrow()
    }
}

impl ScreenTask {
    /// Watches until `over`.
    pub async fn run(self, over: CancellationToken) {
        over.run_until_cancelled_owned(self.0.run()).await;
    }
}

/// Somebody who looks on.
#[derive(Debug)]
pub struct Look {
    screen: Screen,
    seat: Seat,
    _counted: Counted,
}

impl Drop for Look {
    fn drop(&mut self) {
        // A viewer that is cut off says nothing any more, and may hold something.
        self.screen.interest.gone.send_modify(|gone| gone.push(self.seat));
    }
}

impl Look {
    /// Asks for another width and height, and tells what came of it; the frame is of the new size by then.
    pub fn resize(&self, size: (u16, u16)) -> impl Future<Output = SizeStatus> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let is_allowed = self.screen.wishes.is_some();
        if let Some(wishes) = &self.screen.wishes {
            wishes.put(Wish { size, answer });
        }
        async move {
            match answered.await {
                Ok(status) => status,
                Err(_dropped) if is_allowed => SizeStatus::NoResources,
                Err(_dropped) => SizeStatus::Prohibited,
            }
        }
    }

    /// The picture now.
    pub fn frame(&self) -> Arc<Frame> {
        Arc::clone(&self.screen.frame.borrow())
    }

    /// The pointer's image now.
    pub fn cursor(&self) -> Arc<Cursor> {
        Arc::clone(&self.screen.cursor.borrow())
    }

    /// Waits for a picture after the frame `seen`. Pictures are only taken while somebody waits. Pending for ever once there
    /// will be none. Cancel safe.
    pub async fn newer(&self, seen: u64) -> Arc<Frame> {
        let _waiting = Counted::new(&self.screen.interest.waiting);
        let mut frame = self.screen.frame.clone();
        let newer = frame.wait_for(|frame| frame.serial() > seen).await.map(|frame| Arc::clone(&frame));
        match newer {
            Ok(frame) => frame,
            Err(_ended) => std::future::pending().await,
        }
    }

    /// Waits until the picture is no older than this call; where no X server is up, it stays the last one's.
    pub fn fresh(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut number = 0;
        self.screen.interest.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        let mut answered = self.screen.interest.answered.subscribe();
        async move {
            // Its sender is kept by everybody who holds the screen.
            let _answered = answered.wait_for(|answered| *answered >= number).await;
        }
    }

    /// Waits for another image of the pointer than `known`. Cancel safe.
    pub async fn other_cursor(&self, known: &Arc<Cursor>) -> Arc<Cursor> {
        let mut cursor = self.screen.cursor.clone();
        let other =
            cursor.wait_for(|cursor| !Arc::ptr_eq(cursor, known)).await.map(|cursor| Arc::clone(&cursor));
        match other {
            Ok(cursor) => cursor,
            Err(_ended) => std::future::pending().await,
        }
    }

    /// Whether others look on as well.
    pub fn is_shared(&self) -> bool {
        *self.screen.interest.looking.borrow() > 1
    }

    /// What programs copy from now on, as it comes.
    pub fn texts(&self) -> watch::Receiver<Option<Arc<str>>> {
        let mut texts = self.screen.text.clone();
        texts.mark_unchanged();
        texts
    }

    /// The keyboard's lights as they change, as bits: 1 Scroll Lock, 2 Num Lock, 4 Caps Lock.
    pub fn leds(&self) -> watch::Receiver<u8> {
        self.screen.leds.clone()
    }

    /// Who this is among the viewers.
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// Does something on the screen, as soon as the X server takes it and if it is this viewer's turn. Whether there is anybody
    /// to do it.
    ///
    /// Somebody who did something is to do [`Act::Leave`] last.
    pub async fn act(&self, act: Act) -> bool {
        self.screen.acts.send((self.seat, act)).await.is_ok()
    }

    /// Has the pointer's place told with the frames, until what this gives is dropped.
    pub fn paints_pointer(&self) -> Counted {
        Counted::new(&self.screen.interest.painting)
    }
}

/// One more, for as long as it lives.
#[derive(Debug)]
pub struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
