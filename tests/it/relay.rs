//! The relay between real RFB servers and viewers: x11vnc on Xvfb, Xtigervnc, a small viewer of our own and `vnc-rs`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{sink, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use valetd::rfb::Access;
use valetd::tasks::Scope;
use valetd::vnc::relay::{self, RelayEnd, RelayOptions};
use valetd::vnc::{Activity, RfbAddress};
use vnc::{PixelFormat, VncConnector, VncEncoding, VncEvent, X11Event};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt, CreateGCAux, Rectangle};
use x11rb::rust_connection::RustConnection;

const WIDTH: u16 = 320;
const HEIGHT: u16 = 240;
/// For anything that a loaded machine may take its time for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// An X display with an RFB server on a Unix socket.
struct Screen {
    // Fields drop in order: the RFB server before its display.
    rfb_pid: u32,
    _processes: Vec<Running>,
    address: RfbAddress,
    x: RustConnection,
    root: u32,
    _folder: tempfile::TempDir,
}

#[expect(clippy::disallowed_methods, reason = "tests start their servers themselves")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn start(command: &mut Command) -> Running {
    Running(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Starts an X server that picks its number and writes it to its standard output.
fn start_x(mut command: Command) -> (Running, String) {
    let mut server = start(command.args(["-displayfd", "1", "-nolisten", "tcp"]).stdout(Stdio::piped()));
    let (mut number, mut byte) = (String::new(), [0]);
    let out = server.0.stdout.as_mut().unwrap();
    while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        number.push(char::from(byte[0]));
    }
    (server, format!(":{number}"))
}

fn size() -> String {
    format!("{WIDTH}x{HEIGHT}")
}

/// A cookie file for any display of this host, and the cookie.
fn cookie(folder: &Path) -> (PathBuf, [u8; 16]) {
    let cookie = *b"0123456789abcdef";
    let mut entry = vec![0xff, 0xff, 0, 0, 0, 0];
    for field in [&b"MIT-MAGIC-COOKIE-1"[..], &cookie] {
        entry.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
        entry.extend(field);
    }
    let path = folder.join("xauthority");
    std::fs::write(&path, entry).unwrap();
    (path, cookie)
}

fn connect_x(display: &str, cookie: [u8; 16]) -> (RustConnection, u32) {
    let number = display.trim_start_matches(':').parse::<u16>().unwrap();
    let socket = std::os::unix::net::UnixStream::connect(format!("/tmp/.X11-unix/X{number}")).unwrap();
    let (stream, _) = x11rb::rust_connection::DefaultStream::from_unix_stream(socket).unwrap();
    let name = b"MIT-MAGIC-COOKIE-1".to_vec();
    let x = RustConnection::connect_to_stream_with_auth_info(stream, 0, name, cookie.to_vec()).unwrap();
    let root = x.setup().roots[0].root;
    (x, root)
}

async fn x11vnc() -> Screen {
    let folder = tempfile::tempdir().unwrap();
    let (auth, cookie) = cookie(folder.path());
    let socket = folder.path().join("rfb");
    let mut xvfb = command("Xvfb");
    // The abstract socket stays on: without it, -displayfd takes the number of a display that is in use.
    xvfb.args(["-noreset", "-screen", "0", &format!("{}x24", size()), "-auth"]).arg(&auth);
    let (xvfb, display) = start_x(xvfb);
    let rfb = start(
        command("x11vnc")
            .args([
                "-display",
                &display,
                "-rfbport",
                "0",
                "-no6",
                "-rfbportv6",
                "0",
                "-nopw",
                "-shared",
                "-forever",
            ])
            .args(["-norc", "-noxrecord", "-auth"])
            .arg(&auth)
            .arg("-unixsock")
            .arg(&socket)
            .stdout(Stdio::null()),
    );
    let (x, root) = connect_x(&display, cookie);
    ready(vec![rfb, xvfb], RfbAddress::Unix(socket), (x, root), folder).await
}

async fn tigervnc() -> Screen {
    let folder = tempfile::tempdir().unwrap();
    let (auth, cookie) = cookie(folder.path());
    let socket = folder.path().join("rfb");
    let mut server = command("Xtigervnc");
    server.args([
        "-rfbport",
        "-1",
        "-SecurityTypes",
        "None",
        "-geometry",
        &size(),
        "-depth",
        "24",
        "-noreset",
    ]);
    server.arg("-auth").arg(&auth).arg("-rfbunixpath").arg(&socket);
    let (server, display) = start_x(server);
    let (x, root) = connect_x(&display, cookie);
    ready(vec![server], RfbAddress::Unix(socket), (x, root), folder).await
}

async fn ready(
    processes: Vec<Running>,
    address: RfbAddress,
    (x, root): (RustConnection, u32),
    folder: tempfile::TempDir,
) -> Screen {
    let rfb_pid = processes[0].0.id();
    let up = async {
        while relay::probe(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, up).await.unwrap();
    Screen { rfb_pid, _processes: processes, address, x, root, _folder: folder }
}

impl Screen {
    fn fill(&self, colour: u32, area: Rectangle) {
        let gc = self.x.generate_id().unwrap();
        self.x.create_gc(gc, self.root, &CreateGCAux::new().foreground(colour)).unwrap();
        self.x.poly_fill_rectangle(self.root, gc, &[area]).unwrap();
        self.x.free_gc(gc).unwrap();
        self.x.get_input_focus().unwrap().reply().unwrap();
    }

    /// Column, row and pressed buttons, as X has them.
    fn pointer(&self) -> (i16, i16, u16) {
        let pointer = self.x.query_pointer(self.root).unwrap().reply().unwrap();
        (pointer.root_x, pointer.root_y, u16::from(pointer.mask) & 0x1f00)
    }

    fn keys_down(&self) -> u32 {
        self.x.query_keymap().unwrap().reply().unwrap().keys.iter().map(|byte| byte.count_ones()).sum()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A viewer's end of a relay, as a byte stream.
struct Viewer {
    stream: DuplexStream,
    scope: Scope,
    ended: tokio::sync::oneshot::Receiver<RelayEnd>,
    activity: Arc<Activity>,
}

fn options(access: Access) -> RelayOptions {
    RelayOptions {
        access,
        desktop_name: "a desk".into(),
        handshake_deadline: PATIENCE,
        send_deadline: PATIENCE,
        upstream_deadline: PATIENCE,
    }
}

/// Runs a relay whose chunks make a byte stream.
fn view(address: &RfbAddress, options: RelayOptions) -> Viewer {
    let (stream, far) = tokio::io::duplex(64 * 1024);
    let (read, write) = tokio::io::split(far);
    let mut tx = Box::pin(sink::unfold(write, |mut write, chunk: Bytes| async move {
        assert!(chunk.len() <= 64 * 1024);
        write.write_all(&chunk).await?;
        io::Result::Ok(write)
    }));
    let mut rx = Box::pin(stream::unfold(read, |mut read| async move {
        let mut buffer = vec![0; 4096];
        let count = read.read(&mut buffer).await.unwrap();
        buffer.truncate(count);
        (count > 0).then(|| (io::Result::Ok(Bytes::from(buffer)), read))
    }));
    let (say_end, ended) = tokio::sync::oneshot::channel();
    let activity = Arc::new(Activity::new(Instant::now()));
    let mut scope = Scope::new();
    let (address, noted) = (address.clone(), Arc::clone(&activity));
    scope.spawn("relay", async move {
        let end = relay::run(&mut tx, &mut rx, &address, &options, &noted).await;
        let _test_is_gone = say_end.send(end);
    });
    Viewer { stream, scope, ended, activity }
}

impl Viewer {
    async fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }

    async fn put(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn open(&mut self) {
        assert_eq!(&self.take::<12>().await, b"RFB 003.008\n");
        self.put(b"RFB 003.008\n").await;
        assert_eq!(self.take::<2>().await, [1, 1]);
        self.put(&[1]).await;
        assert_eq!(self.take::<4>().await, [0; 4]);
        self.put(&[0]).await;
        let init = self.take::<24>().await;
        assert_eq!(&init[..4], &[1, 64, 0, 240], "320 by 240");
        assert_eq!(&init[20..], &[0, 0, 0, 6]);
        assert_eq!(&self.take::<6>().await, b"a desk");
    }

    async fn encodings(&mut self, encodings: &[i32]) {
        let mut message = vec![2, 0, 0, u8::try_from(encodings.len()).unwrap()];
        message.extend(encodings.iter().flat_map(|encoding| encoding.to_be_bytes()));
        self.put(&message).await;
    }

    async fn request(&mut self, incremental: u8) {
        self.put(&[3, incremental, 0, 0, 0, 0, 1, 64, 0, 240]).await;
    }

    async fn leave(mut self) -> RelayEnd {
        drop(self.stream);
        let end = timeout(PATIENCE, &mut self.ended).await.unwrap().unwrap();
        assert!(self.scope.shutdown(PATIENCE).await.is_empty());
        end
    }
}

const RIGHT_BUTTON_AND_A: [&[u8]; 2] = [&[5, 4, 0, 77, 0, 55], &[4, 1, 0, 0, 0, 0, 0, 97]];

#[tokio::test]
async fn a_controllers_key_and_pointer_reach_x_and_are_released_when_it_leaves() {
    let screen = x11vnc().await;
    let mut viewer = view(&screen.address, options(Access::Full));
    viewer.open().await;
    until("time has passed", || viewer.activity.idle_for(Instant::now()) > Duration::from_millis(50)).await;
    let acted = Instant::now();
    viewer.put(&RIGHT_BUTTON_AND_A.concat()).await;
    until("button and key are down", || screen.pointer() == (77, 55, 0x400) && screen.keys_down() == 1).await;
    let idle = viewer.activity.idle_for(Instant::now());
    assert!(idle <= acted.elapsed() + Duration::from_millis(1), "the input counts as activity");
    assert!(matches!(viewer.leave().await, RelayEnd::ViewerLeft));
    until("all is released", || screen.pointer() == (77, 55, 0) && screen.keys_down() == 0).await;
}

#[tokio::test]
async fn nothing_of_a_spectator_reaches_x() {
    let screen = x11vnc().await;
    let before = screen.pointer();
    let mut viewer = view(&screen.address, options(Access::ViewOnly));
    viewer.open().await;
    viewer.put(&RIGHT_BUTTON_AND_A.concat()).await;
    viewer.put(b"\x06\0\0\0\0\0\0\x02hi\xff\0\0\x01\0\0\0\x61\0\0\0\x1e\xfa\0\x01\x02").await;
    // The server answers in order: with the picture here, all of the above has had its effect, if any.
    viewer.encodings(&[0]).await;
    viewer.request(0).await;
    let header = viewer.take::<16>().await;
    assert_eq!((header[0], &header[12..]), (0, &[0, 0, 0, 0][..]));
    assert_eq!((screen.pointer(), screen.keys_down()), (before, 0));
    viewer.leave().await;
}

#[tokio::test]
async fn x11vnc_on_its_socket_has_no_tcp_listener() {
    let screen = x11vnc().await;
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", screen.rfb_pid))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    assert!(!inodes.is_empty(), "it has sockets at all");
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap();
        let its = table
            .lines()
            .filter(|line| inodes.iter().any(|inode| line.split_whitespace().nth(9) == Some(inode)));
        assert_eq!(its.count(), 0);
    }
}

/// Pixels as 0xRRGGBB, painted by events of `vnc-rs`.
struct Canvas(Vec<u32>);

impl Canvas {
    fn paint(&mut self, event: VncEvent) {
        if let VncEvent::RawImage(rect, data) = event {
            for (index, pixel) in data.chunks_exact(4).enumerate() {
                let (column, row) = (index % usize::from(rect.width), index / usize::from(rect.width));
                let at = (usize::from(rect.y) + row) * usize::from(WIDTH) + usize::from(rect.x) + column;
                self.0[at] = u32::from_be_bytes([0, pixel[2], pixel[1], pixel[0]]);
            }
        }
    }
}

async fn shows_what_was_drawn(screen: &Screen, access: Access) {
    for encoding in [VncEncoding::Raw, VncEncoding::Zrle, VncEncoding::Tight] {
        screen.fill(0x0000_0000, Rectangle { x: 0, y: 0, width: WIDTH, height: HEIGHT });
        screen.fill(0x0012_ab34, Rectangle { x: 10, y: 20, width: 30, height: 40 });
        let Viewer { stream, mut scope, ended, .. } = view(&screen.address, options(access));
        let client = VncConnector::new(stream)
            .set_auth_method(async { Ok(String::new()) })
            .add_encoding(encoding)
            // Else the server paints the cursor into the picture.
            .add_encoding(VncEncoding::CursorPseudo)
            .allow_shared(true)
            .set_pixel_format(PixelFormat::bgra())
            .build()
            .unwrap();
        let client = timeout(PATIENCE, client.try_start()).await.unwrap().unwrap().finish().unwrap();
        let mut canvas = Canvas(vec![0xff_ffff; usize::from(WIDTH) * usize::from(HEIGHT)]);
        let expected: Vec<u32> = (0..u32::from(HEIGHT) * u32::from(WIDTH))
            .map(|at| (at % u32::from(WIDTH), at / u32::from(WIDTH)))
            .map(|(x, y)| if (10..40).contains(&x) && (20..60).contains(&y) { 0x0012_ab34 } else { 0 })
            .collect();
        let painted = async {
            while canvas.0 != expected {
                client.input(X11Event::Refresh).await.unwrap();
                while let Some(event) = client.poll_event().await.unwrap() {
                    canvas.paint(event);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = timeout(PATIENCE, painted).await;
        let wrong = canvas.0.iter().zip(&expected).enumerate().filter(|(_, (is, should))| is != should);
        let wrong: Vec<_> = wrong.take(3).collect();
        assert!(in_time.is_ok(), "wrong picture with {encoding:?}: {wrong:x?}");
        client.close().await.unwrap();
        drop(client);
        let _the_client_decides_how_it_goes = timeout(PATIENCE, ended).await.unwrap();
        scope.shutdown(PATIENCE).await;
    }
}

#[tokio::test]
async fn vnc_rs_sees_the_pixels_of_x11vnc_through_the_relay() {
    shows_what_was_drawn(&x11vnc().await, Access::ViewOnly).await;
}

#[tokio::test]
async fn vnc_rs_sees_the_pixels_of_tigervnc_through_the_relay() {
    shows_what_was_drawn(&tigervnc().await, Access::Full).await;
}

const RESIZE_TO_800_BY_600: [u8; 24] =
    [251, 0, 3, 32, 2, 88, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 32, 2, 88, 0, 0, 0, 0];

#[tokio::test]
async fn a_spectators_resize_is_refused_between_two_messages_while_updates_stream() {
    let screen = tigervnc().await;
    let mut viewer = view(&screen.address, options(Access::ViewOnly));
    viewer.open().await;
    // Raw, ExtendedDesktopSize, Fence, ContinuousUpdates, and an encoding that must not get through.
    viewer.encodings(&[0, -308, -312, -313, 21]).await;
    viewer.request(0).await;
    viewer.put(&[150, 1, 0, 0, 0, 0, 1, 64, 0, 240]).await;
    let (mut refusals, mut raw_rects, mut fences) = (0, 0, 0);
    for round in 0u32.. {
        if refusals == 5 && raw_rects > 5 {
            break;
        }
        assert!(round < 2000, "{refusals} refusals, {raw_rects} pictures, {fences} fences");
        if round % 4 == 0 {
            screen.fill(round * 4321, Rectangle { x: 0, y: 0, width: WIDTH, height: HEIGHT });
        }
        if raw_rects > 0 && refusals < 5 && round % 3 == 0 {
            viewer.put(&RESIZE_TO_800_BY_600).await;
        }
        match viewer.take::<1>().await {
            [0] => {
                let [_, high, low] = viewer.take::<3>().await;
                for _ in 0..u16::from_be_bytes([high, low]) {
                    let rect = viewer.take::<12>().await;
                    match i32::from_be_bytes([rect[8], rect[9], rect[10], rect[11]]) {
                        0 => {
                            let pixels = usize::from(u16::from_be_bytes([rect[4], rect[5]]))
                                * usize::from(u16::from_be_bytes([rect[6], rect[7]]));
                            let mut body = vec![0; pixels * 4];
                            timeout(PATIENCE, viewer.stream.read_exact(&mut body)).await.unwrap().unwrap();
                            raw_rects += 1;
                        }
                        -308 => {
                            let [screens, ..] = viewer.take::<4>().await;
                            assert_eq!(screens, 1);
                            viewer.take::<16>().await;
                            assert_eq!(&rect[4..8], &[1, 64, 0, 240], "the size as it is");
                            if rect[..4] == [0, 1, 0, 1] {
                                refusals += 1;
                            }
                        }
                        other => panic!("encoding {other}"),
                    }
                }
            }
            [150] => {}
            [248] => {
                let fence = viewer.take::<8>().await;
                let mut payload = vec![0; usize::from(fence[7])];
                viewer.stream.read_exact(&mut payload).await.unwrap();
                // Answered as noVNC does: without the request bit.
                let mut answer = vec![248, 0, 0, 0, 0, 0, 0, fence[6] & 3, fence[7]];
                answer.extend(payload);
                viewer.put(&answer).await;
                fences += 1;
            }
            [other] => panic!("message {other}: the stream is out of step"),
        }
    }
    assert!(fences > 0);
    let geometry = screen.x.get_geometry(screen.root).unwrap().reply().unwrap();
    assert_eq!((geometry.width, geometry.height), (WIDTH, HEIGHT));
    viewer.leave().await;
}

#[tokio::test]
async fn a_viewer_that_takes_nothing_is_too_slow_but_its_input_flows_until_then() {
    let screen = tigervnc().await;
    let slow = RelayOptions { send_deadline: Duration::from_secs(3), ..options(Access::Full) };
    let mut viewer = view(&screen.address, slow);
    viewer.open().await;
    viewer.encodings(&[0]).await;
    // 300 KB of Raw for a pipe of 64 KB that nobody reads.
    for _ in 0..4 {
        viewer.request(0).await;
    }
    viewer.put(RIGHT_BUTTON_AND_A[0]).await;
    until("the pointer moved", || screen.pointer() == (77, 55, 0x400)).await;
    let end = timeout(PATIENCE, &mut viewer.ended).await.unwrap().unwrap();
    assert!(matches!(end, RelayEnd::ViewerTooSlow), "{end:?}");
    until("the button is released", || screen.pointer() == (77, 55, 0)).await;
    viewer.scope.shutdown(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn ends_say_whose_fault_it_was() {
    let screen = x11vnc().await;
    let mut viewer = view(&screen.address, options(Access::Full));
    viewer.open().await;
    viewer.put(&[7]).await;
    let end = timeout(PATIENCE, &mut viewer.ended).await.unwrap().unwrap();
    assert!(matches!(end, RelayEnd::ViewerMisbehaved(_)), "{end:?}");

    let nowhere = RfbAddress::Unix("/nonexistent/rfb".into());
    let mut viewer = view(&nowhere, options(Access::Full));
    let end = timeout(PATIENCE, &mut viewer.ended).await.unwrap().unwrap();
    assert!(matches!(end, RelayEnd::UpstreamUnreachable(_)), "{end:?}");
    assert!(relay::probe(&nowhere).await.is_err());

    let mut viewer = view(&screen.address, options(Access::Full));
    viewer.open().await;
    drop(screen);
    let end = timeout(PATIENCE, &mut viewer.ended).await.unwrap().unwrap();
    assert!(matches!(end, RelayEnd::UpstreamEnded), "{end:?}");
}

#[tokio::test]
async fn a_server_of_rfb_3_3_is_greeted_again_politely() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rfb");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut scope = Scope::new();
    scope.spawn("server", async move {
        let (mut early, _) = listener.accept().await.unwrap();
        early.write_all(b"RFB 003.003\n").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"RFB 003.003\n").await.unwrap();
        let mut version = [0; 12];
        server.read_exact(&mut version).await.unwrap();
        assert_eq!(&version, b"RFB 003.003\n");
        server.write_all(&[0, 0, 0, 1]).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), 1, "ClientInit, shared");
        let format = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
        server.write_all(&[&[1, 64, 0, 240], &format[..], &[0, 0, 0, 1, b'x', 2]].concat()).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), 3, "an update request");
    });
    let mut viewer = view(&RfbAddress::Unix(path), options(Access::ViewOnly));
    viewer.open().await;
    assert_eq!(viewer.take::<1>().await, [2], "the bell that came right behind ServerInit");
    viewer.request(0).await;
    assert_eq!(scope.join_next().await.unwrap().outcome, valetd::tasks::Outcome::Completed);
    let end = timeout(PATIENCE, &mut viewer.ended).await.unwrap().unwrap();
    assert!(matches!(end, RelayEnd::UpstreamEnded), "{end:?}");
}
