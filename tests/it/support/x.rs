//! The daemon's own display, looked at from outside with its cookie.

use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    ChangeGCAux, ChangeWindowAttributesAux, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask,
    ImageFormat, Rectangle, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, SelectionRequestEvent, WindowClass,
};
use x11rb::rust_connection::{DefaultStream, RustConnection};

use super::daemon::Daemon;

/// A connection to a session's X server.
pub(crate) struct Display {
    connection: RustConnection,
    root: u32,
}

impl Display {
    /// The display of the daemon's session, as the control socket names it.
    pub(crate) fn of(daemon: &mut Daemon) -> Self {
        let status = daemon.control("/v1/status");
        let number: u16 = status["sessions"][0]["display"].as_str().unwrap()[1..].parse().unwrap();
        Self::open(number, &std::fs::read(daemon.path("run/s0/xauthority")).unwrap())
    }

    /// A display by its number, with the one record of its file.
    pub(crate) fn open(number: u16, authority: &[u8]) -> Self {
        // One record; the cookie is its last 16 bytes.
        let cookie = authority[authority.len() - 16..].to_vec();
        let socket = std::os::unix::net::UnixStream::connect(format!("/tmp/.X11-unix/X{number}")).unwrap();
        let (stream, _peer) = DefaultStream::from_unix_stream(socket).unwrap();
        let protocol = b"MIT-MAGIC-COOKIE-1".to_vec();
        let connection =
            RustConnection::connect_to_stream_with_auth_info(stream, 0, protocol, cookie).unwrap();
        let root = connection.setup().roots[0].root;
        let display = Self { connection, root };
        display.hide_pointer();
        display
    }

    /// Has nothing to be seen of the pointer where no window has one of its own: viewers see it in their picture, and the X
    /// server's own picture is without.
    fn hide_pointer(&self) {
        let x = &self.connection;
        let (pixmap, cursor) = (x.generate_id().unwrap(), x.generate_id().unwrap());
        x.create_pixmap(1, pixmap, self.root, 1, 1).unwrap();
        let context = x.generate_id().unwrap();
        x.create_gc(context, pixmap, &CreateGCAux::new().foreground(0)).unwrap();
        x.poly_fill_rectangle(pixmap, context, &[Rectangle { x: 0, y: 0, width: 1, height: 1 }]).unwrap();
        x.create_cursor(cursor, pixmap, pixmap, 0, 0, 0, 0, 0, 0, 0, 0).unwrap();
        let aux = ChangeWindowAttributesAux::new().cursor(cursor);
        x.change_window_attributes(self.root, &aux).unwrap();
        x.get_input_focus().unwrap().reply().unwrap();
    }

    /// The connection itself.
    pub(crate) fn connection(&self) -> &RustConnection {
        &self.connection
    }

    /// Its root window.
    pub(crate) fn root(&self) -> u32 {
        self.root
    }

    /// Its width and height.
    pub(crate) fn size(&self) -> (u16, u16) {
        let root = self.connection.get_geometry(self.root).unwrap().reply().unwrap();
        (root.width, root.height)
    }

    /// Red, green and blue of all its pixels, as the X server itself tells.
    pub(crate) fn picture(&self) -> Vec<[u8; 3]> {
        self.picture_of(self.root, self.size()).unwrap()
    }

    /// The same of a window from its upper left corner on. `None` while that is not all on the screen.
    pub(crate) fn picture_of(&self, window: u32, (width, height): (u16, u16)) -> Option<Vec<[u8; 3]>> {
        let image = self.connection.get_image(ImageFormat::Z_PIXMAP, window, 0, 0, width, height, !0);
        let image = image.unwrap().reply().ok()?;
        Some(image.data.chunks(4).map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect())
    }

    /// How many keys are held down.
    pub(crate) fn keys_down(&self) -> u32 {
        let reply = self.connection.query_keymap().unwrap().reply().unwrap();
        reply.keys.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Where the pointer is.
    pub(crate) fn pointer(&self) -> (i16, i16) {
        let reply = self.connection.query_pointer(self.root).unwrap().reply().unwrap();
        (reply.root_x, reply.root_y)
    }

    /// Fills a rectangle on top of everything with one colour (0xRRGGBB), and waits until the server has drawn it.
    pub(crate) fn fill(&self, x: i16, y: i16, width: u16, height: u16, colour: u32) {
        let window = self.connection.generate_id().unwrap();
        let aux = CreateWindowAux::new()
            .override_redirect(1)
            .background_pixel(colour)
            .event_mask(EventMask::EXPOSURE);
        let connection = &self.connection;
        connection
            .create_window(0, window, self.root, x, y, width, height, 0, WindowClass::INPUT_OUTPUT, 0, &aux)
            .unwrap();
        connection.map_window(window).unwrap();
        let context = connection.generate_id().unwrap();
        connection.create_gc(context, window, &CreateGCAux::new()).unwrap();
        connection.change_gc(context, &ChangeGCAux::new().foreground(colour)).unwrap();
        connection.poly_fill_rectangle(window, context, &[Rectangle { x: 0, y: 0, width, height }]).unwrap();
        connection.get_input_focus().unwrap().reply().unwrap();
    }
}

/// Tells a program that what it asked for of a selection is in the property that it named.
pub(crate) fn tell_requestor(x: &RustConnection, request: &SelectionRequestEvent) {
    let notice = SelectionNotifyEvent {
        response_type: SELECTION_NOTIFY_EVENT,
        sequence: 0,
        time: request.time,
        requestor: request.requestor,
        selection: request.selection,
        target: request.target,
        property: request.property,
    };
    x.send_event(false, request.requestor, EventMask::NO_EVENT, notice).unwrap();
    x.flush().unwrap();
}
