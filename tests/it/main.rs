//! Tests against the real servers that `./dev up` starts: one binary, a module for each subject.
#![allow(
    clippy::disallowed_methods,
    reason = "real servers need fresh names and real deadlines; tidy bans sleeps"
)]

mod bad_records;
mod bites;
mod cli;
mod generate;
mod instances;
mod kafka;
mod postgres;
mod refusals;
mod release;
mod sessions;
mod tidy;
