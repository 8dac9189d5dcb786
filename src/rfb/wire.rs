//! Reading fields, most significant byte first, from a message whose length was already checked.

use super::DecodeError;

/// What is left of a message.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        self.u8().map(|byte| byte != 0)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }
}

const SHORT: DecodeError = DecodeError::BadField { field: "message", reason: "shorter than its length" };

/// Lengths on the wire fit a `usize` on every machine that this runs on; the fallback fails the next length check.
pub(super) fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Moves bytes from `input` to `buffer` until it holds `target` of them; says whether it does.
pub(super) fn fill(buffer: &mut Vec<u8>, target: usize, input: &mut &[u8]) -> bool {
    let wanted = target.saturating_sub(buffer.len());
    let (taken, rest) = input.split_at(wanted.min(input.len()));
    buffer.extend_from_slice(taken);
    *input = rest;
    buffer.len() >= target
}
