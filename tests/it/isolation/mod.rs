//! Isolation, proven by attack: what a process or a page in one session tries against another session and against the host.
//! Each attempt is counted, must fail, and has a positive control: the same attempt by whom it should work for.

mod attacker;
mod attacks;
mod impostor;
mod pages;
mod rules;
mod seat;

pub(crate) use attacker::{Attempt, attempt_in};
pub(crate) use seat::{Seat, devtools};
