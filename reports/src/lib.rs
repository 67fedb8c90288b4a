//! Reports: from a result file, and from nothing else.
//!
//! Everything that came from a cluster, names and error texts, is escaped for the form it goes into.

mod beside;
mod comparison;
mod escape;
pub mod figures;
mod markdown;
mod matrix;
mod read;
mod schema;
mod table;
mod why;

pub use beside::beside;
pub use comparison::comparison;
pub use markdown::{MARKDOWN_LIMIT, markdown};
pub use matrix::matrix;
pub use read::{ReadError, read};
pub use schema::{SCHEMA_FILE, schema};
pub use table::table;
