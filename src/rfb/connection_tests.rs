//! What a viewer says, and what is due to it then.

use bytes::Bytes;

use super::client_message::{Area, ClientMessage, PointerForm, Screen};
use super::clipboard;
use super::connection::{Connection, CursorForm, NATIVE, Said, Wanted};
use super::cursor::Cursor;
use super::encode::Encoded;
use super::frame::{Frame, PIXEL, Strip};
use super::painted::Pointer;
use super::pixel_format::PixelFormat;
use super::policy::Access;
use super::refresh::Again;
use super::resize::SizeStatus;

/// 8 bits, red lowest.
const RGB332: PixelFormat = PixelFormat {
    bits_per_pixel: 8,
    depth: 8,
    big_endian: false,
    true_colour: true,
    max: [7, 7, 3],
    shift: [0, 3, 6],
};
const CONTINUE: [u8; 10] = [150, 1, 0, 0, 0, 0, 0, 100, 0, 70];

fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
    Area { x, y, width, height }
}

fn encodings(list: &[i32]) -> Vec<u8> {
    let mut message = vec![2, 0, 0, u8::try_from(list.len()).unwrap()];
    message.extend(list.iter().flat_map(|number| number.to_be_bytes()));
    message
}

fn request(incremental: u8, [x, y, w, h]: [u8; 4]) -> [u8; 10] {
    [3, incremental, 0, x, 0, y, 0, w, 0, h]
}

fn say(connection: &mut Connection, mut bytes: &[u8]) -> Vec<Said> {
    std::iter::from_fn(|| connection.receive(&mut bytes).unwrap()).collect()
}

fn connection(access: Access, list: &[i32]) -> Connection {
    let mut connection = Connection::new(access, (100, 70));
    say(&mut connection, &encodings(list));
    connection
}

/// Sends what is wanted, as rectangles without a body, and gives what of it has none.
fn send(connection: &mut Connection, frame: &Frame, wanted: &Wanted) -> Vec<u8> {
    let encoded = |area: &Area| Encoded { area: *area, bytes: Bytes::new(), exact: true };
    let pixels: Vec<Encoded> = wanted.areas.iter().map(encoded).collect();
    connection.begin(wanted);
    connection.update(frame, wanted, &pixels).concat()
}

fn drawn(frame: &Frame, area: Area) -> Frame {
    let bytes = vec![9; usize::from(area.width) * usize::from(area.height) * PIXEL];
    frame.with(&[Strip { area, stride: usize::from(area.width) * PIXEL, bytes: &bytes }]).unwrap()
}

#[test]
fn each_request_is_answered_once_with_what_is_new() {
    let mut viewer = connection(Access::ViewOnly, &[0]);
    let frame = Frame::blank(100, 70);
    assert_eq!(viewer.wanted(&frame), None, "nothing was asked for");
    say(&mut viewer, &request(1, [0, 0, 100, 70]));
    let wanted = viewer.wanted(&frame).unwrap();
    assert_eq!(wanted.areas, [area(0, 0, 100, 70)]);
    assert_eq!(send(&mut viewer, &frame, &wanted), [0, 0, 0, 1]);
    assert!(!viewer.is_waiting());
    say(&mut viewer, &request(1, [0, 0, 100, 70]));
    assert_eq!(viewer.wanted(&frame), None, "nothing is new");
    let frame = drawn(&frame, area(10, 10, 5, 5));
    assert_eq!(viewer.wanted(&frame).unwrap().areas, [area(10, 10, 5, 5)]);
}

#[test]
fn what_is_asked_for_whole_comes_whole_and_the_rest_of_what_is_new_with_it() {
    let mut viewer = connection(Access::ViewOnly, &[0]);
    let frame = Frame::blank(100, 70);
    say(&mut viewer, &request(1, [0, 0, 100, 70]));
    let wanted = viewer.wanted(&frame).unwrap();
    send(&mut viewer, &frame, &wanted);
    let frame = drawn(&frame, area(10, 10, 20, 20));
    say(&mut viewer, &request(0, [15, 15, 5, 200]));
    assert!(viewer.wants_now());
    let areas = viewer.wanted(&frame).unwrap().areas;
    let expected = [area(15, 15, 5, 55), area(10, 10, 20, 5), area(10, 15, 5, 15), area(20, 15, 10, 15)];
    assert_eq!(areas, expected);
}

#[test]
fn continuous_updates_need_no_requests_and_are_announced_and_ended_with_a_message() {
    let mut viewer = connection(Access::Full, &[0, -312, -313]);
    let announced = viewer.take_output();
    assert_eq!(announced, [&[150][..], &[248, 0, 0, 0, 0x80, 0, 0, 0, 0]].concat());
    say(&mut viewer, &CONTINUE);
    assert!(viewer.is_waiting() && viewer.answers_fences());
    let frame = Frame::blank(100, 70);
    let wanted = viewer.wanted(&frame).unwrap();
    send(&mut viewer, &frame, &wanted);
    assert!(viewer.is_waiting());
    assert_eq!(viewer.wanted(&frame), None);
    say(&mut viewer, &[150, 0, 0, 0, 0, 0, 0, 100, 0, 70]);
    assert_eq!((viewer.take_output(), viewer.is_waiting()), (vec![150], false));
    say(&mut viewer, &encodings(&[0, -312, -313]));
    assert_eq!(viewer.take_output(), [0; 0], "told once");
}

#[test]
fn a_fence_is_answered_without_what_we_do_not_do_and_its_answer_names_an_update() {
    let mut viewer = connection(Access::ViewOnly, &[-312]);
    viewer.take_output();
    let fence = |flags: u32, payload: &[u8]| {
        let mut message = vec![248, 0, 0, 0];
        message.extend(flags.to_be_bytes());
        message.push(u8::try_from(payload.len()).unwrap());
        message.extend(payload);
        message
    };
    say(&mut viewer, &fence(0x8000_00f3, b"abc"));
    assert_eq!(viewer.take_output(), fence(3, b"abc"));
    assert_eq!(viewer.fence_behind(258), fence(0x8000_0001, &[0, 0, 1, 2]));
    assert_eq!(say(&mut viewer, &fence(1, &[0, 0, 1, 2])), [Said::Drawn(258)]);
    assert_eq!(say(&mut viewer, &fence(0, b"others")), [Said::Nothing]);
}

#[test]
fn what_is_said_while_an_update_is_made_overtakes_it_neither_with_a_format_nor_with_an_answer() {
    let fence = |flags: [u8; 4]| [&[248, 0, 0, 0][..], &flags, &[1, 7]].concat();
    let format = [&[0, 0, 0, 0][..], &RGB332.to_bytes()].concat();
    let mut viewer = connection(Access::ViewOnly, &[0, -312, -313]);
    viewer.take_output();
    say(&mut viewer, &CONTINUE);
    let frame = Frame::blank(100, 70);
    let wanted = viewer.wanted(&frame).unwrap();
    viewer.begin(&wanted);
    let stops = [150, 0, 0, 0, 0, 0, 0, 100, 0, 70];
    say(&mut viewer, &[&format[..], &fence([0x80, 0, 0, 1]), &stops].concat());
    assert_eq!((wanted.class.format, viewer.take_output()), (NATIVE, vec![]));
    viewer.update(&frame, &wanted, &[]);
    assert_eq!(viewer.take_output(), [&fence([0, 0, 0, 1])[..], &[150]].concat());
    say(&mut viewer, &request(0, [0, 0, 100, 70]));
    assert_eq!(viewer.wanted(&frame).unwrap().class.format, RGB332);
}

#[test]
fn a_fence_before_a_message_is_answered_where_that_takes_effect() {
    let fence = |flags: [u8; 4]| [&[248, 0, 0, 0][..], &flags, &[1, 7]].concat();
    let format = [&[0, 0, 0, 0][..], &RGB332.to_bytes()].concat();
    let mut viewer = connection(Access::ViewOnly, &[0, -312, -313]);
    viewer.take_output();
    // TigerVNC's viewer changes its format so. An update may be begun between the two: it is of the old format still.
    say(&mut viewer, &fence([0x80, 0, 0, 4]));
    assert_eq!((viewer.take_output(), viewer.format()), (vec![], NATIVE));
    say(&mut viewer, &format);
    assert_eq!((viewer.take_output(), viewer.format()), (fence([0, 0, 0, 4]), RGB332));
    // What is not a viewer's to do is a message as well.
    say(&mut viewer, &[&fence([0x80, 0, 0, 5])[..], &[4, 1, 0, 0, 0, 0, 0, 97]].concat());
    assert_eq!(viewer.take_output(), fence([0, 0, 0, 5]));
}

#[test]
fn another_size_is_told_alone_and_then_all_of_the_new_screen_comes() {
    let frame = Frame::blank(100, 70);
    let larger = Frame::blank_after(120, 80, frame.serial());
    let told = |list: &[i32]| {
        let mut viewer = connection(Access::Full, list);
        say(&mut viewer, &request(1, [0, 0, 100, 70]));
        let wanted = viewer.wanted(&frame).unwrap();
        send(&mut viewer, &frame, &wanted);
        say(&mut viewer, &request(1, [0, 0, 100, 70]));
        let wanted = viewer.wanted(&larger).unwrap();
        let told = send(&mut viewer, &larger, &wanted);
        say(&mut viewer, &request(1, [0, 0, 120, 80]));
        (wanted.is_resize(), told, viewer.wanted(&larger).map(|wanted| wanted.areas))
    };
    let all = Some(vec![area(0, 0, 120, 80)]);
    let plain = [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 120, 0, 80][..], &(-223_i32).to_be_bytes()].concat();
    assert_eq!(told(&[0, -223]), (true, plain, all.clone()));
    let extended = [
        &[0, 0, 0, 1, 0, 0, 0, 0, 0, 120, 0, 80][..],
        &(-308_i32).to_be_bytes(),
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 120, 0, 80, 0, 0, 0, 0],
    ];
    assert_eq!(told(&[0, -223, -308]), (true, extended.concat(), all));
    // A viewer that knows neither sees what fits.
    assert_eq!(told(&[0]), (false, vec![0, 0, 0, 1], None));
}

#[test]
fn extensions_are_announced_once_with_the_first_update_and_the_size_when_asked_again() {
    let mut viewer = connection(Access::Full, &[0, -258, -316, -308]);
    let frame = Frame::blank(100, 70);
    say(&mut viewer, &request(0, [0, 0, 100, 70]));
    let wanted = viewer.wanted(&frame).unwrap();
    let sent = send(&mut viewer, &frame, &wanted);
    let kinds: Vec<i32> =
        [12, 24, 40].map(|at| i32::from_be_bytes(sent[at..at + 4].try_into().unwrap())).into();
    assert_eq!((&sent[..4], kinds), (&[0, 0, 0, 2][..], vec![-258, -316, -308]));
    say(&mut viewer, &request(1, [0, 0, 100, 70]));
    assert_eq!(viewer.wanted(&frame), None);
    say(&mut viewer, &request(0, [0, 0, 100, 70]));
    let wanted = viewer.wanted(&frame).unwrap();
    assert_eq!(send(&mut viewer, &frame, &wanted)[12..16], (-308_i32).to_be_bytes());
}

#[test]
fn a_spectator_does_nothing_and_its_wish_for_another_size_is_refused() {
    let key = [4, 1, 0, 0, 0, 0, 0, 97];
    let resize = [251, 0, 3, 32, 2, 88, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 32, 2, 88, 0, 0, 0, 0];
    let mut spectator = connection(Access::ViewOnly, &[0, -308]);
    assert_eq!(say(&mut spectator, &[&key[..], &resize].concat()), [Said::Nothing, Said::Nothing]);
    assert_eq!(spectator.take_output()[..8], [0, 0, 0, 1, 0, 1, 0, 1]);
    let mut controller = connection(Access::Full, &[0]);
    let pressed = ClientMessage::Key { down: true, keysym: 97 };
    assert_eq!(say(&mut controller, &key), [Said::Input(pressed)]);
}

#[test]
fn the_keyboards_lights_are_told_with_an_update_when_they_change_to_viewers_that_ask_for_them() {
    let frame = Frame::blank(100, 70);
    let mut viewer = connection(Access::Full, &[0, -261, -312, -313]);
    say(&mut viewer, &CONTINUE);
    let told = |viewer: &mut Connection| {
        let wanted = viewer.wanted(&frame)?;
        Some(send(viewer, &frame, &wanted))
    };
    let lights = |lights| [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 254, 251, lights][..]].concat();
    let all_and_lights = [lights(0), vec![0, 0, 0, 1]].concat();
    assert_eq!(told(&mut viewer), Some(all_and_lights));
    assert_eq!(told(&mut viewer), None);
    viewer.light(4);
    assert_eq!(told(&mut viewer), Some(lights(4)));
    viewer.light(4);
    assert_eq!(told(&mut viewer), None);
    let mut other = connection(Access::Full, &[0, -312, -313]);
    say(&mut other, &CONTINUE);
    assert_eq!(told(&mut other), Some(vec![0, 0, 0, 1]));
    other.light(2);
    assert_eq!(told(&mut other), None);
}

#[test]
fn a_pointer_that_is_painted_elsewhere_or_no_more_is_drawn_over() {
    let pointer = |x| {
        let image = Cursor { width: 2, height: 3, hotspot: (0, 0), premultiplied: vec![[9; 4]; 6] };
        Pointer { at: (x, 10), image: image.into(), mover: None }
    };
    let mut viewer = connection(Access::ViewOnly, &[0, -312, -313]);
    say(&mut viewer, &CONTINUE);
    let first = Frame::blank(100, 70).with_pointer(pointer(10));
    let wanted = viewer.wanted(&first.painted()).unwrap();
    send(&mut viewer, &first, &wanted);
    assert_eq!(viewer.wanted(&first.painted()), None);
    let next = first.with_pointer(pointer(11));
    // Sent anew, and so not to be made exact before.
    assert_eq!(viewer.differing(&first.painted()), []);
    assert_eq!(viewer.differing(&next.painted()), [area(10, 10, 2, 3), area(11, 10, 2, 3)]);
    let wanted = viewer.wanted(&next.painted()).unwrap();
    assert_eq!(wanted.areas, [area(11, 10, 2, 3), area(10, 10, 1, 3)]);
    send(&mut viewer, &next, &wanted);
    // Its own pointer from now on.
    let wanted = viewer.wanted(&next).unwrap();
    assert_eq!(wanted.areas, [area(11, 10, 2, 3)]);
    send(&mut viewer, &next, &wanted);
    assert_eq!(viewer.wanted(&next), None);
    assert_eq!(viewer.wanted(&next.painted()).unwrap().areas, [area(11, 10, 2, 3)]);
}

#[test]
fn what_is_copied_is_offered_to_controllers_alone_and_handed_over_when_asked_for() {
    let extended = [0, i32::from_be_bytes([0xc0, 0xa1, 0xe5, 0xce])];
    let mut viewer = connection(Access::Full, &extended);
    assert_eq!(viewer.take_output(), clipboard::caps());
    viewer.offer("größer".into());
    assert_eq!(viewer.take_output(), clipboard::notify(true));
    let asks = [6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc, 2, 0, 0, 1];
    assert_eq!(viewer.take_text(), None);
    // However often it asks before it is answered.
    assert_eq!(say(&mut viewer, &asks.repeat(3)), [Said::Nothing, Said::Nothing, Said::Nothing]);
    assert_eq!(viewer.output(), 0);
    assert_eq!(viewer.take_text().unwrap(), clipboard::provide("größer"));
    assert_eq!(viewer.take_text(), None);
    // Its own: told of, asked for, brought.
    let tells = [6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc, 8, 0, 0, 1];
    assert_eq!(say(&mut viewer, &tells), [Said::Nothing]);
    assert_eq!(viewer.take_output(), clipboard::request());
    let mut brings = clipboard::provide("漢");
    brings[0] = 6;
    assert_eq!(say(&mut viewer, &brings), [Said::Copied("漢".into())]);
    let mut plain = connection(Access::Full, &[0]);
    plain.offer("é".into());
    assert_eq!(plain.take_output(), [3, 0, 0, 0, 0, 0, 0, 1, 0xe9]);
    assert_eq!(say(&mut plain, &[6, 0, 0, 0, 0, 0, 0, 1, 0xe9]), [Said::Copied("é".into())]);
    let mut spectator = connection(Access::ViewOnly, &extended);
    spectator.offer("secret".into());
    assert_eq!(spectator.take_output(), [0; 0]);
    assert_eq!(say(&mut spectator, &[&asks[..], &brings].concat()), [Said::Nothing, Said::Nothing]);
    assert_eq!(spectator.take_output(), [0; 0]);
    assert_eq!(spectator.take_text(), None);
}

#[test]
fn the_pointer_is_shown_in_the_form_that_novnc_draws_right() {
    let form = |list: &[i32]| connection(Access::Full, list).cursor_form();
    assert_eq!(form(&[-239, 0x574d_5664]), Some(CursorForm::Vmware));
    assert_eq!(form(&[-239, -314]), Some(CursorForm::WithAlpha));
    assert_eq!(form(&[-239]), Some(CursorForm::Masked));
    assert_eq!(form(&[0]), None);
}

#[test]
fn a_refresh_takes_no_request_from_a_viewer_that_is_pushed_to() {
    let exact = |areas| Again { as_asked: false, areas };
    let mut viewer = connection(Access::Full, &[7, -26, -312, -313]);
    let frame = Frame::blank(100, 70);
    assert_eq!(viewer.refresh(&frame, exact(vec![area(0, 0, 64, 64)])), None, "it does not wait");
    say(&mut viewer, &CONTINUE);
    let wanted = viewer.wanted(&frame).unwrap();
    assert_eq!(wanted.class.quality, Some(6));
    send(&mut viewer, &frame, &wanted);
    let refresh = viewer.refresh(&frame, exact(vec![area(64, 64, 64, 64), area(128, 0, 64, 64)])).unwrap();
    assert_eq!(refresh.areas, [area(64, 64, 36, 6)], "no more than there is");
    assert_eq!(refresh.class.quality, None);
    let again = Again { as_asked: true, ..exact(vec![area(0, 0, 64, 64)]) };
    assert_eq!(viewer.refresh(&frame, again).unwrap().class.quality, Some(6));
    send(&mut viewer, &frame, &refresh);
    assert_eq!(viewer.seen(), frame.serial());
    assert_eq!(viewer.refresh(&frame, exact(vec![])), None);
}

#[test]
fn whole_requests_are_added_up_and_one_that_comes_while_an_update_is_made_is_answered_by_the_next() {
    let mut viewer = connection(Access::ViewOnly, &[0]);
    let frame = Frame::blank(100, 70);
    say(&mut viewer, &request(1, [0, 0, 100, 70]));
    let wanted = viewer.wanted(&frame).unwrap();
    send(&mut viewer, &frame, &wanted);
    let asks = [request(0, [10, 20, 5, 5]), request(0, [30, 15, 5, 5]), request(1, [0, 0, 100, 70])];
    say(&mut viewer, &asks.concat());
    let wanted = viewer.wanted(&frame).unwrap();
    assert_eq!(wanted.areas, [area(10, 15, 25, 10)]);
    viewer.begin(&wanted);
    say(&mut viewer, &request(0, [1, 2, 3, 4]));
    viewer.update(&frame, &wanted, &[]);
    assert_eq!(viewer.wanted(&frame).unwrap().areas, [area(1, 2, 3, 4)]);
}

#[test]
fn a_key_that_became_another_is_released_before_it_is_pressed_again() {
    let mut viewer = connection(Access::Full, &[0, -258]);
    let key = |down, keysym| ClientMessage::QemuKey { down, keysym, keycode: 30 };
    let message = |down: u8, keysym: u8| [255, 0, 0, down, 0, 0, 0, keysym, 0, 0, 0, 30];
    let said = say(&mut viewer, &[message(1, 97), message(1, 65), message(0, 97)].concat());
    assert_eq!(said, [key(true, 97), key(false, 97), key(true, 65), key(false, 65)].map(Said::Input));
}

fn wish((width, height): (u16, u16)) -> Vec<u8> {
    let screen = Screen { id: 7, area: area(0, 0, width, height), flags: 0 };
    let mut message = Vec::new();
    let wish = ClientMessage::SetDesktopSize { width, height, screens: vec![screen] };
    wish.encode(PointerForm::Legacy, &mut message);
    message
}

/// Reason, status, width and height of an update that is one ExtendedDesktopSize and nothing else.
fn size_told(update: &[u8]) -> [u16; 4] {
    assert_eq!(
        (update.len(), &update[..4], &update[12..16]),
        (36, &[0, 0, 0, 1][..], &(-308_i32).to_be_bytes()[..])
    );
    [4, 6, 8, 10].map(|at| u16::from_be_bytes([update[at], update[at + 1]]))
}

/// A controller that has seen all of a frame and waits for more.
fn watching(list: &[i32]) -> (Connection, Frame) {
    let mut viewer = connection(Access::Full, list);
    let frame = Frame::blank(100, 70);
    say(&mut viewer, &request(1, [0, 0, 100, 70]));
    let wanted = viewer.wanted(&frame).unwrap();
    send(&mut viewer, &frame, &wanted);
    say(&mut viewer, &request(1, [0, 0, 100, 70]));
    (viewer, frame)
}

#[test]
fn a_wish_that_is_granted_is_answered_by_the_change_itself_and_others_hear_who_it_was_for() {
    let (mut viewer, frame) = watching(&[0, -308]);
    assert_eq!(say(&mut viewer, &wish((120, 80))), [Said::Resize((120, 80))]);
    let larger = Frame::blank_after(120, 80, frame.serial()).wished();
    assert_eq!(viewer.wanted(&larger), None, "it may be the answer");
    viewer.resized(SizeStatus::Done, (120, 80));
    assert_eq!(viewer.output(), 0);
    let wanted = viewer.wanted(&larger).unwrap();
    assert_eq!(size_told(&send(&mut viewer, &larger, &wanted)), [1, 0, 120, 80]);
    let (mut other, _) = watching(&[0, -223, -308]);
    let wanted = other.wanted(&larger).unwrap();
    assert_eq!(size_told(&send(&mut other, &larger, &wanted)), [2, 0, 120, 80]);
    // The size that there is already.
    say(&mut viewer, &wish((120, 80)));
    viewer.resized(SizeStatus::Done, (120, 80));
    assert_eq!(size_told(&viewer.take_output()), [1, 0, 120, 80]);
}

#[test]
fn an_update_that_was_begun_before_the_wish_was_granted_does_not_answer_it() {
    let (mut viewer, frame) = watching(&[0, -308]);
    let changed = drawn(&frame, area(0, 0, 5, 5));
    let begun = viewer.wanted(&changed).unwrap();
    say(&mut viewer, &wish((120, 80)));
    viewer.resized(SizeStatus::Done, (120, 80));
    assert_eq!(send(&mut viewer, &changed, &begun), [0, 0, 0, 1], "pixels of the old screen");
    say(&mut viewer, &request(1, [0, 0, 100, 70]));
    let larger = Frame::blank_after(120, 80, changed.serial()).wished();
    let wanted = viewer.wanted(&larger).unwrap();
    assert_eq!(size_told(&send(&mut viewer, &larger, &wanted)), [1, 0, 120, 80]);
    // Granted, and back again before it was told.
    say(&mut viewer, &[&wish((100, 70))[..], &request(1, [0, 0, 120, 80])].concat());
    viewer.resized(SizeStatus::Done, (100, 70));
    let wanted = viewer.wanted(&larger).unwrap();
    assert_eq!(size_told(&send(&mut viewer, &larger, &wanted)[..36]), [1, 0, 120, 80]);
}

#[test]
fn every_wish_has_one_answer() {
    let (mut viewer, frame) = watching(&[0, -308]);
    let said = say(&mut viewer, &[wish((1, 1)), wish((2, 2)), wish((3, 3))].concat());
    assert_eq!(said, [(1, 1), (2, 2), (3, 3)].map(Said::Resize));
    viewer.resized(SizeStatus::NoResources, (100, 70));
    let told: Vec<_> = viewer.take_output().chunks(36).map(size_told).collect();
    assert_eq!(told, [[1, 4, 100, 70], [1, 4, 100, 70], [1, 2, 100, 70]]);
    let two = [&[251, 0, 0, 9, 0, 9, 2, 0][..], &[0; 32]].concat();
    let none = [251, 0, 0, 9, 0, 9, 0, 0];
    for bad in [&two[..], &none[..], &wish((0, 9))[..]] {
        assert_eq!(say(&mut viewer, bad), [Said::Nothing]);
        assert_eq!(size_told(&viewer.take_output()), [1, 3, 100, 70]);
    }
    assert_eq!(viewer.wanted(&frame), None);
    // Nobody told it that it may.
    let (mut silent, _) = watching(&[0, -223]);
    assert_eq!(say(&mut silent, &wish((120, 80))), [Said::Nothing]);
    assert_eq!(silent.output(), 0);
}
