//! Paths to fields of an object, and what validation finds wrong at them.

use std::fmt::{self, Debug, Display};

use serde::Serialize;
use serde_json::{Value, json};

/// Where in an object something stands: `spec.containers[0].name`. A chain on the stack; it is only
/// written out when there is something to report.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub(crate) const fn new(field: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(field),
        }
    }

    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// An entry of a map: `data[some.key]`.
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Key(key),
        }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            Display::fmt(parent, f)?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_some_and(|parent| !parent.is_root()) => {
                write!(f, ".{name}")
            }
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl Path<'_> {
    /// The object itself: a path that is written as nothing.
    pub(crate) const ROOT: Path<'static> = Path::new("");

    /// The object's own `status`.
    pub(crate) fn is_status(&self) -> bool {
        self.parent.is_some_and(Path::is_root) && matches!(self.step, Step::Field("status"))
    }

    fn is_root(&self) -> bool {
        self.parent.is_none() && matches!(self.step, Step::Field(""))
    }
}

/// Shows a composite value in a [`Problem`] as JSON.
pub(crate) struct Json<'a, T>(pub(crate) &'a T);

impl<T: Serialize> Debug for Json<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(self.0).map_err(|_unprintable| fmt::Error)?;
        f.write_str(&json)
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    reason: &'static str,
    field: String,
    message: String,
}

impl Problem {
    /// As an entry of `Status.details.causes`.
    pub(crate) fn to_cause(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that validation found; empty means valid.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub(crate) fn required(&mut self, at: &Path<'_>, why: &str) {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        self.push("FieldValueRequired", at, message);
    }

    /// `value` is shown as it is written in Go: strings in quotes, numbers bare.
    pub(crate) fn invalid(&mut self, at: &Path<'_>, value: impl Debug, why: impl Display) {
        self.push(
            "FieldValueInvalid",
            at,
            format!("Invalid value: {value:?}: {why}"),
        );
    }

    pub(crate) fn not_supported(&mut self, at: &Path<'_>, value: &str, supported: &[&str]) {
        let supported: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message = format!(
            "Unsupported value: {value:?}: supported values: {}",
            supported.join(", ")
        );
        self.push("FieldValueNotSupported", at, message);
    }

    pub(crate) fn duplicate(&mut self, at: &Path<'_>, value: impl Debug) {
        self.push(
            "FieldValueDuplicate",
            at,
            format!("Duplicate value: {value:?}"),
        );
    }

    pub(crate) fn not_found(&mut self, at: &Path<'_>, value: impl Debug) {
        self.push("FieldValueNotFound", at, format!("Not found: {value:?}"));
    }

    pub(crate) fn forbidden(&mut self, at: &Path<'_>, why: impl Display) {
        self.push("FieldValueForbidden", at, format!("Forbidden: {why}"));
    }

    pub(crate) fn too_long(&mut self, at: &Path<'_>, limit: usize) {
        self.push(
            "FieldValueTooLong",
            at,
            format!("Too long: may not be more than {limit} bytes"),
        );
    }

    fn push(&mut self, reason: &'static str, at: &Path<'_>, message: String) {
        self.0.push(Problem {
            reason,
            field: at.to_string(),
            message,
        });
    }
}

/// `problem`, or `[problem, problem]`.
impl Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.0.as_slice() {
            return Display::fmt(problem, f);
        }
        let problems: Vec<_> = self.0.iter().map(Problem::to_string).collect();
        write!(f, "[{}]", problems.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_the_real_server_writes_it() {
        let spec = Path::new("spec");
        let containers = spec.field("containers");
        let first = containers.index(0);
        assert_eq!(first.field("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::new("data").key("a.b").to_string(), "data[a.b]");
        assert_eq!(Path::ROOT.field("spec").to_string(), "spec");
    }

    #[test]
    fn several_problems_stand_in_brackets() {
        let mut problems = Problems::default();
        problems.required(&Path::new("a"), "");
        assert_eq!(problems.to_string(), "a: Required value");
        problems.invalid(&Path::new("b"), 7, "must be less");
        problems.not_supported(&Path::new("c"), "x", &["y", "z"]);
        assert_eq!(
            problems.to_string(),
            "[a: Required value, b: Invalid value: 7: must be less, \
             c: Unsupported value: \"x\": supported values: \"y\", \"z\"]"
        );
    }
}
