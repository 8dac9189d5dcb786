//! One viewer on a display of ours.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Sink, Stream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::activity::Activity;
use super::super::relay::{Misbehaviour, RelayEnd, greet};
use super::figures::{Meter, Update};
use super::lane::Lane;
use super::studio::Studio;
use crate::clock::until;
use crate::display::screen::{Act, Counted, Look, Screen};
use crate::errors::chain;
use crate::rfb::client_message::ClientMessage;
use crate::rfb::connection::{NATIVE, Said, Wanted};
use crate::rfb::encode::{self, Encoded};
use crate::rfb::flow::Flow;
use crate::rfb::quality::Quality;
use crate::rfb::refresh::{Likeness, Refresh};
use crate::rfb::{Access, Connection, Cursor, Frame, ServerInit, SizeStatus};

/// The first frame is of the display's making and not of the picture's.
pub(super) const NO_PICTURE: u64 = 1;

/// Pixels that are made exact in one update: some milliseconds of work.
const MOST_REFRESHED: usize = 256 << 10;

/// Bytes of answers from which on they count for what is in flight.
const UNCOUNTED: usize = 4 << 10;

/// Answers that may wait for a viewer to take them. One with more waiting is not heard: answers can be had for next to nothing.
const MOST_OUTPUT: usize = 256 << 10;

/// How to serve a viewer.
#[derive(Debug, Clone)]
pub struct NativeOptions {
    /// What the viewer may do.
    pub access: Access,
    /// The desktop's name that the viewer sees.
    pub desktop_name: String,
    /// For the viewer's whole handshake.
    pub handshake_deadline: Duration,
    /// For the viewer to take what is on its way.
    pub send_deadline: Duration,
    /// For the display to have a picture.
    pub picture_deadline: Duration,
    /// Where it is taken down what that comes to.
    pub meter: Meter,
}

/// Why a viewer is served no longer.
#[derive(Debug)]
pub enum NativeEnd {
    /// It closed, or its connection broke.
    Left,
    /// It broke the protocol.
    Misbehaved(Misbehaviour),
    /// It did not finish the handshake or take its bytes in time.
    TooSlow,
    /// The display has no picture.
    NoPicture,
    /// Its picture cannot be encoded.
    Encoding(Arc<encode::Error>),
}

/// Serves one viewer until it goes. `tx` and `rx` carry the payloads of its binary messages; they stay the caller's.
///
/// Whatever the end, the release of keys and buttons that the viewer holds is on its way before this returns. To end it from outside, let `rx`
/// end: a dropped future releases nothing.
pub async fn run<Tx, Rx, E>(
    tx: &mut Tx,
    rx: &mut Rx,
    screen: &Screen,
    studio: &Studio,
    options: &NativeOptions,
    activity: &Activity,
) -> NativeEnd
where
    Tx: Sink<Bytes, Error = E> + Unpin + Send,
    Rx: Stream<Item = Result<Bytes, E>> + Unpin + Send,
    E: Error + Send,
{
    let look = screen.look();
    let (texts, leds) = (look.texts(), look.leds());
    let Ok(frame) = timeout(options.picture_deadline, look.newer(NO_PICTURE)).await else {
        return NativeEnd::NoPicture;
    };
    let init = ServerInit { width: frame.width(), height: frame.height(), pixel_format: NATIVE };
    let input = match timeout(options.handshake_deadline, greet(tx, rx, &init, &options.desktop_name)).await {
        Ok(Ok(input)) => input,
        Ok(Err(RelayEnd::ViewerMisbehaved(how))) => return NativeEnd::Misbehaved(how),
        Ok(Err(_left)) => return NativeEnd::Left,
        Err(_) => return NativeEnd::TooSlow,
    };
    let mut viewer = Viewer {
        look,
        studio,
        activity,
        meter: &options.meter,
        connection: Connection::new(options.access, (init.width, init.height)),
        flow: Flow::default(),
        quality: Quality::default(),
        refresh: Refresh::default(),
        lane: Lane::default(),
        frame,
        cursor: None,
        painting: None,
        encoding: None,
        resizing: None,
        freshness: Freshness::Unknown,
        texts,
        leds,
    };
    viewer.connection.light(*viewer.leds.borrow_and_update());
    viewer.refresh.reset(init.width, init.height);
    let end = viewer.serve(input, tx, rx, options.send_deadline).await;
    act(&viewer.look, Act::Leave).await;
    end
}

struct Viewer<'a> {
    look: Look,
    studio: &'a Studio,
    activity: &'a Activity,
    meter: &'a Meter,
    connection: Connection,
    flow: Flow,
    quality: Quality,
    refresh: Refresh,
    lane: Lane,
    /// The newest picture that is known here.
    frame: Arc<Frame>,
    /// The pointer's image as the viewer has it: of no pixels where the pointer is a part of the picture.
    cursor: Option<Arc<Cursor>>,
    /// While the pointer is a part of its picture.
    painting: Option<Counted>,
    encoding: Option<Encoding>,
    /// What comes of the size that it wished for.
    resizing: Option<BoxFuture<'static, SizeStatus>>,
    freshness: Freshness,
    /// What is copied on the display.
    texts: watch::Receiver<Option<Arc<str>>>,
    leds: watch::Receiver<u8>,
}

/// Whether the picture is as new as what the viewer asked for last, or what rests.
enum Freshness {
    Unknown,
    Asked(BoxFuture<'static, ()>),
    Known,
}

/// A picture that is being encoded, and what for.
struct Encoding {
    frame: Arc<Frame>,
    wanted: Wanted,
    began: Instant,
    /// Of what of it is sent with loss.
    likeness: Likeness,
    pixels: BoxFuture<'static, Result<Vec<Encoded>, Arc<encode::Error>>>,
}

impl Viewer<'_> {
    async fn serve<Tx, Rx, E>(
        &mut self,
        early: Bytes,
        tx: &mut Tx,
        rx: &mut Rx,
        send_deadline: Duration,
    ) -> NativeEnd
    where
        Tx: Sink<Bytes, Error = E> + Unpin + Send,
        Rx: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: Error + Send,
    {
        if let Err(misbehaviour) = self.hear(&early).await {
            return NativeEnd::Misbehaved(misbehaviour);
        }
        loop {
            self.prepare();
            // What is on its way goes first; meanwhile the viewer is heard, and nothing new is begun for it.
            let is_sending = !self.lane.is_empty();
            let stalled = self.lane.waiting_since().map(|since| (since + send_deadline).into_std());
            let is_free = !is_sending && self.encoding.is_none();
            let is_open = is_free && self.flow.may_send();
            let may_send = is_open && self.connection.is_waiting();
            // While the picture is waited for, nothing is refreshed.
            let owed = self.refresh.due().filter(|_| !matches!(self.freshness, Freshness::Asked(_)));
            // With much of it waiting there is something on its way, which is taken or too slow: this ends.
            let may_hear = self.connection.output() <= MOST_OUTPUT;
            let has_own_pointer = self.painting.is_none();
            let Self {
                look,
                lane,
                encoding,
                resizing,
                freshness,
                texts,
                leds,
                frame,
                cursor,
                connection,
                ..
            } = &mut *self;
            let seen = connection.seen().max(frame.serial());
            tokio::select! {
                biased;
                received = rx.next(), if may_hear => match received {
                    Some(Ok(bytes)) => {
                        if let Err(misbehaviour) = self.hear(&bytes).await {
                            return NativeEnd::Misbehaved(misbehaviour);
                        }
                    }
                    Some(Err(error)) => {
                        tracing::debug!(error = %chain(&error), "the viewer's connection broke");
                        return NativeEnd::Left;
                    }
                    None => return NativeEnd::Left,
                },
                sent = lane.drive(tx), if is_sending => if let Err(error) = sent {
                    tracing::debug!(error = %chain(&error), "the viewer's connection broke");
                    return NativeEnd::Left;
                },
                // Whatever else the viewer does, this goes on.
                () = until(stalled), if is_sending => return NativeEnd::TooSlow,
                pixels = encoded(encoding), if encoding.is_some() => {
                    if let Err(error) = self.send(pixels) {
                        return NativeEnd::Encoding(error);
                    }
                }
                status = resized(resizing), if resizing.is_some() => {
                    self.resizing = None;
                    let frame = self.look.frame();
                    self.connection.resized(status, (frame.width(), frame.height()));
                }
                Ok(()) = texts.changed(), if is_open => {
                    let text = texts.borrow_and_update().clone();
                    text.into_iter().for_each(|text| self.connection.offer(text));
                }
                Ok(()) = leds.changed() => connection.light(*leds.borrow_and_update()),
                () = fresh(freshness), if matches!(freshness, Freshness::Asked(_)) => self.freshness = Freshness::Known,
                newer = look.newer(seen), if may_send => self.show(newer),
                () = until(owed), if may_send && owed.is_some() => {}
                other = another_cursor(look, cursor), if is_free && has_own_pointer && cursor.is_some() => {
                    self.cursor = None;
                    drop(other);
                }
            }
        }
    }

    /// Queues what is to be sent now, or begins to encode it.
    fn prepare(&mut self) {
        let newest = self.look.frame();
        self.choose_pointer(&newest);
        // What the viewer has coming it gets before anything new, even answers: so there is a bound to what it leaves waiting.
        if self.lane.is_empty() {
            let output = Bytes::from(self.connection.take_output());
            match output.len() {
                0 => {}
                // Answers are not kept waiting; a text is as good as a picture.
                1..UNCOUNTED => self.lane.put([output]),
                _ => drop(self.put(vec![output], Instant::now())),
            }
        }
        if !self.lane.is_empty() || self.encoding.is_some() || !self.flow.may_send() {
            return;
        }
        if let Some(text) = self.connection.take_text() {
            self.put(vec![text], Instant::now());
            return;
        }
        if !self.connection.is_waiting() {
            return;
        }
        if let (None, Some(form)) = (&self.cursor, self.connection.cursor_form()) {
            let has_own = self.painting.is_none();
            let cursor = if has_own { self.look.cursor() } else { Arc::default() };
            let update = Bytes::from(cursor.update(form, self.connection.format()));
            self.put(vec![update], Instant::now());
            self.cursor = Some(cursor);
            return;
        }
        if self.connection.wants_now() && !self.is_fresh() {
            return;
        }
        if newest.serial() > self.frame.serial() {
            self.show(newest);
        }
        let picture = self.picture();
        let Some((wanted, likeness)) = self.next(&picture) else {
            self.connection.note(&picture);
            return;
        };
        self.refresh.turn(wanted.is_refresh());
        self.connection.begin(&wanted);
        let (studio, frame) = (self.studio.clone(), Arc::clone(&picture));
        let (class, areas, shared) = (wanted.class, wanted.areas.clone(), self.look.is_shared());
        let pixels = async move { studio.encode(&frame, class, areas, shared).await }.boxed();
        let began = Instant::now();
        self.encoding = Some(Encoding { frame: picture, wanted, began, likeness, pixels });
    }

    /// Has the pointer painted once a viewer has moved it, but for that viewer: it has its own there, if it draws one.
    fn choose_pointer(&mut self, newest: &Frame) {
        let draws = self.connection.cursor_form().is_some();
        let has_own = newest.mover().is_none_or(|mover| draws && mover == self.look.seat().number());
        if has_own != self.painting.is_none() {
            self.painting = (!has_own).then(|| self.look.paints_pointer());
            self.cursor = None;
        }
    }

    /// The newest known picture as this viewer sees it.
    fn picture(&self) -> Arc<Frame> {
        if self.painting.is_some() { self.frame.painted() } else { Arc::clone(&self.frame) }
    }

    /// Queues something that counts for what the viewer has in flight; the number of the fence behind it, where it answers them.
    fn put(&mut self, parts: Vec<Bytes>, now: Instant) -> Option<u32> {
        let bytes = parts.iter().map(Bytes::len).sum();
        self.lane.put(parts);
        let number = self.connection.answers_fences().then(|| self.flow.sent(bytes, now))?;
        self.lane.put([Bytes::from(self.connection.fence_behind(number))]);
        Some(number)
    }

    /// What is new, or what is owed, as much of it as leaves the line free for what may change next. That is only known to rest
    /// when the picture is of now.
    fn next(&mut self, picture: &Frame) -> Option<(Wanted, Likeness)> {
        let changes = self.connection.wanted(picture).map(|changes| self.as_the_line_carries(changes));
        let now = Instant::now();
        // Who asks for pixels is answered with those.
        if self.connection.wants_now() || self.refresh.due().is_none_or(|due| due > now) {
            return changes;
        }
        let lacking = self.connection.differing(picture);
        let owed = self.refresh.now(self.flow.window().min(MOST_REFRESHED), now, &lacking);
        match self.connection.refresh(picture, owed) {
            None => changes,
            Some(refresh) => self.is_fresh().then_some((refresh, Likeness::AsAsked)),
        }
    }

    fn as_the_line_carries(&self, mut changes: Wanted) -> (Wanted, Likeness) {
        let asked = changes.class.quality;
        changes.class.quality = asked.map(|level| self.quality.of(level, Instant::now()));
        let likeness = if changes.class.quality == asked { Likeness::AsAsked } else { Likeness::Poor };
        (changes, likeness)
    }

    /// Whether the picture is of now, or as new as when this was asked first.
    fn is_fresh(&mut self) -> bool {
        if matches!(self.freshness, Freshness::Unknown) {
            self.freshness = Freshness::Asked(self.look.fresh().boxed());
        }
        matches!(self.freshness, Freshness::Known)
    }

    /// Goes on with a newer picture.
    fn show(&mut self, frame: Arc<Frame>) {
        let size = (frame.width(), frame.height());
        if size != (self.frame.width(), self.frame.height()) {
            // Nothing of it was sent. A viewer that knows another size gets what fits of it, until it is told.
            let (width, height) = self.connection.size();
            self.refresh.reset(size.0.min(width), size.1.min(height));
        }
        self.frame = frame;
    }

    fn send(&mut self, pixels: Result<Vec<Encoded>, Arc<encode::Error>>) -> Result<(), Arc<encode::Error>> {
        let Some(Encoding { frame, wanted, began, likeness, .. }) = self.encoding.take() else {
            return Ok(());
        };
        let pixels = pixels?;
        if wanted.is_resize() {
            self.refresh.reset(frame.width(), frame.height());
        }
        let now = Instant::now();
        wanted.moves.iter().for_each(|done| self.refresh.moved(done, now));
        for encoded in &pixels {
            let likeness = if encoded.exact { Likeness::Exact } else { likeness };
            self.refresh.sent(encoded.area, likeness, now);
        }
        self.freshness = Freshness::Unknown;
        let parts = self.connection.update(&frame, &wanted, &pixels);
        let bytes = parts.iter().map(Bytes::len).sum();
        let number = self.put(parts, now);
        if let Some(number) = number
            && !wanted.is_refresh()
            && pixels.iter().any(|encoded| !encoded.exact)
        {
            self.quality.sent(number, now);
        }
        let update = Update {
            moves: wanted.moves.len(),
            pixels: &pixels,
            bytes,
            began,
            quality: wanted.class.quality,
        };
        self.meter.sent(&update, number.is_some().then_some(&self.flow), now);
        Ok(())
    }

    async fn hear(&mut self, mut bytes: &[u8]) -> Result<(), Misbehaviour> {
        while let Some(said) = self.connection.receive(&mut bytes).map_err(Misbehaviour::Message)? {
            match said {
                Said::Nothing => {}
                Said::Input(message) => {
                    self.activity.touch(Instant::now());
                    if let Some(input) = act_of(&message) {
                        act(&self.look, input).await;
                    }
                }
                Said::Copied(text) => {
                    self.activity.touch(Instant::now());
                    act(&self.look, Act::Copy(text.into())).await;
                }
                Said::Resize(size) => {
                    self.activity.touch(Instant::now());
                    self.resizing = Some(self.look.resize(size).boxed());
                }
                Said::Drawn(number) => {
                    let now = Instant::now();
                    // A number that is not in flight says nothing.
                    if let Some(drawn) = self.flow.acknowledged(number, now) {
                        self.quality.drawn(number, drawn, now);
                        self.meter.drawn(&self.flow, now);
                    }
                }
            }
        }
        if !self.connection.answers_fences() {
            self.flow.reset();
            self.quality.reset();
        }
        Ok(())
    }
}

fn act_of(message: &ClientMessage) -> Option<Act> {
    match *message {
        ClientMessage::Key { down, keysym } => Some(Act::Key { down, keysym, scancode: None }),
        ClientMessage::QemuKey { down, keysym, keycode } => {
            Some(Act::Key { down, keysym, scancode: Some(keycode) })
        }
        ClientMessage::Pointer { buttons, x, y } => Some(Act::Pointer { x, y, buttons }),
        _ => None,
    }
}

async fn act(look: &Look, act: Act) {
    if !look.act(act).await {
        tracing::debug!("nobody takes what a viewer does");
    }
}

async fn fresh(freshness: &mut Freshness) {
    match freshness {
        Freshness::Asked(asked) => asked.await,
        Freshness::Unknown | Freshness::Known => std::future::pending().await,
    }
}

async fn encoded(encoding: &mut Option<Encoding>) -> Result<Vec<Encoded>, Arc<encode::Error>> {
    match encoding {
        Some(encoding) => (&mut encoding.pixels).await,
        None => std::future::pending().await,
    }
}

async fn resized(resizing: &mut Option<BoxFuture<'static, SizeStatus>>) -> SizeStatus {
    match resizing {
        Some(resizing) => resizing.await,
        None => std::future::pending().await,
    }
}

async fn another_cursor(look: &Look, known: &Option<Arc<Cursor>>) -> Arc<Cursor> {
    match known {
        Some(known) => look.other_cursor(known).await,
        None => std::future::pending().await,
    }
}
