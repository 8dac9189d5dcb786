//! The crate `vnc-rs`, which asks for each update. It takes no JPEG and no Hextile.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use vnc::{PixelFormat, VncClient, VncConnector, VncEncoding, VncEvent, X11Event};

use super::bridge::Bridge;
use super::stage::{HEIGHT, PATIENCE, Picture, Stage, WIDTH};
use crate::support::native::paint;

async fn connect(bridge: &Bridge, encoding: VncEncoding) -> VncClient {
    let stream = TcpStream::connect(bridge.address).await.unwrap();
    let connector = VncConnector::new(stream)
        .set_auth_method(async { Ok(String::new()) })
        .add_encoding(encoding)
        .allow_shared(true)
        .set_pixel_format(PixelFormat::bgra());
    connector.build().unwrap().try_start().await.unwrap().finish().unwrap()
}

async fn take_in(client: &VncClient, canvas: &mut Picture) {
    while let Some(event) = client.poll_event().await.unwrap() {
        if let VncEvent::RawImage(to, data) = event {
            paint(canvas, WIDTH, to, &data);
        }
    }
}

#[test]
fn vnc_rs_has_the_very_pixels_in_every_encoding_that_it_knows() {
    let stage = Stage::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let cases = [
        (VncEncoding::Raw, &["raw"][..]),
        (VncEncoding::Zrle, &["zrle"]),
        (VncEncoding::Tight, &["fill", "mono", "indexed", "full"]),
    ];
    for (encoding, expected) in cases {
        let bridge = Bridge::start(&stage);
        let client = runtime.block_on(async { timeout(PATIENCE, connect(&bridge, encoding)).await }).unwrap();
        let mut canvas = vec![[1, 2, 3]; usize::from(WIDTH) * usize::from(HEIGHT)];
        let mut look = || {
            runtime.block_on(async {
                client.input(X11Event::Refresh).await.unwrap();
                take_in(&client, &mut canvas).await;
            });
            canvas.clone()
        };
        let painter = std::thread::scope(|scope| {
            let painting = scope.spawn(|| stage.draw());
            while !painting.is_finished() {
                look();
                std::thread::park_timeout(Duration::from_millis(10));
            }
            painting.join().unwrap()
        });
        stage.agrees_on_all(&painter, &format!("vnc-rs with {encoding:?}"), look);
        assert_eq!(bridge.kinds(), expected, "{encoding:?}");
        runtime.block_on(client.close()).unwrap();
    }
}
