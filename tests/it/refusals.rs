//! The handbook of refusals is complete: every code has a heading of its own, and nothing else has one.

use std::collections::BTreeSet;

use millstream_core::commit::RefusalCode;

#[test]
fn every_refusal_has_a_heading_and_every_heading_a_refusal() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/refusals.md");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let headings: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let codes: BTreeSet<&str> = RefusalCode::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(headings, codes);
}
