//! The commit protocol, as decisions.
//!
//! Owns what a task does about the offsets and identities that were read: how it starts, and how an epoch ends whose
//! outcome is unknown. Must never act: facts go in, an enum comes out, `runtime` carries it out. Every arm has a test
//! row beside its function.

mod permit;
mod refusal;
mod resume;
mod take;

pub use permit::CommitPermit;
pub use refusal::{Refusal, RefusalCode};
pub use resume::{Attempt, Resume, Witness, resume};
pub use take::{Local, Observed, Progress, Take, TaskStart, take};
