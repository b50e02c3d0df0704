//! Reading a pipeline file, with every problem of it reported at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use millstream_core::pipeline::{Plan, load};

use super::exit::Exit;

#[derive(Clone, Debug, Args)]
pub struct FileArgument {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl FileArgument {
    /// The plan; or the exit code, after the problems were printed to stderr as `file:line:column: ...`.
    pub fn load(&self) -> Result<Arc<Plan>, Exit> {
        load_file(&self.file).map(Arc::new)
    }
}

fn load_file(path: &Path) -> Result<Plan, Exit> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| {
        eprintln!("{shown}: cannot be read: {error}");
        Exit::BadFile
    })?;
    let text = String::from_utf8(text).map_err(|error| {
        eprintln!("{shown}: not UTF-8 from byte {} on", error.utf8_error().valid_up_to());
        Exit::BadFile
    })?;
    load(&text, &variable).map_err(|problems| {
        for problem in &problems {
            eprintln!("{shown}:{problem}");
        }
        let count = problems.len();
        eprintln!("{shown}: {count} problem{}", if count == 1 { "" } else { "s" });
        Exit::BadFile
    })
}

/// `NAME` from the environment, or the content of the file that `NAME_FILE` names, without its last newline.
fn variable(name: &str) -> Option<String> {
    if let Ok(value) = std::env::var(name) {
        return Some(value);
    }
    let path = std::env::var(format!("{name}_FILE")).ok()?;
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}
