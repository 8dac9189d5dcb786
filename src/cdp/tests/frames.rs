//! Frames in any pieces, and against another implementation.

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::cdp::frames::{FrameError, Frames, Header, Heard, Opcode, Step, to_client};
use crate::cdp::inbound::{Inbound, Item};
use crate::cdp::oracle;

/// A frame as the protocol library writes it.
fn theirs(fin: bool, opcode: OpCode, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { is_final: fin, rsv1: false, rsv2: false, rsv3: false, opcode, mask };
    let mut frame = Vec::new();
    header.format(payload.len() as u64, &mut frame).unwrap();
    let key = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

#[test]
fn headers_are_those_of_the_rfc_and_of_another_implementation() {
    // RFC 6455 section 5.7.
    let text = |mask| Header { fin: true, opcode: Opcode::Text, mask, length: 5 };
    assert_eq!(Header::parse(b"\x81\x05Hello"), Ok(Some((text(None), 2))));
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(Header::parse(masked), Ok(Some((text(Some([0x37, 0xfa, 0x21, 0x3d])), 6))));
    for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let payload = vec![b'x'; length];
        for mask in [None, Some([1, 2, 3, 4])] {
            let frame = theirs(true, OpCode::Data(Data::Binary), mask, &payload);
            let (header, size) = Header::parse(&frame).unwrap().unwrap();
            assert_eq!((header.length, header.mask, size), (length as u64, mask, frame.len() - length));
            let mut ours = Vec::new();
            header.write(&mut ours);
            assert_eq!(ours, &frame[..size]);
            for cut in 0..size {
                assert_eq!(Header::parse(&frame[..cut]), Ok(None), "{cut} of {size}");
            }
        }
        let frame = theirs(true, OpCode::Data(Data::Text), None, &payload);
        assert_eq!(to_client(Opcode::Text, &payload), frame);
    }
}

#[test]
fn what_breaks_the_rfc_is_refused_by_its_first_bytes() {
    for (bytes, error) in [
        (&b"\xc1"[..], FrameError::Reserved),
        (b"\x83", FrameError::Opcode(3)),
        (b"\x8b", FrameError::Opcode(11)),
        (b"\x09", FrameError::Control),
        (b"\x89\x7e", FrameError::Control),
        (b"\x81\x7e\x00\x7d", FrameError::Length),
        (b"\x81\x7f\0\0\0\0\0\0\xff\xff", FrameError::Length),
        (b"\x81\x7f\x80\0\0\0\0\0\0\0", FrameError::Length),
    ] {
        assert_eq!(Header::parse(bytes), Err(error), "{bytes:x?}");
        let ours = Frames::default().step(bytes, false, &mut |_| {});
        assert_eq!(ours, Err(error));
    }
    let mut frames = Frames::default();
    assert_eq!(frames.step(b"\x80\x00", false, &mut |_| {}), Err(FrameError::Order));
    assert_eq!(frames.step(b"\x81\x80\0\0\0\0", false, &mut |_| {}), Err(FrameError::Mask));
    assert_eq!(frames.step(b"\x01\x00", false, &mut |_| {}), Ok(Step::Pass(2)));
    assert_eq!(frames.step(b"\x01\x00", false, &mut |_| {}), Err(FrameError::Order));
}

#[test]
fn messages_pass_control_frames_stay_and_boundaries_are_known() {
    let stream = [
        theirs(false, OpCode::Data(Data::Text), None, b"ab"),
        theirs(true, OpCode::Control(Control::Ping), None, b"p"),
        theirs(true, OpCode::Data(Data::Continue), None, b"c"),
        theirs(true, OpCode::Data(Data::Text), None, b""),
    ]
    .concat();
    let mut frames = Frames::default();
    let mut heard = Vec::new();
    let mut hear = |part: Heard<'_>| heard.push((part.bytes.to_vec(), part.first, part.last));
    assert_eq!(frames.step(&stream, true, &mut hear), Ok(Step::Pass(4)));
    assert!(frames.between_frames() && !frames.between_messages());
    assert_eq!(frames.step(&stream[4..], true, &mut hear), Ok(Step::Control(3, Opcode::Ping, b"p".to_vec())));
    assert_eq!(frames.step(&stream[7..], true, &mut hear), Ok(Step::Pass(3)));
    assert!(frames.between_messages());
    assert_eq!(frames.step(&stream[10..], true, &mut hear), Ok(Step::Pass(2)));
    assert_eq!(frames.step(&[], true, &mut hear), Ok(Step::Done));
    let expected = [(b"ab".to_vec(), true, false), (b"c".to_vec(), false, true), (Vec::new(), true, true)];
    assert_eq!(heard, expected);
}

#[test]
fn a_clients_message_is_put_together_and_bounded_before_it_is_there() {
    let key = Some([9, 8, 7, 6]);
    let stream = [
        theirs(false, OpCode::Data(Data::Text), key, b"hel"),
        theirs(true, OpCode::Control(Control::Ping), key, b"p"),
        theirs(true, OpCode::Data(Data::Continue), key, b"lo"),
        theirs(true, OpCode::Control(Control::Close), key, b""),
    ]
    .concat();
    let mut inbound = Inbound::new(5, &stream);
    assert_eq!(inbound.item(), Ok(Some(Item::Ping("p".into()))));
    assert_eq!(inbound.item(), Ok(Some(Item::Message("hello".into()))));
    assert_eq!(inbound.item(), Ok(Some(Item::Close)));
    assert_eq!(inbound.item(), Ok(None));
    let long = theirs(true, OpCode::Data(Data::Text), key, b"123456");
    assert_eq!(Inbound::new(5, &long[..6]).item(), Err(FrameError::TooLong(5)));
    let parts = [&stream[..9], &theirs(true, OpCode::Data(Data::Continue), key, b"345")[..6]].concat();
    assert_eq!(Inbound::new(5, &parts).item(), Err(FrameError::TooLong(5)));
    let unmasked = theirs(true, OpCode::Data(Data::Text), None, b"x");
    assert_eq!(Inbound::new(5, &unmasked).item(), Err(FrameError::Mask));
}

#[test]
fn a_large_message_leaves_no_room_behind() {
    let big = vec![b'x'; 4 << 20];
    let stream = [
        theirs(true, OpCode::Data(Data::Text), Some([1, 2, 3, 4]), &big),
        theirs(true, OpCode::Data(Data::Text), Some([0; 4]), b"small"),
    ]
    .concat();
    let mut inbound = Inbound::new(8 << 20, &[]);
    for piece in stream.chunks(300_000) {
        inbound.buffer().extend_from_slice(piece);
        while let Some(item) = inbound.item().unwrap() {
            let Item::Message(message) = item else { panic!("{item:?}") };
            assert!(message == big || message == "small");
        }
    }
    assert!(!inbound.buffer().try_reclaim(1 << 20), "the large message's memory is still there");
}

fn frame(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        Just(OpCode::Data(Data::Text)),
        Just(OpCode::Data(Data::Continue)),
        Just(OpCode::Control(Control::Ping)),
        Just(OpCode::Control(Control::Close)),
    ];
    let length = prop_oneof![0_usize..130, Just(126), Just(2000)];
    (any::<bool>(), opcode, length, any::<[u8; 4]>()).prop_map(move |(fin, opcode, length, key)| {
        let control = matches!(opcode, OpCode::Control(_));
        let payload = vec![b'x'; if control { length % 126 } else { length }];
        theirs(fin || control, opcode, masked.then_some(key), &payload)
    })
}

proptest! {
    #[test]
    fn any_chunking_of_a_stream_is_the_same_stream(
        sent in prop::collection::vec(frame(false), 0..8),
        received in prop::collection::vec(frame(true), 0..8),
        noise in prop::collection::vec(any::<u8>(), 0..6),
        cuts in prop::collection::vec(0_usize..300, 0..12),
    ) {
        oracle::frames(&[sent.concat(), noise.clone()].concat(), &cuts);
        oracle::inbound(&[received.concat(), noise].concat(), &cuts);
    }

    #[test]
    fn any_bytes_in_any_chunking_are_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..64), cuts in prop::collection::vec(0_usize..9, 0..12),
    ) {
        oracle::frames(&bytes, &cuts);
        oracle::inbound(&bytes, &cuts);
    }
}

#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/cdp_frames");
    let seeds = std::fs::read_dir(seeds).unwrap();
    let count = seeds.map(|seed| oracle::fuzz_frames(&std::fs::read(seed.unwrap().path()).unwrap())).count();
    assert_eq!(count, 5);
}
