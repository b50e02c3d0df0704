//! The pipeline file: `raw` (as typed, with positions) -> `check` (all problems at once) -> `plan`.
//!
//! Owns the language of the file: which keys there are (`keys`, the one table that both the check and the JSON Schema
//! read), what names may look like, the meaning of every value, and what a plan's identity is (`canonical`). It must
//! never read a file, the environment or a clock: text and variables are handed in. It must never panic on any text.
//! Text becomes a tree of marked nodes (`raw`), variables are replaced in it (`variables`), every part is checked
//! against the table and the other parts, and what is left is a `Plan` in which nothing is optional that the file
//! could leave out. Tested beside each part, and as a whole in `tests.rs` on `fixtures/` with known problems and on
//! mutated files.

mod aggregate;
mod call;
mod canonical;
mod check;
mod connection;
mod expression;
mod keys;
mod latest;
mod locate;
mod names;
mod open;
mod plan;
mod problem;
mod raw;
mod record;
mod record_table;
mod repartition;
mod scalar;
mod schema;
mod session;
mod source;
mod test_case;
#[cfg(test)]
mod tests;
mod variables;

pub use plan::*;
pub use problem::{MAX_PROBLEMS, Problem};
pub use raw::{MAX_DEPTH, MAX_FILE_BYTES};
pub use schema::json_schema;

use problem::Problems;
use raw::Item;

/// The plan of a pipeline file, or all its problems in the order of the file.
///
/// `environment` resolves `${VAR}`; `None`: not set. A secret may also come as a file: where `NAME` is not set and
/// `NAME_FILE` is, the caller's closure answers with that file's content, less its final line break.
pub fn load(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Vec<Problem>> {
    let mut problems = Problems::new(text);
    let mut before = usize::MAX;
    let plan = raw::parse(text, &mut problems).and_then(|mut root| {
        variables::replace(&mut root, "", environment, &mut problems);
        before = problems.len();
        check::check(&Item::root(&root), &mut problems)
    });
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(problems.into_sorted(before)),
    }
}
