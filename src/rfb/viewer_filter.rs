//! All that happens to a viewer's bytes on their way to the server: parse, judge, note what is held, encode anew.
//! The bytes themselves never go on, so nothing that our parser and the server's read differently can.

use super::DecodeError;
use super::client_message::{ClientMessage, PointerForm};
use super::client_parser::ClientParser;
use super::encoding::EXTENDED_DESKTOP_SIZE;
use super::held_input::{HeldInput, Noted};
use super::policy::{self, Access, Verdict};
use super::skim::Skimmer;

/// What one message of the viewer led to, besides bytes for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing else.
    None,
    /// Key, pointer or clipboard was sent on.
    Input,
    /// The viewer is to be told that it may not resize.
    RefuseResize,
}

/// The way from one viewer to the server.
#[derive(Debug)]
pub struct ViewerFilter {
    access: Access,
    parser: ClientParser,
    held: HeldInput,
    /// Whether the viewer ever listed ExtendedMouseButtons.
    listed_extended_mouse: bool,
    /// Whether the viewer understands an answer to SetDesktopSize.
    understands_resize: bool,
}

impl ViewerFilter {
    /// For a viewer that has just sent ClientInit.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            parser: ClientParser::new(),
            held: HeldInput::default(),
            listed_extended_mouse: false,
            understands_resize: false,
        }
    }

    /// Takes one message off `input`, appends what goes to the server to `out`. `None`: more bytes are needed, and
    /// all of `input` was taken. An error ends the connection.
    pub fn next(
        &mut self,
        input: &mut &[u8],
        server: &mut Skimmer,
        out: &mut Vec<u8>,
    ) -> Result<Option<Effect>, DecodeError> {
        let Some(mut message) = self.parser.next(input)? else { return Ok(None) };
        if let ClientMessage::SetEncodings(encodings) = &mut message {
            policy::filter_encodings(self.access, encodings);
            self.listed_extended_mouse |= self.parser.lists_extended_mouse();
            self.understands_resize = encodings.contains(&EXTENDED_DESKTOP_SIZE);
        }
        Ok(Some(match policy::decide(self.access, &message) {
            Verdict::Forward => {
                match self.held.note(&mut message) {
                    Noted::Drop => return Ok(Some(Effect::None)),
                    Noted::Send => {}
                    Noted::SendAfter(release) => release.encode(self.pointer_form(server), out),
                }
                server.note_sent(&message);
                message.encode(self.pointer_form(server), out);
                if is_input(&message) { Effect::Input } else { Effect::None }
            }
            Verdict::AnswerProhibited if self.understands_resize => Effect::RefuseResize,
            Verdict::Drop | Verdict::AnswerProhibited => Effect::None,
        }))
    }

    /// Appends what lets go of all keys and buttons that this viewer holds.
    pub fn release(&mut self, server: &Skimmer, out: &mut Vec<u8>) {
        let form = self.pointer_form(server);
        for message in self.held.releases() {
            message.encode(form, out);
        }
    }

    /// Bytes that are held of a message not yet whole.
    pub fn buffered(&self) -> usize {
        self.parser.buffered()
    }

    fn pointer_form(&self, server: &Skimmer) -> PointerForm {
        match (self.listed_extended_mouse, self.parser.lists_extended_mouse() && server.extended_mouse()) {
            (false, _) => PointerForm::Legacy,
            (true, false) => PointerForm::SevenButtons,
            (true, true) => PointerForm::Extended,
        }
    }
}

fn is_input(message: &ClientMessage) -> bool {
    matches!(
        message,
        ClientMessage::Key { .. }
            | ClientMessage::Pointer { .. }
            | ClientMessage::QemuKey { .. }
            | ClientMessage::CutText(_)
            | ClientMessage::ExtendedCutText(_)
    )
}
