//! A TCP port for viewers that speak no WebSocket, and what passes there, read along by the viewer of our own unit tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use valetd::rfb::connection::NATIVE;
use valetd::rfb::test_viewer::TestViewer;
use valetd::rfb::{ClientMessage, ClientParser, PixelFormat};

use super::stage::{Picture, Stage};

/// What of a rectangle's kinds the encodings of pixels are.
const KINDS: [&str; 8] = ["raw", "hextile", "zrle", "fill", "mono", "indexed", "full", "jpeg"];

/// For one viewer.
pub(super) struct Bridge {
    pub(super) address: SocketAddr,
    witness: Arc<Mutex<Witness>>,
    _runtime: Runtime,
}

impl Bridge {
    pub(super) fn start(stage: &Stage) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let witness = Arc::new(Mutex::new(Witness::new()));
        let (watch, gateway, token) = (Arc::clone(&witness), stage.gateway, stage.token.clone());
        runtime.spawn(async move {
            let (viewer, _) = listener.accept().await.unwrap();
            carry(viewer, gateway, &token, &watch).await;
        });
        Self { address, witness, _runtime: runtime }
    }

    /// What the witness makes of all that passed.
    pub(super) fn picture(&self) -> Picture {
        let witness = self.witness.lock().unwrap();
        assert_eq!(witness.fault, None);
        let canvas = witness.viewer.as_ref().unwrap().canvas();
        canvas.iter().map(|colour| colour.map(|part| u8::try_from(part).unwrap())).collect()
    }

    /// The kinds of rectangles that passed, in the order of [`KINDS`].
    pub(super) fn kinds(&self) -> Vec<&'static str> {
        let witness = self.witness.lock().unwrap();
        let kinds = &witness.viewer.as_ref().unwrap().kinds;
        KINDS.into_iter().filter(|kind| kinds.contains_key(kind)).collect()
    }
}

async fn carry(viewer: TcpStream, gateway: SocketAddr, token: &str, witness: &Mutex<Witness>) {
    let mut request = format!("ws://{gateway}/sessions/s1/vnc").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", format!("binary, jwt.{token}").parse().unwrap());
    let tcp = TcpStream::connect(gateway).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async(request, tcp).await.unwrap();
    let (mut to_server, mut from_server) = socket.split();
    let (mut read, mut write) = viewer.into_split();
    let down = async {
        while let Some(Ok(message)) = from_server.next().await {
            let Message::Binary(bytes) = message else { continue };
            witness.lock().unwrap().server(&bytes);
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let up = async {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            witness.lock().unwrap().client(&buffer[..count]);
            if to_server.send(Message::binary(buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
    }
}

/// Reads along. A pixel format is taken to hold from the moment in which the viewer names it: it does so before its first request.
struct Witness {
    opening: Vec<u8>,
    /// Version, security type and ClientInit.
    client_opening: usize,
    parser: ClientParser,
    format: PixelFormat,
    viewer: Option<TestViewer>,
    fault: Option<String>,
}

impl Witness {
    fn new() -> Self {
        Self {
            opening: Vec::new(),
            client_opening: 12 + 1 + 1,
            parser: ClientParser::new(),
            format: NATIVE,
            viewer: None,
            fault: None,
        }
    }

    fn server(&mut self, bytes: &[u8]) {
        let Some(viewer) = &mut self.viewer else {
            self.opening.extend_from_slice(bytes);
            // Version, security types, result, ServerInit.
            let Some((_, init)) = self.opening.split_at_checked(12 + 2 + 4) else { return };
            let number = |at: usize| u16::from_be_bytes([init[at], init[at + 1]]);
            if init.len() < 24 || init.len() < 24 + usize::from(number(22)) {
                return;
            }
            let mut viewer = TestViewer::new(self.format, (number(0), number(2)));
            self.fault = viewer.feed(&init[24 + usize::from(number(22))..]).err();
            self.viewer = Some(viewer);
            return;
        };
        if self.fault.is_none() {
            self.fault = viewer.feed(bytes).err();
        }
    }

    fn client(&mut self, bytes: &[u8]) {
        let opening = self.client_opening.min(bytes.len());
        self.client_opening -= opening;
        let mut rest = &bytes[opening..];
        while let Some(message) = self.parser.next(&mut rest).unwrap() {
            if let ClientMessage::SetPixelFormat(format) = message {
                self.format = format;
                self.viewer.iter_mut().for_each(|viewer| viewer.set_format(format));
            }
        }
    }
}
