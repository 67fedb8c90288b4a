//! Which documents a query selects. What is not understood is refused, never overlooked.

use std::cmp::Ordering;

use bson::{Bson, Document};

use crate::error::{Code, CommandError};
use crate::value::{comparable, compare, equal, integer};

/// A query, read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter(Vec<Condition>);

#[derive(Debug, Clone)]
enum Condition {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    None(Vec<Filter>),
    Field(String, Test),
}

#[derive(Debug, Clone)]
enum Test {
    Equal(Bson),
    In(Vec<Bson>),
    Order(Bson, fn(Ordering) -> bool),
    Exists(bool),
    Size(i64),
    Contains(Vec<Bson>),
    Remainder(i64, i64),
    Element(Filter),
    Not(Vec<Test>),
}

impl Filter {
    /// Reads a query.
    pub(crate) fn parse(query: &Document) -> Result<Self, CommandError> {
        let mut conditions = Vec::new();
        for (key, value) in query {
            match key.as_str() {
                "$and" => conditions.push(Condition::All(filters(key, value)?)),
                "$or" => conditions.push(Condition::Any(filters(key, value)?)),
                "$nor" => conditions.push(Condition::None(filters(key, value)?)),
                "$comment" => {}
                "" => return Err(Code::BadValue.because("a field has no name")),
                _ if key.starts_with('$') => {
                    let message = format!("unknown top level operator: {key}");
                    return Err(Code::BadValue.because(message));
                }
                _ => {
                    let tests = tests(value)?.into_iter();
                    conditions.extend(tests.map(|test| Condition::Field(key.clone(), test)));
                }
            }
        }
        Ok(Self(conditions))
    }

    /// Whether it selects `document`.
    pub(crate) fn matches(&self, document: &Document) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::All(filters) => filters.iter().all(|filter| filter.matches(document)),
            Condition::Any(filters) => filters.iter().any(|filter| filter.matches(document)),
            Condition::None(filters) => !filters.iter().any(|filter| filter.matches(document)),
            Condition::Field(path, test) => test.holds(&values_at(document, path)),
        })
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one `_id` that it selects, where it says so outright.
    pub(crate) fn id(&self) -> Option<&Bson> {
        self.0.iter().find_map(|condition| match condition {
            Condition::Field(path, Test::Equal(value))
                if path == "_id" && !matches!(value, Bson::Array(_) | Bson::Null) =>
            {
                Some(value)
            }
            _ => None,
        })
    }

    /// The fields that it wants equal to something: what an upsert begins with.
    pub(crate) fn equalities(&self) -> Document {
        let mut fields = Document::new();
        for condition in &self.0 {
            match condition {
                Condition::Field(path, Test::Equal(value)) => {
                    fields.insert(path, value.clone());
                }
                Condition::All(filters) => {
                    fields.extend(filters.iter().flat_map(Self::equalities));
                }
                _ => {}
            }
        }
        fields
    }
}

impl Test {
    /// Whether it holds of what stands at a path; nothing may stand there.
    fn holds(&self, found: &[&Bson]) -> bool {
        let any = |test: &dyn Fn(&Bson) -> bool| {
            found.iter().any(|value| {
                test(value) || matches!(value, Bson::Array(items) if items.iter().any(test))
            })
        };
        match self {
            Self::Equal(Bson::Null) => found.is_empty() || any(&|value| *value == Bson::Null),
            Self::Equal(wanted) => any(&|value| equal(value, wanted)),
            Self::In(wanted) => wanted
                .iter()
                .any(|wanted| Self::Equal(wanted.clone()).holds(found)),
            Self::Order(limit, holds) => {
                any(&|value| comparable(value, limit) && holds(compare(value, limit)))
            }
            Self::Exists(wanted) => found.is_empty() != *wanted,
            Self::Size(size) => found.iter().any(|value| {
                matches!(value, Bson::Array(items) if i64::try_from(items.len()) == Ok(*size))
            }),
            Self::Contains(all) => {
                !all.is_empty()
                    && all
                        .iter()
                        .all(|wanted| Self::Equal(wanted.clone()).holds(found))
            }
            Self::Remainder(divisor, rest) => {
                any(&|value| integer(value).is_some_and(|n| n.wrapping_rem(*divisor) == *rest))
            }
            Self::Element(filter) => found.iter().any(|value| match value {
                Bson::Array(items) => items.iter().any(
                    |item| matches!(item, Bson::Document(item) if filter.matches(item)),
                ),
                _ => false,
            }),
            Self::Not(tests) => !tests.iter().all(|test| test.holds(found)),
        }
    }
}

/// The values at a path with dots: fields of documents, of documents in arrays, or places in arrays.
pub(crate) fn values_at<'a>(document: &'a Document, path: &str) -> Vec<&'a Bson> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    match (document.get(first), rest) {
        (None, _) => Vec::new(),
        (Some(value), None) => vec![value],
        (Some(value), Some(rest)) => within(value, rest),
    }
}

fn within<'a>(value: &'a Bson, path: &str) -> Vec<&'a Bson> {
    match value {
        Bson::Document(inner) => values_at(inner, path),
        Bson::Array(items) => {
            let (first, rest) = path.split_once('.').unwrap_or((path, ""));
            let place = first.parse().ok().and_then(|index: usize| items.get(index));
            let at_place = place.map(|item| match rest {
                "" => vec![item],
                rest => within(item, rest),
            });
            let inside = items.iter().filter_map(|item| match item {
                Bson::Document(inner) => Some(values_at(inner, path)),
                _ => None,
            });
            at_place.into_iter().chain(inside).flatten().collect()
        }
        _ => Vec::new(),
    }
}

fn filters(key: &str, value: &Bson) -> Result<Vec<Filter>, CommandError> {
    let wrong = || Code::BadValue.because(format!("{key} must be a nonempty array of queries"));
    let Bson::Array(items) = value else {
        return Err(wrong());
    };
    if items.is_empty() {
        return Err(wrong());
    }
    let parse = |item: &Bson| Filter::parse(item.as_document().ok_or_else(wrong)?);
    items.iter().map(parse).collect()
}

/// What a field's condition asks: operators, or a value to be equal to.
fn tests(value: &Bson) -> Result<Vec<Test>, CommandError> {
    match value {
        Bson::Document(operators)
            if operators
                .keys()
                .next()
                .is_some_and(|key| key.starts_with('$')) =>
        {
            operators
                .iter()
                .map(|(key, value)| operator(key, value))
                .collect()
        }
        Bson::RegularExpression(_) => Err(no_expressions()),
        _ => Ok(vec![Test::Equal(value.clone())]),
    }
}

fn operator(key: &str, value: &Bson) -> Result<Test, CommandError> {
    let wrong = |what: &str| Code::BadValue.because(format!("{key} needs {what}"));
    let array = || value.as_array().cloned().ok_or_else(|| wrong("an array"));
    let whole = || integer(value).ok_or_else(|| wrong("a whole number"));
    Ok(match key {
        "$eq" => Test::Equal(value.clone()),
        "$ne" => Test::Not(vec![Test::Equal(value.clone())]),
        "$gt" => Test::Order(value.clone(), Ordering::is_gt),
        "$gte" => Test::Order(value.clone(), Ordering::is_ge),
        "$lt" => Test::Order(value.clone(), Ordering::is_lt),
        "$lte" => Test::Order(value.clone(), Ordering::is_le),
        "$in" => Test::In(array()?),
        "$nin" => Test::Not(vec![Test::In(array()?)]),
        "$all" => Test::Contains(array()?),
        "$exists" => Test::Exists(truth(value)),
        "$size" => Test::Size(whole()?),
        "$not" => Test::Not(tests(value)?),
        "$elemMatch" => {
            let inner = value.as_document().ok_or_else(|| wrong("a query"))?;
            Test::Element(Filter::parse(inner)?)
        }
        "$mod" => match array()?.as_slice() {
            [divisor, rest] => match (integer(divisor), integer(rest)) {
                (Some(divisor), Some(rest)) if divisor != 0 => Test::Remainder(divisor, rest),
                _ => return Err(wrong("a divisor other than 0 and a remainder")),
            },
            _ => return Err(wrong("a divisor and a remainder")),
        },
        "$regex" | "$options" => return Err(no_expressions()),
        _ => return Err(Code::BadValue.because(format!("unknown operator: {key}"))),
    })
}

fn no_expressions() -> CommandError {
    Code::BadValue.because("this stand-in does not know regular expressions")
}

/// What MongoDB takes for true.
pub(crate) fn truth(value: &Bson) -> bool {
    match value {
        Bson::Boolean(truth) => *truth,
        Bson::Null | Bson::Undefined => false,
        other => crate::value::number(other) != Some(0.0),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    /// Which of a few documents a query selects, by their `_id`.
    fn selected(query: &Document) -> Vec<i32> {
        let documents = [
            doc! { "_id": 1, "a": 1, "tags": ["x", "y"], "in": { "n": 5 } },
            doc! { "_id": 2, "a": 2.0, "tags": [], "list": [{ "n": 1 }, { "n": 7 }] },
            doc! { "_id": 3, "a": "2", "b": null },
        ];
        let filter = Filter::parse(query).unwrap();
        let matching = documents.iter().filter(|document| filter.matches(document));
        matching
            .map(|document| document.get_i32("_id").unwrap())
            .collect()
    }

    #[test]
    fn a_query_selects_what_mongodb_documents() {
        let cases = [
            (doc! {}, vec![1, 2, 3]),
            (doc! { "a": 2 }, vec![2]),
            (doc! { "a": { "$gt": 1 } }, vec![2]),
            (doc! { "a": { "$gte": 1, "$lt": 2 } }, vec![1]),
            (doc! { "a": { "$ne": 2 } }, vec![1, 3]),
            (doc! { "a": { "$in": [1, "2"] } }, vec![1, 3]),
            (doc! { "a": { "$nin": [1, "2"] } }, vec![2]),
            (doc! { "a": { "$not": { "$gt": 1 } } }, vec![1, 3]),
            (doc! { "tags": "x" }, vec![1]),
            (doc! { "tags": ["x", "y"] }, vec![1]),
            (doc! { "tags": { "$size": 0 } }, vec![2]),
            (doc! { "tags": { "$all": ["y", "x"] } }, vec![1]),
            (doc! { "in.n": 5 }, vec![1]),
            (doc! { "list.n": { "$gt": 5 } }, vec![2]),
            (doc! { "list.1.n": 7 }, vec![2]),
            (doc! { "list": { "$elemMatch": { "n": 1 } } }, vec![2]),
            (doc! { "b": null }, vec![1, 2, 3]),
            (doc! { "b": { "$exists": true } }, vec![3]),
            (doc! { "_id": { "$mod": [2, 1] } }, vec![1, 3]),
            (doc! { "$or": [{ "a": 1 }, { "a": "2" }] }, vec![1, 3]),
            (doc! { "$nor": [{ "a": 1 }, { "a": "2" }] }, vec![2]),
            (doc! { "$and": [{ "a": 1 }, { "tags": "y" }] }, vec![1]),
        ];
        for (query, expected) in cases {
            assert_eq!(selected(&query), expected, "{query}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for query in [
            doc! { "$where": "true" },
            doc! { "a": { "$near": 1 } },
            doc! { "a": { "$regex": "x" } },
            doc! { "$or": [] },
            doc! { "a": { "$mod": [0, 1] } },
            doc! { "a": { "$in": 1 } },
        ] {
            assert_eq!(
                Filter::parse(&query).unwrap_err().code,
                Code::BadValue,
                "{query}"
            );
        }
    }
}
