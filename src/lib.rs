//! valetd: a sandbox-host daemon. It supervises a browser on a virtual display, serves the screen to viewers over
//! WebSocket, and says honestly how it all is.
//!
//! The modules stand in layers, and imports go down only (`tests/tidy.rs` holds this):
//!
//! ```text
//! L5  cli  app  config  systemd                composition
//! L4  gateway  api  control_plane              the outside world; these do not import each other
//! L3  session  health                          display + browser + rfb as one thing, and how all of it is
//! L2  supervise  display  vnc  browser  adspower  profile   actors over the OS
//! L1  sys  tasks  telemetry  metrics  http  clock  identity  keyring  store   thin, effectful, no policy
//! L0  rfb  auth  cdp  backoff  chunking  durations  errors  hex  ids  links  proxy  secret   pure: no tokio, no I/O, no clock
//! ```
//!
//! `unsafe` is denied everywhere; `sys` alone may opt out, block by block.

pub mod auth;
pub mod backoff;
pub mod cdp;
pub mod chunking;
pub mod durations;
pub mod errors;
pub mod hex;
pub mod ids;
pub mod links;
pub mod proxy;
pub mod rfb;
pub mod secret;

pub mod clock;
pub mod http;
pub mod identity;
pub mod keyring;
pub mod metrics;
pub mod store;
pub mod sys;
pub mod tasks;
pub mod telemetry;

pub mod adspower;
pub mod browser;
pub mod display;
pub mod profile;
pub mod supervise;
pub mod vnc;

pub mod health;
pub mod session;

pub mod api;
pub mod control_plane;
pub mod gateway;

pub mod app;
pub mod cli;
pub mod config;
pub mod systemd;
