//! The state directory of an instance, as it is typed.

use std::path::PathBuf;

use clap::Args;

/// Which instance, on this machine.
#[derive(Clone, Debug, Args)]
pub struct StateDirArgument {
    /// Where this instance keeps its identity and its tasks' state; one directory, one instance
    #[arg(long, value_name = "DIR", default_value = "data/state", env = "MILLSTREAM_STATE_DIR")]
    pub state_dir: PathBuf,
}
