//! Viewers on a display of ours, without an RFB server behind us.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `server.rs` | one viewer, from ServerInit to its end |
//! | `studio.rs` | encoding, once for all viewers that can be sent the same |
//! | `encoders.rs`, `turns.rs` | the threads that do it, and whose turn it is |
//! | `lane.rs` | what is on its way to a viewer |
//! | `figures.rs` | what serving comes to |
//! | `camera.rs` | single pictures, for those who do not watch |

mod camera;
mod encoders;
mod figures;
mod lane;
mod server;
mod studio;
mod turns;

pub use camera::{Camera, CameraError};
pub use encoders::Encoders;
pub use figures::{Figures, Meter, Metrics};
pub use server::{NativeEnd, NativeOptions, run};
pub use studio::Studio;
