//! Text of the clipboard between a viewer and us: in UTF-8 by the extended clipboard (rfbproto, "Extended Clipboard
//! Pseudo-encoding"), in Latin-1 by cut text (RFC 6143 §7.5.6, §7.6.4) for viewers that know nothing else.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::client_message::MAX_CUT_TEXT;

/// ServerCutText.
const CUT_TEXT: u8 = 3;
/// The only format that goes through here.
const TEXT: u32 = 1;
/// Formats are the lower half of the flags.
const FORMATS: u32 = 0xffff;
const CAPS: u32 = 1 << 24;
const REQUEST: u32 = 1 << 25;
const PEEK: u32 = 1 << 26;
const NOTIFY: u32 = 1 << 27;
const PROVIDE: u32 = 1 << 28;
/// Bytes of text, in either direction.
pub const LONGEST_TEXT: usize = MAX_CUT_TEXT as usize;

/// What a viewer's extended message asks for or brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has text and waits to be asked for it.
    Notified,
    /// It wants ours.
    Requested,
    /// It wants to know whether we have any.
    Peeked,
    /// Its text.
    Provided(String),
    /// Nothing that concerns us.
    Nothing,
}

/// Reads the body of an extended message. What cannot be read brings nothing: a clipboard is no reason to lose a viewer.
pub(super) fn read(body: &[u8]) -> Heard {
    let Some((flags, data)) = body.split_first_chunk() else { return Heard::Nothing };
    let flags = u32::from_be_bytes(*flags);
    let has_text = flags & TEXT != 0;
    match flags & !FORMATS {
        CAPS => Heard::Nothing,
        REQUEST if has_text => Heard::Requested,
        PEEK => Heard::Peeked,
        NOTIFY if has_text => Heard::Notified,
        PROVIDE if has_text => inflated(data).map_or(Heard::Nothing, Heard::Provided),
        _ => Heard::Nothing,
    }
}

/// The text of a provide message: the first of its formats, which text is wherever there is any.
fn inflated(data: &[u8]) -> Option<String> {
    let mut inflate = ZlibDecoder::new(data);
    let mut length = [0; 4];
    inflate.read_exact(&mut length).ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    if length > LONGEST_TEXT + 1 {
        return None;
    }
    let mut bytes = Vec::new();
    inflate.take(u64::try_from(length).ok()?).read_to_end(&mut bytes).ok()?;
    if bytes.len() != length {
        return None;
    }
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    String::from_utf8(bytes).ok().map(|text| text.replace("\r\n", "\n"))
}

/// What we take: text that was asked for, of any size that [`LONGEST_TEXT`] allows. For every SetEncodings that lists the extension.
pub(super) fn caps() -> Vec<u8> {
    let mut body = (CAPS | REQUEST | PEEK | NOTIFY | PROVIDE | TEXT).to_be_bytes().to_vec();
    // Unasked text is taken up to so many bytes: none.
    body.extend(0_u32.to_be_bytes());
    extended(&body)
}

/// Asks a viewer for its text.
pub(super) fn request() -> Vec<u8> {
    extended(&(REQUEST | TEXT).to_be_bytes())
}

/// Says that there is text, or that there is none.
pub(super) fn notify(there_is: bool) -> Vec<u8> {
    extended(&(NOTIFY | if there_is { TEXT } else { 0 }).to_be_bytes())
}

/// Hands over text.
pub(super) fn provide(text: &str) -> Vec<u8> {
    let mut data = text.replace('\n', "\r\n").into_bytes();
    data.push(0);
    let mut plain = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    plain.append(&mut data);
    let mut deflate = ZlibEncoder::new((PROVIDE | TEXT).to_be_bytes().to_vec(), Compression::fast());
    // Into memory, which takes everything.
    let body = std::io::Write::write_all(&mut deflate, &plain).and_then(|()| deflate.finish());
    body.map(|body| extended(&body)).unwrap_or_default()
}

/// Text for a viewer without the extension: what Latin-1 has of it, `?` for the rest.
pub(super) fn cut_text(text: &str) -> Vec<u8> {
    let latin: Vec<u8> = text.chars().map(|char| u8::try_from(u32::from(char)).unwrap_or(b'?')).collect();
    let mut out = vec![CUT_TEXT, 0, 0, 0];
    out.extend(u32::try_from(latin.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(latin);
    out
}

/// Text of a viewer without the extension.
pub(super) fn from_latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn extended(body: &[u8]) -> Vec<u8> {
    let mut out = vec![CUT_TEXT, 0, 0, 0];
    out.extend(i32::try_from(body.len()).map_or(0, |length| -length).to_be_bytes());
    out.extend(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(message: &[u8]) -> &[u8] {
        let length = i32::from_be_bytes(message[4..8].try_into().unwrap());
        assert_eq!((message[0], -length), (3, i32::try_from(message.len() - 8).unwrap()));
        &message[8..]
    }

    #[test]
    fn text_comes_through_with_the_protocol_s_line_ends_and_its_zero() {
        let provided = provide("grüße\n漢");
        let (flags, data) = body(&provided).split_at(4);
        assert_eq!(flags, [0x10, 0, 0, 1]);
        let mut plain = Vec::new();
        ZlibDecoder::new(data).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, [&[0, 0, 0, 13][..], "grüße\r\n漢\0".as_bytes()].concat()[..]);
        assert_eq!(read(body(&provided)), Heard::Provided("grüße\n漢".to_owned()));
    }

    #[test]
    fn each_message_has_one_action_and_is_known_by_it() {
        assert_eq!(body(&caps()), [0x1f, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(body(&request()), [2, 0, 0, 1]);
        assert_eq!((body(&notify(true)), body(&notify(false))), (&[8, 0, 0, 1][..], &[8, 0, 0, 0][..]));
        let heard = |flags: u32| read(&flags.to_be_bytes());
        assert_eq!([heard(0x0200_0001), heard(0x0400_0000)], [Heard::Requested, Heard::Peeked]);
        assert_eq!([heard(0x0800_0001), heard(0x0800_0000)], [Heard::Notified, Heard::Nothing]);
        // Rich text alone, two actions, capabilities.
        for flags in [0x0200_0002, 0x0300_0001, 0x0100_0001] {
            assert_eq!(heard(flags), Heard::Nothing);
        }
    }

    #[test]
    fn what_is_no_text_or_too_much_of_it_is_nothing() {
        let packed = |plain: &[u8]| {
            let mut deflate = ZlibEncoder::new(0x1000_0001_u32.to_be_bytes().to_vec(), Compression::fast());
            std::io::Write::write_all(&mut deflate, plain).unwrap();
            deflate.finish().unwrap()
        };
        assert_eq!(read(&packed(&[0, 0, 0, 1, 0xff])), Heard::Nothing, "no UTF-8");
        assert_eq!(read(&packed(&[0, 0, 0, 9, b'a'])), Heard::Nothing, "shorter than it says");
        assert_eq!(read(&packed(&[0xff, 0xff, 0xff, 0xff])), Heard::Nothing, "4 GiB");
        assert_eq!(read(&packed(&[0, 0, 0, 2, b'a', 0])), Heard::Provided("a".into()));
        assert_eq!(read(&[0x10, 0, 0, 1, 1, 2, 3]), Heard::Nothing, "no zlib");
        assert_eq!(read(&[1, 2]), Heard::Nothing);
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        // 64 MiB of zeros in 64 KiB, which say that they are three bytes.
        let mut plain = vec![0, 0, 0, 3];
        plain.resize(64 << 20, b'a');
        let mut deflate = ZlibEncoder::new(0x1000_0001_u32.to_be_bytes().to_vec(), Compression::fast());
        std::io::Write::write_all(&mut deflate, &plain).unwrap();
        assert_eq!(read(&deflate.finish().unwrap()), Heard::Provided("aaa".into()));
    }

    #[test]
    fn latin_1_has_what_it_has() {
        assert_eq!(cut_text("é€\n"), [3, 0, 0, 0, 0, 0, 0, 3, 0xe9, b'?', b'\n']);
        assert_eq!(from_latin1(&[0xe9, b'a']), "éa");
    }
}
