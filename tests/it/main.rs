//! Tests against the real servers that `./dev up` starts: one binary, a module for each subject.

mod kafka;
mod postgres;
mod refusals;
mod tidy;
