//! Reading a result file: one that was cut off, edited, of another version or of another program is told apart, with the
//! place inside the file that is wrong.

mod sense;

use inroads_harness::run::{Run, SCHEMA_VERSION};
use serde::Deserialize;

use crate::escape::terminal;

/// A result file could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is nothing in it.
    #[error("it is empty\n(hint: the run ended before it could save anything; run it again)")]
    Empty,
    /// It is no text.
    #[error("it is not UTF-8, from byte {0} on\n{NAME_A_RUN}")]
    NotText(usize),
    /// It ends in the middle.
    #[error(
        "it is cut off: the JSON ends in the middle, at line {line}, column {column}\n\
         (hint: copy the file again, or take the one in the run's own folder)"
    )]
    CutOff {
        /// The last line, from 1.
        line: usize,
        /// The last column, in bytes from 1.
        column: usize,
    },
    /// It is not JSON.
    #[error("it is not JSON: {0}\n{NAME_A_RUN}")]
    NotJson(String),
    /// It is JSON, and of another program.
    #[error("it is JSON and no result file of Inroads: {0}\n{NAME_A_RUN}")]
    Foreign(&'static str),
    /// Its version is none that there ever was.
    #[error("`schema_version` is {0}, and the first version is 1\n{NAME_A_RUN}")]
    NoVersion(String),
    /// A newer program wrote it.
    #[error(
        "it has schema version {0}, and this program reads up to {SCHEMA_VERSION}\n\
         (hint: use the program that wrote it, or a newer one)"
    )]
    TooNew(u64),
    /// A field is missing, or is not what it should be.
    #[error("{place}{what}, at line {line}, column {column}\n{EDITED}")]
    Shape {
        /// The field, as a path in backticks with a colon behind; empty for the whole file.
        place: String,
        /// What is wrong with it.
        what: String,
        /// Where that is, from 1.
        line: usize,
        /// Where in the line, in bytes from 1.
        column: usize,
    },
    /// Every field is well formed, and they do not go together.
    #[error("`{place}`: {what}\n{EDITED}")]
    Sense {
        /// The field, as a path.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

const NAME_A_RUN: &str = "(hint: name a run's folder, `runs/ID`, or its run.json)";

const EDITED: &str = "(hint: the file was changed after the run, or damaged; take the original, or run the run's command again)";

/// The one field that is read before all others.
#[derive(Deserialize)]
struct Header {
    schema_version: Option<serde_json::Value>,
}

/// Reads a result file. A run that was interrupted reads like any other, and fields that are not known are passed over.
///
/// # Errors
/// [`ReadError`], with the place inside the file where it is not what it should be.
pub fn read(file: impl AsRef<[u8]>) -> Result<Run, ReadError> {
    let text = match std::str::from_utf8(file.as_ref()) {
        Ok(text) => text,
        // Cut off within a character: what is before it says so.
        Err(error) if error.error_len().is_none() => {
            let whole = file.as_ref().get(..error.valid_up_to());
            std::str::from_utf8(whole.unwrap_or_default()).unwrap_or_default()
        }
        Err(error) => return Err(ReadError::NotText(error.valid_up_to())),
    };
    if text.trim().is_empty() {
        return Err(ReadError::Empty);
    }
    // Some editors put a mark of their own in front.
    let text = text.trim_start_matches('\u{feff}');
    let version = version(text)?;
    match version.as_ref().map(serde_json::Value::as_u64) {
        None => return Err(ReadError::Foreign("it has no `schema_version`")),
        Some(None | Some(0)) => {
            let version = version.map(|it| it.to_string()).unwrap_or_default();
            return Err(ReadError::NoVersion(terminal(&version)));
        }
        Some(Some(version)) if version > u64::from(SCHEMA_VERSION) => {
            return Err(ReadError::TooNew(version));
        }
        Some(Some(_)) => {}
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let run = serde_path_to_error::deserialize(&mut json).map_err(|error| shape(&error))?;
    sense::check(&run)?;
    Ok(run)
}

/// The file's version, if it has one. A list is told apart first: it would be read as the fields in their order.
fn version(text: &str) -> Result<Option<serde_json::Value>, ReadError> {
    if text.trim_start().starts_with('{') {
        let header = serde_json::from_str::<Header>(text);
        return Ok(header.map_err(|error| not_json(&error))?.schema_version);
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| not_json(&error))?;
    Err(ReadError::Foreign("it is no object"))
}

fn not_json(error: &serde_json::Error) -> ReadError {
    let (line, column) = (error.line(), error.column());
    if error.is_eof() {
        ReadError::CutOff { line, column }
    } else {
        ReadError::NotJson(terminal(&error.to_string()))
    }
}

fn shape(error: &serde_path_to_error::Error<serde_json::Error>) -> ReadError {
    let path = error.path().to_string();
    let (line, column) = (error.inner().line(), error.inner().column());
    // The place stands elsewhere in the message; what a field's own type says may have a hint of its own.
    let what = error.inner().to_string();
    let what = what.trim_end_matches(&format!(" at line {line} column {column}"));
    let what = what.split("\n(hint: ").next().unwrap_or_default();
    ReadError::Shape {
        place: match path.as_str() {
            "." => String::new(),
            path => format!("`{}`: ", terminal(path)),
        },
        what: terminal(what),
        line,
        column,
    }
}
