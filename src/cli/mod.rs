//! The command line: one file per command.
//!
//! Owns what a person types and what the program answers: arguments, the tables and JSON on stdout, logs on stderr,
//! exit codes. Must never decide about records or offsets. Tested by `tests/it/cli.rs` with the real binary.

mod doctor;
mod drain;
mod exit;
mod file;
mod generate;
mod healthcheck;
mod heap;
pub mod logging;
mod output;
mod plan;
mod progress;
mod report;
mod run;
mod schema;
mod state_dir;
mod status;
mod test;
mod try_file;
mod validate;
mod warnings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::Exit;

/// A durable exactly-once stream processor: Kafka in; windows in RocksDB; results in PostgreSQL and Kafka.
///
/// Write a pipeline file, look at what it means with `plan`, try it on a file of events with `try`, and run it.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, max_term_width = 110, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0 ok                      69 a dependency was unreachable     75 try again
  1 negative answer         70 internal error                   77 refused by a server
  2 wrong usage             74 local disk                       78 bad pipeline file
  65 data policy

Logs go to stderr (MILLSTREAM_LOG=debug for more), answers to stdout.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline: read its topics and keep its outputs exactly once.
    Run(run::RunArguments),
    /// Check a pipeline file and report every problem with its position.
    Validate(validate::ValidateArguments),
    /// Show what a pipeline file means: sources, windows, tables, topics.
    Plan(plan::PlanArguments),
    /// Run the tests that stand in a pipeline file; needs no server.
    Test(test::TestArguments),
    /// Run the whole engine on a file of events and print the tables; needs no server.
    Try(try_file::TryArguments),
    /// Make events at any rate, with late, repeated and bad ones, into a topic or a file.
    Generate(Box<generate::GenerateArguments>),
    /// Show where a running or stopped pipeline stands.
    Status(status::StatusArguments),
    /// Look for what is wrong with a pipeline's servers, topics and records, and say what to do.
    Doctor(doctor::DoctorArguments),
    /// Let the instance of a state directory leave its group and end; its partitions move at once.
    Drain(drain::DrainArguments),
    /// Print the JSON Schema of the pipeline file, for editors.
    Schema(schema::SchemaArguments),
    /// Ask a running instance whether it is ready; for container health checks.
    Healthcheck(healthcheck::HealthcheckArguments),
    /// Print the names of all crash points.
    #[cfg(feature = "fault")]
    FaultPoints,
}

/// Runs the program.
pub fn main() -> ExitCode {
    crate::fault::arm();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let failed = error.use_stderr();
            // Why: a closed pipe is no reason to fail.
            let _ = error.print();
            return if failed { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let exit = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Validate(arguments) => validate::validate(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Try(arguments) => try_file::try_file(&arguments),
        Command::Generate(arguments) => generate::generate(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Drain(arguments) => drain::drain(&arguments),
        Command::Schema(arguments) => schema::schema(&arguments),
        Command::Healthcheck(arguments) => healthcheck::healthcheck(&arguments),
        #[cfg(feature = "fault")]
        Command::FaultPoints => {
            for point in crate::fault::Point::ALL {
                println!("{}", point.name());
            }
            Exit::Ok
        }
    };
    exit.into()
}
