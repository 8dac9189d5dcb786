//! What a viewer holds down, so that nothing stays pressed when it goes.

use super::client_message::ClientMessage;

/// Keys held at once; more than any keyboard has. A press beyond it is not sent on, so that each press that went
/// through can be undone.
const MAX_HELD: usize = 256;

/// How a key was named when it was pressed, which is how it must be named when it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Keysym(u32),
    Scancode { keysym: u32, keycode: u32 },
}

impl Key {
    fn same_key(self, other: Self) -> bool {
        match (self, other) {
            (Self::Keysym(a), Self::Keysym(b)) => a == b,
            (Self::Scancode { keycode: a, .. }, Self::Scancode { keycode: b, .. }) => a == b,
            _ => false,
        }
    }
}

/// Keys and buttons that went upstream as pressed and not yet as released.
#[derive(Debug, Default)]
pub struct HeldInput {
    keys: Vec<Key>,
    buttons: u16,
    position: (u16, u16),
}

impl HeldInput {
    /// Notes a message that is about to be sent on. False means: do not send it.
    pub fn note(&mut self, message: &ClientMessage) -> bool {
        match *message {
            ClientMessage::Key { down, keysym } => self.note_key(down, Key::Keysym(keysym)),
            ClientMessage::QemuKey { down, keysym, keycode } => {
                self.note_key(down, Key::Scancode { keysym, keycode })
            }
            ClientMessage::Pointer { buttons, x, y } => {
                self.buttons = buttons;
                self.position = (x, y);
                true
            }
            _ => true,
        }
    }

    fn note_key(&mut self, down: bool, key: Key) -> bool {
        let held = self.keys.iter().position(|other| other.same_key(key));
        match (down, held) {
            (true, None) if self.keys.len() >= MAX_HELD => return false,
            (true, None) => self.keys.push(key),
            (false, Some(index)) => {
                self.keys.swap_remove(index);
            }
            (true, Some(_)) | (false, None) => {}
        }
        true
    }

    /// The messages that let go of everything; nothing is held afterwards.
    pub fn releases(&mut self) -> Vec<ClientMessage> {
        let (x, y) = self.position;
        let pointer = (self.buttons != 0).then_some(ClientMessage::Pointer { buttons: 0, x, y });
        self.buttons = 0;
        let keys = std::mem::take(&mut self.keys).into_iter().rev().map(|key| match key {
            Key::Keysym(keysym) => ClientMessage::Key { down: false, keysym },
            Key::Scancode { keysym, keycode } => ClientMessage::QemuKey { down: false, keysym, keycode },
        });
        keys.chain(pointer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_down_is_released_last_pressed_first_and_only_once() {
        let mut held = HeldInput::default();
        for message in [
            ClientMessage::Key { down: true, keysym: 0xffe1 },
            ClientMessage::Key { down: true, keysym: 97 },
            ClientMessage::QemuKey { down: true, keysym: 98, keycode: 48 },
            ClientMessage::Key { down: false, keysym: 97 },
            ClientMessage::Pointer { buttons: 1, x: 7, y: 8 },
        ] {
            assert!(held.note(&message));
        }
        let expected = [
            ClientMessage::QemuKey { down: false, keysym: 98, keycode: 48 },
            ClientMessage::Key { down: false, keysym: 0xffe1 },
            ClientMessage::Pointer { buttons: 0, x: 7, y: 8 },
        ];
        assert_eq!(held.releases(), expected);
        assert_eq!(held.releases(), []);
    }

    #[test]
    fn a_scancode_is_let_go_of_even_when_its_keysym_changed() {
        let mut held = HeldInput::default();
        held.note(&ClientMessage::QemuKey { down: true, keysym: 65, keycode: 30 });
        held.note(&ClientMessage::QemuKey { down: false, keysym: 97, keycode: 30 });
        assert_eq!(held.releases(), []);
    }

    #[test]
    fn presses_beyond_the_limit_are_not_sent_on_but_releases_are() {
        let mut held = HeldInput::default();
        for keysym in 0..256 {
            assert!(held.note(&ClientMessage::Key { down: true, keysym }));
        }
        assert!(!held.note(&ClientMessage::Key { down: true, keysym: 256 }));
        assert!(held.note(&ClientMessage::Key { down: false, keysym: 256 }));
        assert_eq!(held.releases().len(), 256);
    }
}
