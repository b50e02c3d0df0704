//! Tests against the real servers that `./dev up` starts: one binary, a module for each subject.
#![allow(
    clippy::disallowed_methods,
    reason = "real servers need fresh names and real deadlines; tidy bans sleeps"
)]

mod awake;
mod bad_records;
mod bites;
mod cli;
mod doctor;
mod generate;
mod instances;
mod kafka;
mod postgres;
mod refusals;
mod release;
mod repartition;
mod sessions;
mod tidy;
