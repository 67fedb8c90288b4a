//! The JSON Schema of the result file, generated from the types that write it.

use inroads_harness::run::Run;

/// Where the schema is kept in the repository, from this crate's folder. A test compares.
pub const SCHEMA_FILE: &str = "schema/run-v1.json";

/// The JSON Schema (2020-12) of a result file.
///
/// # Panics
/// Never: a schema is plain data.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Run);
    serde_json::to_string_pretty(&schema).expect("a schema is plain data") + "\n"
}
