//! The opening as the server of a viewer (RFC 6143 §7.1 to §7.3.1). Security is "None": who may see this screen was
//! settled before the first RFB byte.

use super::wire::fill;

/// What the server says first.
pub const GREETING: [u8; 12] = *b"RFB 003.008\n";
/// The security type None (RFC 6143 §7.2.1).
const NONE: u8 = 1;
/// The longest message of a viewer here.
const LONGEST: usize = GREETING.len();

/// Why a viewer did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewerHandshakeError {
    /// Not `RFB 003.003`, `.005`, `.007` or `.008`.
    #[error("the viewer does not speak RFB 3.3, 3.7 or 3.8")]
    Version,
    /// It chose a security type that was not offered.
    #[error("the viewer chose security type {0}, which was not offered")]
    Security(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// The server says which security type it is.
    V3_3,
    /// The viewer chooses; no result follows for None.
    V3_7,
    /// The viewer chooses, and gets a result.
    V3_8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Version,
    Security(Version),
    Init,
    Done,
}

/// The opening with one viewer. Send [`GREETING`] first; feed what it sends until it is done.
#[derive(Debug)]
pub struct ViewerHandshake {
    state: State,
    partial: Vec<u8>,
}

impl Default for ViewerHandshake {
    fn default() -> Self {
        Self { state: State::Version, partial: Vec::with_capacity(LONGEST) }
    }
}

impl ViewerHandshake {
    /// A viewer that has sent nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes off `input` and appends the answers to `out`. True once ClientInit was read: a ServerInit is due,
    /// and what is left of `input` comes after it. Answers are to be sent also when an error is returned.
    pub fn handle_input(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, ViewerHandshakeError> {
        while self.state != State::Done {
            let length = if self.state == State::Version { GREETING.len() } else { 1 };
            if !fill(&mut self.partial, length, input) {
                return Ok(false);
            }
            self.state = self.step(out)?;
            self.partial.clear();
        }
        Ok(true)
    }

    fn step(&self, out: &mut Vec<u8>) -> Result<State, ViewerHandshakeError> {
        let first = self.partial.first().copied().unwrap_or(0);
        match self.state {
            State::Version => {
                let version = match self.partial.as_slice() {
                    b"RFB 003.003\n" | b"RFB 003.005\n" => Version::V3_3,
                    b"RFB 003.007\n" => Version::V3_7,
                    b"RFB 003.008\n" => Version::V3_8,
                    _ => return Err(ViewerHandshakeError::Version),
                };
                if version == Version::V3_3 {
                    out.extend(u32::from(NONE).to_be_bytes());
                    return Ok(State::Init);
                }
                out.extend([1, NONE]);
                Ok(State::Security(version))
            }
            State::Security(version) if first == NONE => {
                if version == Version::V3_8 {
                    out.extend(0u32.to_be_bytes());
                }
                Ok(State::Init)
            }
            State::Security(version) => {
                if version == Version::V3_8 {
                    out.extend([0, 0, 0, 1, 0, 0, 0, 11]);
                    out.extend(b"not offered");
                }
                Err(ViewerHandshakeError::Security(first))
            }
            // The shared flag is of no interest: nobody is disconnected for another viewer.
            State::Init | State::Done => Ok(State::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers to `input`, and what was left over, if it got through.
    fn run(input: &[u8]) -> (Vec<u8>, Result<Option<Vec<u8>>, ViewerHandshakeError>) {
        let (mut handshake, mut out, mut rest) = (ViewerHandshake::new(), Vec::new(), input);
        let done = handshake.handle_input(&mut rest, &mut out);
        (out, done.map(|done| done.then(|| rest.to_vec())))
    }

    #[test]
    fn each_version_gets_the_answers_that_it_knows() {
        assert_eq!(run(b"RFB 003.003\n\x01rest"), (vec![0, 0, 0, 1], Ok(Some(b"rest".to_vec()))));
        assert_eq!(run(b"RFB 003.007\n\x01\x00"), (vec![1, 1], Ok(Some(vec![]))));
        assert_eq!(run(b"RFB 003.008\n\x01\x01\x03"), (vec![1, 1, 0, 0, 0, 0], Ok(Some(vec![3]))));
    }

    #[test]
    fn only_what_was_offered_is_accepted() {
        assert_eq!(run(b"RFB 003.007\n\x02").1, Err(ViewerHandshakeError::Security(2)));
        let (out, end) = run(b"RFB 003.008\n\x00");
        assert_eq!(end, Err(ViewerHandshakeError::Security(0)));
        assert_eq!(out, b"\x01\x01\0\0\0\x01\0\0\0\x0bnot offered");
        assert_eq!(run(b"RFB 004.001\n").1, Err(ViewerHandshakeError::Version));
        assert_eq!(run(b"GET / HTTP/1.1\r\n").1, Err(ViewerHandshakeError::Version));
    }
}
