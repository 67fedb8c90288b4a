//! Which fields of a document an answer has: fields named to be in, or named to be out, at the top level.

use bson::{Bson, Document};

use crate::error::{Code, CommandError};
use crate::filter::truth;

/// A projection, read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Projection {
    fields: Vec<String>,
    /// Whether `fields` are the ones that stay, and not the ones that go.
    keeps: bool,
    without_id: bool,
}

impl Projection {
    /// Reads the `projection` of a command.
    pub(crate) fn parse(projection: Option<&Document>) -> Result<Self, CommandError> {
        let mut parsed = Self::default();
        for (field, value) in projection.into_iter().flatten() {
            let plain = matches!(
                value,
                Bson::Boolean(_) | Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_)
            );
            if !plain || field.contains(['.', '$']) {
                let message = "this stand-in knows projections of whole fields only";
                return Err(Code::BadValue.because(message));
            }
            let stays = truth(value);
            if field == "_id" {
                parsed.without_id = !stays;
                parsed.keeps |= stays && parsed.fields.is_empty();
                continue;
            }
            if !parsed.fields.is_empty() && parsed.keeps != stays {
                let message = "a projection names either what is in or what is out";
                return Err(Code::BadValue.because(message));
            }
            parsed.keeps = stays;
            parsed.fields.push(field.clone());
        }
        Ok(parsed)
    }

    /// What of `document` stays.
    pub(crate) fn apply(&self, mut document: Document) -> Document {
        if self.without_id {
            document.remove("_id");
        }
        if self.keeps {
            let named = |field: &String| field == "_id" || self.fields.contains(field);
            return document
                .into_iter()
                .filter(|(field, _)| named(field))
                .collect();
        }
        for field in &self.fields {
            document.remove(field);
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn fields_are_in_or_out() {
        let cases = [
            (doc! {}, doc! { "_id": 1, "a": 2, "b": 3 }),
            (doc! { "a": 1 }, doc! { "_id": 1, "a": 2 }),
            (doc! { "a": 1, "_id": 0 }, doc! { "a": 2 }),
            (doc! { "_id": 0 }, doc! { "a": 2, "b": 3 }),
            (doc! { "_id": 1 }, doc! { "_id": 1 }),
            (doc! { "a": false }, doc! { "_id": 1, "b": 3 }),
        ];
        for (projection, expected) in cases {
            let parsed = Projection::parse(Some(&projection)).unwrap();
            let document = doc! { "_id": 1, "a": 2, "b": 3 };
            assert_eq!(parsed.apply(document), expected, "{projection}");
        }
        for wrong in [
            doc! { "a": 1, "b": 0 },
            doc! { "a.b": 1 },
            doc! { "a": "$b" },
        ] {
            assert!(Projection::parse(Some(&wrong)).is_err(), "{wrong}");
        }
    }
}
