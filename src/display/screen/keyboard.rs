//! Which keys make a keysym (X protocol, "Keyboards"). Pure: the server's map comes in, strokes come out.

use std::collections::BTreeMap;

/// Keys of a stroke, in the order in which they go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stroke {
    pub(super) keycode: u8,
    /// Whether Shift has to be down for it; `None`: it does not matter.
    pub(super) shift: Option<bool>,
}

/// A change to the server's map: this key makes this keysym from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remap {
    pub(super) keycode: u8,
    pub(super) keysym: u32,
}

/// The keys of an X server.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    first: u8,
    /// Keysyms of each key: without and with Shift, and what follows.
    keys: Vec<Vec<u32>>,
    /// Keys without a keysym, which are lent to keysyms that no key makes; the longest lent is the first.
    spare: Vec<u8>,
    lent: Vec<Remap>,
    /// What was pressed, by the keysym as the viewer named it: it is released by the same key, whatever the map says then.
    down: BTreeMap<u32, u8>,
}

pub(super) const SHIFT_L: u32 = 0xffe1;
pub(super) const SHIFT_R: u32 = 0xffe2;
/// Keysyms that only move within the keyboard's own state, and those of the keypad: Shift is not ours to set for them.
const FUNCTIONS: std::ops::RangeInclusive<u32> = 0xfd00..=0xffff;
/// A keysym of Unicode is this and the character (X protocol, Appendix A).
const UNICODE: u32 = 0x0100_0000;

impl Keyboard {
    /// The map that the server told: `per_key` keysyms for each key from `first` on.
    pub(super) fn new(first: u8, per_key: u8, keysyms: &[u32]) -> Self {
        let keys: Vec<Vec<u32>> = keysyms.chunks(usize::from(per_key.max(1))).map(<[u32]>::to_vec).collect();
        let is_free = |key: &Vec<u32>| key.iter().all(|keysym| *keysym == 0);
        let codes = (first..=u8::MAX).zip(&keys);
        let spare = codes.filter(|(_, key)| is_free(key)).map(|(code, _)| code).collect();
        Self { first, keys, spare, lent: Vec::new(), down: BTreeMap::new() }
    }

    /// How to press the key of `keysym`, and what has to be changed in the map before. `None`: no key can be had.
    pub(super) fn press(&mut self, keysym: u32) -> Option<(Stroke, Option<Remap>)> {
        let found = self.find(keysym).or_else(|| self.find(twin(keysym)?));
        let (stroke, remap) = match found {
            Some(stroke) => (stroke, None),
            None => {
                let remap = self.lend(keysym)?;
                (Stroke { keycode: remap.keycode, shift: None }, Some(remap))
            }
        };
        self.down.insert(keysym, stroke.keycode);
        Some((stroke, remap))
    }

    /// The key that was pressed for `keysym`.
    pub(super) fn release(&mut self, keysym: u32) -> Option<u8> {
        self.down.remove(&keysym)
    }

    fn find(&self, keysym: u32) -> Option<Stroke> {
        if let Some(lent) = self.lent.iter().find(|lent| lent.keysym == keysym) {
            return Some(Stroke { keycode: lent.keycode, shift: None });
        }
        // The first two columns: without Shift and with it. A key with one of them has it both ways.
        let column = |at: usize| {
            let codes = (self.first..=u8::MAX).zip(&self.keys);
            codes.filter(move |(_, key)| key.get(at) == Some(&keysym)).map(|(code, _)| code).next()
        };
        let free = FUNCTIONS.contains(&keysym);
        if let Some(keycode) = column(0) {
            return Some(Stroke { keycode, shift: (!free).then_some(false) });
        }
        column(1).map(|keycode| Stroke { keycode, shift: (!free).then_some(true) })
    }

    fn lend(&mut self, keysym: u32) -> Option<Remap> {
        let is_down = |code: u8| self.down.values().any(|down| *down == code);
        // One never lent, or else the one that was lent longest ago and is not held.
        let fresh =
            self.spare.iter().copied().find(|code| self.lent.iter().all(|lent| lent.keycode != *code));
        let keycode = match fresh {
            Some(keycode) => keycode,
            None => {
                let oldest = self.lent.iter().position(|lent| !is_down(lent.keycode))?;
                self.lent.remove(oldest).keycode
            }
        };
        let remap = Remap { keycode, keysym };
        self.lent.push(remap);
        Some(remap)
    }
}

/// The same character by its other name: Latin-1 has two.
fn twin(keysym: u32) -> Option<u32> {
    match keysym {
        0x20..=0x7e | 0xa0..=0xff => Some(UNICODE + keysym),
        0x0100_0020..=0x0100_007e | 0x0100_00a0..=0x0100_00ff => Some(keysym - UNICODE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: u32 = 0xff0d;

    /// Keys 8 to 13: a/A, 1/!, Return, Shift, and two without anything.
    fn keyboard() -> Keyboard {
        let keysyms = [0x61, 0x41, 0x31, 0x21, RETURN, 0, SHIFT_L, 0, 0, 0, 0, 0];
        Keyboard::new(8, 2, &keysyms)
    }

    fn stroke(keyboard: &mut Keyboard, keysym: u32) -> (u8, Option<bool>) {
        let (stroke, remap) = keyboard.press(keysym).unwrap();
        assert_eq!(remap, None);
        (stroke.keycode, stroke.shift)
    }

    #[test]
    fn a_keysym_is_made_by_its_key_with_shift_as_it_needs() {
        let mut keyboard = keyboard();
        assert_eq!(stroke(&mut keyboard, 0x61), (8, Some(false)));
        assert_eq!(stroke(&mut keyboard, 0x41), (8, Some(true)));
        assert_eq!(stroke(&mut keyboard, 0x0100_0021), (9, Some(true)), "Unicode's name of !");
        assert_eq!(stroke(&mut keyboard, RETURN), (10, None), "Shift+Return is the viewer's to say");
        assert_eq!(stroke(&mut keyboard, SHIFT_L), (11, None));
        assert_eq!((keyboard.release(0x41), keyboard.release(0x41)), (Some(8), None));
    }

    #[test]
    fn a_keysym_without_a_key_is_lent_one_and_the_oldest_goes_first() {
        let mut keyboard = keyboard();
        let euro = keyboard.press(0x20ac).unwrap();
        assert_eq!(euro, (Stroke { keycode: 12, shift: None }, Some(Remap { keycode: 12, keysym: 0x20ac })));
        assert_eq!(keyboard.press(0x0100_4e2d).unwrap().1, Some(Remap { keycode: 13, keysym: 0x0100_4e2d }));
        assert_eq!(keyboard.press(0x20ac).unwrap().1, None, "it has one already");
        // Both are down: neither can be given to another.
        assert_eq!(keyboard.press(0x0100_6587), None);
        keyboard.release(0x20ac);
        assert_eq!(keyboard.press(0x0100_6587).unwrap().1, Some(Remap { keycode: 12, keysym: 0x0100_6587 }));
        assert_eq!(keyboard.release(0x0100_4e2d), Some(13));
    }
}
