//! Who has a display's keyboard and pointer, where several viewers may act. Pure.
//!
//! One viewer at a time. Whoever acts while nobody has them, has them. While that one holds a key or a button down, what
//! others do counts for nothing, unless it has been quiet for [`STUCK`]: then a press takes over. While it holds nothing
//! down, a press by another takes over at once, and a mere move of the pointer once it has been quiet for [`QUIET`], so that
//! a hand that rests on a mouse tugs at nobody's pointer. Whatever the former one held is released first.
//!
//! Each change begins an epoch, and whatever is held down belongs to the epoch of its press. What a viewer pressed in an earlier
//! one, or while another had the input, counts for nothing until it is pressed anew: not when it repeats, not when it drags,
//! not when it is let go of.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::handle::{Act, Seat};

/// For the pointer to be moved by another.
const QUIET: Duration = Duration::from_millis(500);
/// For what is held down to be taken for forgotten: a viewer whose line is dead, or that lost the release.
const STUCK: Duration = Duration::from_secs(10);
/// Buttons of RFB.
const BUTTONS: u8 = 9;
/// Of presses that went nowhere: no epoch has it.
const NEVER: u64 = 0;

/// Something that is held down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Key {
        keysym: u32,
        scancode: Option<u32>,
    },
    /// By its bit.
    Button(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// There is no X server.
    Shut,
    Free,
    Held(Holder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    seat: Seat,
    /// When it acted last.
    acted: Instant,
    /// Where it has the pointer.
    at: (u16, u16),
}

/// The input of one display.
#[derive(Debug)]
pub(super) struct Lease {
    input: Input,
    epoch: u64,
    /// What each viewer has down, by its own word, with the epoch in which that was pressed; in the order of the presses.
    seats: BTreeMap<Seat, Vec<(Thing, u64)>>,
    /// Who moved the pointer last.
    mover: Option<Seat>,
}

impl Default for Lease {
    fn default() -> Self {
        Self { input: Input::Shut, epoch: NEVER, seats: BTreeMap::new(), mover: None }
    }
}

impl Lease {
    /// There is an X server, on which nothing is pressed.
    pub(super) fn open(&mut self) {
        self.input = Input::Free;
    }

    /// The X server has gone. What viewers hold down is not pressed on the next one.
    pub(super) fn shut(&mut self) {
        (self.input, self.mover) = (Input::Shut, None);
        self.epoch += 1;
    }

    /// Who moved the pointer last, where that was a viewer.
    pub(super) fn mover(&self) -> Option<Seat> {
        self.mover
    }

    /// What is to be done, in order, when a viewer does `act`.
    pub(super) fn judge(&mut self, seat: Seat, act: Act, now: Instant) -> Vec<Act> {
        match act {
            Act::Copy(_) => vec![act],
            Act::Leave => self.leave(seat),
            Act::Key { down: true, keysym, scancode } => {
                self.press(seat, Thing::Key { keysym, scancode }, act, now)
            }
            Act::Key { down: false, keysym, scancode } => {
                let pressed = self.forget(seat, Thing::Key { keysym, scancode });
                self.pass_if(pressed, act, now)
            }
            Act::Pointer { x, y, buttons } => self.point(seat, (x, y), buttons, now),
        }
    }

    fn press(&mut self, seat: Seat, key: Thing, act: Act, now: Instant) -> Vec<Act> {
        let held = self.seats.get(&seat).into_iter().flatten().find(|(thing, _)| *thing == key);
        if let Some((_, epoch)) = held {
            return self.pass_if(Some(*epoch), act, now);
        }
        let taken = self.take(seat, true, now);
        self.note(seat, key, taken.is_some());
        taken.map(|releases| releases.into_iter().chain([act]).collect()).unwrap_or_default()
    }

    /// A key that repeats or goes up, and was pressed in that epoch.
    fn pass_if(&mut self, pressed: Option<u64>, act: Act, now: Instant) -> Vec<Act> {
        match &mut self.input {
            Input::Held(holder) if pressed == Some(self.epoch) => {
                holder.acted = now;
                vec![act]
            }
            _ => Vec::new(),
        }
    }

    fn point(&mut self, seat: Seat, at: (u16, u16), buttons: u16, now: Instant) -> Vec<Act> {
        let was_down = self.buttons(seat, |_| true);
        let pressed = buttons & !was_down;
        let taken = self.take(seat, pressed != 0, now);
        for bit in (0..BUTTONS).filter(|bit| was_down & !buttons & 1 << bit != 0) {
            self.forget(seat, Thing::Button(bit));
        }
        for bit in (0..BUTTONS).filter(|bit| pressed & 1 << bit != 0) {
            self.note(seat, Thing::Button(bit), taken.is_some());
        }
        let Some(mut acts) = taken else { return Vec::new() };
        if let Input::Held(holder) = &mut self.input {
            holder.at = at;
        }
        self.mover = Some(seat);
        let epoch = self.epoch;
        let buttons = self.buttons(seat, |pressed| pressed == epoch);
        acts.push(Act::Pointer { x: at.0, y: at.1, buttons });
        acts
    }

    /// Gives the input to `seat`, if it may have it, and what has to be released before; `press`, or else a move.
    fn take(&mut self, seat: Seat, press: bool, now: Instant) -> Option<Vec<Act>> {
        let mut releases = Vec::new();
        let mut at = (0, 0);
        match &mut self.input {
            Input::Shut => return None,
            Input::Held(holder) if holder.seat == seat => {
                holder.acted = now;
                return Some(releases);
            }
            Input::Held(holder) => {
                let (former, quiet) = (*holder, now.saturating_duration_since(holder.acted));
                releases = self.releases(former);
                let may = match (releases.is_empty(), press) {
                    (true, true) => true,
                    (true, false) => quiet >= QUIET,
                    (false, press) => press && quiet >= STUCK,
                };
                if !may {
                    return None;
                }
                at = former.at;
            }
            Input::Free => {}
        }
        self.epoch += 1;
        self.input = Input::Held(Holder { seat, acted: now, at });
        Some(releases)
    }

    fn leave(&mut self, seat: Seat) -> Vec<Act> {
        let mut releases = Vec::new();
        if let Input::Held(holder) = self.input
            && holder.seat == seat
        {
            releases = self.releases(holder);
            self.input = Input::Free;
        }
        self.seats.remove(&seat);
        releases
    }

    /// What lets go of all that counts, last pressed first.
    fn releases(&self, holder: Holder) -> Vec<Act> {
        let Holder { seat, at: (x, y), .. } = holder;
        let held = self.seats.get(&seat).into_iter().flatten().rev();
        let counting = held.filter(|(_, epoch)| *epoch == self.epoch);
        let keys = counting.filter_map(|(thing, _)| match *thing {
            Thing::Key { keysym, scancode } => Some(Act::Key { down: false, keysym, scancode }),
            Thing::Button(_) => None,
        });
        let buttons = self.buttons(seat, |epoch| epoch == self.epoch);
        keys.chain((buttons != 0).then_some(Act::Pointer { x, y, buttons: 0 })).collect()
    }

    fn buttons(&self, seat: Seat, counts: impl Fn(u64) -> bool) -> u16 {
        let held = self.seats.get(&seat).into_iter().flatten();
        held.fold(0, |mask, (thing, epoch)| match thing {
            Thing::Button(bit) if counts(*epoch) => mask | 1 << bit,
            _ => mask,
        })
    }

    fn note(&mut self, seat: Seat, thing: Thing, counts: bool) {
        let epoch = if counts { self.epoch } else { NEVER };
        self.seats.entry(seat).or_default().push((thing, epoch));
    }

    /// The epoch of its press.
    fn forget(&mut self, seat: Seat, thing: Thing) -> Option<u64> {
        let held = self.seats.get_mut(&seat)?;
        let at = held.iter().position(|(held, _)| *held == thing)?;
        let (_, epoch) = held.remove(at);
        if held.is_empty() {
            self.seats.remove(&seat);
        }
        Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Seat = Seat::of(1);
    const B: Seat = Seat::of(2);

    fn key(down: bool, keysym: u32) -> Act {
        Act::Key { down, keysym, scancode: None }
    }

    fn pointer(x: u16, buttons: u16) -> Act {
        Act::Pointer { x, y: 0, buttons }
    }

    fn open() -> (Lease, Instant) {
        let mut lease = Lease::default();
        lease.open();
        (lease, Instant::now())
    }

    #[test]
    fn who_drags_is_not_disturbed_and_the_other_one_is_next() {
        let (mut lease, now) = open();
        assert_eq!(lease.judge(A, pointer(1, 1), now), [pointer(1, 1)]);
        assert_eq!(lease.judge(B, pointer(9, 0), now + QUIET), []);
        assert_eq!(lease.judge(B, pointer(9, 1), now + QUIET), []);
        assert_eq!(lease.judge(B, key(true, 97), now + QUIET), []);
        assert_eq!(lease.judge(A, pointer(2, 0), now + QUIET), [pointer(2, 0)]);
        assert_eq!(lease.mover(), Some(A));
        // What B pressed meanwhile was never pressed, and is not when it drags, repeats or lets go.
        let later = now + 3 * QUIET;
        assert_eq!(lease.judge(B, key(true, 97), later), []);
        assert_eq!(lease.judge(B, pointer(8, 1), later), [pointer(8, 0)], "a move");
        assert_eq!(lease.mover(), Some(B));
        assert_eq!(lease.judge(B, key(false, 97), later), []);
        assert_eq!(lease.judge(B, pointer(8, 0), later), [pointer(8, 0)]);
        assert_eq!(lease.judge(B, pointer(8, 1), later), [pointer(8, 1)]);
    }

    #[test]
    fn a_press_takes_over_at_once_and_a_move_when_the_other_one_rests() {
        let (mut lease, now) = open();
        lease.judge(A, pointer(1, 0), now);
        assert_eq!(lease.judge(B, pointer(9, 0), now + QUIET / 2), []);
        assert_eq!(lease.judge(B, pointer(9, 1), now + QUIET / 2), [pointer(9, 1)]);
        assert_eq!(lease.judge(B, pointer(9, 0), now + QUIET / 2), [pointer(9, 0)]);
        assert_eq!(lease.judge(A, pointer(1, 0), now + QUIET), []);
        assert_eq!(lease.judge(A, pointer(2, 0), now + 2 * QUIET), [pointer(2, 0)]);
    }

    #[test]
    fn what_a_viewer_forgot_is_let_go_of_for_the_next_one_and_its_late_acts_count_for_nothing() {
        let (mut lease, now) = open();
        lease.judge(A, key(true, 0xffe1), now);
        lease.judge(A, pointer(5, 1), now);
        assert_eq!(lease.judge(B, pointer(9, 1), now + STUCK / 2), []);
        lease.judge(B, pointer(9, 0), now + STUCK / 2);
        let taken = [key(false, 0xffe1), pointer(5, 0), pointer(9, 1)];
        assert_eq!(lease.judge(B, pointer(9, 1), now + STUCK), taken);
        for late in [key(true, 0xffe1), key(false, 0xffe1), pointer(6, 1), pointer(6, 0)] {
            assert_eq!(lease.judge(A, late, now + 2 * STUCK), []);
        }
    }

    #[test]
    fn who_leaves_lets_go_and_what_was_held_is_not_pressed_on_another_server() {
        let (mut lease, now) = open();
        lease.judge(A, key(true, 97), now);
        lease.judge(A, pointer(5, 4), now);
        lease.shut();
        assert_eq!(lease.judge(A, key(true, 98), now), []);
        lease.open();
        assert_eq!(lease.judge(A, pointer(6, 4), now), [pointer(6, 0)]);
        assert_eq!(lease.judge(A, key(true, 98), now), []);
        assert_eq!(lease.judge(A, key(true, 99), now), [key(true, 99)]);
        assert_eq!(lease.judge(B, Act::Leave, now), []);
        assert_eq!(lease.judge(A, Act::Leave, now), [key(false, 99)]);
        assert!(lease.seats.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Op {
        Do(u64, Act),
        Wait(Duration),
        NewServer,
    }

    fn op() -> impl Strategy<Value = Op> {
        let act = prop_oneof![
            4 => (any::<bool>(), 1_u32..4).prop_map(|(down, keysym)| key(down, keysym)),
            4 => (0_u16..50, 0_u16..4).prop_map(|(x, buttons)| pointer(x, buttons)),
            1 => Just(Act::Leave),
        ];
        prop_oneof![
            20 => (0_u64..3, act).prop_map(|(seat, act)| Op::Do(seat, act)),
            3 => prop_oneof![Just(QUIET), Just(STUCK)].prop_map(Op::Wait),
            1 => Just(Op::NewServer),
        ]
    }

    /// An X server, and what viewers say that they hold.
    #[derive(Debug, Default)]
    struct World {
        keys: Vec<(u32, u64)>,
        buttons: Option<(u16, u64)>,
        said: BTreeMap<u64, (Vec<u32>, u16)>,
    }

    impl World {
        fn say(&mut self, seat: u64, act: &Act) {
            let (keys, buttons) = self.said.entry(seat).or_default();
            match *act {
                Act::Key { down, keysym, .. } => {
                    keys.retain(|key| *key != keysym);
                    keys.extend(down.then_some(keysym));
                }
                Act::Pointer { buttons: now, .. } => *buttons = now,
                Act::Leave => {
                    self.said.remove(&seat);
                }
                Act::Copy(_) => {}
            }
        }

        fn happen(&mut self, seat: u64, act: &Act) {
            match *act {
                Act::Key { down, keysym, .. } => {
                    self.keys.retain(|(key, _)| *key != keysym);
                    self.keys.extend(down.then_some((keysym, seat)));
                }
                Act::Pointer { buttons, .. } => self.buttons = (buttons != 0).then_some((buttons, seat)),
                Act::Leave | Act::Copy(_) => {}
            }
        }

        fn check(&self, lease: &Lease) {
            let holders = self.keys.iter().map(|(_, seat)| *seat).chain(self.buttons.map(|(_, seat)| seat));
            for holder in holders {
                let Input::Held(has) = lease.input else { panic!("nobody has the input") };
                assert_eq!(has.seat, Seat::of(holder), "another one's is down");
            }
            for (key, seat) in &self.keys {
                assert!(self.said.get(seat).is_some_and(|(keys, _)| keys.contains(key)), "a key is stuck");
            }
            if let Some((buttons, seat)) = self.buttons {
                let said = self.said.get(&seat).map_or(0, |(_, buttons)| *buttons);
                assert_eq!(buttons & !said, 0, "a button is stuck");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_down_but_what_one_viewer_holds(ops in proptest::collection::vec(op(), 1..120)) {
            let (mut lease, mut now) = open();
            let mut world = World::default();
            for op in ops {
                match op {
                    Op::Do(seat, act) => {
                        world.say(seat, &act);
                        let done = lease.judge(Seat::of(seat), act, now);
                        done.iter().for_each(|act| world.happen(seat, act));
                    }
                    Op::Wait(time) => now += time,
                    Op::NewServer => {
                        lease.shut();
                        (world.keys, world.buttons) = (Vec::new(), None);
                        lease.open();
                    }
                }
                world.check(&lease);
            }
            for seat in 0..3 {
                world.say(seat, &Act::Leave);
                let done = lease.judge(Seat::of(seat), Act::Leave, now);
                done.iter().for_each(|act| world.happen(seat, act));
                world.check(&lease);
            }
            prop_assert!(world.keys.is_empty() && world.buttons.is_none() && lease.seats.is_empty());
        }
    }
}
