//! Reports: from a result file, and from nothing else.
//!
//! Everything that came from a cluster, names and error texts, is escaped for the form it goes into.

mod again;
mod bencher;
mod benchmark_action;
mod beside;
pub mod choose;
mod comparison;
mod csv;
mod escape;
pub mod figures;
mod html;
mod junit;
mod markdown;
mod matrix;
mod openmetrics;
mod read;
mod schema;
mod table;
mod why;

pub use self::csv::csv;
pub use bencher::bencher;
pub use benchmark_action::{Direction, benchmark_action};
pub use beside::beside;
pub use comparison::comparison;
pub use html::html;
pub use junit::junit;
pub use markdown::{MARKDOWN_LIMIT, markdown};
pub use matrix::matrix;
pub use openmetrics::openmetrics;
pub use read::{ReadError, read};
pub use schema::{SCHEMA_FILE, schema};
pub use table::table;
