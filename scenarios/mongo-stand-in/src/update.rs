//! What an update makes of a document. What is not understood is refused.

use bson::{Bson, Document};

use crate::error::{Code, CommandError};
use crate::value::{compare, equal, integer, number};

/// An update, read.
#[derive(Debug, Clone)]
pub(crate) enum Update {
    /// The whole document, but for its `_id`.
    Replacement(Document),
    /// Modifiers, each with the field it is for and its argument.
    Modifiers(Vec<(Modifier, String, Bson)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modifier {
    Set,
    SetOnInsert,
    Unset,
    Increment,
    Multiply,
    Least,
    Greatest,
    Push,
    Pull,
}

impl Update {
    /// Reads the `u` of an update statement.
    pub(crate) fn parse(update: &Bson) -> Result<Self, CommandError> {
        let Bson::Document(update) = update else {
            let message = "this stand-in knows updates by a document only, no pipelines";
            return Err(Code::FailedToParse.because(message));
        };
        if !update.keys().any(|key| key.starts_with('$')) {
            return Ok(Self::Replacement(update.clone()));
        }
        let mut modifiers = Vec::new();
        for (key, fields) in update {
            let modifier = modifier(key)?;
            let Bson::Document(fields) = fields else {
                let message = format!("modifiers operate on fields, but {key} has none");
                return Err(Code::FailedToParse.because(message));
            };
            for (path, argument) in fields {
                if path.split('.').any(str::is_empty) {
                    let message = format!("the field `{path}` has an empty name in it");
                    return Err(Code::BadValue.because(message));
                }
                modifiers.push((modifier, path.clone(), argument.clone()));
            }
        }
        Ok(Self::Modifiers(modifiers))
    }

    /// Whether it replaces whole documents.
    pub(crate) fn is_replacement(&self) -> bool {
        matches!(self, Self::Replacement(_))
    }

    /// What becomes of `document`; `inserted` where an upsert makes it.
    pub(crate) fn apply(
        &self,
        document: &Document,
        inserted: bool,
    ) -> Result<Document, CommandError> {
        let mut after = match self {
            Self::Replacement(replacement) => with_id(document.get("_id"), replacement),
            Self::Modifiers(modifiers) => {
                let mut after = document.clone();
                for (modifier, path, argument) in modifiers {
                    modify(&mut after, *modifier, path, argument, inserted)?;
                }
                after
            }
        };
        match (document.get("_id"), after.get("_id")) {
            (Some(before), Some(now)) if !equal(before, now) => {
                Err(Code::BadValue.because("the (immutable) field '_id' was altered"))
            }
            (Some(before), None) => {
                after = with_id(Some(before), &after);
                Ok(after)
            }
            _ => Ok(after),
        }
    }
}

/// `document` with `id` in front, where it has none of its own.
fn with_id(id: Option<&Bson>, document: &Document) -> Document {
    let own = document.get("_id").or(id);
    let id = own.map(|id| ("_id".to_owned(), id.clone()));
    let rest = document.iter().filter(|(key, _)| *key != "_id");
    id.into_iter()
        .chain(rest.map(|(key, value)| (key.clone(), value.clone())))
        .collect()
}

fn modifier(key: &str) -> Result<Modifier, CommandError> {
    Ok(match key {
        "$set" => Modifier::Set,
        "$setOnInsert" => Modifier::SetOnInsert,
        "$unset" => Modifier::Unset,
        "$inc" => Modifier::Increment,
        "$mul" => Modifier::Multiply,
        "$min" => Modifier::Least,
        "$max" => Modifier::Greatest,
        "$push" => Modifier::Push,
        "$pull" => Modifier::Pull,
        _ => {
            let message = format!("unknown modifier, or none that this stand-in knows: {key}");
            return Err(Code::FailedToParse.because(message));
        }
    })
}

fn modify(
    document: &mut Document,
    modifier: Modifier,
    path: &str,
    argument: &Bson,
    inserted: bool,
) -> Result<(), CommandError> {
    let Some((first, rest)) = path.split_once('.') else {
        return modify_here(document, modifier, path, argument, inserted);
    };
    match document.get_mut(first) {
        Some(Bson::Document(inner)) => modify(inner, modifier, rest, argument, inserted),
        Some(_) => Err(Code::BadValue.because(format!(
            "cannot create a field in `{first}`, which is no document \
             (places in arrays are more than this stand-in knows)"
        ))),
        None if matches!(modifier, Modifier::Unset | Modifier::Pull) => Ok(()),
        None => {
            let mut inner = Document::new();
            modify(&mut inner, modifier, rest, argument, inserted)?;
            if !inner.is_empty() {
                document.insert(first, inner);
            }
            Ok(())
        }
    }
}

fn modify_here(
    document: &mut Document,
    modifier: Modifier,
    field: &str,
    argument: &Bson,
    inserted: bool,
) -> Result<(), CommandError> {
    let old = document.get(field);
    let new = match (modifier, old) {
        (Modifier::Set, _) => argument.clone(),
        (Modifier::SetOnInsert, _) if inserted => argument.clone(),
        (Modifier::SetOnInsert, _) => return Ok(()),
        (Modifier::Unset, _) => {
            document.remove(field);
            return Ok(());
        }
        (Modifier::Increment, None) => arithmetic(&Bson::Int32(0), argument, Modifier::Increment)?,
        (Modifier::Multiply, None) => arithmetic(&Bson::Int32(0), argument, Modifier::Multiply)?,
        (Modifier::Increment | Modifier::Multiply, Some(old)) => {
            arithmetic(old, argument, modifier)?
        }
        (Modifier::Least, Some(old)) if compare(old, argument).is_le() => return Ok(()),
        (Modifier::Greatest, Some(old)) if compare(old, argument).is_ge() => return Ok(()),
        (Modifier::Least | Modifier::Greatest, _) => argument.clone(),
        (Modifier::Push, None) => Bson::Array(pushed(argument)?),
        (Modifier::Push, Some(Bson::Array(items))) => {
            Bson::Array([items.clone(), pushed(argument)?].concat())
        }
        (Modifier::Pull, None) => return Ok(()),
        (Modifier::Pull, Some(Bson::Array(items))) => {
            let kept = items.iter().filter(|item| !equal(item, argument));
            Bson::Array(kept.cloned().collect())
        }
        (Modifier::Push | Modifier::Pull, Some(_)) => {
            return Err(Code::BadValue.because(format!("`{field}` is no array")));
        }
    };
    document.insert(field, new);
    Ok(())
}

/// What `$push` adds: one value, or those of its `$each`.
fn pushed(argument: &Bson) -> Result<Vec<Bson>, CommandError> {
    match argument {
        Bson::Document(each) if each.keys().any(|key| key.starts_with('$')) => {
            match (each.len(), each.get_array("$each")) {
                (1, Ok(items)) => Ok(items.clone()),
                _ => Err(Code::BadValue.because("this stand-in knows $push with $each alone")),
            }
        }
        value => Ok(vec![value.clone()]),
    }
}

/// A sum or a product, in the wider of both types; a 32-bit one that overflows becomes one of 64 bits.
fn arithmetic(old: &Bson, argument: &Bson, modifier: Modifier) -> Result<Bson, CommandError> {
    let sum = modifier == Modifier::Increment;
    if let (Bson::Int32(_) | Bson::Int64(_), Bson::Int32(_) | Bson::Int64(_)) = (old, argument)
        && let (Some(a), Some(b)) = (integer(old), integer(argument))
    {
        let result = if sum {
            a.checked_add(b)
        } else {
            a.checked_mul(b)
        };
        let result =
            result.ok_or_else(|| Code::BadValue.because("the result does not fit into 64 bits"))?;
        let narrow = matches!((old, argument), (Bson::Int32(_), Bson::Int32(_)));
        return Ok(match i32::try_from(result) {
            Ok(result) if narrow => Bson::Int32(result),
            _ => Bson::Int64(result),
        });
    }
    match (old, number(old), number(argument)) {
        (Bson::Decimal128(_), ..) => {
            Err(Code::TypeMismatch.because("this stand-in does not calculate with decimals"))
        }
        (_, Some(a), Some(b)) if !matches!(argument, Bson::Decimal128(_)) => {
            Ok(Bson::Double(if sum { a + b } else { a * b }))
        }
        _ => Err(Code::TypeMismatch.because("cannot calculate with what is no number")),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn applied(before: Document, update: Document) -> Result<Document, CommandError> {
        Update::parse(&update.into())?.apply(&before, false)
    }

    #[test]
    fn modifiers_do_what_mongodb_documents() {
        let cases = [
            (
                doc! { "$set": { "a": 2, "in.b": 1 } },
                doc! { "_id": 1, "a": 2, "l": [1], "in": { "b": 1 } },
            ),
            (
                doc! { "$inc": { "a": 5, "n": -1 } },
                doc! { "_id": 1, "a": 6, "l": [1], "n": -1 },
            ),
            (
                doc! { "$inc": { "a": i32::MAX } },
                doc! { "_id": 1, "a": 2_147_483_648_i64, "l": [1] },
            ),
            (
                doc! { "$mul": { "a": 2.5 } },
                doc! { "_id": 1, "a": 2.5, "l": [1] },
            ),
            (doc! { "$unset": { "a": "" } }, doc! { "_id": 1, "l": [1] }),
            (
                doc! { "$min": { "a": 0 }, "$max": { "l": 0 } },
                doc! { "_id": 1, "a": 0, "l": [1] },
            ),
            (
                doc! { "$push": { "l": { "$each": [2, 3] } } },
                doc! { "_id": 1, "a": 1, "l": [1, 2, 3] },
            ),
            (
                doc! { "$pull": { "l": 1 } },
                doc! { "_id": 1, "a": 1, "l": [] },
            ),
            (
                doc! { "$setOnInsert": { "a": 9 } },
                doc! { "_id": 1, "a": 1, "l": [1] },
            ),
            (doc! { "b": 1 }, doc! { "_id": 1, "b": 1 }),
        ];
        for (update, expected) in cases {
            let before = doc! { "_id": 1, "a": 1, "l": [1] };
            assert_eq!(
                applied(before, update.clone()).unwrap(),
                expected,
                "{update}"
            );
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for update in [
            doc! { "$set": { "_id": 2 } },
            doc! { "_id": 2 },
            doc! { "$inc": { "s": 1 } },
            doc! { "$inc": { "big": 1 } },
            doc! { "$push": { "s": 1 } },
            doc! { "$set": { "s.a": 1 } },
            doc! { "$rename": { "a": "b" } },
            doc! { "$set": { "a..b": 1 } },
            doc! { "$set": 1 },
        ] {
            let before = doc! { "_id": 1, "s": "text", "big": i64::MAX };
            assert!(applied(before, update.clone()).is_err(), "{update}");
        }
    }
}
