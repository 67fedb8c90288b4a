//! Reports: from a result file, and from nothing else.
//!
//! Everything that came from a cluster, names and error texts, is escaped for the form it goes into.

mod beside;
pub mod choose;
pub mod figures;
mod markdown;
mod matrix;
mod schema;
mod table;
mod why;

pub use beside::beside;
pub use markdown::markdown;
pub use matrix::matrix;
pub use schema::{SCHEMA_FILE, schema};
pub use table::table;

use inroads_harness::run::{Run, SCHEMA_VERSION};

/// A result file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not JSON, or not a result file.
    #[error("it is no result file of Inroads: {0}")]
    Foreign(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error(
        "it has schema version {0}, and this program reads up to {SCHEMA_VERSION}\n(hint: use the program that wrote it, or a newer one)"
    )]
    TooNew(u64),
}

/// Reads a result file.
///
/// # Errors
/// [`ReadError`], with the place inside the file where it is not what it should be.
pub fn read(text: &str) -> Result<Run, ReadError> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    match value
        .get("schema_version")
        .and_then(serde_json::Value::as_u64)
    {
        Some(version) if version > u64::from(SCHEMA_VERSION) => Err(ReadError::TooNew(version)),
        _ => Ok(serde_json::from_str(text)?),
    }
}
