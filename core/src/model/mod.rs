//! The nouns every other module speaks in.
//!
//! Owns the newtypes for positions, epochs and times, the values of a row, and the reasons a record can be dead.
//! Never holds behaviour that needs a pipeline: that is what the modules below are for.

mod dead;
mod inet;
mod position;
mod recovery;
mod time;
mod value;

pub use dead::{Dead, DeadReason};
pub use inet::canonical_inet;
pub use position::{Epoch, Fingerprint, Offset, OwnerEpoch, Partition, RollingHash, TopicPartition};
pub use recovery::Recovery;
pub use time::{EventTime, SessionSpan, Span, WindowSpan};
pub use value::{DataType, Date, Row, Value};
