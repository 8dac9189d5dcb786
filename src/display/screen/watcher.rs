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
use super::handle::{Act, Interest};
use super::input::Input;
use super::resizing::{Resizing, Wish, Wishes};
use crate::errors::chain;
use crate::rfb::{Cursor, Frame, SizeStatus};

/// For the X server to let us in and tell what it has.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// Numbers of what this client makes, within those that are its own.
const DAMAGE: u32 = 1;
const WINDOW: u32 = 2;
/// Before a server that did not is tried again.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Watcher {
    display: Display,
    interval: Duration,
    news: News,
    inbox: mpsc::Receiver<Act>,
    resizing: Resizing,
    interest: Interest,
}

/// What is told to those who look on.
pub(super) struct News {
    pub(super) frame: watch::Sender<Arc<Frame>>,
    pub(super) cursor: watch::Sender<Arc<Cursor>>,
    pub(super) text: watch::Sender<Option<Arc<str>>>,
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
    /// Whether it may be another one.
    is_resized: bool,
    rows: Rows,
    input: Input,
    clipboard: Clipboard,
    /// Events that the clipboard has not seen.
    unheard: Vec<Event>,
    /// What reports damage, while somebody looks.
    damage: Option<u32>,
    /// When the next frame may be taken.
    due: Instant,
}

impl Watcher {
    pub(super) fn new(
        display: Display,
        interval: Duration,
        news: News,
        (inbox, wishes): (mpsc::Receiver<Act>, Wishes),
        interest: Interest,
    ) -> Self {
        Self { display, interval, news, inbox, resizing: Resizing::new(wishes), interest }
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
            tracing::debug!(error = %chain(&error), "a screen is watched no longer");
            sleep(RETRY).await;
        }
    }

    /// What viewers do meanwhile is done nowhere.
    async fn wait_for_server(&mut self) {
        let mut wished = self.resizing.watch();
        let mut asked = self.interest.asked.subscribe();
        loop {
            self.interest.answered.send_replace(*asked.borrow_and_update());
            self.resizing.forget();
            tokio::select! {
                biased;
                Some(_act) = self.inbox.recv() => {}
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
        let mut asked = self.interest.asked.subscribe();
        let mut wished = self.resizing.watch();
        loop {
            server.report_damage(*looking.borrow_and_update() > 0);
            if std::mem::take(&mut server.client.cursor_changed) && *looking.borrow() > 0 {
                self.news.cursor.send_replace(Arc::new(server.cursor().await?));
            }
            let number = *asked.borrow_and_update();
            if number > *self.interest.answered.borrow() {
                // Behind the answer to this, everything that was drawn before has been told.
                server.client.ask(xproto::GetInputFocusRequest).await.map_err(Error::from)?;
                server.hear_all()?;
                self.take_frame(server)?;
                self.interest.answered.send_replace(number);
            }
            if let Some(wish) = self.resizing.take(Instant::now()) {
                self.resize(server, wish).await?;
            }
            if std::mem::take(&mut server.is_resized) {
                let size = randr::size(&mut server.client, server.root).await?;
                self.show_size(server, size, false).await?;
            }
            let is_wanted = *waiting.borrow_and_update() > 0 && !server.client.drawn.is_empty();
            if is_wanted && server.due <= Instant::now() {
                self.take_frame(server)?;
            }
            if let Some(text) = server.hear_clipboard().await? {
                self.news.text.send_replace(Some(text));
            }
            server.client.flush().await?;
            let is_wanted = *waiting.borrow_and_update() > 0 && !server.client.drawn.is_empty();
            let wish_due = self.resizing.due(Instant::now());
            tokio::select! {
                heard = server.client.heard() => {
                    heard.map_err(Error::from)?;
                    server.hear_all()?;
                }
                Some(act) = self.inbox.recv() => {
                    server.act(act);
                    while let Ok(act) = self.inbox.try_recv() {
                        server.act(act);
                    }
                }
                _ = wished.changed() => {}
                () = sleep_until(wish_due.unwrap_or_else(Instant::now)), if wish_due.is_some() => {}
                // Neither sender goes before this task.
                _ = looking.changed() => {}
                _ = asked.changed() => {}
                _ = waiting.changed(), if !is_wanted => {}
                () = sleep_until(server.due), if is_wanted => {}
            }
        }
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
        let (width, height) = (size.0.clamp(1, most.0), size.1.clamp(1, most.1));
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
        let frame = self.look(server, &blank)?.unwrap_or(blank);
        self.news.frame.send_replace(Arc::new(frame));
        Ok(())
    }

    /// Publishes a frame if anything is different where something was drawn.
    fn take_frame(&self, server: &mut Server) -> Result<(), Error> {
        let before = Arc::clone(&self.news.frame.borrow());
        if let Some(frame) = self.look(server, &before)? {
            self.news.frame.send_replace(Arc::new(frame));
        }
        Ok(())
    }

    /// Looks at what was drawn on since the frame `before`; gives another one if anything is different there.
    fn look(&self, server: &mut Server, before: &Frame) -> Result<Option<Frame>, Error> {
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
        let (width, height) = (now.0.clamp(1, most.0), now.1.clamp(1, most.1));
        client.drawn = Damage::all(width, height);
        client.cursor_changed = true;
        Ok(Self {
            client,
            root,
            screen,
            size: (width, height),
            is_resized: false,
            rows: Rows::default(),
            input,
            clipboard,
            unheard: Vec::new(),
            damage: None,
            due: Instant::now(),
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

    fn act(&mut self, act: Act) {
        match act {
            Act::Copy(text) => self.clipboard.take(&mut self.client, text),
            act => self.input.act(&mut self.client, act),
        }
    }

    /// What a program copied, where what has come tells of that.
    async fn hear_clipboard(&mut self) -> Result<Option<Arc<str>>, Error> {
        let mut copied = None;
        // Answers that are waited for bring further events.
        while !self.unheard.is_empty() {
            for event in std::mem::take(&mut self.unheard) {
                copied = self.clipboard.hear(&mut self.client, &event).await?.or(copied);
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
