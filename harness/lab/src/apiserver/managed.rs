//! Who owns which field: `metadata.managedFields`, and server-side apply, which rests on it.
//!
//! Pure: objects in, objects out. The rules are those of the structured-merge-diff library of
//! Kubernetes; field paths of older API versions do not occur here, since every kind has one version.

mod set;
mod tree;

use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};

use super::{schema::Struct, status::Status};
use set::FieldSet;

/// On whose behalf an object is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) now: Timestamp,
}

/// What to do when an applied value differs from what another manager has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnConflict {
    Refuse,
    TakeOver,
}

/// Fields that an apply would take from other managers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conflicts(Vec<Conflict>);

#[derive(Clone, Debug, PartialEq)]
struct Conflict {
    /// `"kubectl" using apps/v1`.
    with: String,
    field: String,
}

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    manager: String,
    operation: &'static str,
    api_version: String,
    subresource: Option<String>,
    time: String,
    fields: FieldSet,
}

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";

/// Notes in `after`, which `writer` created or changed, what the writer now owns and others no longer
/// do.
pub(crate) fn record_update(
    before: Option<&Value>,
    after: &mut Value,
    writer: &Writer<'_>,
    shape: &'static Struct,
) {
    let empty = json!({});
    let noted = after
        .pointer("/metadata/managedFields")
        .or(before.and_then(managed_fields));
    let mut entries = noted.map(read).unwrap_or_default();
    let (old, new) = (owned_part(before.unwrap_or(&empty)), owned_part(after));
    let (old_set, new_set) = (tree::to_set(&old, shape), tree::to_set(&new, shape));
    let changed = tree::modified(&old, &new, shape).union(&new_set.difference(&old_set));
    let removed = old_set.difference(&new_set);

    for entry in &mut entries {
        let own = entry.operation == UPDATE && entry.is_of(writer);
        let lost = if own {
            removed.clone()
        } else {
            removed.union(&changed)
        };
        entry.fields = entry.fields.difference(&lost);
    }
    if !changed.is_empty() {
        let api_version = text(after, "apiVersion");
        let entry = find_or_insert(&mut entries, writer, UPDATE, &api_version);
        entry.set(entry.fields.union(&changed), writer);
    }
    write(after, entries);
}

/// The object that results when `writer` applies `config` onto `live`.
pub(crate) fn apply(
    live: &Value,
    config: &Value,
    writer: &Writer<'_>,
    on_conflict: OnConflict,
    shape: &'static Struct,
) -> Result<Value, Conflicts> {
    let mut entries = managed_fields(live).map(read).unwrap_or_default();
    let (old, wanted) = (owned_part(live), owned_part(config));
    let mut merged = tree::merge(&old, &wanted, shape);

    let wanted_set = tree::to_set(&wanted, shape);
    let added = tree::to_set(&merged, shape).difference(&tree::to_set(&old, shape));
    let changed = tree::modified(&old, &merged, shape).union(&added);
    let others = |entry: &&mut Entry| entry.operation != APPLY || !entry.is_of(writer);
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(others) {
        let taken = entry.fields.intersection(&changed);
        let with = format!("\"{}\" using {}", entry.manager, entry.api_version);
        let fields = taken.leaves().into_iter();
        conflicts.extend(fields.map(|field| Conflict {
            with: with.clone(),
            field,
        }));
        entry.fields = entry.fields.difference(&taken);
    }
    if !conflicts.is_empty() && on_conflict == OnConflict::Refuse {
        return Err(Conflicts(conflicts));
    }

    let entry = find_or_insert(&mut entries, writer, APPLY, &text(config, "apiVersion"));
    let before = entry.fields.clone();
    entry.set(wanted_set, writer);
    let owned = entries
        .iter()
        .fold(FieldSet::default(), |all, entry| all.union(&entry.fields));
    tree::remove_orphans(&mut merged, &before, &owned, shape);
    Ok(reunite(merged, live, config, entries))
}

impl Conflicts {
    /// The 409 by which client-go knows an apply conflict.
    pub(crate) fn into_status(self) -> Status {
        let causes = self.0.iter().map(|conflict| {
            let message = format!("conflict with {}", conflict.with);
            json!({"reason": "FieldManagerConflict", "message": message, "field": conflict.field})
        });
        let causes: Vec<_> = causes.collect();
        Status::apply_conflict(self.message()).caused_by(causes)
    }

    fn message(&self) -> String {
        if let [conflict] = self.0.as_slice() {
            let Conflict { with, field } = conflict;
            return format!("Apply failed with 1 conflict: conflict with {with}: {field}");
        }
        let mut message = format!("Apply failed with {} conflicts:", self.0.len());
        let mut with = "";
        for conflict in &self.0 {
            if with != conflict.with {
                with = &conflict.with;
                message.push_str(&format!(" conflicts with {with}:"));
            }
            message.push_str(&format!("\n- {}", conflict.field));
        }
        message
    }
}

impl Entry {
    fn is_of(&self, writer: &Writer<'_>) -> bool {
        self.manager == writer.manager && self.subresource.as_deref() == writer.subresource
    }

    fn set(&mut self, fields: FieldSet, writer: &Writer<'_>) {
        if self.fields != fields {
            self.fields = fields;
            self.time = timestamp(writer.now);
        }
    }
}

fn find_or_insert<'a>(
    entries: &'a mut Vec<Entry>,
    writer: &Writer<'_>,
    operation: &'static str,
    api_version: &str,
) -> &'a mut Entry {
    let found = entries
        .iter()
        .position(|entry| entry.operation == operation && entry.is_of(writer));
    let index = found.unwrap_or_else(|| {
        entries.push(Entry {
            manager: writer.manager.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: writer.subresource.map(str::to_owned),
            time: timestamp(writer.now),
            fields: FieldSet::default(),
        });
        entries.len() - 1
    });
    &mut entries[index]
}

/// The object without the fields that nobody owns.
fn owned_part(object: &Value) -> Value {
    const NOT_OWNED: [&str; 8] = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
        "managedFields",
        "selfLink",
    ];
    let mut owned = object.clone();
    if let Some(fields) = owned.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    if let Some(Value::Object(metadata)) = owned.get_mut("metadata") {
        metadata.retain(|key, _| !NOT_OWNED.contains(&key.as_str()));
        if metadata.is_empty() {
            owned
                .as_object_mut()
                .and_then(|fields| fields.remove("metadata"));
        }
    }
    owned
}

/// Puts the fields that nobody owns back, from the live object or else from the applied one.
fn reunite(mut merged: Value, live: &Value, config: &Value, entries: Vec<Entry>) -> Value {
    let fields = merged
        .as_object_mut()
        .expect("merging two objects gives an object");
    for key in ["apiVersion", "kind"] {
        fields.insert(key.to_owned(), config[key].clone());
    }
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    for source in [live, config] {
        for (key, value) in source["metadata"].as_object().into_iter().flatten() {
            let owned = owned_part(&json!({"metadata": {key: value}}));
            if owned.get("metadata").is_none() && metadata.get(key).is_none() {
                metadata[key] = value.clone();
            }
        }
    }
    write(&mut merged, entries);
    merged
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.pointer("/metadata/managedFields")
}

fn read(noted: &Value) -> Vec<Entry> {
    let entry = |entry: &Value| {
        Some(Entry {
            manager: text(entry, "manager"),
            operation: if entry["operation"] == APPLY {
                APPLY
            } else {
                UPDATE
            },
            api_version: text(entry, "apiVersion"),
            subresource: entry["subresource"].as_str().map(str::to_owned),
            time: text(entry, "time"),
            fields: FieldSet::from_json(entry.get("fieldsV1")?),
        })
    };
    noted
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(entry)
        .collect()
}

fn write(object: &mut Value, entries: Vec<Entry>) {
    let entries: Vec<_> = entries
        .into_iter()
        .filter(|entry| !entry.fields.is_empty())
        .collect();
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
        return;
    };
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    metadata.insert(
        "managedFields".to_owned(),
        entries.into_iter().map(Entry::into_json).collect(),
    );
}

impl Entry {
    fn into_json(self) -> Value {
        let mut entry = Map::from_iter([
            ("manager".to_owned(), self.manager.into()),
            ("operation".to_owned(), self.operation.into()),
            ("apiVersion".to_owned(), self.api_version.into()),
            ("time".to_owned(), self.time.into()),
            ("fieldsType".to_owned(), "FieldsV1".into()),
            ("fieldsV1".to_owned(), self.fields.to_json()),
        ]);
        if let Some(subresource) = self.subresource {
            entry.insert("subresource".to_owned(), subresource.into());
        }
        Value::Object(entry)
    }
}

fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

/// To the second, as `metav1.Time` is written.
fn timestamp(now: Timestamp) -> String {
    now.round(Unit::Second).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests;
