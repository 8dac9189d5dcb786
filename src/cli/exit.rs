//! How the program ends, for those who only see its exit code.

use std::process::ExitCode;

/// Exit codes; the numbers from 64 on are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: a clean stop, or the answer was given.
    Clean,
    /// 1: anything without a code of its own.
    Failed,
    /// 64: the command line is wrong.
    Usage,
    /// 69: a program that is needed (Xvfb, Chromium, x11vnc) is missing.
    ProgramMissing,
    /// 70: the configuration's own session could not be put together or, where the daemon ends with it, did not get ready or was
    /// lost.
    SessionFailed,
    /// 75: another daemon already works on this state directory; trying later may help.
    AlreadyRunning,
    /// 78: the configuration is wrong; starting again will not help.
    Configuration,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::ProgramMissing => 69,
            Self::SessionFailed => 70,
            Self::AlreadyRunning => 75,
            Self::Configuration => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
