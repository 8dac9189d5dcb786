//! Supervision of real processes: each fault of the list, its time to recover, and that nothing is left.

mod chromium;
mod faults;
mod space;
mod stage;
mod stand_in;
