//! Keys and buttons into an X server, through XTEST.

use x11rb_protocol::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ChangeKeyboardMappingRequest, GetKeyboardMappingRequest,
    KEY_PRESS_EVENT, KEY_RELEASE_EVENT, MOTION_NOTIFY_EVENT, QueryKeymapRequest,
};
use x11rb_protocol::protocol::xtest::FakeInputRequest;

use super::super::client::{Client, Error};
use super::handle::Act;
use super::keyboard::{Keyboard, Remap, SHIFT_L, SHIFT_R, Stroke};

/// Buttons of RFB: seven, back and forward.
const BUTTONS: u8 = 9;
/// The X server's keycode of an XT scancode below 0x59: those of its own keyboard are these and 8, as evdev's.
const SCANCODES: std::ops::Range<u32> = 1..0x59;

/// What is down, as far as it came through here.
#[derive(Debug, Default)]
pub(super) struct Input {
    root: u32,
    keyboard: Keyboard,
    buttons: u16,
    shifts: Vec<u8>,
}

impl Input {
    /// For a server on which nothing is pressed afterwards: where the last connection to it broke, what was held then still is,
    /// and nobody else would let go of it.
    pub(super) async fn new(client: &mut Client, root: u32) -> Result<Self, Error> {
        let setup = client.setup();
        let (first, last) = (setup.min_keycode, setup.max_keycode);
        let count = last.saturating_sub(first).saturating_add(1);
        let map = client.ask(GetKeyboardMappingRequest { first_keycode: first, count }).await?;
        let keyboard = Keyboard::new(first, map.keysyms_per_keycode, &map.keysyms);
        let input = Self { root, keyboard, ..Self::default() };
        let down = client.ask(QueryKeymapRequest).await?.keys;
        for keycode in pressed(&down) {
            client.tell(input.fake(KEY_RELEASE_EVENT, keycode));
        }
        // QueryPointer tells of five only; one that is not down is none to be released, for the server.
        (1..=BUTTONS).for_each(|button| client.tell(input.fake(BUTTON_RELEASE_EVENT, button)));
        Ok(input)
    }

    /// Queues what the act needs at the client.
    pub(super) fn act(&mut self, client: &mut Client, act: Act) {
        match act {
            Act::Pointer { x, y, buttons } => self.pointer(client, (x, y), buttons),
            Act::Key { down: true, keysym, scancode } => self.press(client, keysym, scancode),
            Act::Key { down: false, keysym, scancode } => self.release(client, keysym, scancode),
            // The clipboard's.
            Act::Copy(_) => {}
        }
    }

    fn pointer(&mut self, client: &mut Client, (x, y): (u16, u16), buttons: u16) {
        let place = |value: u16| i16::try_from(value).unwrap_or(i16::MAX);
        client.tell(FakeInputRequest {
            root_x: place(x),
            root_y: place(y),
            ..self.fake(MOTION_NOTIFY_EVENT, 0)
        });
        for (bit, button) in (1..=BUTTONS).enumerate() {
            let mask = 1_u16 << bit;
            if (buttons ^ self.buttons) & mask != 0 {
                let kind = if buttons & mask == 0 { BUTTON_RELEASE_EVENT } else { BUTTON_PRESS_EVENT };
                client.tell(self.fake(kind, button));
            }
        }
        self.buttons = buttons;
    }

    fn press(&mut self, client: &mut Client, keysym: u32, scancode: Option<u32>) {
        let Some((stroke, remap)) = self.stroke(keysym, scancode) else {
            tracing::debug!("no key is left for what a viewer types");
            return;
        };
        if let Some(Remap { keycode, keysym }) = remap {
            // With and without Shift: the keysym says which of the two the viewer means.
            client.tell(ChangeKeyboardMappingRequest {
                keycode_count: 1,
                first_keycode: keycode,
                keysyms_per_keycode: 2,
                keysyms: vec![keysym, keysym].into(),
            });
        }
        match (stroke.shift, self.shifts.as_slice()) {
            (Some(true), []) => {
                let shift = self.keyboard.press(SHIFT_L).map(|(stroke, _)| stroke.keycode);
                self.keyboard.release(SHIFT_L);
                shift.into_iter().for_each(|code| client.tell(self.fake(KEY_PRESS_EVENT, code)));
                client.tell(self.fake(KEY_PRESS_EVENT, stroke.keycode));
                shift.into_iter().for_each(|code| client.tell(self.fake(KEY_RELEASE_EVENT, code)));
            }
            (Some(false), held @ [_, ..]) => {
                held.iter().for_each(|code| client.tell(self.fake(KEY_RELEASE_EVENT, *code)));
                client.tell(self.fake(KEY_PRESS_EVENT, stroke.keycode));
                held.iter().for_each(|code| client.tell(self.fake(KEY_PRESS_EVENT, *code)));
            }
            _ => client.tell(self.fake(KEY_PRESS_EVENT, stroke.keycode)),
        }
        if matches!(keysym, SHIFT_L | SHIFT_R) && !self.shifts.contains(&stroke.keycode) {
            self.shifts.push(stroke.keycode);
        }
    }

    fn release(&mut self, client: &mut Client, keysym: u32, scancode: Option<u32>) {
        let keycode = match keysym {
            0 => scancode.and_then(keycode_of),
            keysym => self.keyboard.release(keysym),
        };
        if let Some(keycode) = keycode {
            client.tell(self.fake(KEY_RELEASE_EVENT, keycode));
            self.shifts.retain(|shift| *shift != keycode);
        }
    }

    fn stroke(&mut self, keysym: u32, scancode: Option<u32>) -> Option<(Stroke, Option<Remap>)> {
        match keysym {
            0 => Some((Stroke { keycode: keycode_of(scancode?)?, shift: None }, None)),
            keysym => self.keyboard.press(keysym),
        }
    }

    fn fake(&self, type_: u8, detail: u8) -> FakeInputRequest {
        FakeInputRequest { type_, detail, time: 0, root: self.root, root_x: 0, root_y: 0, deviceid: 0 }
    }
}

/// The keys whose bits are set.
fn pressed(bits: &[u8; 32]) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|key| bits.get(usize::from(key / 8)).is_some_and(|byte| byte >> (key % 8) & 1 == 1))
}

fn keycode_of(scancode: u32) -> Option<u8> {
    SCANCODES.contains(&scancode).then_some(scancode).and_then(|code| u8::try_from(code + 8).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scancode_beyond_the_keyboard_is_no_key() {
        assert_eq!([1, 0x58, 0, 0x59, u32::MAX].map(keycode_of), [Some(9), Some(0x60), None, None, None]);
    }

    #[test]
    fn keys_are_bits() {
        let mut bits = [0; 32];
        (bits[1], bits[31]) = (0b101, 0x80);
        assert_eq!(pressed(&bits).collect::<Vec<_>>(), [8, 10, 255]);
    }
}
