//! An error and everything that caused it: on one line, and looked through.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use rustix::io::Errno;

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

/// Whether the cause beneath is a want of descriptors, this process's or the host's: which says nothing of whomever it was
/// that could not be reached.
pub fn is_out_of_files(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&errno)) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Outer(#[source] io::Error);

    #[test]
    fn names_every_cause_once() {
        let error = Outer(io::Error::other("no handle"));
        assert_eq!(chain(&error), "cannot open the door: no handle");
    }

    #[test]
    fn a_want_of_descriptors_is_found_beneath_other_errors_and_no_other_is_taken_for_one() {
        let outer = |errno: Errno| Outer(errno.into());
        assert!(is_out_of_files(&outer(Errno::MFILE)) && is_out_of_files(&outer(Errno::NFILE)));
        assert!(!is_out_of_files(&outer(Errno::CONNREFUSED)));
        assert!(!is_out_of_files(&Outer(io::Error::other("no handle"))));
    }
}
