//! AdsPower as a part of the host, and sessions that have a profile of it: with the stand-in as the configured program, real
//! X servers and real Chromiums.

mod firewall;
mod service;
mod sessions;
mod stage;
