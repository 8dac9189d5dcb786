//! Keys and buttons into an X server, through XTEST.

use x11rb_protocol::protocol::xkb::{
    EventType, GetMapRequest, GetStateRequest, Group, LatchLockStateRequest, MapPart, NKNDetail,
    SelectEventsAux, SelectEventsAuxNewKeyboardNotify, SelectEventsAuxStateNotify, SelectEventsRequest,
    StatePart, UseExtensionRequest,
};
use x11rb_protocol::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ChangeKeyboardMappingRequest, KEY_PRESS_EVENT,
    KEY_RELEASE_EVENT, MOTION_NOTIFY_EVENT, ModMask, QueryKeymapRequest,
};
use x11rb_protocol::protocol::xtest::FakeInputRequest;

use super::super::client::{Client, Error};
use super::handle::Act;
use super::keyboard::{Keyboard, Remap, State, Stroke};
use super::layout::{LOCK, Layout, bits};

/// Buttons of RFB: seven, back and forward.
const BUTTONS: u8 = 9;
/// The X server's keycode of an XT scancode below 0x59: those of its own keyboard are these and 8, as evdev's.
const SCANCODES: std::ops::Range<u32> = 1..0x59;

/// XkbUseCoreKbd: the keyboard that all of a server's are as one.
const CORE: u16 = 0x100;

/// What is down, as far as it came through here.
#[derive(Debug, Default)]
pub(super) struct Input {
    root: u32,
    keyboard: Keyboard,
    buttons: u16,
}

impl Input {
    /// For a server on which nothing is pressed afterwards: where the last connection to it broke, what was held then still is,
    /// and nobody else would let go of it.
    pub(super) async fn new(client: &mut Client, root: u32) -> Result<Self, Error> {
        client.ask(UseExtensionRequest { wanted_major: 1, wanted_minor: 0 }).await?;
        client.tell(events());
        let mut input = Self { root, ..Self::default() };
        input.learn(client).await?;
        client.locked = bits(client.ask(GetStateRequest { device_spec: CORE }).await?.locked_mods);
        let down = client.ask(QueryKeymapRequest).await?.keys;
        for keycode in pressed(&down) {
            client.tell(input.fake(KEY_RELEASE_EVENT, keycode));
        }
        // QueryPointer tells of five only; one that is not down is none to be released, for the server.
        (1..=BUTTONS).for_each(|button| client.tell(input.fake(BUTTON_RELEASE_EVENT, button)));
        Ok(input)
    }

    /// Has the act's effect. A key is asked about first: what it makes depends on what other clients do as well.
    pub(super) async fn act(&mut self, client: &mut Client, act: Act) -> Result<(), Error> {
        match act {
            Act::Pointer { x, y, buttons } => self.pointer(client, (x, y), buttons),
            Act::Key { down: true, keysym: 0, scancode } => {
                let keycode = scancode.and_then(keycode_of);
                keycode.into_iter().for_each(|code| client.tell(self.fake(KEY_PRESS_EVENT, code)));
            }
            Act::Key { down: true, keysym, .. } => self.press(client, keysym).await?,
            Act::Key { down: false, keysym, scancode } => self.release(client, keysym, scancode),
            // The clipboard's, and the lease's.
            Act::Copy(_) | Act::Leave => {}
        }
        Ok(())
    }

    /// The keyboard's lights, with these modifiers locked.
    pub(super) fn leds(&self, locked: u8) -> u8 {
        self.keyboard.leds(locked)
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

    async fn press(&mut self, client: &mut Client, keysym: u32) -> Result<(), Error> {
        // Behind the answer to this, every change to the map has been told.
        let state = self.state(client).await?;
        if client.keys_changed {
            self.learn(client).await?;
        }
        let mut stroke = self.keyboard.press(keysym, state);
        if stroke.is_none()
            && let Some(Remap { keycode, keysyms }) = self.keyboard.lend(keysym)
        {
            client.tell(ChangeKeyboardMappingRequest {
                keycode_count: 1,
                first_keycode: keycode,
                keysyms_per_keycode: 2,
                keysyms: keysyms.to_vec().into(),
            });
            // What the server makes of it is its own to say.
            self.learn(client).await?;
            stroke = self.keyboard.press(keysym, state);
        }
        match stroke {
            Some(stroke) => {
                self.strike(client, &stroke);
                if stroke.unlocks {
                    // With the answer, both changes have been told: nobody sees the light go off.
                    self.state(client).await?;
                }
            }
            None => tracing::debug!("no key is left for what a viewer types"),
        }
        Ok(())
    }

    fn strike(&self, client: &mut Client, stroke: &Stroke) {
        let kind = |down| if down { KEY_PRESS_EVENT } else { KEY_RELEASE_EVENT };
        stroke.released.into_iter().for_each(|code| client.tell(self.fake(KEY_RELEASE_EVENT, code)));
        stroke.around.iter().for_each(|(code, down)| client.tell(self.fake(kind(*down), *code)));
        if stroke.unlocks {
            client.tell(lock(false));
        }
        client.tell(self.fake(KEY_PRESS_EVENT, stroke.keycode));
        if stroke.unlocks {
            client.tell(lock(true));
        }
        stroke.around.iter().rev().for_each(|(code, down)| client.tell(self.fake(kind(!down), *code)));
    }

    fn release(&mut self, client: &mut Client, keysym: u32, scancode: Option<u32>) {
        let keycode = match keysym {
            0 => scancode.and_then(keycode_of),
            keysym => self.keyboard.release(keysym),
        };
        keycode.into_iter().for_each(|code| client.tell(self.fake(KEY_RELEASE_EVENT, code)));
    }

    async fn learn(&mut self, client: &mut Client) -> Result<(), Error> {
        let map = client.ask(map()).await?;
        // What was told before the answer is in it.
        client.keys_changed = false;
        self.keyboard.learn(Layout::new(map));
        Ok(())
    }

    async fn state(&self, client: &mut Client) -> Result<State, Error> {
        let state = client.ask(GetStateRequest { device_spec: CORE }).await?;
        let locked = bits(state.locked_mods) | bits(state.latched_mods);
        Ok(State { mods: bits(state.mods), locked, group: u8::from(state.group) })
    }

    fn fake(&self, type_: u8, detail: u8) -> FakeInputRequest {
        FakeInputRequest { type_, detail, time: 0, root: self.root, root_x: 0, root_y: 0, deviceid: 0 }
    }
}

/// To be told of other maps, and of what is locked. A client of XKB is told of them in no other way.
fn events() -> SelectEventsRequest<'static> {
    let parts = MapPart::KEY_TYPES | MapPart::KEY_SYMS | MapPart::MODIFIER_MAP;
    let keyboard = SelectEventsAuxNewKeyboardNotify {
        affect_new_keyboard: NKNDetail::KEYCODES | NKNDetail::DEVICE_ID,
        new_keyboard_details: NKNDetail::KEYCODES | NKNDetail::DEVICE_ID,
    };
    let state = SelectEventsAuxStateNotify {
        affect_state: StatePart::MODIFIER_LOCK,
        state_details: StatePart::MODIFIER_LOCK,
    };
    SelectEventsRequest {
        device_spec: CORE,
        clear: EventType::from(0_u16),
        select_all: EventType::from(0_u16),
        affect_map: parts,
        map: parts,
        details: std::borrow::Cow::Owned(
            SelectEventsAux::new().new_keyboard_notify(keyboard).state_notify(state),
        ),
    }
}

fn map() -> GetMapRequest {
    GetMapRequest {
        device_spec: CORE,
        full: MapPart::KEY_TYPES | MapPart::KEY_SYMS | MapPart::MODIFIER_MAP,
        partial: MapPart::from(0_u16),
        first_type: 0,
        n_types: 0,
        first_key_sym: 0,
        n_key_syms: 0,
        first_key_action: 0,
        n_key_actions: 0,
        first_key_behavior: 0,
        n_key_behaviors: 0,
        virtual_mods: 0_u16.into(),
        first_key_explicit: 0,
        n_key_explicit: 0,
        first_mod_map_key: 0,
        n_mod_map_keys: 0,
        first_v_mod_map_key: 0,
        n_v_mod_map_keys: 0,
    }
}

/// Caps Lock as if its key had been struck.
fn lock(on: bool) -> LatchLockStateRequest {
    LatchLockStateRequest {
        device_spec: CORE,
        affect_mod_locks: u16::from(LOCK).into(),
        mod_locks: u16::from(if on { LOCK } else { 0 }).into(),
        lock_group: false,
        group_lock: Group::M1,
        affect_mod_latches: ModMask::from(0_u16),
        latch_group: false,
        group_latch: 0,
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
