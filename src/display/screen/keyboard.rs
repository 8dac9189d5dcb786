//! Which keys make a keysym. Pure: the server's map and state come in, strokes come out.

use std::collections::BTreeMap;

use super::layout::{LOCK, Layout, pair, twin};

/// A key that goes down, and what has to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stroke {
    pub(super) keycode: u8,
    /// Keys that go down or up before; the other way about, and in the other order, afterwards.
    pub(super) around: Vec<(u8, bool)>,
    /// Whether Caps Lock is off meanwhile.
    pub(super) unlocks: bool,
    /// A key that was pressed for the same keysym when another one made it.
    pub(super) released: Option<u8>,
}

/// A change to the server's map: this key makes these keysyms from now on, without and with Shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remap {
    pub(super) keycode: u8,
    pub(super) keysyms: [u32; 2],
}

/// How the server's keyboard is: modifiers in effect, those of them that no key holds down, and the group of keysyms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) mods: u8,
    pub(super) locked: u8,
    pub(super) group: u8,
}

/// The keys of an X server.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    layout: Layout,
    /// Keys without a keysym of the layout's, which are lent to keysyms that no key makes; the longest lent is the first.
    lent: Vec<Remap>,
    /// What was pressed, by the keysym as the viewer named it: it is released by the same key, whatever the map says then.
    down: BTreeMap<u32, u8>,
}

const SHIFT_L: u32 = 0xffe1;
const LEVEL3_SHIFT: u32 = 0xfe03;
const NUM_LOCK: u32 = 0xff7f;
const SCROLL_LOCK: u32 = 0xff14;
/// Keysyms that only move within the keyboard's own state, and those of the keypad: modifiers are not ours to set for them.
const FUNCTIONS: std::ops::RangeInclusive<u32> = 0xfd00..=0xffff;
/// Of those, the ones of which Num Lock makes others.
const KEYPAD: std::ops::RangeInclusive<u32> = 0xff80..=0xffbd;

impl Keyboard {
    /// Goes by another map. What is down stays so.
    pub(super) fn learn(&mut self, layout: Layout) {
        self.layout = layout;
        let Self { layout, lent, .. } = self;
        lent.retain(|lent| layout.has(lent.keycode, lent.keysyms[0]));
    }

    /// How to press the key of `keysym` with the keyboard in `state`. `None`: no key makes it.
    pub(super) fn press(&mut self, keysym: u32, state: State) -> Option<Stroke> {
        let by_twin = || twin(keysym).and_then(|twin| self.stroke(twin, state));
        // One that was lent for nothing, since modifiers are in the way that are not ours to change: the other case, then.
        let lent = || self.lent.iter().find(|lent| lent.keysyms.contains(&keysym));
        let as_it_is = || Some(Stroke { keycode: lent()?.keycode, ..Stroke::default() });
        let mut stroke = self.stroke(keysym, state).or_else(by_twin).or_else(as_it_is)?;
        stroke.released = self.down.insert(keysym, stroke.keycode).filter(|known| *known != stroke.keycode);
        Some(stroke)
    }

    /// The key that was pressed for `keysym`.
    pub(super) fn release(&mut self, keysym: u32) -> Option<u8> {
        self.down.remove(&keysym)
    }

    /// Gives a key to `keysym`, which none makes. `None`: none is left.
    pub(super) fn lend(&mut self, keysym: u32) -> Option<Remap> {
        let is_down = |code: u8| self.down.values().any(|down| *down == code);
        // One never lent, or else the one that was lent longest ago and is not held.
        let fresh = self
            .layout
            .keycodes()
            .find(|code| self.layout.is_spare(*code) && self.lent.iter().all(|lent| lent.keycode != *code));
        let keycode = match fresh {
            Some(keycode) => keycode,
            None => {
                let oldest = self.lent.iter().position(|lent| !is_down(lent.keycode))?;
                self.lent.remove(oldest).keycode
            }
        };
        // A letter brings its other case along: so the server takes the key for a letter's, where it knows the two.
        let remap = Remap { keycode, keysyms: pair(keysym) };
        self.lent.push(remap);
        Some(remap)
    }

    /// The lights as RFB has them, by the modifiers that are locked.
    pub(super) fn leds(&self, locked: u8) -> u8 {
        let is_locked = |keysym| self.layout.modifier(keysym).is_some_and(|(_, bits)| bits & locked != 0);
        u8::from(is_locked(SCROLL_LOCK))
            | u8::from(is_locked(NUM_LOCK)) << 1
            | u8::from(locked & LOCK != 0) << 2
    }

    fn stroke(&self, keysym: u32, state: State) -> Option<Stroke> {
        if FUNCTIONS.contains(&keysym) {
            return self.function(keysym, state);
        }
        self.with_modifiers(keysym, state, state.mods).or_else(|| {
            // By no modifier does every keyboard make a small letter while Caps Lock is on.
            let is_locked = state.locked & LOCK != 0;
            let stroke = is_locked.then(|| self.with_modifiers(keysym, state, state.mods & !LOCK))??;
            Some(Stroke { unlocks: true, ..stroke })
        })
    }

    /// A key whose modifiers are the viewer's to say.
    fn function(&self, keysym: u32, State { mods, group, .. }: State) -> Option<Stroke> {
        let found = |keycode: &u8| self.layout.makes(*keycode, group, mods) == Some(keysym);
        let by_level = |keycode: u8| Some((self.layout.level(keycode, group, keysym)?, keycode));
        let keycode = self.layout.keycodes().find(found).or_else(|| {
            let anyhow = self.layout.keycodes().filter_map(by_level).min();
            anyhow.filter(|_| !KEYPAD.contains(&keysym)).map(|(_, keycode)| keycode)
        })?;
        Some(Stroke { keycode, ..Stroke::default() })
    }

    /// The key that makes `keysym` with as little done to Shift and AltGr as can be.
    fn with_modifiers(&self, keysym: u32, state: State, mods: u8) -> Option<Stroke> {
        let ours: Vec<(u8, u8)> =
            [SHIFT_L, LEVEL3_SHIFT].into_iter().filter_map(|name| self.layout.modifier(name)).collect();
        let all = ours.iter().fold(0, |all, (_, bits)| all | bits);
        // With none, one or both of them.
        let mut wanted: Vec<u8> = ours.iter().fold(vec![mods & !all], |known, (_, bits)| {
            known.iter().copied().chain(known.iter().map(|mods| mods | bits)).collect()
        });
        wanted.sort_by_key(|wanted| (wanted ^ mods).count_ones());
        wanted.into_iter().find_map(|wanted| {
            let makes = |code: &u8| self.layout.makes(*code, state.group, wanted) == Some(keysym);
            let keycode = self.layout.keycodes().find(makes)?;
            let around = self.change(&ours, mods, wanted, state.locked)?;
            Some(Stroke { keycode, around, ..Stroke::default() })
        })
    }

    /// What has to go up and down for the modifiers `wanted` in the place of `mods`. `None`: what makes them is not ours.
    fn change(&self, ours: &[(u8, u8)], mods: u8, wanted: u8, locked: u8) -> Option<Vec<(u8, bool)>> {
        let mut around = Vec::new();
        for (keycode, bits) in ours.iter().filter(|(_, bits)| (mods ^ wanted) & bits != 0) {
            if wanted & bits != 0 {
                around.push((*keycode, true));
                continue;
            }
            let held = self.down.values().filter(|code| self.layout.modifiers_of(**code) & bits != 0);
            let held: Vec<(u8, bool)> = held.map(|code| (*code, false)).collect();
            if held.is_empty() || locked & bits != 0 {
                return None;
            }
            around.extend(held);
        }
        Some(around)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::{NUM, SHIFT, THIRD, layout};
    use super::*;

    const RETURN: u32 = 0xff0d;
    const KP_END: u32 = 0xff9c;
    const KP_1: u32 = 0xffb1;

    /// Keys 8 to 17: a/A, 1/!, Return, Shift, AltGr, the keypad's End/1, q/Q/@/Ω, Num Lock, and two without anything.
    fn keyboard() -> Keyboard {
        let mut keyboard = Keyboard::default();
        keyboard.learn(layout(
            &[
                (2, &[0x61, 0x41]),
                (1, &[0x31, 0x21]),
                (0, &[RETURN]),
                (0, &[SHIFT_L]),
                (0, &[LEVEL3_SHIFT]),
                (3, &[KP_END, KP_1]),
                (4, &[0x71, 0x51, 0x40, 0x0100_03a9]),
                (0, &[NUM_LOCK]),
                (0, &[]),
                (0, &[]),
            ],
            &[(11, SHIFT), (12, THIRD), (15, NUM)],
        ));
        keyboard
    }

    fn plain(keycode: u8) -> Option<Stroke> {
        Some(Stroke { keycode, ..Stroke::default() })
    }

    fn around(keycode: u8, around: &[(u8, bool)]) -> Option<Stroke> {
        Some(Stroke { keycode, around: around.to_vec(), ..Stroke::default() })
    }

    fn with(mods: u8) -> State {
        State { mods, ..State::default() }
    }

    fn locked(mods: u8) -> State {
        State { mods, locked: mods, group: 0 }
    }

    #[test]
    fn a_keysym_is_made_by_its_key_with_shift_and_altgr_as_it_needs() {
        let mut keyboard = keyboard();
        assert_eq!(keyboard.press(0x61, with(0)), plain(8));
        assert_eq!(keyboard.press(0x41, with(0)), around(8, &[(11, true)]));
        assert_eq!(keyboard.press(0x0100_0021, with(0)), around(9, &[(11, true)]), "Unicode's name of !");
        assert_eq!(keyboard.press(0x40, with(0)), around(14, &[(12, true)]));
        assert_eq!(keyboard.press(0x0100_03a9, with(0)), around(14, &[(11, true), (12, true)]));
        assert_eq!((keyboard.release(0x41), keyboard.release(0x41)), (Some(8), None));
    }

    #[test]
    fn what_the_viewer_holds_is_let_go_of_for_a_stroke_and_functions_are_its_own_to_modify() {
        let mut keyboard = keyboard();
        assert_eq!(keyboard.press(SHIFT_L, with(0)), plain(11));
        assert_eq!(keyboard.press(0x41, with(SHIFT)), plain(8));
        assert_eq!(keyboard.press(0x31, with(SHIFT)), around(9, &[(11, false)]));
        assert_eq!(keyboard.press(0x40, with(SHIFT)), around(14, &[(11, false), (12, true)]));
        assert_eq!(keyboard.press(RETURN, with(SHIFT)), plain(10));
        // Shift that another client holds is not ours to let go of.
        keyboard.release(SHIFT_L);
        assert_eq!(keyboard.press(0x61, with(SHIFT)), None);
        let remap = keyboard.lend(0x61).unwrap();
        assert_eq!(
            keyboard.press(0x61, with(SHIFT)),
            plain(remap.keycode),
            "not as meant, and lent only once"
        );
    }

    #[test]
    fn caps_lock_changes_nothing_about_what_is_typed() {
        let mut keyboard = keyboard();
        assert_eq!(keyboard.press(0x41, locked(LOCK)), plain(8));
        assert_eq!(keyboard.press(0x61, locked(LOCK)), around(8, &[(11, true)]));
        assert_eq!(keyboard.press(0x31, locked(LOCK)), plain(9));
        // Its type knows nothing of Lock, so that programs would make a capital of it.
        let unlocked = Some(Stroke { keycode: 14, unlocks: true, ..Stroke::default() });
        assert_eq!(keyboard.press(0x71, locked(LOCK)), unlocked);
        assert_eq!(keyboard.press(0x51, locked(LOCK)), plain(14));
        assert_eq!([0, LOCK, NUM, LOCK | NUM].map(|locked| keyboard.leds(locked)), [0, 4, 2, 6]);
    }

    #[test]
    fn the_keypad_makes_what_it_makes_and_no_shift_is_pressed_for_another() {
        let mut keyboard = keyboard();
        assert_eq!(keyboard.press(KP_1, locked(NUM)), plain(13));
        assert_eq!(keyboard.press(KP_END, with(0)), plain(13));
        assert_eq!(keyboard.press(KP_1, with(0)), None);
        assert_eq!(keyboard.lend(KP_1), Some(Remap { keycode: 16, keysyms: [KP_1; 2] }));
    }

    #[test]
    fn a_keysym_without_a_key_is_lent_one_and_the_oldest_goes_first() {
        let mut keyboard = keyboard();
        let lent = |keysyms: [u32; 2], more: [u32; 2]| layout(&[(0, &[]), (1, &keysyms), (1, &more)], &[]);
        assert_eq!(keyboard.press(0xe9, with(0)), None);
        assert_eq!(keyboard.lend(0xe9), Some(Remap { keycode: 16, keysyms: [0xe9, 0xc9] }));
        assert_eq!(keyboard.lend(0x20ac), Some(Remap { keycode: 17, keysyms: [0x20ac; 2] }));
        // As if they were 9 and 10: the third key is the one that never is.
        keyboard.lent.iter_mut().for_each(|remap| remap.keycode -= 7);
        keyboard.learn(lent([0xe9, 0xc9], [0x20ac; 2]));
        assert_eq!(keyboard.press(0xe9, with(0)), plain(9));
        assert_eq!(keyboard.press(0x20ac, with(0)), plain(10));
        assert_eq!(keyboard.lend(0x0100_4e2d).map(|remap| remap.keycode), Some(8));
        // All are down, or were lent just now.
        keyboard.down.insert(0x0100_4e2d, 8);
        assert_eq!(keyboard.lend(0x0100_6587), None);
        keyboard.release(0x20ac);
        assert_eq!(keyboard.lend(0x0100_6587), Some(Remap { keycode: 10, keysyms: [0x0100_6587; 2] }));
    }

    #[test]
    fn another_map_takes_back_what_was_lent_and_releases_still_go_by_the_old_key() {
        let mut keyboard = keyboard();
        keyboard.lend(0x20ac);
        assert_eq!(keyboard.press(0x61, with(0)), plain(8));
        keyboard.learn(layout(&[(0, &[RETURN]), (2, &[0x61, 0x41])], &[]));
        assert_eq!(keyboard.lent, []);
        let moved = Some(Stroke { keycode: 9, released: Some(8), ..Stroke::default() });
        assert_eq!(keyboard.press(0x61, with(0)), moved);
        assert_eq!(keyboard.release(0x61), Some(9));
    }
}
