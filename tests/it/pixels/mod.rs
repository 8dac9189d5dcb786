//! Whether the picture is right, by decoders that are not ours: noVNC in a real Chromium, TigerVNC's viewer and `vnc-rs` follow
//! a screen on which much happens, and then show what the X server itself has, pixel for pixel, in every encoding.
//!
//! `PIXELS_SECONDS` says for how long there is drawing in each encoding; 1 where it is not set.

mod bridge;
mod chromium;
mod formats;
mod novnc;
mod painter;
mod stage;
mod tigervnc;
mod vnc_rs;
