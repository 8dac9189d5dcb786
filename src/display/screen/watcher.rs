//! The task of a screen: from what the X server says was drawn on to frames, and from viewers' acts to the X server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use x11rb_protocol::protocol::damage::{CreateRequest, DestroyRequest, ReportLevel};
use x11rb_protocol::protocol::xfixes::{
    CursorNotifyMask, GetCursorImageRequest, HideCursorRequest, SelectCursorInputRequest,
};
use x11rb_protocol::protocol::{Event, xproto};

use super::super::client::{self, Client};
use super::super::framebuffer::{self, Framebuffer, Rows};
use super::super::randr;
use super::super::xvfb::Display;
use super::clipboard::Clipboard;
use super::cursor::cursor;
use super::damage::Damage;
use super::figures::CaptureMeter;
use super::handle::{Act, Interest, Seat};
use super::input::Input;
use super::lease::Lease;
use super::resizing::{Resizing, Wish, Wishes};
use crate::errors::chain;
use crate::rfb::motion::Motion;
use crate::rfb::{Cursor, Frame, Pointer, SizeStatus};

/// For the X server to let us in and tell what it has.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// Numbers of what this client makes, within those that are its own.
const DAMAGE: u32 = 1;
const WINDOW: u32 = 2;
/// After something was drawn, for which programs may have moved the pointer, it is looked for no more often than this.
const POINTER_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at a size that a program of the session has set.
const SIZE_INTERVAL: Duration = Duration::from_millis(250);
/// Acts of viewers in a row.
const ACTS_AT_ONCE: usize = 16;
/// Before a server that did not is tried again.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Watcher {
    display: Display,
    interval: Duration,
    news: News,
    inbox: mpsc::Receiver<(Seat, Act)>,
    resizing: Resizing,
    interest: Interest,
    lease: Lease,
}

/// What is told to those who look on.
pub(super) struct News {
    pub(super) frame: watch::Sender<Arc<Frame>>,
    pub(super) cursor: watch::Sender<Arc<Cursor>>,
    pub(super) text: watch::Sender<Option<Arc<str>>>,
    pub(super) leds: watch::Sender<u8>,
    pub(super) meter: CaptureMeter,
}

/// Why a server is watched no longer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot go on with the X server")]
    Client(#[from] client::Error),
    #[error("cannot go on with its screen")]
    Screen(#[from] framebuffer::Error),
    #[error("it did not answer within {} s", OPEN_DEADLINE.as_secs())]
    Slow,
}

/// One X server, from the connection to its end.
struct Server {
    client: Client,
    root: u32,
    screen: Framebuffer,
    /// Width and height, no larger than the framebuffer.
    size: (u16, u16),
    /// Whether it may be another one, and when that is looked at: a program can change it as often as it likes.
    is_resized: bool,
    size_due: Instant,
    rows: Rows,
    motion: Motion,
    input: Input,
    clipboard: Clipboard,
    /// Events that the clipboard has not seen.
    unheard: Vec<Event>,
    /// What reports damage, while somebody looks.
    damage: Option<u32>,
    /// When the next frame may be taken.
    due: Instant,
    /// When the pointer was looked for.
    pointer_seen: Instant,
    /// When it is to be looked for again: it may be elsewhere, or look otherwise, than the last frame says.
    pointer_due: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(
        display: Display,
        interval: Duration,
        news: News,
        (inbox, wishes): (mpsc::Receiver<(Seat, Act)>, Wishes),
        interest: Interest,
    ) -> Self {
        let (resizing, lease) = (Resizing::new(wishes), Lease::default());
        Self { display, interval, news, inbox, resizing, interest, lease }
    }

    /// For ever: servers come and go.
    pub(super) async fn run(mut self) {
        loop {
            self.wait_for_server().await;
            let error = match timeout(OPEN_DEADLINE, Server::open(&self.display)).await {
                Ok(Ok(mut server)) => match self.serve(&mut server).await {
                    Ok(never) => match never {},
                    Err(error) => error,
                },
                Ok(Err(error)) => error,
                Err(_) => Error::Slow,
            };
            self.lease.shut();
            tracing::debug!(error = %chain(&error), "a screen is watched no longer");
            sleep(RETRY).await;
        }
    }

    /// What viewers do meanwhile is done nowhere.
    async fn wait_for_server(&mut self) {
        let mut wished = self.resizing.watch();
        let mut asked = self.interest.asked.subscribe();
        let mut gone = self.interest.gone.subscribe();
        gone.mark_changed();
        loop {
            self.interest.answered.send_replace(*asked.borrow_and_update());
            self.resizing.forget();
            tokio::select! {
                biased;
                Some((seat, act)) = self.inbox.recv() => {
                    let _nothing = self.lease.judge(seat, act, Instant::now().into_std());
                }
                _ = gone.changed(), if self.inbox.is_empty() => {
                    for seat in self.interest.take_gone() {
                        let _nothing = self.lease.judge(seat, Act::Leave, Instant::now().into_std());
                    }
                }
                _ = wished.changed() => {}
                _ = asked.changed() => {}
                () = self.display.up() => return,
            }
        }
    }

    async fn serve(&mut self, server: &mut Server) -> Result<std::convert::Infallible, Error> {
        let (width, height) = server.size;
        self.display.note_size(server.size);
        let last = self.news.frame.borrow().serial();
        self.news.frame.send_replace(Arc::new(Frame::blank_after(width, height, last)));
        let mut looking = self.interest.looking.subscribe();
        let mut waiting = self.interest.waiting.subscribe();
        let mut painting = self.interest.painting.subscribe();
        let mut asked = self.interest.asked.subscribe();
        let mut wished = self.resizing.watch();
        let mut gone = self.interest.gone.subscribe();
        gone.mark_changed();
        self.lease.open();
        loop {
            // Before those who look are counted: who looks on and then asks is told of damage from here on, and so of all of it.
            let number = *asked.borrow_and_update();
            let is_looked_at = *looking.borrow_and_update() > 0;
            server.report_damage(is_looked_at);
            if std::mem::take(&mut server.client.cursor_changed) && is_looked_at {
                self.news.cursor.send_replace(Arc::new(server.cursor().await?));
                server.look_for_pointer(self.interval);
            }
            if number > *self.interest.answered.borrow() {
                // Behind the answer to this, everything that was drawn before has been told.
                server.client.ask(xproto::GetInputFocusRequest).await.map_err(Error::from)?;
                server.hear_all()?;
                self.take_frame(server)?;
                self.point(server).await?;
                self.interest.answered.send_replace(number);
            }
            self.follow_size(server).await?;
            if self.awaits_drawing(server) && server.due <= Instant::now() {
                self.take_frame(server)?;
            }
            // By a clock of its own: the pointer's frames hold none of the others back.
            if self.awaits_pointer(server).is_some_and(|due| due <= Instant::now()) {
                self.point(server).await?;
            }
            if let Some(text) = server.hear_clipboard(is_looked_at).await? {
                self.news.text.send_replace(Some(text));
            }
            let leds = server.input.leds(server.client.locked);
            self.news.leds.send_if_modified(|known| std::mem::replace(known, leds) != leds);
            server.client.flush().await?;
            waiting.mark_unchanged();
            let (draws, points) = (self.awaits_drawing(server), self.awaits_pointer(server));
            let wish_due = self.resizing.due(Instant::now());
            tokio::select! {
                heard = server.client.heard() => {
                    heard.map_err(Error::from)?;
                    server.hear_all()?;
                }
                Some((seat, act)) = self.inbox.recv() => {
                    self.act(server, seat, act).await?;
                    // Each may be a round trip, and the picture waits meanwhile.
                    for _ in 1..ACTS_AT_ONCE {
                        let Ok((seat, act)) = self.inbox.try_recv() else { break };
                        self.act(server, seat, act).await?;
                    }
                }
                // What a viewer did before it went comes first.
                _ = gone.changed(), if self.inbox.is_empty() => self.leave(server).await?,
                _ = wished.changed() => {}
                () = sleep_until(wish_due.unwrap_or_else(Instant::now)), if wish_due.is_some() => {}
                () = sleep_until(server.size_due), if server.is_resized => {}
                // None of the senders goes before this task.
                _ = looking.changed() => {}
                _ = asked.changed() => {}
                _ = painting.changed() => server.look_for_pointer(self.interval),
                _ = waiting.changed(), if !draws || points.is_none() => {}
                () = sleep_until(server.due), if draws => {}
                () = sleep_until(points.unwrap_or_else(Instant::now)), if points.is_some() => {}
            }
        }
    }

    async fn leave(&mut self, server: &mut Server) -> Result<(), Error> {
        for seat in self.interest.take_gone() {
            self.act(server, seat, Act::Leave).await?;
        }
        Ok(())
    }

    async fn act(&mut self, server: &mut Server, seat: Seat, act: Act) -> Result<(), Error> {
        for act in self.lease.judge(seat, act, Instant::now().into_std()) {
            if matches!(act, Act::Pointer { .. }) {
                server.look_for_pointer(self.interval);
            }
            server.act(act).await?;
        }
        Ok(())
    }

    /// Whether somebody waits for a frame, and something was drawn.
    fn awaits_drawing(&self, server: &Server) -> bool {
        *self.interest.waiting.borrow() > 0 && !server.client.drawn.is_empty()
    }

    /// When the pointer is to be looked for, where somebody waits for a frame.
    fn awaits_pointer(&self, server: &Server) -> Option<Instant> {
        (*self.interest.waiting.borrow() > 0).then(|| self.pointer_due(server))?
    }

    /// When the pointer is to be told anew: to those who see it in the picture, and to whoever begins or ends to.
    fn pointer_due(&self, server: &Server) -> Option<Instant> {
        let frame = self.news.frame.borrow();
        if frame.mover() != self.lease.mover().map(Seat::number) {
            return Some(server.pointer_seen + self.interval);
        }
        server.pointer_due.filter(|_| *self.interest.painting.borrow() > 0)
    }

    /// Publishes a frame with the pointer where it is, if that is told otherwise.
    async fn point(&self, server: &mut Server) -> Result<(), Error> {
        if self.pointer_due(server).is_none() {
            return Ok(());
        }
        let found = server.client.ask(xproto::QueryPointerRequest { window: server.root }).await?;
        (server.pointer_seen, server.pointer_due) = (Instant::now(), None);
        let pointer = Pointer {
            at: (found.root_x.max(0).unsigned_abs(), found.root_y.max(0).unsigned_abs()),
            image: Arc::clone(&self.news.cursor.borrow()),
            mover: self.lease.mover().map(Seat::number),
        };
        let before = Arc::clone(&self.news.frame.borrow());
        if before.pointer() != Some(&pointer) {
            self.news.frame.send_replace(Arc::new(before.with_pointer(pointer)));
        }
        Ok(())
    }

    /// Sees to another size, where a viewer wishes for one or a program has set one.
    async fn follow_size(&mut self, server: &mut Server) -> Result<(), Error> {
        if let Some(wish) = self.resizing.take(Instant::now()) {
            self.resize(server, wish).await?;
        }
        if server.is_resized && server.size_due <= Instant::now() {
            (server.is_resized, server.size_due) = (false, Instant::now() + SIZE_INTERVAL);
            let size = randr::size(&mut server.client, server.root).await?;
            self.show_size(server, size, false).await?;
        }
        Ok(())
    }

    /// Sees to a viewer's wish for another size.
    async fn resize(&self, server: &mut Server, wish: Wish) -> Result<(), Error> {
        let nearest = self.display.bounds().nearest(wish.size);
        if nearest != server.size {
            let size = randr::resize(&mut server.client, server.root, nearest).await?;
            server.hear_all()?;
            self.show_size(server, size, size == wish.size).await?;
        }
        let is_done = server.size == wish.size;
        wish.answered(if is_done { SizeStatus::Done } else { SizeStatus::NoResources });
        Ok(())
    }

    /// Goes on with a screen of the size that the X server says it has.
    async fn show_size(&self, server: &mut Server, size: (u16, u16), is_wished: bool) -> Result<(), Error> {
        let (old, most) = (server.size, server.screen.size());
        let (width, height) = size_within(most, size);
        if (width, height) == old {
            return Ok(());
        }
        server.size = (width, height);
        self.display.note_size(server.size);
        randr::stretch_windows(&mut server.client, server.root, old, server.size).await?;
        server.client.drawn = Damage::all(width, height);
        let last = self.news.frame.borrow().serial();
        let blank = Frame::blank_after(width, height, last);
        let blank = if is_wished { blank.wished() } else { blank };
        let pointer = self.news.frame.borrow().pointer().cloned();
        let blank = match pointer {
            Some(pointer) => blank.with_pointer(pointer),
            None => blank,
        };
        // Whoever comes later is told of damage all over.
        let is_seen = *self.interest.looking.borrow() > 0;
        let frame = if is_seen { self.look(server, &blank)?.unwrap_or(blank) } else { blank };
        self.news.frame.send_replace(Arc::new(frame));
        Ok(())
    }

    /// Publishes a frame if anything is different where something was drawn.
    fn take_frame(&self, server: &mut Server) -> Result<(), Error> {
        let began = Instant::now();
        let before = Arc::clone(&self.news.frame.borrow());
        if let Some(frame) = self.look(server, &before)? {
            self.news.frame.send_replace(Arc::new(server.motion.follow(&before, frame)));
        }
        // However large the screen, others have half of the thread at least.
        server.due = server.due.max(Instant::now() + began.elapsed());
        Ok(())
    }

    /// Looks at what was drawn on since the frame `before`; gives another one if anything is different there.
    fn look(&self, server: &mut Server, before: &Frame) -> Result<Option<Frame>, Error> {
        let began = Instant::now();
        let mut frame: Option<Frame> = None;
        let mut is_read = false;
        for area in server.client.drawn.take() {
            is_read = true;
            let strip = server.screen.read(area, &mut server.rows).map_err(framebuffer::Error::from)?;
            let current = frame.as_ref().unwrap_or(before);
            // Each strip makes a frame of its own, of which only the last is shown: nobody has seen one between.
            if let Some(next) = current.with(&[strip]) {
                frame = Some(next);
            }
        }
        // The clock begins with a look: the first change after a pause leaves at once, and a program that draws the same again
        // and again has it looked at no more often than one that moves.
        if is_read {
            server.due = Instant::now() + self.interval;
            server.look_for_pointer(POINTER_INTERVAL);
            self.news.meter.looked(began.into_std(), frame.is_some());
        }
        Ok(frame)
    }
}

impl Server {
    async fn open(display: &Display) -> Result<Self, Error> {
        let mut client = Client::open(display).await?;
        let root = client.setup().roots.first().map_or(0, |screen| screen.root);
        let (dir, owner, size) = display.screen();
        let screen = Framebuffer::open(dir, owner, size)?;
        // The pointer would be painted into the screen's memory; viewers draw it themselves.
        client.tell(HideCursorRequest { window: root });
        client.tell(SelectCursorInputRequest { window: root, event_mask: CursorNotifyMask::DISPLAY_CURSOR });
        let input = Input::new(&mut client, root).await?;
        let window = client.setup().resource_id_base | WINDOW;
        let clipboard = Clipboard::open(&mut client, root, window).await?;
        randr::watch(&mut client, root);
        let (most, now) = (screen.size(), randr::size(&mut client, root).await?);
        let (width, height) = size_within(most, now);
        client.drawn = Damage::all(width, height);
        client.cursor_changed = true;
        Ok(Self {
            client,
            root,
            screen,
            size: (width, height),
            is_resized: false,
            rows: Rows::default(),
            motion: Motion::default(),
            input,
            clipboard,
            unheard: Vec::new(),
            damage: None,
            due: Instant::now(),
            size_due: Instant::now(),
            pointer_seen: Instant::now(),
            pointer_due: None,
        })
    }

    /// Begins or ends to be told what is drawn on.
    fn report_damage(&mut self, wanted: bool) {
        match (wanted, self.damage) {
            (true, None) => {
                let damage = self.client.setup().resource_id_base | DAMAGE;
                // Each drawing by itself: nothing has to be given back before the pixels are read, and so nothing is lost
                // between the two.
                self.client.tell(CreateRequest {
                    damage,
                    drawable: self.root,
                    level: ReportLevel::RAW_RECTANGLES,
                });
                self.damage = Some(damage);
                let (width, height) = self.size;
                self.client.drawn = Damage::all(width, height);
                self.client.cursor_changed = true;
            }
            (false, Some(damage)) => {
                self.client.tell(DestroyRequest { damage });
                self.damage = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Has the pointer looked for, no sooner than `interval` after the last time.
    fn look_for_pointer(&mut self, interval: Duration) {
        let due = self.pointer_seen + interval;
        self.pointer_due = Some(self.pointer_due.map_or(due, |known| known.min(due)));
    }

    /// What has come already.
    fn hear_all(&mut self) -> Result<(), Error> {
        while let Some(event) = self.client.ready_event()? {
            self.hear(event);
        }
        Ok(())
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Error(error) => tracing::debug!(
                code = error.error_code,
                major = error.major_opcode,
                "the X server refused a request"
            ),
            Event::RandrScreenChangeNotify(_) => self.is_resized = true,
            event => self.unheard.push(event),
        }
    }

    async fn act(&mut self, act: Act) -> Result<(), Error> {
        match act {
            Act::Copy(text) => self.clipboard.take(&mut self.client, text),
            act => self.input.act(&mut self.client, act).await?,
        }
        Ok(())
    }

    /// What a program copied, where what has come tells of that and somebody is there to be told.
    async fn hear_clipboard(&mut self, is_looked_at: bool) -> Result<Option<Arc<str>>, Error> {
        let mut copied = None;
        // Answers that are waited for bring further events.
        while !self.unheard.is_empty() {
            for event in std::mem::take(&mut self.unheard) {
                let heard = self.clipboard.hear(&mut self.client, &event, is_looked_at).await?;
                copied = heard.or(copied);
            }
            self.hear_all()?;
        }
        Ok(copied)
    }

    /// The pointer's image; none where the server does not tell, which is when the program that made it has gone, or where it is
    /// larger than any that is shown.
    async fn cursor(&mut self) -> Result<Cursor, Error> {
        match self.client.ask(GetCursorImageRequest).await {
            Ok(reply) => Ok(cursor(&reply)),
            Err(client::Error::Refused { .. } | client::Error::TooLarge) => Ok(Cursor::default()),
            Err(error) => Err(error.into()),
        }
    }
}

/// As much of a size as the framebuffer has room for, and no less than a pixel.
fn size_within(most: (u16, u16), size: (u16, u16)) -> (u16, u16) {
    (size.0.clamp(1, most.0), size.1.clamp(1, most.1))
}
