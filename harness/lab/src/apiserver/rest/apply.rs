//! Server-side apply: an object made, or changed, such that each manager owns what it says.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    FieldValidation, Part, Rest, Shaped, Target, WriteOptions, Written, create::Ownership, shape,
    writer,
};
use crate::apiserver::{
    managed::{self, OnConflict},
    schema,
    status::Status,
};

impl Rest {
    /// Server-side apply: the object is made if it is not there.
    pub(crate) fn apply(
        &self,
        target: &Target,
        config: Value,
        on_conflict: OnConflict,
        options: &WriteOptions<'_>,
    ) -> Result<Written, Status> {
        let resource = target.resource;
        let config = checked_config(target, config)?;
        let shaped = shape(resource, config, options.validation)?;
        let owned = applicable_part(target, shaped.value);
        let _writing = self.write_lock();
        let current = self.store.find(resource, &target.key);
        if current.is_none() && target.part != Part::Main {
            return Err(Status::not_found(resource, &target.key.name));
        }
        let nothing = json!({"metadata": {}});
        let live = current.as_ref().map_or(&nothing, |current| current.value());
        let writer = writer(options, target.part, Timestamp::now());
        let shape_of_kind = schema::named(resource.schema);
        let merged = managed::apply(live, &owned, &writer, on_conflict, shape_of_kind)
            .map_err(managed::Conflicts::into_status)?;

        let warnings = shaped.warnings;
        let Shaped { value, missing, .. } = shape(resource, merged, FieldValidation::Ignore)?;
        let merged = Shaped {
            value,
            missing,
            warnings,
        };
        match current {
            Some(current) => {
                self.update_locked(target, &current, merged, options, Ownership::Recorded)
            }
            None => {
                let namespace = &target.key.namespace;
                self.create_locked(resource, namespace, merged, options, Ownership::Recorded)
            }
        }
    }
}

/// An applied object must name itself, and must not claim to be of a version it cannot know.
fn checked_config(target: &Target, mut config: Value) -> Result<Value, Status> {
    let resource = target.resource;
    if config.get("metadata").is_none() {
        config["metadata"] = json!({});
    }
    let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(Status::bad_request("metadata must be an object"));
    };
    if metadata
        .get("managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let given = |field: &str| {
        metadata
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mismatch = |what: &str, given: &str, asked: &str| {
        Err(Status::bad_request(format!(
            "the {what} of the object ({given}) does not match the {what} on the URL ({asked})"
        )))
    };
    match given("name") {
        "" => {}
        name if name != target.key.name => return mismatch("name", name, &target.key.name),
        _ => {}
    }
    match given("namespace") {
        "" => {}
        namespace if resource.namespaced && namespace != target.key.namespace => {
            return mismatch("namespace", namespace, &target.key.namespace);
        }
        _ => {}
    }
    metadata.insert("name".to_owned(), target.key.name.as_str().into());
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), target.key.namespace.as_str().into());
    } else {
        metadata.remove("namespace");
    }
    Ok(config)
}

/// The part of an applied object that the target's part can own.
fn applicable_part(target: &Target, mut config: Value) -> Value {
    let Value::Object(fields) = &mut config else {
        return config;
    };
    match target.part {
        Part::Main if target.resource.has("status") => {
            fields.remove("status");
        }
        Part::Main => {}
        Part::Status => fields.retain(|key, _| is_identity(key) || key == "status"),
        Part::Finalize | Part::Scale => fields.retain(|key, _| is_identity(key) || key == "spec"),
    }
    if target.part != Part::Main
        && let Some(Value::Object(metadata)) = fields.get_mut("metadata")
    {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace"));
    }
    config
}

fn is_identity(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind" | "metadata")
}
