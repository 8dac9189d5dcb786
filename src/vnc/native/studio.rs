//! Where pictures of one display are encoded, each rectangle once for all viewers of a class.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::encoders::{Desk, Encoders, Work, lock};
use crate::rfb::Frame;
use crate::rfb::client_message::Area;
use crate::rfb::encode::{Class, Encoded, Error, pieces};

/// Encoded bytes that are kept for the next viewer; a picture of 1920×1080 in JPEG has a tenth of it.
const KEPT: usize = 8 << 20;
/// Bytes that a rectangle takes beside its own, about.
const OVERHEAD: usize = 256;
/// Pixels that are encoded where they are needed, since that takes less time than asking somebody else.
const AT_ONCE: u32 = 16 << 10;

/// What is encoded of a display. Cheap to clone.
#[derive(Clone)]
pub struct Studio {
    encoders: Encoders,
    shelf: Arc<Mutex<Shelf>>,
}

/// What was encoded, and what is being encoded.
#[derive(Default)]
struct Shelf {
    kept: HashMap<(Class, Area), (u64, Encoded)>,
    bytes: usize,
    making: HashMap<Piece, Vec<Waiter>>,
}

/// A rectangle as it was at the newest change in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Piece {
    class: Class,
    area: Area,
    version: u64,
}

/// The update that a piece is for, and its place there.
struct Waiter {
    order: Arc<Mutex<Order>>,
    place: usize,
}

/// An update that a viewer waits for.
struct Order {
    pieces: Vec<Option<Encoded>>,
    /// Taken when it is told; closed when nobody waits.
    done: Option<oneshot::Sender<Outcome>>,
}

type Outcome = Result<Vec<Encoded>, Arc<Error>>;

impl Studio {
    /// Of another display, encoded by threads that all share.
    pub fn new(encoders: &Encoders) -> Self {
        Self { encoders: encoders.clone(), shelf: Arc::default() }
    }

    /// The rectangles of `frame` that make up `areas`. `shared`: whether somebody else may want them too. What is not begun when
    /// this is dropped never is, unless somebody else waits for it.
    ///
    /// # Errors
    /// When they cannot be encoded, for lack of memory.
    pub(super) async fn encode(
        &self,
        frame: &Arc<Frame>,
        class: Class,
        areas: Vec<Area>,
        shared: bool,
    ) -> Outcome {
        let pixels = |area: &Area| u32::from(area.width) * u32::from(area.height);
        let is_small = areas.iter().map(pixels).fold(0, u32::saturating_add) <= AT_ONCE;
        let (done, outcome) = oneshot::channel();
        let missing = self.order(frame, class, &areas, shared, done);
        if is_small {
            self.encoders.at_once(|desk| {
                missing.iter().for_each(|piece| make(&self.shelf, frame, *piece, shared, desk));
            });
        } else if !missing.is_empty() {
            let work = |piece: &Piece| -> Work {
                let (shelf, frame, piece) = (Arc::clone(&self.shelf), Arc::clone(frame), *piece);
                Box::new(move |desk| make(&shelf, &frame, piece, shared, desk))
            };
            let work: VecDeque<Work> = missing.iter().map(work).collect();
            if let Err(error) = self.encoders.add(Arc::as_ptr(&self.shelf).addr(), work) {
                let error = Arc::new(Error::Worker(error));
                missing.iter().for_each(|piece| tell(&self.shelf, piece, &Err(Arc::clone(&error)), shared));
            }
        }
        outcome.await.unwrap_or_else(|_ended| {
            Err(Arc::new(Error::Worker(io::Error::other("the daemon encodes no more"))))
        })
    }

    /// Notes who waits for what, and gives what of it nobody encodes yet.
    fn order(
        &self,
        frame: &Frame,
        class: Class,
        areas: &[Area],
        shared: bool,
        done: oneshot::Sender<Outcome>,
    ) -> Vec<Piece> {
        let areas: Vec<Area> = pieces(areas).collect();
        let order = Arc::new(Mutex::new(Order { pieces: vec![None; areas.len()], done: Some(done) }));
        let mut missing = Vec::new();
        let mut shelf = lock(&self.shelf);
        if !shared {
            shelf.forget();
        }
        for (place, area) in areas.into_iter().enumerate() {
            let piece = Piece { class, area, version: frame.version(area) };
            if let Some(known) = shelf.known(&piece) {
                lock(&order).put(place, known);
                continue;
            }
            let waiter = Waiter { order: Arc::clone(&order), place };
            let waiters = shelf.making.entry(piece).or_insert_with(|| {
                missing.push(piece);
                Vec::new()
            });
            waiters.push(waiter);
        }
        drop(shelf);
        // All of it was there, or there is nothing to it.
        lock(&order).finish();
        missing
    }
}

/// Encodes a piece, if anybody still waits for it, and tells them.
fn make(shelf: &Mutex<Shelf>, frame: &Frame, piece: Piece, shared: bool, desk: &mut Desk) {
    if !lock(shelf).is_wanted(&piece) {
        return;
    }
    let made = catch_unwind(AssertUnwindSafe(|| desk.encoder()?.encode(frame, piece.area, piece.class)));
    let made = made.unwrap_or_else(|_panic| {
        // It may be in any state.
        *desk = Desk::default();
        Err(Error::Worker(io::Error::other("see the panic's own message")))
    });
    tell(shelf, &piece, &made.map_err(Arc::new), shared);
}

fn tell(shelf: &Mutex<Shelf>, piece: &Piece, made: &Result<Encoded, Arc<Error>>, shared: bool) {
    let waiters = {
        let mut shelf = lock(shelf);
        if let (Ok(encoded), true) = (made, shared) {
            shelf.keep(piece, encoded.clone());
        }
        shelf.making.remove(piece).unwrap_or_default()
    };
    for Waiter { order, place } in waiters {
        let mut order = lock(&order);
        match made {
            Ok(encoded) => {
                order.put(place, encoded.clone());
                order.finish();
            }
            Err(error) => order.tell(Err(Arc::clone(error))),
        }
    }
}

impl Shelf {
    fn known(&self, piece: &Piece) -> Option<Encoded> {
        let (version, encoded) = self.kept.get(&(piece.class, piece.area))?;
        (*version == piece.version).then(|| encoded.clone())
    }

    fn keep(&mut self, piece: &Piece, encoded: Encoded) {
        let size = |encoded: &Encoded| encoded.bytes.len() + OVERHEAD;
        if self.bytes + size(&encoded) > KEPT {
            self.forget();
        }
        self.bytes += size(&encoded);
        if let Some((_, old)) = self.kept.insert((piece.class, piece.area), (piece.version, encoded)) {
            self.bytes -= size(&old);
        }
    }

    fn forget(&mut self) {
        if !self.kept.is_empty() {
            (self.kept, self.bytes) = (HashMap::new(), 0);
        }
    }

    /// Whether anybody waits for a piece; one that nobody does is not being made any more.
    fn is_wanted(&mut self, piece: &Piece) -> bool {
        let waiters = self.making.get(piece);
        let is_wanted =
            waiters.is_some_and(|waiters| waiters.iter().any(|waiter| lock(&waiter.order).is_open()));
        if !is_wanted {
            self.making.remove(piece);
        }
        is_wanted
    }
}

impl Order {
    fn is_open(&self) -> bool {
        self.done.as_ref().is_some_and(|done| !done.is_closed())
    }

    fn put(&mut self, place: usize, encoded: Encoded) {
        if let Some(piece) = self.pieces.get_mut(place) {
            *piece = Some(encoded);
        }
    }

    /// Tells the outcome where nothing is missing.
    fn finish(&mut self) {
        if self.pieces.iter().all(Option::is_some) {
            let pieces = std::mem::take(&mut self.pieces).into_iter().flatten().collect();
            self.tell(Ok(pieces));
        }
    }

    fn tell(&mut self, outcome: Outcome) {
        // Told once; whoever has left needs no outcome.
        if let Some(Err(_left)) = self.done.take().map(|done| done.send(outcome)) {
            tracing::trace!("a viewer left before its update was encoded");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;
    use crate::rfb::connection::NATIVE;
    use crate::rfb::encode::Encoder;
    use crate::rfb::frame::{PIXEL, Strip};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// 600×300 pixels of which no two rows are alike.
    fn frame() -> Arc<Frame> {
        let area = Area { x: 0, y: 0, width: 600, height: 300 };
        let bytes: Vec<u8> =
            (0..600 * 300 * 4_u32).map(|at| at.wrapping_mul(0x9e37_79b1).to_be_bytes()[0]).collect();
        Arc::new(Frame::blank(600, 300).with(&[Strip { area, stride: 600 * PIXEL, bytes: &bytes }]).unwrap())
    }

    fn class() -> Class {
        Class::new(NATIVE, &[7])
    }

    /// Keeps all threads of `encoders` busy until what this gives is dropped.
    fn busy(encoders: &Encoders) -> SyncSender<()> {
        let (release, wait) = sync_channel(1);
        let wait: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(wait));
        let work = || -> Work {
            let wait = Arc::clone(&wait);
            Box::new(move |_desk| drop(wait.lock().map(|wait| wait.recv())))
        };
        let threads = std::thread::available_parallelism().unwrap().get();
        encoders.add(0, (0..threads).map(|_| work()).collect()).unwrap();
        release
    }

    #[tokio::test]
    async fn an_update_comes_in_pieces_in_their_order_as_one_encoder_makes_them() {
        let (studio, frame) = (Studio::new(&Encoders::default()), frame());
        let small = Area { x: 250, y: 10, width: 20, height: 20 };
        for areas in [vec![frame.area()], vec![small], vec![]] {
            let mut encoder = Encoder::new().unwrap();
            let expected: Vec<Encoded> =
                pieces(&areas).map(|piece| encoder.encode(&frame, piece, class()).unwrap()).collect();
            for shared in [false, true, true] {
                let made = timeout(PATIENCE, studio.encode(&frame, class(), areas.clone(), shared)).await;
                assert_eq!(made.unwrap().unwrap(), expected);
            }
        }
    }

    #[tokio::test]
    async fn what_two_viewers_ask_for_at_the_same_time_is_encoded_once() {
        let encoders = Encoders::default();
        let (studio, frame) = (Studio::new(&encoders), frame());
        let release = busy(&encoders);
        let ask = || studio.encode(&frame, class(), vec![frame.area()], true);
        let both = async { tokio::join!(ask(), ask(), async { drop(release) }) };
        let (one, other, ()) = timeout(PATIENCE, both).await.unwrap();
        let places =
            |pieces: Vec<Encoded>| pieces.iter().map(|piece| piece.bytes.as_ptr()).collect::<Vec<_>>();
        let (one, other) = (one.unwrap(), other.unwrap());
        let later = timeout(PATIENCE, ask()).await.unwrap().unwrap();
        assert_eq!(one.len(), 6);
        // The same memory, and not only the same bytes.
        assert_eq!(places(one.clone()), places(other));
        assert_eq!(places(one), places(later));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_encoded() {
        let encoders = Encoders::default();
        let (studio, frame) = (Studio::new(&encoders), frame());
        let release = busy(&encoders);
        let ask = || studio.encode(&frame, class(), vec![frame.area()], true);
        assert!(ask().now_or_never().is_none());
        assert_eq!(lock(&studio.shelf).making.len(), 6);
        drop(release);
        // Behind it in the same queue.
        let other = Class { compression: 1, ..class() };
        let made = timeout(PATIENCE, studio.encode(&frame, other, vec![frame.area()], true)).await;
        assert_eq!(made.unwrap().unwrap().len(), 6);
        let shelf = lock(&studio.shelf);
        assert!(shelf.kept.keys().all(|(class, _)| *class == other) && shelf.kept.len() == 6);
    }

    #[tokio::test]
    async fn a_small_update_waits_for_no_large_one() {
        let encoders = Encoders::default();
        let (studio, frame) = (Studio::new(&encoders), frame());
        let _release = busy(&encoders);
        let small = Area { x: 0, y: 0, width: 100, height: 100 };
        let made = studio.encode(&frame, class(), vec![small], true).now_or_never();
        assert_eq!(made.unwrap().unwrap().len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded_by_its_bytes_and_by_its_number() {
        let mut shelf = Shelf::default();
        let piece = |number: u16| {
            let area = Area { x: number, y: 0, width: 1, height: 1 };
            Piece { class: class(), area, version: 1 }
        };
        let encoded =
            |number, length| Encoded { area: piece(number).area, bytes: vec![0; length].into(), exact: true };
        for number in 0..40_000 {
            shelf.keep(&piece(number), encoded(number, 1));
            assert!(shelf.kept.len() <= KEPT / OVERHEAD);
        }
        shelf.forget();
        shelf.keep(&piece(1), encoded(1, 1000));
        shelf.keep(&piece(1), encoded(1, 10));
        assert_eq!(shelf.bytes, 10 + OVERHEAD);
        shelf.keep(&piece(2), encoded(2, KEPT - OVERHEAD));
        assert_eq!((shelf.bytes, shelf.kept.len()), (KEPT, 1));
    }
}
