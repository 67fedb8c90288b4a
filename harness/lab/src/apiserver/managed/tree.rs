//! Walking objects by their types: which fields one has, which differ between two, and their merge.

use std::collections::BTreeMap;

use serde_json::Value;

use super::set::FieldSet;
use crate::apiserver::schema::{Field, Struct, Topology, Type, named};

/// How a value is divided among owners.
#[derive(Clone, Copy)]
enum Shape {
    /// Not at all.
    Leaf,
    Struct(&'static Struct),
    Map(&'static Type),
    /// A list of scalars without order.
    Set,
    /// A list of structs that keys tell apart.
    Items(
        &'static Struct,
        &'static [(&'static str, Option<&'static str>)],
    ),
}

/// A part of a value: its path element, itself, and its own shape.
struct Part<'v> {
    element: String,
    value: &'v Value,
    shape: Shape,
}

/// The fields that `object` has.
pub(crate) fn to_set(object: &Value, shape: &'static Struct) -> FieldSet {
    match parts(object, Shape::Struct(shape)) {
        Some(parts) => FieldSet::of(sets_of(parts, Shape::Struct(shape))),
        None => FieldSet::default(),
    }
}

/// The fields that both objects have, with different values.
pub(crate) fn modified(old: &Value, new: &Value, shape: &'static Struct) -> FieldSet {
    differences(old, new, Shape::Struct(shape))
}

/// `config` laid over `live`.
pub(crate) fn merge(live: &Value, config: &Value, shape: &'static Struct) -> Value {
    overlay(live, config, Shape::Struct(shape))
}

/// Takes out of `object` what `last` holds and `owned` does not. A node goes with all that is below it
/// once nothing in it is owned: defaults that the server filled in go with what they belong to.
pub(crate) fn remove_orphans(
    object: &mut Value,
    last: &FieldSet,
    owned: &FieldSet,
    shape: &'static Struct,
) {
    prune(object, last, owned, Shape::Struct(shape));
}

impl Shape {
    fn of_field(field: &'static Field) -> Self {
        match (&field.ty, &field.topology) {
            (_, Topology::Atomic) => Self::Leaf,
            (Type::List(_), Topology::Set) => Self::Set,
            (Type::List(item), Topology::Map(keys)) => match &**item {
                Type::Struct(name) => Self::Items(named(name), keys),
                _ => Self::Leaf,
            },
            (ty, _) => Self::of(ty),
        }
    }

    fn of(ty: &'static Type) -> Self {
        match ty {
            Type::Scalar(_) | Type::List(_) => Self::Leaf,
            Type::Map(entry) => Self::Map(entry),
            Type::Struct(name) if named(name).atomic => Self::Leaf,
            Type::Struct(name) => Self::Struct(named(name)),
        }
    }

    /// Whether parts of such a value belong to a set by themselves, beside what is in them.
    fn has_member_parts(self) -> bool {
        matches!(self, Self::Map(_) | Self::Set | Self::Items(..))
    }
}

/// The parts of a value that is divided; nothing for one that is owned as a whole.
fn parts(value: &Value, shape: Shape) -> Option<Vec<Part<'_>>> {
    let parts = match (shape, value) {
        (Shape::Struct(shape), Value::Object(fields)) => {
            let part = |(name, value): (&String, _)| {
                let shape = shape
                    .fields
                    .get(name.as_str())
                    .map_or(Shape::Leaf, Shape::of_field);
                Part {
                    element: format!("f:{name}"),
                    value,
                    shape,
                }
            };
            fields.iter().map(part).collect()
        }
        (Shape::Map(entry), Value::Object(entries)) => {
            let part = |(key, value): (&String, _)| Part {
                element: format!("f:{key}"),
                value,
                shape: Shape::of(entry),
            };
            entries.iter().map(part).collect()
        }
        (Shape::Set, Value::Array(items)) => {
            let part = |value| Part {
                element: format!("v:{value}"),
                value,
                shape: Shape::Leaf,
            };
            items.iter().map(part).collect()
        }
        (Shape::Items(item, keys), Value::Array(items)) => {
            let part = |value| Part {
                element: item_element(value, keys),
                value,
                shape: Shape::Struct(item),
            };
            items.iter().map(part).collect()
        }
        _ => return None,
    };
    Some(parts)
}

fn item_element(item: &Value, keys: &[(&'static str, Option<&'static str>)]) -> String {
    let key = |(key, default): &(&str, Option<&str>)| {
        let value = item
            .get(key)
            .cloned()
            .or_else(|| default.map(Value::from))?;
        Some(((*key).to_owned(), value))
    };
    format!("k:{}", Value::Object(keys.iter().filter_map(key).collect()))
}

fn sets_of(parts: Vec<Part<'_>>, whole: Shape) -> BTreeMap<String, FieldSet> {
    let set = |part: Part<'_>| {
        let own = match self::parts(part.value, part.shape) {
            Some(below) if !below.is_empty() => FieldSet::of(sets_of(below, part.shape)),
            _ => FieldSet::leaf(),
        };
        (
            part.element,
            if whole.has_member_parts() {
                own.with_itself()
            } else {
                own
            },
        )
    };
    parts.into_iter().map(set).collect()
}

fn differences(old: &Value, new: &Value, shape: Shape) -> FieldSet {
    if old == new {
        return FieldSet::default();
    }
    let (Some(old), Some(new)) = (parts(old, shape), parts(new, shape)) else {
        return FieldSet::leaf();
    };
    let old: BTreeMap<_, _> = old
        .into_iter()
        .map(|part| (part.element, part.value))
        .collect();
    let changed = |part: Part<'_>| {
        let below = differences(old.get(&part.element)?, part.value, part.shape);
        (!below.is_empty()).then_some((part.element, below))
    };
    FieldSet::of(new.into_iter().filter_map(changed).collect())
}

fn overlay(live: &Value, config: &Value, shape: Shape) -> Value {
    let (Some(old), Some(new)) = (parts(live, shape), parts(config, shape)) else {
        return config.clone();
    };
    match (shape, live) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(live)) => {
            let mut merged = live.clone();
            for part in new {
                let name = part.element.trim_start_matches("f:");
                let value = match live.get(name) {
                    Some(live) => overlay(live, part.value, part.shape),
                    None => part.value.clone(),
                };
                merged.insert(name.to_owned(), value);
            }
            Value::Object(merged)
        }
        _ => Value::Array(overlay_items(&old, &new)),
    }
}

/// Items of both lists: the applied ones in their own order, the others where they stood among them.
fn overlay_items(old: &[Part<'_>], new: &[Part<'_>]) -> Vec<Value> {
    let in_new = |element: &str| new.iter().any(|part| part.element == element);
    let merged = |part: &Part<'_>| match old.iter().find(|live| live.element == part.element) {
        Some(live) => overlay(live.value, part.value, part.shape),
        None => part.value.clone(),
    };
    let mut items = Vec::new();
    let mut applied = new.iter();
    let mut placed: Vec<&str> = Vec::new();
    for live in old {
        if !in_new(&live.element) {
            items.push(live.value.clone());
            continue;
        }
        while !placed.contains(&live.element.as_str()) {
            let Some(part) = applied.next() else { break };
            items.push(merged(part));
            placed.push(&part.element);
        }
    }
    items.extend(applied.map(merged));
    items
}

fn prune(value: &mut Value, last: &FieldSet, owned: &FieldSet, shape: Shape) {
    for (element, before) in last.children() {
        match owned.below(element) {
            None => remove(value, element, shape),
            Some(owned) => {
                if let Some((part, shape)) = part_mut(value, element, shape) {
                    prune(part, before, owned, shape);
                }
            }
        }
    }
}

fn remove(value: &mut Value, element: &str, shape: Shape) {
    match value {
        Value::Object(fields) => {
            fields.remove(element.trim_start_matches("f:"));
        }
        Value::Array(_) => {
            if let Some(position) = position(value, element, shape) {
                value.as_array_mut().map(|items| items.remove(position));
            }
        }
        _ => {}
    }
}

fn part_mut<'v>(
    value: &'v mut Value,
    element: &str,
    shape: Shape,
) -> Option<(&'v mut Value, Shape)> {
    let below = parts(value, shape)?
        .into_iter()
        .find(|part| part.element == element)?
        .shape;
    let position = position(value, element, shape);
    let part = match value {
        Value::Object(fields) => fields.get_mut(element.trim_start_matches("f:"))?,
        value => value.get_mut(position?)?,
    };
    Some((part, below))
}

fn position(value: &Value, element: &str, shape: Shape) -> Option<usize> {
    parts(value, shape)?
        .iter()
        .position(|part| part.element == element)
}
