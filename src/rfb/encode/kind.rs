//! What a rectangle is encoded as, told from its bytes, for those who count.

use super::super::encoding as enc;

/// Bytes of a rectangle before those of its encoding.
const HEADER: usize = 12;

/// Kinds of rectangles. Tight is told apart by what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RectangleKind {
    /// Pixels as they are.
    Raw,
    /// A move of what is there.
    CopyRect,
    /// Hextile.
    Hextile,
    /// One colour.
    TightFill,
    /// Without loss, by zlib.
    TightZlib,
    /// With loss.
    TightJpeg,
    /// ZRLE.
    Zrle,
    /// Any other.
    Other,
}

impl RectangleKind {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 8] = [
        Self::Raw,
        Self::CopyRect,
        Self::Hextile,
        Self::TightFill,
        Self::TightZlib,
        Self::TightJpeg,
        Self::Zrle,
        Self::Other,
    ];

    /// That of a whole rectangle, its header included.
    pub fn of(bytes: &[u8]) -> Self {
        let encoding = bytes.get(HEADER - 4..HEADER).and_then(|number| number.try_into().ok());
        match (encoding.map(i32::from_be_bytes), bytes.get(HEADER).map(|control| control >> 4)) {
            (Some(enc::RAW), _) => Self::Raw,
            (Some(enc::COPY_RECT), _) => Self::CopyRect,
            (Some(enc::HEXTILE), _) => Self::Hextile,
            (Some(enc::ZRLE), _) => Self::Zrle,
            (Some(enc::TIGHT), Some(8)) => Self::TightFill,
            (Some(enc::TIGHT), Some(9)) => Self::TightJpeg,
            (Some(enc::TIGHT), Some(_)) => Self::TightZlib,
            _ => Self::Other,
        }
    }

    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::CopyRect => "copy_rect",
            Self::Hextile => "hextile",
            Self::TightFill => "tight_fill",
            Self::TightZlib => "tight_zlib",
            Self::TightJpeg => "tight_jpeg",
            Self::Zrle => "zrle",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rectangle_s_kind_is_in_its_header_and_the_first_byte_behind_it() {
        let of = |encoding: u8, behind: &[u8]| {
            RectangleKind::of(&[&[0, 1, 0, 2, 0, 3, 0, 4, 0, 0, 0, encoding], behind].concat()).as_str()
        };
        assert_eq!(
            [of(0, &[9]), of(1, &[]), of(5, &[]), of(16, &[])],
            ["raw", "copy_rect", "hextile", "zrle"]
        );
        assert_eq!(
            [of(7, &[0x80]), of(7, &[0x90]), of(7, &[0x62])],
            ["tight_fill", "tight_jpeg", "tight_zlib"]
        );
        assert_eq!([of(7, &[]), of(2, &[])], ["other"; 2]);
        for (number, kind) in RectangleKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }
}
