//! An error with what caused it, for readers who get no more than text.

use std::error::Error;

/// The error and its causes, one text each.
#[must_use]
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts
}

/// The same in one line.
#[must_use]
pub fn in_one_line(error: &dyn Error) -> String {
    causes(error).join(": ")
}
