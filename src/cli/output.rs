//! Writing an answer to somebody who may have stopped listening.

use std::io::{self, ErrorKind, Write};

use super::Exit;

/// Writes an answer and flushes it. A reader that has gone (`valetd status | head -1`) has seen enough: that is a clean end.
pub fn answer(out: &mut dyn Write, text: &str) -> Exit {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Clean,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Clean,
        Err(_) => Exit::Failed,
    }
}

/// What is to be printed, and how the command ends then.
pub struct Printed {
    /// All of it.
    pub text: String,
    /// The end.
    pub exit: Exit,
}

/// Prints it.
pub fn printed(out: &mut dyn Write, printed: &Printed) -> Exit {
    let written = answer(out, &printed.text);
    if written == Exit::Clean { printed.exit } else { written }
}

/// Says why there is no answer, and ends with `exit`.
pub fn complain(err: &mut dyn Write, text: &str, exit: Exit) -> Exit {
    // The exit code still tells when standard error is gone too.
    let _unheard: io::Result<()> = writeln!(err, "{}", text.trim_end());
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure_and_a_full_disk_is() {
        assert_eq!(answer(&mut Failing(ErrorKind::BrokenPipe), "x"), Exit::Clean);
        assert_eq!(answer(&mut Failing(ErrorKind::StorageFull), "x"), Exit::Failed);
    }

    #[test]
    fn a_complaint_ends_with_one_line_break_and_its_code() {
        let mut err = Vec::new();
        assert_eq!(complain(&mut err, "no\n", Exit::Configuration), Exit::Configuration);
        assert_eq!(err, b"no\n");
    }
}
