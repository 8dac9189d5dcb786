//! What each key makes (X Keyboard Extension, protocol specification, "Keyboard State", "Key Types"). Pure: the server's map
//! comes in.

use x11rb_protocol::protocol::xkb::{GetMapReply, KeySymMap, KeyType};
use x11rb_protocol::protocol::xproto::ModMask;

/// The modifier that Caps Lock locks.
pub(super) const LOCK: u8 = 2;
/// Of a key's group byte: how many groups there are, and what becomes of another one (XkbOutOfRangeGroup...).
const GROUPS: u8 = 0x0f;
const CLAMPED: u8 = 0x40;
const REDIRECTED: u8 = 0x80;
/// A keysym of Unicode is this and the character (X protocol, Appendix A).
const UNICODE: u32 = 0x0100_0000;

/// The keyboard of an X server.
#[derive(Debug, Default)]
pub(super) struct Layout {
    first: u8,
    types: Vec<Type>,
    keys: Vec<KeySymMap>,
    /// Keys that are modifiers, with their bits.
    modifiers: Vec<(u8, u8)>,
}

/// How modifiers choose among the keysyms of a key.
#[derive(Debug)]
struct Type {
    /// Those that matter.
    mask: u8,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    mods: u8,
    level: u8,
    /// Those that go on to mean something to whoever gets the keysym.
    preserved: u8,
}

impl Layout {
    pub(super) fn new(map: GetMapReply) -> Self {
        let modifiers = map.map.modmap_rtrn.unwrap_or_default();
        Self {
            first: map.first_key_sym,
            types: map.map.types_rtrn.unwrap_or_default().iter().map(Type::new).collect(),
            keys: map.map.syms_rtrn.unwrap_or_default(),
            modifiers: modifiers.iter().map(|key| (key.keycode, bits(key.mods))).collect(),
        }
    }

    /// All keys.
    pub(super) fn keycodes(&self) -> impl Iterator<Item = u8> {
        (self.first..=u8::MAX).zip(&self.keys).map(|(keycode, _)| keycode)
    }

    /// What a key makes with the modifiers `mods`, as programs see it. `None`: nothing, or something else from one program to
    /// the next.
    pub(super) fn makes(&self, keycode: u8, group: u8, mods: u8) -> Option<u32> {
        let key = self.key(keycode)?;
        let group = group_of(key.group_info, group)?;
        let kind = self.types.get(usize::from(*key.kt_index.get(usize::from(group))?))?;
        let entry = kind.entries.iter().find(|entry| entry.mods == mods & kind.mask);
        let (level, preserved) = entry.map_or((0, 0), |entry| (entry.level, entry.preserved));
        let keysym = level_of(key, group, level)?;
        // Where Lock did not choose the keysym, programs make capitals of it.
        if mods & LOCK & !(kind.mask & !preserved) != 0 { capital(keysym) } else { Some(keysym) }
    }

    /// Whether a key has the keysym in the group, whatever it takes to get it; the first of its keysyms count first.
    pub(super) fn level(&self, keycode: u8, group: u8, keysym: u32) -> Option<u8> {
        let key = self.key(keycode)?;
        let group = group_of(key.group_info, group)?;
        (0..key.width).find(|level| level_of(key, group, *level) == Some(keysym))
    }

    /// Whether a key makes nothing at all.
    pub(super) fn is_spare(&self, keycode: u8) -> bool {
        let is_modifier = self.modifiers.iter().any(|(key, mods)| *key == keycode && *mods != 0);
        !is_modifier && self.key(keycode).is_some_and(|key| key.syms.iter().all(|keysym| *keysym == 0))
    }

    /// Whether a key has the keysym at all.
    pub(super) fn has(&self, keycode: u8, keysym: u32) -> bool {
        self.key(keycode).is_some_and(|key| key.syms.contains(&keysym))
    }

    /// The modifiers that a key is; 0 for most.
    pub(super) fn modifiers_of(&self, keycode: u8) -> u8 {
        let of_key = self.modifiers.iter().filter(|(key, _)| *key == keycode);
        of_key.fold(0, |all, (_, mods)| all | mods)
    }

    /// The key that is a modifier under that name, and its bits.
    pub(super) fn modifier(&self, keysym: u32) -> Option<(u8, u8)> {
        self.modifiers.iter().copied().find(|(key, mods)| *mods != 0 && self.has(*key, keysym))
    }

    fn key(&self, keycode: u8) -> Option<&KeySymMap> {
        self.keys.get(usize::from(keycode.checked_sub(self.first)?))
    }
}

impl Type {
    fn new(kind: &KeyType) -> Self {
        let preserved = |at: usize| kind.preserve.get(at).map_or(0, |mods| bits(mods.mask));
        let entries = kind.map.iter().enumerate().filter(|(_, entry)| entry.active);
        let entry = entries.map(|(at, entry)| Entry {
            mods: bits(entry.mods_mask),
            level: entry.level,
            preserved: preserved(at),
        });
        Self { mask: bits(kind.mods_mask), entries: entry.collect() }
    }
}

/// Bits of modifiers, without the one of grabs.
pub(in crate::display) fn bits(mods: ModMask) -> u8 {
    u8::try_from(u16::from(mods) & 0xff).unwrap_or(0)
}

/// The group that a key has in the place of `group`.
fn group_of(info: u8, group: u8) -> Option<u8> {
    let count = info & GROUPS;
    if group < count {
        return Some(group);
    }
    match info & (CLAMPED | REDIRECTED) {
        _ if count == 0 => None,
        CLAMPED => Some(count - 1),
        REDIRECTED => Some(info >> 4 & 0b11).filter(|other| *other < count).or(Some(0)),
        _ => Some(group % count),
    }
}

fn level_of(key: &KeySymMap, group: u8, level: u8) -> Option<u32> {
    let at = usize::from(group) * usize::from(key.width) + usize::from(level);
    let keysym = key.syms.get(at).copied()?;
    (level < key.width && keysym != 0).then_some(keysym)
}

/// The same character by its other name: Latin-1 has two.
pub(super) fn twin(keysym: u32) -> Option<u32> {
    match keysym {
        0x20..=0x7e | 0xa0..=0xff => Some(UNICODE + keysym),
        0x0100_0020..=0x0100_007e | 0x0100_00a0..=0x0100_00ff => Some(keysym - UNICODE),
        _ => None,
    }
}

/// The keysym of the capital letter, or itself where there is none. `None`: one of the old sets, whose letters are not known here.
fn capital(keysym: u32) -> Option<u32> {
    match keysym {
        0x0100..=0x20ff => None,
        _ => other_case(keysym, |char| char.to_uppercase().next()).or(Some(keysym)),
    }
}

/// The small letter and the capital that a keysym belongs to; twice itself where it is no letter, or none of Unicode's.
pub(super) fn pair(keysym: u32) -> [u32; 2] {
    let upper = other_case(keysym, |char| single(char.to_uppercase())).unwrap_or(keysym);
    let lower = other_case(keysym, |char| single(char.to_lowercase())).unwrap_or(keysym);
    if upper == keysym || lower == keysym { [lower, upper] } else { [keysym, keysym] }
}

/// The letter that a case makes of another, where it is one by itself.
fn single(mut letters: impl Iterator<Item = char>) -> Option<char> {
    letters.next().filter(|_| letters.next().is_none())
}

fn other_case(keysym: u32, case: impl Fn(char) -> Option<char>) -> Option<u32> {
    let code = match keysym {
        0x20..=0x7e | 0xa0..=0xff => keysym,
        0x0100_0000..=0x0110_ffff => keysym - UNICODE,
        _ => return None,
    };
    let other = u32::from(case(char::from_u32(code)?)?);
    // A letter of Latin-1 goes by its short name.
    Some(if keysym < UNICODE && other <= 0xff { other } else { UNICODE + other })
}

#[cfg(test)]
pub(super) mod tests {
    use x11rb_protocol::protocol::xkb::{KTMapEntry, KeyModMap, ModDef};

    use super::*;

    pub(in super::super) const SHIFT: u8 = 1;
    /// Mod5, as the third level of a keyboard is reached nearly everywhere.
    pub(in super::super) const THIRD: u8 = 0x80;
    /// Mod2, as Num Lock is nearly everywhere.
    pub(in super::super) const NUM: u8 = 0x10;

    fn kind(mask: u8, levels: &[(u8, u8)]) -> KeyType {
        let mods = |mods: u8| ModMask::from(u16::from(mods));
        let entry = |(mask, level): &(u8, u8)| KTMapEntry {
            active: true,
            mods_mask: mods(*mask),
            level: *level,
            mods_mods: mods(*mask),
            mods_vmods: 0_u16.into(),
        };
        KeyType {
            mods_mask: mods(mask),
            mods_mods: mods(mask),
            mods_vmods: 0_u16.into(),
            num_levels: 4,
            has_preserve: false,
            map: levels.iter().map(entry).collect(),
            preserve: Vec::new(),
        }
    }

    /// Keys from 8 on, each of a type by its number: one level; two by Shift; letters, with Lock as Shift; the keypad; four
    /// levels by Shift and Mod5.
    pub(in super::super) fn layout(keys: &[(u8, &[u32])], modifiers: &[(u8, u8)]) -> Layout {
        let types = [
            kind(0, &[]),
            kind(SHIFT, &[(SHIFT, 1)]),
            kind(SHIFT | LOCK, &[(SHIFT, 1), (LOCK, 1)]),
            kind(SHIFT | NUM, &[(SHIFT, 1), (NUM, 1)]),
            kind(SHIFT | THIRD, &[(SHIFT, 1), (THIRD, 2), (SHIFT | THIRD, 3)]),
        ];
        let key = |(kind, syms): &(u8, &[u32])| KeySymMap {
            kt_index: [*kind; 4],
            group_info: u8::from(!syms.is_empty()),
            width: u8::try_from(syms.len()).unwrap(),
            syms: syms.to_vec(),
        };
        let modifiers: Vec<KeyModMap> = modifiers
            .iter()
            .map(|(keycode, mods)| KeyModMap { keycode: *keycode, mods: u16::from(*mods).into() })
            .collect();
        Layout {
            first: 8,
            types: types.iter().map(Type::new).collect(),
            keys: keys.iter().map(key).collect(),
            modifiers: modifiers.iter().map(|key| (key.keycode, bits(key.mods))).collect(),
        }
    }

    #[test]
    fn modifiers_choose_and_lock_makes_capitals_where_it_did_not() {
        // e/E as letters, é/É by Shift alone, 1/!, a Cyrillic letter of the old set.
        let layout =
            layout(&[(2, &[0x65, 0x45]), (1, &[0xe9, 0xc9]), (1, &[0x31, 0x21]), (0, &[0x6c1])], &[]);
        let makes = |key, mods| layout.makes(key, 0, mods);
        assert_eq!(
            [0, SHIFT, LOCK, SHIFT | LOCK].map(|mods| makes(8, mods)),
            [Some(0x65), Some(0x45), Some(0x45), Some(0x65)]
        );
        assert_eq!([0, LOCK].map(|mods| makes(9, mods)), [Some(0xe9), Some(0xc9)]);
        assert_eq!([LOCK, SHIFT | LOCK].map(|mods| makes(10, mods)), [Some(0x31), Some(0x21)]);
        assert_eq!([0, LOCK].map(|mods| makes(11, mods)), [Some(0x6c1), None]);
        assert_eq!(layout.makes(12, 0, 0), None, "no such key");
    }

    #[test]
    fn a_preserved_lock_makes_capitals_of_what_shift_chose() {
        let mut kind = kind(SHIFT | LOCK, &[(SHIFT, 1), (LOCK, 0)]);
        let none = ModDef { mask: 0_u16.into(), real_mods: 0_u16.into(), vmods: 0_u16.into() };
        let lock = ModDef { mask: u16::from(LOCK).into(), ..none };
        kind.preserve = vec![none, lock];
        let key = KeySymMap { kt_index: [0; 4], group_info: 1, width: 2, syms: vec![0xe9, 0xc9] };
        let layout =
            Layout { first: 8, types: vec![Type::new(&kind)], keys: vec![key], modifiers: Vec::new() };
        assert_eq!(layout.makes(8, 0, LOCK), Some(0xc9));
    }

    #[test]
    fn a_group_that_a_key_lacks_is_another_one() {
        assert_eq!([0, 1, 2, 3].map(|group| group_of(2, group)), [Some(0), Some(1), Some(0), Some(1)]);
        assert_eq!(group_of(0x42, 3), Some(1));
        assert_eq!((group_of(0x92, 3), group_of(0xb2, 3)), (Some(1), Some(0)));
        assert_eq!(group_of(0, 0), None);
    }

    #[test]
    fn letters_have_two_cases_and_the_rest_has_one() {
        assert_eq!(pair(0x61), [0x61, 0x41]);
        assert_eq!(pair(0xc9), [0xe9, 0xc9]);
        assert_eq!(pair(0x0100_044f), [0x0100_044f, 0x0100_042f]);
        for alone in [0x20ac, 0x0100_6f22, 0xdf, 0xff0d, 0x0100_01c5] {
            assert_eq!(pair(alone), [alone, alone], "{alone:x}");
        }
        assert_eq!(pair(0xff), [0xff, 0x0100_0178]);
    }
}
