//! Printing an error with everything that caused it.

use std::error::Error;
use std::fmt::Write as _;

/// The error and its sources on one line, outermost first: `cannot start Xvfb: exec: No such file or directory`.
/// Every `Display` in this crate leaves its source out, so that nothing is said twice here.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _infallible = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn names_every_cause_once() {
        let error = Outer(std::io::Error::other("no handle"));
        assert_eq!(chain(&error), "cannot open the door: no handle");
    }
}
