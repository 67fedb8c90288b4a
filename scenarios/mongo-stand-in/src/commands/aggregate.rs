//! `aggregate`, as far as drivers use it to count: `$match`, `$sort`, `$skip`, `$limit`, `$count`, and `$group`
//! with sums. Other stages are refused.

use bson::{Bson, Document, doc};

use super::{Request, reads, wrong_type};
use crate::error::{Code, CommandError, Outcome};
use crate::filter::{Filter, values_at};
use crate::store::{Stored, read};
use crate::value::{compare, equal, integer, number};

/// The most documents of an answer: it is one batch.
const MOST: usize = 10_000;

pub(super) async fn aggregate(request: &Request<'_>) -> Outcome {
    let namespace = request.namespace()?;
    let pipeline = request.command.get_array("pipeline");
    let pipeline = pipeline.or(Err(wrong_type("pipeline", "an array of stages")))?;
    let stages: Result<Vec<(&str, &Bson)>, CommandError> = pipeline.iter().map(stage).collect();
    let stages = stages?;
    let mut stages = stages.as_slice();
    // A query in front is what finds documents; all else works on them.
    let mut filter = Filter::default();
    if let [("$match", query), rest @ ..] = stages {
        filter = Filter::parse(document("$match", query)?)?;
        stages = rest;
    }
    reads::consistent(request, |state| {
        let mut documents = state.store.select(&namespace, &filter, usize::MAX);
        for (name, argument) in stages {
            documents = carry_out(name, argument, documents)?;
        }
        if documents.len() > MOST {
            let message = format!("this stand-in answers with at most {MOST} documents here");
            return Err(Code::ExceededMemoryLimit.because(message));
        }
        let batch = documents.iter().map(|stored| Bson::Document(read(stored)));
        let batch: Vec<Bson> = batch.collect();
        Ok(doc! { "cursor": { "firstBatch": batch, "id": 0i64, "ns": &namespace } })
    })
    .await
}

fn stage(stage: &Bson) -> Result<(&str, &Bson), CommandError> {
    let stage = stage.as_document().filter(|stage| stage.len() == 1);
    let stage = stage.and_then(|stage| stage.iter().next());
    stage
        .map(|(name, argument)| (name.as_str(), argument))
        .ok_or_else(|| wrong_type("pipeline", "an array of documents with one field each"))
}

fn carry_out(
    name: &str,
    argument: &Bson,
    documents: Vec<Stored>,
) -> Result<Vec<Stored>, CommandError> {
    let count = || {
        let count = integer(argument).and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| wrong_type(name, "a whole number that is not negative"))
    };
    Ok(match name {
        "$match" => {
            let filter = Filter::parse(document(name, argument)?)?;
            let matches = |stored: &Stored| filter.matches(&read(stored));
            documents.into_iter().filter(matches).collect()
        }
        "$sort" => reads::sorted(documents, document(name, argument)?)?,
        "$skip" => documents.into_iter().skip(count()?).collect(),
        "$limit" => documents.into_iter().take(count()?).collect(),
        "$count" => {
            let field = argument
                .as_str()
                .ok_or_else(|| wrong_type(name, "a name"))?;
            match i64::try_from(documents.len()) {
                Ok(0) => Vec::new(),
                counted => vec![encode(&doc! { field: counted.unwrap_or(i64::MAX) })?],
            }
        }
        "$group" => group(document(name, argument)?, &documents)?,
        _ => {
            let message = format!("unrecognized pipeline stage name: '{name}'");
            return Err(Code::UnrecognizedStage.because(message));
        }
    })
}

/// Sums by group: `_id` is a field's path or a value, and so is what is added up.
fn group(spec: &Document, documents: &[Stored]) -> Result<Vec<Stored>, CommandError> {
    let mut sums = Vec::new();
    for (field, sum) in spec.iter().filter(|(field, _)| *field != "_id") {
        let added = sum.as_document().filter(|sum| sum.len() == 1);
        let added = added
            .and_then(|sum| sum.get("$sum"))
            .ok_or_else(|| Code::BadValue.because("this stand-in knows $sum alone in a $group"))?;
        sums.push((field, expression(added)?));
    }
    let id = spec
        .get("_id")
        .ok_or_else(|| Code::BadValue.because("a group specification must include an _id"))?;
    let id = expression(id)?;
    let mut groups: Vec<(Bson, Vec<Bson>)> = Vec::new();
    for stored in documents {
        let document = read(stored);
        let key = id.of(&document);
        let place = groups.binary_search_by(|(group, _)| compare(group, &key));
        let place = place.unwrap_or_else(|place| {
            groups.insert(place, (key.clone(), vec![Bson::Int32(0); sums.len()]));
            place
        });
        debug_assert!(equal(&groups[place].0, &key));
        for (total, (_, added)) in groups[place].1.iter_mut().zip(&sums) {
            *total = sum(total, &added.of(&document));
        }
    }
    groups
        .into_iter()
        .map(|(key, totals)| {
            let mut document = doc! { "_id": key };
            for ((field, _), total) in sums.iter().zip(totals) {
                document.insert(field.as_str(), total);
            }
            encode(&document)
        })
        .collect()
}

/// A path or a value.
enum Expression<'a> {
    Path(&'a str),
    Value(&'a Bson),
}

fn expression(value: &Bson) -> Result<Expression<'_>, CommandError> {
    match value {
        Bson::String(text) if text.starts_with("$$") => Err(unknown()),
        Bson::String(text) => match text.strip_prefix('$') {
            Some(path) => Ok(Expression::Path(path)),
            None => Ok(Expression::Value(value)),
        },
        Bson::Document(_) | Bson::Array(_) => Err(unknown()),
        value => Ok(Expression::Value(value)),
    }
}

fn unknown() -> CommandError {
    Code::BadValue.because("this stand-in knows paths and plain values as expressions")
}

impl Expression<'_> {
    fn of(&self, document: &Document) -> Bson {
        match self {
            Self::Path(path) => {
                let first = values_at(document, path).first().copied().cloned();
                first.unwrap_or_default()
            }
            Self::Value(value) => (*value).clone(),
        }
    }
}

/// What is no number adds nothing.
fn sum(total: &Bson, added: &Bson) -> Bson {
    if let (Some(a), Some(b)) = (integer(total), integer(added))
        && let (false, Some(sum)) = (matches!(added, Bson::Double(_)), a.checked_add(b))
    {
        return match i32::try_from(sum) {
            Ok(sum) => Bson::Int32(sum),
            Err(_) => Bson::Int64(sum),
        };
    }
    match (number(total), number(added)) {
        (Some(a), Some(b)) => Bson::Double(a + b),
        _ => total.clone(),
    }
}

fn document<'a>(name: &str, argument: &'a Bson) -> Result<&'a Document, CommandError> {
    argument
        .as_document()
        .ok_or_else(|| wrong_type(name, "a document"))
}

fn encode(document: &Document) -> Result<Stored, CommandError> {
    let bytes = document.to_vec();
    let bytes = bytes.map_err(|error| Code::BadValue.because(error.to_string()))?;
    Ok(Stored::new(bytes))
}
