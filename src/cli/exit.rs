//! Exit codes, and which error means which.

use std::process::ExitCode;

use millstream_core::model::Recovery;

use crate::runtime::{Halt, RuntimeError};

/// The codes of sysexits.h, as far as they fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// The answer is no: a test failed, an instance is not ready.
    Negative = 1,
    Usage = 2,
    /// Records are dead, and the caller asked for that to fail.
    DataPolicy = 65,
    Unreachable = 69,
    Internal = 70,
    LocalDisk = 74,
    TryAgain = 75,
    RefusedByServer = 77,
    BadFile = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// The code for the end of a run.
    pub fn of_halt(halt: &Halt) -> Exit {
        match halt {
            Halt::Interrupted(_) => Exit::Ok,
            Halt::GaveUp { .. } => Exit::Unreachable,
            Halt::Duplicate(_) | Halt::AllStopped(_) => Exit::RefusedByServer,
            Halt::Panicked { .. } => Exit::Internal,
            Halt::Failed(error) => Exit::of_error(error),
        }
    }

    pub fn of_error(error: &RuntimeError) -> Exit {
        match (error, error.recovery()) {
            (RuntimeError::State(crate::state::StateError::InUse { .. }), _) => Exit::TryAgain,
            (RuntimeError::State(_) | RuntimeError::Store(_), _) => Exit::LocalDisk,
            (_, Recovery::Retry) => Exit::Unreachable,
            (_, Recovery::Fenced | Recovery::Corrupt | Recovery::Invalid) => Exit::RefusedByServer,
            (_, Recovery::RestartTask) => Exit::TryAgain,
        }
    }
}
