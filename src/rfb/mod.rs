//! The RFB protocol (RFC 6143 and the community's rfbproto), without I/O: bytes in, typed messages and bytes out.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `viewer_handshake.rs`, `server_handshake.rs` | the opening, as a server to our viewer and as a client of the server behind us |
//! | `client_message.rs`, `client_parser.rs` | what a viewer may say, with an explicit length for every type |
//! | `policy.rs`, `viewer_filter.rs` | which of it goes on, by what the viewer may do, and how |
//! | `held_input.rs` | what a viewer holds down, and how to let go of it |
//! | `skim.rs`, `skim_rect.rs` | message boundaries in the server's stream |
//! | `server_message.rs` | the few server messages that we make ourselves |
//! | `connection.rs`, `clipboard.rs`, `cursor.rs`, `flow.rs`, `quality.rs`, `refresh.rs` | a viewer that we serve ourselves, how much it may have in flight and how large, and what it has only a likeness of |
//! | `motion.rs`, `history.rs`, `region.rs` | what only moved from one frame to the next, and what that saves a viewer |
//! | `frame.rs`, `painted.rs`, `encode/` | the picture that we send, with the pointer in it where it is due, and the bytes that it is sent as |
//! | `still.rs` | one picture as a file |
//! | `figures.rs` | how often and how long, for those who watch over it |
//! | `encoding.rs`, `pixel_format.rs`, `error.rs` | vocabulary |
//!
//! **Invariant:** no decoder here allocates by a length that a peer announced; buffers grow by bytes that came.

pub mod client_message;
pub mod client_parser;
pub mod clipboard;
pub mod connection;
#[cfg(test)]
mod connection_tests;
pub mod cursor;
pub mod encode;
pub mod encoding;
pub mod error;
pub mod figures;
pub mod flow;
pub mod frame;
pub mod held_input;
pub mod history;
pub mod motion;
#[cfg(test)]
mod motion_tests;
#[doc(hidden)]
pub mod oracle;
mod painted;
pub mod pixel_format;
pub mod policy;
pub mod quality;
pub mod refresh;
pub mod region;
pub mod resize;
pub mod server_handshake;
pub mod server_message;
#[doc(hidden)]
pub mod server_oracle;
pub mod skim;
mod skim_rect;
pub mod still;
#[doc(hidden)]
pub mod test_viewer;
pub mod viewer_filter;
pub mod viewer_handshake;
mod wire;

pub use client_message::{ClientMessage, PointerForm};
pub use client_parser::ClientParser;
pub use connection::Connection;
pub use cursor::Cursor;
pub use error::DecodeError;
pub use frame::Frame;
pub use held_input::{HeldInput, Noted};
pub use painted::Pointer;
pub use pixel_format::PixelFormat;
pub use policy::{Access, Verdict};
pub use resize::SizeStatus;
pub use server_handshake::{ServerHandshake, ServerInit};
pub use skim::Skimmer;
pub use viewer_filter::{Effect, ViewerFilter};
pub use viewer_handshake::ViewerHandshake;
