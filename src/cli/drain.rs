//! `millstream drain`

use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Args;

use crate::clock::Deadline;
use crate::runtime::RuntimeError;
use crate::state::{Drain, DrainRequest, StateError};

use super::exit::Exit;
use super::output::answer;
use super::state_dir::StateDirArgument;

const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
#[command(after_help = "\
The instance that runs with this state directory finishes its epoch, leaves its consumer group, so that the others have
its partitions at once, and ends with 0. A plain SIGTERM keeps the membership instead, for a restart.

Exit codes:
  0 it has left    1 no instance runs there    75 it has not left in time, or died before")]
pub struct DrainArguments {
    #[command(flatten)]
    state: StateDirArgument,
    /// How long to wait for it
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    timeout: u64,
}

/// Asks by a file in the state directory, and waits for the answer.
pub fn drain(arguments: &DrainArguments) -> Exit {
    match ask(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("{error}");
            Exit::of_error(&RuntimeError::from(error))
        }
    }
}

fn ask(arguments: &DrainArguments) -> Result<Exit, StateError> {
    let dir = arguments.state.state_dir.display();
    let Some(request) = DrainRequest::make(&arguments.state.state_dir)? else {
        eprintln!(
            "no instance runs with state directory {dir}; one that was stopped leaves the group by itself once its \
             session times out"
        );
        return Ok(Exit::Negative);
    };
    let deadline = Deadline::after(Duration::from_secs(arguments.timeout));
    // Why: only the file tells, and nobody can be told of it; this is a wait that nothing ends but its time.
    let (_quiet, wait) = channel::<()>();
    while !deadline.passed() {
        match request.look()? {
            Drain::Asked => drop(wait.recv_timeout(LOOK_EVERY)),
            Drain::Done => return Ok(answer("left the group", Exit::Ok)),
            Drain::Gone => {
                eprintln!("the instance with state directory {dir} ended before it left the group");
                return Ok(Exit::TryAgain);
            }
        }
    }
    request.withdraw()?;
    eprintln!("the instance with state directory {dir} has not left within {} s", arguments.timeout);
    Ok(Exit::TryAgain)
}
