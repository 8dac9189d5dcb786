//! Carrying RFB between a viewer and the server behind us.

pub mod activity;
mod clipboard;
pub mod config;
pub mod native;
mod pump;
pub mod relay;
pub mod upstream;
mod x11vnc;

pub use activity::Activity;
pub use config::{RfbAddress, RfbSource};
pub use x11vnc::X11vnc;
