//! Tests against the real binary and real X servers, RFB servers and browsers. One binary, so that it is linked once.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod adspower;
mod api;
mod cdp;
mod cdp_contexts;
mod clipboard;
mod control_plane;
mod control_plane_crashes;
mod daemon;
mod faults;
mod faults_host;
mod faults_line;
mod faults_sessions;
mod handed_over;
mod handoffs;
mod identity;
mod isolation;
mod native;
mod native_clipboard;
mod native_figures;
mod native_input;
mod native_moves;
mod native_resize;
mod native_screenshot;
mod pixels;
mod profiles;
mod relay;
mod sessions;
mod single_session;
mod soak;
mod supervise;
mod support;
