//! Field selectors: `status.phase=Running,metadata.name!=web-0`.

use std::str::FromStr;

use serde_json::Value;

use crate::apiserver::registry::Resource;

/// What can be wrong with a field selector.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("invalid selector: '{term}'; can't understand '{term}'")]
    Term { term: String },
    #[error("field label not supported: {field}")]
    Unsupported { field: String },
}

/// Fields that must all have, or not have, a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FieldSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|requirement| {
            (read(object, &requirement.field) == requirement.value) == requirement.equal
        })
    }

    /// Refuses the fields by which `resource` cannot be selected.
    pub(crate) fn supported_by(self, resource: &Resource) -> Result<Self, Error> {
        let known = |field: &str| {
            matches!(field, "metadata.name" | "metadata.namespace")
                || resource.selectable.contains(&field)
        };
        match self.0.iter().find(|requirement| !known(&requirement.field)) {
            Some(unknown) => Err(Error::Unsupported {
                field: unknown.field.clone(),
            }),
            None => Ok(self),
        }
    }

    /// The one name that can match, if the selector says so.
    pub(crate) fn name(&self) -> Option<&str> {
        let named =
            |requirement: &&Requirement| requirement.equal && requirement.field == "metadata.name";
        self.0
            .iter()
            .find(named)
            .map(|requirement| requirement.value.as_str())
    }
}

impl FromStr for FieldSelector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let terms = split_unescaped(text)
            .into_iter()
            .filter(|term| !term.is_empty());
        Ok(Self(terms.map(requirement).collect::<Result<_, _>>()?))
    }
}

fn requirement(term: &str) -> Result<Requirement, Error> {
    let operators = [("!=", false), ("==", true), ("=", true)];
    let found = operators
        .iter()
        .filter_map(|(operator, equal)| Some((term.find(operator)?, operator.len(), *equal)))
        .min_by_key(|(position, length, _)| (*position, std::cmp::Reverse(*length)));
    let Some((position, length, equal)) = found else {
        return Err(Error::Term {
            term: term.to_owned(),
        });
    };
    let field = term[..position].trim().to_owned();
    Ok(Requirement {
        field,
        equal,
        value: unescape(&term[position + length..]),
    })
}

/// Splits at commas that no backslash escapes.
fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (position, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        let literal = if character == '\\' {
            characters.next()
        } else {
            Some(character)
        };
        plain.extend(literal);
    }
    plain
}

/// The field's value as a selector compares it; what is not there is empty.
fn read(object: &Value, field: &str) -> String {
    let path = match field {
        "source" => "source.component",
        "reportingComponent" if object.get(field).is_none() => "source.component",
        field => field,
    };
    let value = path
        .split('.')
        .try_fold(object, |value, step| value.get(step));
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None if matches!(field, "spec.unschedulable" | "spec.hostNetwork") => {
            "false".to_owned()
        }
        Some(Value::Null) | None => String::new(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn matches(selector: &str, object: &Value) -> bool {
        selector.parse::<FieldSelector>().unwrap().matches(object)
    }

    #[test]
    fn fields_are_compared_as_text_and_what_is_missing_is_empty() {
        let pod = json!({
            "metadata": {"name": "web-0"},
            "spec": {"nodeName": "worker-1", "unschedulable": true},
            "status": {"phase": "Running", "replicas": 3},
        });
        assert!(matches("", &pod));
        assert!(matches("metadata.name=web-0,status.phase!=Failed", &pod));
        assert!(matches("spec.nodeName==worker-1", &pod));
        assert!(!matches("spec.nodeName=", &pod));
        assert!(matches("spec.nodeName=", &json!({"spec": {}})));
        assert!(matches("status.replicas=3", &pod));
        assert!(matches("spec.unschedulable=true", &pod));
        assert!(matches("spec.unschedulable=false", &json!({})));
        assert!(matches(r"reason=a\,b\=c", &json!({"reason": "a,b=c"})));
    }

    #[test]
    fn a_term_without_an_operator_is_refused() {
        let error = "metadata.name".parse::<FieldSelector>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
    }

    proptest! {
        #[test]
        fn escaped_values_come_back_as_they_were(value in r"[a-z,=\\]{0,8}") {
            let escaped: String = value
                .chars()
                .flat_map(|c| ",=\\".contains(c).then_some('\\').into_iter().chain([c]))
                .collect();
            let (selector, object) = (format!("reason={escaped}"), json!({"reason": value}));
            prop_assert!(matches(&selector, &object));
        }
    }
}
