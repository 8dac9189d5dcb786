//! The clipboard of a display (ICCCM, "Peer-to-Peer Communication by Means of Selections"): what programs copy there, and
//! what viewers do, which is kept for those programs.

use std::borrow::Cow;
use std::sync::Arc;

use x11rb_protocol::protocol::Event;
use x11rb_protocol::protocol::xfixes::{SelectSelectionInputRequest, SelectionEventMask};
use x11rb_protocol::protocol::xproto::{
    AtomEnum, ChangePropertyRequest, ChangeWindowAttributesAux, ChangeWindowAttributesRequest,
    ConvertSelectionRequest, CreateWindowAux, CreateWindowRequest, EventMask, GetPropertyRequest,
    InternAtomRequest, PropMode, Property, PropertyNotifyEvent, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent,
    SelectionRequestEvent, SendEventRequest, SetSelectionOwnerRequest, WindowClass,
};

use super::super::client::{Client, Error};
use crate::rfb::clipboard::LONGEST_TEXT;

/// The atom of the selection that marking text makes.
const PRIMARY: u32 = 1;
/// The server's own idea of now.
const CURRENT_TIME: u32 = 0;
/// Bytes of a property that go at once; a request to an X server has 256 KiB at most.
const CHUNK: usize = 64 << 10;
/// Programs that take a large text at the same time; the next gets none.
const MOST_TRANSFERS: usize = 8;
/// Names of atoms, in the order of [`Atoms::new`].
const NAMES: [&str; 7] =
    ["CLIPBOARD", "UTF8_STRING", "TARGETS", "INCR", "TEXT", "text/plain;charset=utf-8", "VALETD_CLIPBOARD"];

#[derive(Debug, Clone, Copy, Default)]
struct Atoms {
    clipboard: u32,
    utf8: u32,
    targets: u32,
    incr: u32,
    text: u32,
    mime: u32,
    own: u32,
}

/// One X server's clipboard.
#[derive(Debug, Default)]
pub(super) struct Clipboard {
    window: u32,
    atoms: Atoms,
    /// What a viewer copied, for as long as nobody else has copied anything since.
    owned: Option<Arc<str>>,
    incoming: Incoming,
    outgoing: Vec<Transfer>,
}

/// What a program copied, on its way to us.
#[derive(Debug, Default)]
enum Incoming {
    #[default]
    Nothing,
    Asked,
    /// In parts.
    Growing(Vec<u8>),
}

/// A large text on its way to a program.
#[derive(Debug)]
struct Transfer {
    requestor: u32,
    property: u32,
    type_: u32,
    text: Arc<str>,
    sent: usize,
}

impl Clipboard {
    /// Begins to be told of what is copied. `window` is a number that nothing of ours has yet.
    pub(super) async fn open(client: &mut Client, root: u32, window: u32) -> Result<Self, Error> {
        let mut found = [0; NAMES.len()];
        for (atom, name) in found.iter_mut().zip(NAMES) {
            let request = InternAtomRequest { only_if_exists: false, name: name.as_bytes().into() };
            *atom = client.ask(request).await?.atom;
        }
        let [clipboard, utf8, targets, incr, text, mime, own] = found;
        let atoms = Atoms { clipboard, utf8, targets, incr, text, mime, own };
        client.tell(CreateWindowRequest {
            depth: 0,
            wid: window,
            parent: root,
            x: 0,
            y: 0,
            width: 1,
            height: 1,
            border_width: 0,
            class: WindowClass::INPUT_ONLY,
            visual: 0,
            value_list: Cow::Owned(CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE)),
        });
        client.tell(SelectSelectionInputRequest {
            window,
            selection: clipboard,
            event_mask: SelectionEventMask::SET_SELECTION_OWNER,
        });
        Ok(Self { window, atoms, ..Self::default() })
    }

    /// Takes what a viewer copied.
    pub(super) fn take(&mut self, client: &mut Client, text: Arc<str>) {
        self.owned = Some(text);
        // The middle button pastes the other one.
        for selection in [self.atoms.clipboard, PRIMARY] {
            client.tell(SetSelectionOwnerRequest { owner: self.window, selection, time: CURRENT_TIME });
        }
    }

    /// Does what an event asks for; gives what a program copied, once all of it is here and where it `is_wanted`.
    pub(super) async fn hear(
        &mut self,
        client: &mut Client,
        event: &Event,
        is_wanted: bool,
    ) -> Result<Option<Arc<str>>, Error> {
        match event {
            // Whoever copies has it from now on. Nobody: the program went, and what it copied with it.
            Event::XfixesSelectionNotify(event)
                if event.selection == self.atoms.clipboard && ![self.window, 0].contains(&event.owner) =>
            {
                self.owned = None;
                if is_wanted {
                    self.ask(client);
                }
            }
            Event::SelectionNotify(event) if event.requestor == self.window => {
                if event.property == self.atoms.own && matches!(self.incoming, Incoming::Asked) {
                    return self.read(client).await;
                }
                self.incoming = Incoming::Nothing;
            }
            Event::PropertyNotify(event) => return self.property(client, event).await,
            Event::SelectionRequest(request) => self.serve(client, request),
            _ => {}
        }
        Ok(None)
    }

    fn ask(&mut self, client: &mut Client) {
        self.incoming = Incoming::Asked;
        client.tell(ConvertSelectionRequest {
            requestor: self.window,
            selection: self.atoms.clipboard,
            target: self.atoms.utf8,
            property: self.atoms.own,
            time: CURRENT_TIME,
        });
    }

    async fn property(
        &mut self,
        client: &mut Client,
        event: &PropertyNotifyEvent,
    ) -> Result<Option<Arc<str>>, Error> {
        let is_part =
            event.window == self.window && event.atom == self.atoms.own && event.state == Property::NEW_VALUE;
        if is_part && matches!(self.incoming, Incoming::Growing(_)) {
            return self.read(client).await;
        }
        if event.state == Property::DELETE {
            self.go_on(client, event.window, event.atom);
        }
        Ok(None)
    }

    /// Takes what lies in our property, the whole text or the next part of it.
    async fn read(&mut self, client: &mut Client) -> Result<Option<Arc<str>>, Error> {
        let words = u32::try_from(LONGEST_TEXT / 4).unwrap_or(u32::MAX);
        let request = GetPropertyRequest {
            delete: true,
            window: self.window,
            property: self.atoms.own,
            type_: AtomEnum::ANY.into(),
            long_offset: 0,
            long_length: words,
        };
        let part = client.ask(request).await?;
        let whole = match std::mem::take(&mut self.incoming) {
            // Its length is an estimate, and not to be relied on; that we took it is the sign to begin.
            Incoming::Asked if part.type_ == self.atoms.incr => {
                self.incoming = Incoming::Growing(Vec::new());
                return Ok(None);
            }
            Incoming::Growing(mut bytes) if !part.value.is_empty() => {
                bytes.extend(part.value);
                if bytes.len() <= LONGEST_TEXT {
                    self.incoming = Incoming::Growing(bytes);
                }
                return Ok(None);
            }
            Incoming::Growing(bytes) => bytes,
            Incoming::Asked | Incoming::Nothing => part.value,
        };
        // More than that is nobody's clipboard.
        if part.bytes_after > 0 || whole.len() > LONGEST_TEXT {
            return Ok(None);
        }
        Ok(String::from_utf8(whole).ok().filter(|text| !text.is_empty()).map(Arc::from))
    }

    /// Answers a program that pastes what a viewer copied.
    fn serve(&mut self, client: &mut Client, request: &SelectionRequestEvent) {
        let SelectionRequestEvent { requestor, selection, target, time, .. } = *request;
        // Old programs leave the property to us.
        let property = if request.property == 0 { target } else { request.property };
        let known = self.owned.clone().filter(|_| [self.atoms.clipboard, PRIMARY].contains(&selection));
        let is_done = known.is_some_and(|text| self.hand_over(client, requestor, property, target, text));
        let event = SelectionNotifyEvent {
            response_type: SELECTION_NOTIFY_EVENT,
            sequence: 0,
            time,
            requestor,
            selection,
            target,
            property: if is_done { property } else { 0 },
        };
        client.tell(SendEventRequest {
            propagate: false,
            destination: requestor,
            event_mask: EventMask::NO_EVENT,
            event: Cow::Owned(event.into()),
        });
    }

    fn hand_over(
        &mut self,
        client: &mut Client,
        requestor: u32,
        property: u32,
        target: u32,
        text: Arc<str>,
    ) -> bool {
        let Atoms { utf8, targets, incr, text: any, mime, .. } = self.atoms;
        let string = u32::from(AtomEnum::STRING);
        if target == targets {
            let list = [targets, utf8, mime, any, string].map(u32::to_ne_bytes).concat();
            put(client, (requestor, property), AtomEnum::ATOM.into(), 32, &list);
            return true;
        }
        if target == string {
            let latin: Vec<u8> =
                text.chars().map(|char| u8::try_from(u32::from(char)).unwrap_or(b'?')).collect();
            let fits = latin.len() <= CHUNK;
            if fits {
                put(client, (requestor, property), string, 8, &latin);
            }
            return fits;
        }
        if ![utf8, any, mime].contains(&target) {
            return false;
        }
        let type_ = if target == any { utf8 } else { target };
        if text.len() <= CHUNK {
            put(client, (requestor, property), type_, 8, text.as_bytes());
            return true;
        }
        if self.outgoing.len() >= MOST_TRANSFERS {
            // One whose program has gone is never asked for more.
            self.outgoing.remove(0);
        }
        let aux = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        client.tell(ChangeWindowAttributesRequest { window: requestor, value_list: Cow::Owned(aux) });
        let size = u32::try_from(text.len()).unwrap_or(u32::MAX).to_ne_bytes();
        put(client, (requestor, property), incr, 32, &size);
        self.outgoing.retain(|transfer| (transfer.requestor, transfer.property) != (requestor, property));
        self.outgoing.push(Transfer { requestor, property, type_, text, sent: 0 });
        true
    }

    /// The program took a part: here is the next, and after the last one an empty one.
    fn go_on(&mut self, client: &mut Client, requestor: u32, property: u32) {
        let is_it = |transfer: &Transfer| (transfer.requestor, transfer.property) == (requestor, property);
        let Some(at) = self.outgoing.iter().position(is_it) else { return };
        let Some(transfer) = self.outgoing.get_mut(at) else { return };
        let rest = transfer.text.as_bytes().get(transfer.sent..).unwrap_or_default();
        let part = rest.get(..CHUNK.min(rest.len())).unwrap_or_default();
        put(client, (requestor, property), transfer.type_, 8, part);
        transfer.sent += part.len();
        if part.is_empty() {
            self.outgoing.remove(at);
        }
    }
}

fn put(client: &mut Client, (window, property): (u32, u32), type_: u32, format: u8, data: &[u8]) {
    client.tell(ChangePropertyRequest {
        mode: PropMode::REPLACE,
        window,
        property,
        type_,
        format,
        data_len: u32::try_from(data.len() / usize::from(format / 8).max(1)).unwrap_or(u32::MAX),
        data: Cow::Borrowed(data),
    });
}
