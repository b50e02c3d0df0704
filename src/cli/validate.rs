//! `millstream validate`

use clap::Args;

use super::exit::Exit;
use super::file::FileArgument;
use super::output::{answer, plural};

#[derive(Debug, Args)]
#[command(after_help = "\
Needs no server. Problems go to stderr as FILE:LINE:COLUMN, all of them at once, and make the exit code 78.
What a valid file means is shown by `millstream plan`.")]
pub struct ValidateArguments {
    #[command(flatten)]
    file: FileArgument,
}

/// Says that a file is valid, or what is wrong with it.
pub fn validate(arguments: &ValidateArguments) -> Exit {
    let plan = match arguments.file.load() {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    let text = format!(
        "{}: valid: {}, {}, {}, {}",
        arguments.file.file.display(),
        plural(plan.sources.len(), "source"),
        plural(plan.aggregates.len(), "aggregate"),
        plural(plan.records.len() + plan.record_tables.len(), "record output"),
        plural(plan.tests.len(), "test"),
    );
    answer(&text, Exit::Ok)
}
