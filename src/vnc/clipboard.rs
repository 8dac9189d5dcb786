//! Opening the way from the display's clipboard to x11vnc's viewers.
//!
//! x11vnc 0.9.16 sends no selection until 15 s have passed since anybody connected, and each health probe connects. A
//! change of CUT_BUFFER0 while it has a client ends that wait for the life of the process.

use std::io::ErrorKind;

use bytes::BytesMut;

use super::config::RfbAddress;
use super::upstream::{self, Upstream};
use crate::display::{Connection, Display};
use crate::supervise::ProgramError;

/// Bytes of one read; a whole cut text need not fit, its first byte says it.
const READ: usize = 1024;
/// Server message types (RFC 6143 sections 7.6.3 and 7.6.4).
const BELL: u8 = 2;
const CUT_TEXT: u8 = 3;

/// A viewer that waits for x11vnc to tell of a changed CUT_BUFFER0, which takes it half a second and more.
pub(super) struct Waking {
    x: Connection,
    server: Upstream,
    received: BytesMut,
}

impl Waking {
    /// Connects to both sides and makes a change. The caller sets the deadline.
    pub(super) async fn begin(server: &RfbAddress, display: &Display) -> Result<Self, ProgramError> {
        let x = display.connect().await?;
        let (server, _init, early) = upstream::open(server)
            .await
            .map_err(|error| ProgramError::caused_by("no RFB handshake with x11vnc", error))?;
        let mut waking = Self { x, server, received: BytesMut::from(early) };
        waking.nudge().await?;
        Ok(waking)
    }

    /// Whether x11vnc has told by now; makes another change when it has not.
    pub(super) async fn proceed(&mut self) -> Result<bool, ProgramError> {
        self.received.reserve(READ);
        match self.server.try_read(&mut self.received) {
            Ok(0) => return Err(ProgramError::new("x11vnc closed the connection")),
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(ProgramError::caused_by("the connection to x11vnc broke", error));
            }
            Ok(_) | Err(_) => {}
        }
        if tells_of_text(&self.received) {
            return Ok(true);
        }
        self.nudge().await?;
        Ok(false)
    }

    async fn nudge(&mut self) -> Result<(), ProgramError> {
        self.x
            .announce_cut_buffer()
            .await
            .map_err(|error| ProgramError::caused_by("cannot change the cut buffer", error))
    }
}

/// No picture was asked for, so nothing but bells comes before the text.
fn tells_of_text(received: &[u8]) -> bool {
    received.iter().find(|byte| **byte != BELL) == Some(&CUT_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bells_before_the_text_are_skipped() {
        assert!(!tells_of_text(&[]));
        assert!(!tells_of_text(&[2, 2]));
        assert!(tells_of_text(&[2, 3, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!tells_of_text(&[0, 3]));
    }
}
