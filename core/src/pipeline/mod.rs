//! The pipeline file: `raw` (as typed, with positions) -> `check` (all problems at once) -> `plan`.

mod plan;

pub use plan::*;
