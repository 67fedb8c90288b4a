//! Tables, as `kubectl get` shows them: the server chooses the columns and writes the cells.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Map, Value, json};

use super::{duration, object::Object, registry::Resource};

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    name: &'static str,
    ty: &'static str,
    format: &'static str,
    /// 0: always shown; 1: shown by `-o wide`.
    priority: u8,
}

impl Column {
    pub(crate) const fn text(name: &'static str) -> Self {
        Self {
            name,
            ty: "string",
            format: "",
            priority: 0,
        }
    }

    pub(crate) const fn number(name: &'static str) -> Self {
        Self {
            name,
            ty: "integer",
            format: "",
            priority: 0,
        }
    }

    /// Shown by `-o wide` only.
    pub(crate) const fn wide(self) -> Self {
        Self {
            priority: 1,
            ..self
        }
    }
}

pub(crate) const NAME: Column = Column {
    format: "name",
    ..Column::text("Name")
};
pub(crate) const AGE: Column = Column::text("Age");

/// The time since an object was created.
pub(crate) fn age(metadata: &ObjectMeta, now: Timestamp) -> Value {
    since(metadata.creation_timestamp.as_ref(), now).into()
}

/// The time since `then`: `5m`; `<unknown>` if there is none.
pub(crate) fn since(then: Option<&Time>, now: Timestamp) -> String {
    match then {
        Some(Time(then)) => duration::human(now.duration_since(*then)),
        None => "<unknown>".to_owned(),
    }
}

/// How much of each object a table carries beside the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// The table of `objects`; `metadata` is that of their list.
pub(crate) fn render<'a>(
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a Object>,
    metadata: Value,
    include: Include,
    now: Timestamp,
) -> Value {
    let column = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.ty,
            "format": column.format,
            "description": "",
            "priority": column.priority,
        })
    };
    let row = |object: &'a Object| {
        let mut row = Map::from_iter([(
            "cells".to_owned(),
            resource.behaviour.cells(object, now).into(),
        )]);
        match include {
            Include::None => {}
            Include::Metadata => {
                row.insert("object".to_owned(), metadata_only(object.value()));
            }
            Include::Object => {
                row.insert("object".to_owned(), object.value().clone());
            }
        }
        Value::Object(row)
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": resource.behaviour.columns().iter().map(column).collect::<Value>(),
        "rows": objects.into_iter().map(row).collect::<Value>(),
    })
}

/// The object reduced to its metadata.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}
