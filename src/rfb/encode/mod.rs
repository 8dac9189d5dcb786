//! From a frame to the bytes of an update (RFC 6143 §7.6.1, §7.7; rfbproto, Tight).
//!
//! | file | what is in it |
//! | --- | --- |
//! | `class.rs` | what viewers have in common who can be sent the same bytes |
//! | `pieces.rs` | which rectangles a change is sent as |
//! | `palette.rs` | how many colours a rectangle has, and which |
//! | `pixels.rs` | pixels in the viewer's format |
//! | `tight.rs` | Tight, each rectangle good without those before it |
//! | `kind.rs` | what became of a rectangle, for those who count |
//! | `zrle.rs`, `hextile.rs` | what viewers get that know no Tight, or like it less |
//! | `encoder.rs` | all of it for one rectangle |
//!
//! **Invariant:** no rectangle refers to an earlier one, so that its bytes are good for every viewer of its class: each zlib
//! stream of Tight is reset in the rectangle that uses it, and what ZRLE's one stream gets looks back at nothing. That stream
//! has to be begun once for each viewer, which is all that [`ZrleStream`] does.

mod class;
mod encoder;
mod hextile;
mod kind;
mod palette;
mod pieces;
mod pixels;
mod tight;
mod zrle;

pub use class::{Class, Method};
pub use encoder::{Encoded, Encoder};
pub use kind::RectangleKind;
pub use pieces::{Piece, pieces};
pub(super) use pixels::put_pixel;
pub use tight::Error;
pub use zrle::ZrleStream;

#[cfg(test)]
mod fallback_tests;
#[cfg(test)]
mod tests;
