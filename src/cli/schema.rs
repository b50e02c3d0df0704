//! `millstream schema`

use clap::Args;
use millstream_core::pipeline::json_schema;

use super::exit::Exit;
use super::output::answer_json;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  millstream schema > pipeline.schema.json
  # and as the first line of a pipeline file, for editors with the YAML language server:
  # yaml-language-server: $schema=pipeline.schema.json")]
pub struct SchemaArguments {}

/// Prints the schema.
pub fn schema(_: &SchemaArguments) -> Exit {
    answer_json(&json_schema(), Exit::Ok)
}
