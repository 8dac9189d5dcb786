//! The screen of a display as viewers need it: its picture frame by frame, its pointer, and a way for keys and buttons in.
//!
//! One task has the connection to the X server ([`Screen::watch`]); everybody else holds a [`Screen`]. The X server may go
//! and come back: who looks on keeps the picture that was there, and then gets the new one.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `handle.rs` | what others hold |
//! | `watcher.rs` | the task: from damage to frames |
//! | `damage.rs` | what was drawn on, until it is looked at |
//! | `cursor.rs` | the pointer's image |
//! | `clipboard.rs` | what was copied, there or by a viewer |
//! | `lease.rs` | who has keyboard and pointer, where several may |
//! | `input.rs` | keys and buttons through XTEST |
//! | `keyboard.rs`, `layout.rs` | which keys make a keysym, and what a key makes |
//! | `resizing.rs` | wishes for another size, until it is their turn |
//! | `figures.rs` | what looking comes to |
//!
//! **Invariant:** with nobody looking nothing is asked of the X server and no timer runs.

mod clipboard;
mod cursor;
pub(super) mod damage;
mod figures;
mod handle;
mod input;
mod keyboard;
pub(super) mod layout;
mod lease;
mod resizing;
mod watcher;

pub use figures::{CaptureFigures, CaptureMetrics};
pub use handle::{Act, Counted, Look, Screen, ScreenTask, Seat};
