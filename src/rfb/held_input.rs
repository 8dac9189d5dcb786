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

    fn release(self) -> ClientMessage {
        match self {
            Self::Keysym(keysym) => ClientMessage::Key { down: false, keysym },
            Self::Scancode { keysym, keycode } => ClientMessage::QemuKey { down: false, keysym, keycode },
        }
    }
}

/// What is to be done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// It is not sent on.
    Drop,
    /// It is sent on.
    Send,
    /// It is sent on behind this one.
    SendAfter(ClientMessage),
}

/// Keys and buttons that went upstream as pressed and not yet as released.
#[derive(Debug, Default)]
pub struct HeldInput {
    keys: Vec<Key>,
    buttons: u16,
    position: (u16, u16),
}

impl HeldInput {
    /// Notes a message that is about to be sent on. A key's keysym can change while the key is down, as when Shift goes up
    /// first; whoever gets the messages may go by either name, so a release gets both as they were when it was pressed.
    pub fn note(&mut self, message: &mut ClientMessage) -> Noted {
        match message {
            ClientMessage::Key { down, keysym } => self.note_key(*down, &mut Key::Keysym(*keysym)),
            ClientMessage::QemuKey { down, keysym, keycode } => {
                let mut key = Key::Scancode { keysym: *keysym, keycode: *keycode };
                let noted = self.note_key(*down, &mut key);
                if let Key::Scancode { keysym: pressed, .. } = key {
                    *keysym = pressed;
                }
                noted
            }
            ClientMessage::Pointer { buttons, x, y } => {
                self.buttons = *buttons;
                self.position = (*x, *y);
                Noted::Send
            }
            _ => Noted::Send,
        }
    }

    fn note_key(&mut self, down: bool, key: &mut Key) -> Noted {
        let held = self.keys.iter().position(|other| other.same_key(*key));
        match (down, held) {
            (true, None) if self.keys.len() >= MAX_HELD => return Noted::Drop,
            (true, None) => self.keys.push(*key),
            (true, Some(index)) => {
                let pressed = self.keys.get_mut(index).map(|held| std::mem::replace(held, *key));
                if let Some(pressed) = pressed.filter(|pressed| pressed != key) {
                    return Noted::SendAfter(pressed.release());
                }
            }
            (false, Some(index)) => *key = self.keys.swap_remove(index),
            (false, None) => {}
        }
        Noted::Send
    }

    /// The messages that let go of everything; nothing is held afterwards.
    pub fn releases(&mut self) -> Vec<ClientMessage> {
        let (x, y) = self.position;
        let pointer = (self.buttons != 0).then_some(ClientMessage::Pointer { buttons: 0, x, y });
        self.buttons = 0;
        let keys = std::mem::take(&mut self.keys).into_iter().rev().map(Key::release);
        keys.chain(pointer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_down_is_released_last_pressed_first_and_only_once() {
        let mut held = HeldInput::default();
        for mut message in [
            ClientMessage::Key { down: true, keysym: 0xffe1 },
            ClientMessage::Key { down: true, keysym: 97 },
            ClientMessage::QemuKey { down: true, keysym: 98, keycode: 48 },
            ClientMessage::Key { down: false, keysym: 97 },
            ClientMessage::Pointer { buttons: 1, x: 7, y: 8 },
        ] {
            assert_eq!(held.note(&mut message), Noted::Send);
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
    fn a_scancode_is_let_go_of_by_the_keysym_that_it_was_pressed_with() {
        let mut held = HeldInput::default();
        let key = |down, keysym| ClientMessage::QemuKey { down, keysym, keycode: 30 };
        held.note(&mut key(true, 65));
        let mut release = key(false, 97);
        assert_eq!((held.note(&mut release), release), (Noted::Send, key(false, 65)));
        assert_eq!(held.releases(), []);
        // Held on, it repeats, and becomes another once Shift is down.
        held.note(&mut key(true, 97));
        assert_eq!(held.note(&mut key(true, 97)), Noted::Send);
        let mut press = key(true, 65);
        assert_eq!((held.note(&mut press), press), (Noted::SendAfter(key(false, 97)), key(true, 65)));
        assert_eq!(held.releases(), [key(false, 65)]);
    }

    #[test]
    fn presses_beyond_the_limit_are_not_sent_on_but_releases_are() {
        let mut held = HeldInput::default();
        for keysym in 0..256 {
            assert_eq!(held.note(&mut ClientMessage::Key { down: true, keysym }), Noted::Send);
        }
        assert_eq!(held.note(&mut ClientMessage::Key { down: true, keysym: 256 }), Noted::Drop);
        assert_eq!(held.note(&mut ClientMessage::Key { down: false, keysym: 256 }), Noted::Send);
        assert_eq!(held.releases().len(), 256);
    }
}
