//! Pages that scroll and windows that are dragged, as viewers are told of them that can move what they have.

use std::time::Duration;

use tokio::time::timeout;
use valetd::tasks::Scope;
use vnc::{PixelFormat, VncConnector, VncEncoding, VncEvent, X11Event};
use x11rb::protocol::xproto::{ConnectionExt as _, CreateGCAux, ImageFormat};
use x11rb::wrapper::ConnectionExt as _;

use super::native::stream;
use super::support::native::{HEIGHT, PATIENCE, WIDTH, daemon, paint, viewer};
use super::support::x::Display;

/// The display with noise on it, in rows that scroll.
struct Page<'a> {
    display: &'a Display,
    context: u32,
    drawn: u32,
}

impl<'a> Page<'a> {
    fn new(display: &'a Display) -> Self {
        let x = display.connection();
        let context = x11rb::connection::Connection::generate_id(x).unwrap();
        x.create_gc(context, display.root(), &CreateGCAux::new()).unwrap();
        let mut page = Self { display, context, drawn: 0 };
        (0..HEIGHT).step_by(16).for_each(|y| page.draw(y));
        page
    }

    /// Sixteen rows in four colours.
    fn draw(&mut self, y: u16) {
        self.drawn += 1;
        let pixel = |at: u32| (at ^ self.drawn << 16).wrapping_mul(0x9e37_79b1) >> 30;
        let bytes: Vec<u8> =
            (0..u32::from(WIDTH) * 16).flat_map(|at| (pixel(at) * 0x30_50_70).to_le_bytes()).collect();
        let (x, root) = (self.display.connection(), self.display.root());
        let y = i16::try_from(y).unwrap();
        x.put_image(ImageFormat::Z_PIXMAP, root, self.context, WIDTH, 16, 0, y, 0, 24, &bytes).unwrap();
        x.sync().unwrap();
    }

    fn scroll(&self) {
        let (x, root) = (self.display.connection(), self.display.root());
        x.copy_area(root, root, self.context, 0, 16, 0, 0, WIDTH, HEIGHT - 16).unwrap();
        x.sync().unwrap();
    }
}

#[test]
fn a_page_that_scrolls_is_moved_in_the_viewers_own_picture() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let page = Page::new(&display);
    let mut viewer = viewer(&mut daemon, "spectator");
    viewer.pixels(0, 0, WIDTH, HEIGHT);
    // Raw, and what everybody is told who has it.
    viewer.send(&[2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
    viewer.send(&[3, 1, 0, 0, 0, 0, 1, 64, 0, 240]);
    page.scroll();
    // One rectangle of CopyRect, 320×224, from 16 rows below.
    let expected = [0, 0, 0, 1, 0, 0, 0, 0, 1, 64, 0, 224, 0, 0, 0, 1, 0, 0, 0, 16];
    assert_eq!(viewer.read(20), expected);
}

#[tokio::test]
async fn vnc_rs_has_the_very_pixels_of_a_page_that_scrolls() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let mut page = Page::new(&display);
    let mut scope = Scope::new();
    let gateway = daemon.gateway();
    let client = VncConnector::new(stream(gateway, &mut scope).await)
        .set_auth_method(async { Ok(String::new()) })
        .add_encoding(VncEncoding::Tight)
        .add_encoding(VncEncoding::CopyRect)
        .allow_shared(true)
        .set_pixel_format(PixelFormat::bgra())
        .build()
        .unwrap();
    let client = timeout(PATIENCE, client.try_start()).await.unwrap().unwrap().finish().unwrap();
    let width = usize::from(WIDTH);
    let mut canvas = vec![[1, 2, 3]; width * usize::from(HEIGHT)];
    let (mut moves, mut rounds) = (0, 0);
    let followed = async {
        while rounds < 60 || canvas != display.picture() {
            if rounds < 60 {
                page.scroll();
                page.draw(HEIGHT - 16);
            }
            rounds += 1;
            client.input(X11Event::Refresh).await.unwrap();
            while let Some(event) = client.poll_event().await.unwrap() {
                match event {
                    VncEvent::RawImage(to, data) => paint(&mut canvas, WIDTH, to, &data),
                    VncEvent::Copy(to, from) => {
                        moves += 1;
                        let before = canvas.clone();
                        for row in 0..usize::from(to.height) {
                            let place = |x: u16, y: u16| (usize::from(y) + row) * width + usize::from(x);
                            let (to_at, from_at) = (place(to.x, to.y), place(from.x, from.y));
                            let length = usize::from(to.width);
                            canvas[to_at..to_at + length].copy_from_slice(&before[from_at..from_at + length]);
                        }
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = timeout(PATIENCE, followed).await;
    assert!(
        in_time.is_ok(),
        "{} wrong pixels",
        canvas.iter().zip(&display.picture()).filter(|(is, should)| is != should).count()
    );
    assert!(moves > 5, "{moves} moves");
    client.close().await.unwrap();
    drop(client);
    scope.shutdown(Duration::ZERO).await;
}
