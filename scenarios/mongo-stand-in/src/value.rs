//! Values compared as MongoDB compares them: numbers by value, whatever their type, and types in a fixed order.

use std::cmp::Ordering;

use bson::{Bson, Document, doc};

/// The order of `a` and `b`, which may be of different types (MongoDB manual, "Comparison/Sort Order").
pub(crate) fn compare(a: &Bson, b: &Bson) -> Ordering {
    rank(a).cmp(&rank(b)).then_with(|| match (a, b) {
        (Bson::String(a) | Bson::Symbol(a), Bson::String(b) | Bson::Symbol(b)) => a.cmp(b),
        (Bson::Document(a), Bson::Document(b)) => compare_documents(a, b),
        (Bson::Array(a), Bson::Array(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| compare(a, b));
            pairs
                .fold(Ordering::Equal, Ordering::then)
                .then(a.len().cmp(&b.len()))
        }
        (Bson::Binary(a), Bson::Binary(b)) => {
            let key = |binary: &bson::Binary| (binary.bytes.len(), u8::from(binary.subtype));
            key(a).cmp(&key(b)).then_with(|| a.bytes.cmp(&b.bytes))
        }
        (Bson::ObjectId(a), Bson::ObjectId(b)) => a.bytes().cmp(&b.bytes()),
        (Bson::Boolean(a), Bson::Boolean(b)) => a.cmp(b),
        (Bson::DateTime(a), Bson::DateTime(b)) => a.cmp(b),
        (Bson::Timestamp(a), Bson::Timestamp(b)) => {
            (a.time, a.increment).cmp(&(b.time, b.increment))
        }
        _ => match (integer(a), integer(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => compare_others(a, b),
        },
    })
}

/// Numbers that are not both integers, and what has no order of its own but must have one.
fn compare_others(a: &Bson, b: &Bson) -> Ordering {
    match (number(a), number(b)) {
        // MongoDB has NaN below all other numbers.
        (Some(a), Some(b)) => a
            .partial_cmp(&b)
            .unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())),
        _ => id_key(a).cmp(&id_key(b)),
    }
}

fn compare_documents(a: &Document, b: &Document) -> Ordering {
    let pairs = a.iter().zip(b).map(|((a_key, a), (b_key, b))| {
        let ranks = rank(a).cmp(&rank(b));
        ranks.then(a_key.cmp(b_key)).then_with(|| compare(a, b))
    });
    pairs
        .fold(Ordering::Equal, Ordering::then)
        .then(a.len().cmp(&b.len()))
}

/// Whether `a` and `b` are the same value.
pub(crate) fn equal(a: &Bson, b: &Bson) -> bool {
    compare(a, b) == Ordering::Equal
}

/// Whether `a` and `b` are of types that `$lt` and the like compare at all.
pub(crate) fn comparable(a: &Bson, b: &Bson) -> bool {
    rank(a) == rank(b)
}

/// The place of a value's type in the order of types.
fn rank(value: &Bson) -> u8 {
    match value {
        Bson::MinKey => 0,
        Bson::Undefined | Bson::Null => 1,
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => 2,
        Bson::String(_) | Bson::Symbol(_) => 3,
        Bson::Document(_) => 4,
        Bson::Array(_) => 5,
        Bson::Binary(_) => 6,
        Bson::ObjectId(_) => 7,
        Bson::Boolean(_) => 8,
        Bson::DateTime(_) => 9,
        Bson::Timestamp(_) => 10,
        Bson::RegularExpression(_) => 11,
        Bson::DbPointer(_) => 12,
        Bson::JavaScriptCode(_) => 13,
        Bson::JavaScriptCodeWithScope(_) => 14,
        Bson::MaxKey => 15,
    }
}

/// The whole number that a value is, a double without a fraction too.
pub(crate) fn integer(value: &Bson) -> Option<i64> {
    /// Beyond it a double does not tell neighbours apart: 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        Bson::Double(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
            Some(*number as i64)
        }
        _ => None,
    }
}

/// The number that a value is, as a double.
pub(crate) fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        #[expect(clippy::cast_precision_loss, reason = "integers are compared as such")]
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        Bson::Decimal128(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Bytes that are equal for equal values: the key of an index on `_id`.
pub(crate) fn id_key(value: &Bson) -> Vec<u8> {
    if let Some(whole) = integer(value) {
        return [&[rank(value)][..], &whole.to_be_bytes()].concat();
    }
    // Encoding fails only where a text has a zero byte in a key, which no message can bring.
    let encoded = doc! { "": value.clone() }.to_vec().unwrap_or_default();
    [&[rank(value)][..], &encoded].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_whatever_their_type() {
        let ones = [Bson::Int32(1), Bson::Int64(1), Bson::Double(1.0)];
        for a in &ones {
            for b in &ones {
                assert!(equal(a, b));
                assert_eq!(id_key(a), id_key(b));
            }
        }
        assert!(!equal(&Bson::Int32(1), &Bson::Boolean(true)));
        assert_eq!(compare(&Bson::Int64(2), &Bson::Double(2.5)), Ordering::Less);
        // 2^53 and its neighbour are one as doubles.
        let (a, b) = (
            Bson::Int64(9_007_199_254_740_993),
            Bson::Int64(9_007_199_254_740_992),
        );
        assert_eq!(compare(&a, &b), Ordering::Greater);
        assert_ne!(id_key(&a), id_key(&b));
    }

    #[test]
    fn types_have_an_order() {
        let sorted = [
            Bson::MinKey,
            Bson::Null,
            Bson::Double(f64::NAN),
            Bson::Int32(-1),
            Bson::String("a".to_owned()),
            Bson::Document(doc! { "a": 1 }),
            Bson::Document(doc! { "a": 2 }),
            Bson::Array(vec![Bson::Int32(1)]),
            Bson::Array(vec![Bson::Int32(1), Bson::Int32(0)]),
            Bson::Boolean(false),
            Bson::Boolean(true),
            Bson::MaxKey,
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }
}
