//! Tests against the real servers that `./dev up` starts: one binary, a module for each subject.

mod bad_records;
mod cli;
mod kafka;
mod postgres;
mod tidy;
