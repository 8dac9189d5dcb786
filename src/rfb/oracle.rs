//! What must hold for any bytes in any chunking. The fuzz targets and `cargo test` call the same functions; each
//! panics when its property does not hold.

use super::client_message::MAX_CUT_TEXT;
use super::connection::NATIVE;
use super::{
    Access, DecodeError, Effect, ServerHandshake, ServerInit, Skimmer, ViewerFilter, ViewerHandshake,
    server_handshake, viewer_handshake,
};
use crate::chunking::{pieces, split_input};

/// The screen that the oracles take as the server's.
const INIT: ServerInit = ServerInit { width: 640, height: 480, pixel_format: NATIVE };

/// A fuzz input: a selector, and what [`split_input`] takes.
pub(super) fn select(data: &[u8]) -> (u8, Vec<usize>, &[u8]) {
    let Some((selector, rest)) = data.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return (0, Vec::new(), data);
    };
    let (cuts, bytes) = split_input(rest);
    (*selector, cuts, bytes)
}

/// [`client_messages`] on a fuzz input; an odd selector is a controller.
pub fn fuzz_client_messages(data: &[u8]) {
    let (selector, cuts, bytes) = select(data);
    let access = if selector % 2 == 1 { Access::Full } else { Access::ViewOnly };
    client_messages(access, bytes, &cuts);
}

/// [`handshakes`] on a fuzz input.
pub fn fuzz_handshake(data: &[u8]) {
    let (_, cuts, bytes) = select(data);
    handshakes(bytes, &cuts);
}

/// [`skim`] on a fuzz input.
pub fn fuzz_skim(data: &[u8]) {
    let (_, cuts, bytes) = select(data);
    skim(bytes, &cuts);
}

/// A viewer's bytes, cut at `cuts` and whole, lead to the same; a spectator's never to input.
pub fn client_messages(access: Access, bytes: &[u8], cuts: &[usize]) {
    let whole = filter(access, bytes, &[]);
    assert_eq!(filter(access, bytes, cuts), whole, "the chunking changed the outcome");
    let input = input_messages(&whole.0);
    if access == Access::ViewOnly {
        assert_eq!(input, 0, "a spectator's bytes became input");
        assert!(!whole.1.contains(&Effect::Input));
    }
}

type Filtered = (Vec<u8>, Vec<Effect>, Option<DecodeError>);

fn filter(access: Access, bytes: &[u8], cuts: &[usize]) -> Filtered {
    let (mut filter, mut server) = (ViewerFilter::new(access), Skimmer::new(&INIT));
    let (mut out, mut effects) = (Vec::new(), Vec::new());
    for mut piece in pieces(bytes, cuts) {
        loop {
            match filter.next(&mut piece, &mut server, &mut out) {
                Ok(Some(effect)) => effects.push(effect),
                Ok(None) => break,
                Err(error) => return (out, effects, Some(error)),
            }
        }
        let limit = usize::try_from(MAX_CUT_TEXT).unwrap_or(0) + 8;
        assert!(filter.buffered() <= limit && filter.buffered() <= bytes.len(), "too much was kept");
    }
    filter.release(&server, &mut out);
    (out, effects, None)
}

/// How many messages in `upstream` act on keyboard, pointer, clipboard or screen. Reads the stream as a plain server
/// would, by the table in RFC 6143 §7.5, apart from the parser that it judges.
fn input_messages(mut upstream: &[u8]) -> usize {
    let mut acting = 0;
    let at = |bytes: &[u8], index: usize| usize::from(bytes.get(index).copied().unwrap_or(0));
    while let Some(kind) = upstream.first() {
        let (length, acts) = match kind {
            0 => (20, false),
            2 => (4 + 4 * (at(upstream, 2) * 256 + at(upstream, 3)), false),
            3 | 150 => (10, false),
            248 => (9 + at(upstream, 8), false),
            4 => (8, true),
            5 => (6, true),
            251 => (8 + 16 * at(upstream, 6), true),
            255 => (12, true),
            6 => {
                let length = [4, 5, 6, 7].map(|index| upstream.get(index).copied().unwrap_or(0));
                (8 + usize::try_from(i32::from_be_bytes(length).unsigned_abs()).unwrap_or(0), true)
            }
            other => {
                assert!(*other == 250, "message type {other} went upstream");
                (4, true)
            }
        };
        assert!(length <= upstream.len(), "half a message of type {kind} went upstream");
        upstream = upstream.get(length..).unwrap_or_default();
        acting += usize::from(acts);
    }
    acting
}

/// Both openings end the same for any chunking, and a viewer gets through only with what was offered.
pub fn handshakes(bytes: &[u8], cuts: &[usize]) {
    let viewer = viewer_opening(bytes, &[]);
    assert_eq!(viewer_opening(bytes, cuts), viewer);
    if viewer.1 == Ok(true) {
        let version: &[u8] = bytes.get(..12).unwrap_or_default();
        let chosen = bytes.get(12).copied();
        assert!(version == b"RFB 003.003\n" || version == b"RFB 003.005\n" || chosen == Some(1));
    }
    for eager in [false, true] {
        assert_eq!(server_opening(eager, bytes, cuts), server_opening(eager, bytes, &[]));
    }
}

type ViewerOpening = (Vec<u8>, Result<bool, viewer_handshake::ViewerHandshakeError>, Vec<u8>);

fn viewer_opening(bytes: &[u8], cuts: &[usize]) -> ViewerOpening {
    let (mut handshake, mut out, mut left, mut end) =
        (ViewerHandshake::new(), Vec::new(), Vec::new(), Ok(false));
    for mut piece in pieces(bytes, cuts) {
        if end == Ok(false) {
            end = handshake.handle_input(&mut piece, &mut out);
        }
        if end == Ok(true) {
            left.extend_from_slice(piece);
        }
    }
    (out, end, left)
}

type ServerOpening = (Vec<u8>, Result<Option<ServerInit>, server_handshake::ServerHandshakeError>);

fn server_opening(eager: bool, bytes: &[u8], cuts: &[usize]) -> ServerOpening {
    let mut out = Vec::new();
    let mut handshake = if eager { ServerHandshake::eager(&mut out) } else { ServerHandshake::polite() };
    for mut piece in pieces(bytes, cuts) {
        loop {
            match handshake.handle_input(&mut piece, &mut out) {
                Ok(server_handshake::Progress::NeedMore) => break,
                Ok(server_handshake::Progress::Secured) => handshake.client_init(&mut out),
                Ok(server_handshake::Progress::Done(init)) => return (out, Ok(Some(init))),
                Err(error) => return (out, Err(error)),
            }
        }
    }
    (out, Ok(None))
}

/// The skimmer finds the same boundaries for any chunking, and loses its place at the same message.
pub fn skim(bytes: &[u8], cuts: &[usize]) {
    assert_eq!(boundaries(bytes, cuts), boundaries(bytes, &[]));
}

/// Offsets of the message boundaries in a server's stream of a 640×480 screen of 32-bit pixels.
pub fn boundaries(bytes: &[u8], cuts: &[usize]) -> (Vec<usize>, Option<&'static str>) {
    let (mut skimmer, mut found, mut offset) = (Skimmer::new(&INIT), Vec::new(), 0);
    for mut piece in pieces(bytes, cuts) {
        while !piece.is_empty() {
            let taken = skimmer.advance(piece, true);
            piece = piece.get(taken..).unwrap_or_default();
            offset += taken;
            if skimmer.at_boundary() {
                found.push(offset);
            }
        }
    }
    (found, skimmer.lost())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::rfb::client_message::{Area, ClientMessage, PointerForm, Screen};
    use crate::rfb::pixel_format::PixelFormat;
    use crate::rfb::server_oracle::{connection, formats, fuzz_connection, fuzz_encoder};
    use crate::rfb::test_viewer::TestViewer;

    fn files(folder: &str) -> Vec<PathBuf> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn the_seeds_of_the_fuzz_targets_hold() {
        type Target = (&'static str, usize, fn(&[u8]));
        let targets: [Target; 5] = [
            ("rfb_client_messages", 14, fuzz_client_messages),
            ("rfb_connection", 4, fuzz_connection),
            ("rfb_encoder", 6, fuzz_encoder),
            ("rfb_handshake", 9, fuzz_handshake),
            ("rfb_skim", 8, fuzz_skim),
        ];
        for (name, count, target) in targets {
            let seeds = files(&format!("fuzz/seeds/{name}"));
            assert_eq!(seeds.len(), count, "{name}");
            seeds.iter().for_each(|seed| target(&fs::read(seed).unwrap()));
        }
    }

    /// The format that the recording's viewer had asked for before its first update request.
    fn recorded_format(name: &str) -> PixelFormat {
        let (bits_per_pixel, max, shift) = match name {
            _ if name.ends_with("_16") => (16, [31, 63, 31], [11, 5, 0]),
            _ if name.ends_with("_8") => (8, [7, 7, 3], [0, 3, 6]),
            _ => return INIT.pixel_format,
        };
        PixelFormat {
            bits_per_pixel,
            depth: bits_per_pixel,
            big_endian: false,
            true_colour: true,
            max,
            shift,
        }
    }

    #[test]
    fn recorded_streams_of_x11vnc_and_tigervnc_are_followed_to_the_last_byte() {
        let recordings = files("tests/vectors/rfb");
        assert_eq!(recordings.len(), 20);
        for recording in recordings {
            let name = recording.file_stem().unwrap().to_str().unwrap().to_owned();
            let mut skimmer = Skimmer::new(&INIT);
            skimmer.note_sent(&ClientMessage::SetPixelFormat(recorded_format(&name)));
            let text = fs::read_to_string(&recording).unwrap();
            let mut lines = 0;
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let bytes = unhex(line);
                // Cut near the end, so that what is left of the last rectangle is small.
                let (head, tail) = bytes.split_at(bytes.len() - 3);
                assert_eq!(skimmer.advance(head, false), head.len());
                assert!(!skimmer.at_boundary(), "{name}: a boundary three bytes early");
                assert_eq!(skimmer.advance(tail, false), 3);
                assert_eq!(skimmer.lost(), None, "{name}");
                assert!(skimmer.at_boundary(), "{name}: no boundary where the server paused");
                lines += 1;
            }
            assert!(lines >= 2, "{name}");
            let resizes = text.lines().next().unwrap().contains("-308") && name.starts_with("tigervnc");
            if resizes {
                assert_eq!((skimmer.screen().id, skimmer.screen().area.width), (0x6b8b_4567, 96), "{name}");
            }
        }
    }

    #[test]
    fn the_viewer_that_judges_our_encoders_reads_what_other_servers_sent() {
        let canvas = |name: &str| {
            let text = fs::read_to_string(
                PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/rfb/{name}.hex")),
            )
            .unwrap();
            // Where no other format is told, bytes R, G, B, X.
            let format = match recorded_format(name) {
                NATIVE => PixelFormat { shift: [0, 8, 16], ..NATIVE },
                other => other,
            };
            let mut viewer = TestViewer::new(format, (96, 64));
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .for_each(|line| viewer.feed(&unhex(line)).unwrap_or_else(|fault| panic!("{name}: {fault}")));
            assert!(viewer.is_between_messages(), "{name}");
            (viewer.canvas().to_vec(), viewer.kinds)
        };
        // x11vnc paints its pointer where none was asked for.
        let alike: [&[&str]; 3] = [
            &["tigervnc_raw", "tigervnc_hextile", "tigervnc_zrle", "tigervnc_tight"],
            &["x11vnc_raw", "x11vnc_tight"],
            &["x11vnc_hextile", "x11vnc_zrle"],
        ];
        for names in alike {
            let first = canvas(names[0]);
            for name in names {
                let (seen, kinds) = canvas(name);
                assert!(seen == first.0, "{name} of {kinds:?} shows something else than {}", names[0]);
                let kind = name.split_once('_').unwrap().1;
                assert!(kind == "tight" || kinds.contains_key(kind), "{name} of {kinds:?}");
            }
        }
        for name in ["tigervnc_tight_jpeg", "x11vnc_tight_jpeg"] {
            let kinds = canvas(name).1;
            assert!(kinds.contains_key("jpeg"), "{name} of {kinds:?}");
        }
        for name in ["tigervnc_hextile_16", "tigervnc_tight_8", "x11vnc_hextile_8", "x11vnc_tight_16"] {
            canvas(name);
        }
    }

    fn unhex(line: &str) -> Vec<u8> {
        (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
    }

    fn area() -> impl Strategy<Value = Area> {
        any::<[u16; 4]>().prop_map(|[x, y, width, height]| Area { x, y, width, height })
    }

    fn message() -> impl Strategy<Value = ClientMessage> {
        prop_oneof![
            Just(ClientMessage::SetPixelFormat(INIT.pixel_format)),
            vec(prop_oneof![Just(-316), Just(-308), -520..20i32], 0..20)
                .prop_map(ClientMessage::SetEncodings),
            (any::<bool>(), area())
                .prop_map(|(incremental, area)| ClientMessage::UpdateRequest { incremental, area }),
            (any::<bool>(), any::<u32>()).prop_map(|(down, keysym)| ClientMessage::Key { down, keysym }),
            (0..128u16, any::<[u16; 2]>()).prop_map(|(buttons, [x, y])| ClientMessage::Pointer {
                buttons,
                x,
                y
            }),
            vec(any::<u8>(), 0..300).prop_map(ClientMessage::CutText),
            vec(any::<u8>(), 4..300).prop_map(ClientMessage::ExtendedCutText),
            (any::<bool>(), area())
                .prop_map(|(enable, area)| ClientMessage::EnableContinuousUpdates { enable, area }),
            (any::<u32>(), vec(any::<u8>(), 0..=64))
                .prop_map(|(flags, payload)| ClientMessage::Fence { flags, payload }),
            (any::<[u16; 2]>(), vec(area(), 0..4)).prop_map(|([width, height], areas)| {
                let screens = areas.into_iter().map(|area| Screen { id: 1, area, flags: 0 }).collect();
                ClientMessage::SetDesktopSize { width, height, screens }
            }),
            (any::<bool>(), any::<[u32; 2]>()).prop_map(|(down, [keysym, keycode])| ClientMessage::QemuKey {
                down,
                keysym,
                keycode
            }),
        ]
    }

    fn encoded(messages: &[ClientMessage]) -> Vec<u8> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(PointerForm::Legacy, &mut bytes));
        bytes
    }

    fn cuts() -> impl Strategy<Value = Vec<usize>> {
        vec(0..40usize, 0..40)
    }

    proptest! {
        #[test]
        fn good_messages_in_any_chunking_lead_to_the_same_and_a_spectators_never_to_input(
            messages in vec(message(), 0..20),
            tail in vec(any::<u8>(), 0..20),
            cuts in cuts(),
        ) {
            let bytes = [encoded(&messages), tail].concat();
            client_messages(Access::ViewOnly, &bytes, &cuts);
            client_messages(Access::Full, &bytes, &cuts);
        }

        #[test]
        fn any_bytes_in_any_chunking_lead_to_the_same_and_a_spectators_never_to_input(
            bytes in vec(prop_oneof![0..8u8, Just(150), 246..=255u8, any::<u8>()], 0..200),
            cuts in cuts(),
        ) {
            client_messages(Access::ViewOnly, &bytes, &cuts);
            client_messages(Access::Full, &bytes, &cuts);
        }

        #[test]
        fn messages_are_read_as_they_were_written(messages in vec(message(), 0..20)) {
            let bytes = encoded(&messages);
            let (mut parser, mut rest, mut read) = (crate::rfb::ClientParser::new(), &bytes[..], Vec::new());
            while let Some(message) = parser.next(&mut rest).unwrap() {
                read.push(message);
            }
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn openings_end_the_same_in_any_chunking(
            start in prop::sample::select(vec!["", "RFB 003.003\n", "RFB 003.007\n", "RFB 003.008\n"]),
            tail in vec(prop_oneof![0..3u8, any::<u8>()], 0..80),
            cuts in cuts(),
        ) {
            handshakes(&[start.as_bytes(), &tail].concat(), &cuts);
        }

        #[test]
        fn boundaries_are_the_same_in_any_chunking(
            bytes in vec(prop_oneof![4 => Just(0u8), 2 => 0..9u8, 1 => any::<u8>()], 0..400),
            cuts in cuts(),
        ) {
            skim(&bytes, &cuts);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_connections_answers_are_a_good_stream_whatever_the_viewer_says(
            list in vec(prop::sample::select(vec![7, 16, 5, 0, 1, -26, -30, -254, -223, -308, -258, -316, -312, -313]), 0..8),
            format in prop::sample::select(formats()),
            messages in vec(message(), 0..6),
            tail in vec(any::<u8>(), 0..20),
            cuts in cuts(),
        ) {
            let all = Area { x: 0, y: 0, width: 100, height: 70 };
            let start = [
                ClientMessage::SetPixelFormat(format),
                ClientMessage::SetEncodings(list),
                ClientMessage::EnableContinuousUpdates { enable: true, area: all },
            ];
            let bytes = [encoded(&start), encoded(&messages), tail].concat();
            connection(Access::ViewOnly, &bytes, &cuts);
            connection(Access::Full, &bytes, &cuts);
        }

        #[test]
        fn any_input_of_the_encoders_fuzz_target_holds(
            head in any::<[u8; 8]>(),
            paint in vec(any::<u8>(), 0..60),
        ) {
            fuzz_encoder(&[&head[..], &paint].concat());
        }
    }

    #[test]
    fn a_controllers_input_goes_upstream_and_what_it_held_is_released() {
        let messages = [
            ClientMessage::Key { down: true, keysym: 97 },
            ClientMessage::Pointer { buttons: 4, x: 1, y: 2 },
            ClientMessage::Xvp { version: 1, code: 2 },
        ];
        let (out, effects, error) = filter(Access::Full, &encoded(&messages), &[]);
        let expected: [&[u8]; 4] = [
            &[4, 1, 0, 0, 0, 0, 0, 97],
            &[5, 4, 0, 1, 0, 2],
            &[4, 0, 0, 0, 0, 0, 0, 97],
            &[5, 0, 0, 1, 0, 2],
        ];
        assert_eq!(out, expected.concat());
        assert_eq!(effects, [Effect::Input, Effect::Input]);
        assert_eq!(error, None);
        assert_eq!(input_messages(&out), 4);
    }

    #[test]
    fn a_pixel_of_another_size_after_the_first_request_ends_the_skimming() {
        let mut skimmer = Skimmer::new(&INIT);
        let request = Area { x: 0, y: 0, width: 1, height: 1 };
        skimmer.note_sent(&ClientMessage::SetPixelFormat(recorded_format("_16")));
        skimmer.note_sent(&ClientMessage::UpdateRequest { incremental: false, area: request });
        skimmer.note_sent(&ClientMessage::SetPixelFormat(recorded_format("_16")));
        assert!(skimmer.at_boundary());
        skimmer.note_sent(&ClientMessage::SetPixelFormat(recorded_format("_8")));
        assert!(!skimmer.at_boundary() && skimmer.lost().is_some());
        assert_eq!(skimmer.advance(&[2, 2, 2], true), 3);
    }

    #[test]
    fn a_hostile_length_never_makes_the_parser_hold_more_than_it_got() {
        let mut bytes = vec![6, 0, 0, 0, 0, 0x10, 0, 0];
        bytes.resize(5000, b'x');
        client_messages(Access::Full, &bytes, &[9, 100, 1000]);
    }
}
