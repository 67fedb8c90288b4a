//! Changing objects: by a whole new one, or by a patch.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Mode, Part, Rest, Shaped, Target, WriteOptions, Written, create::Ownership, shape, writer,
};
use crate::apiserver::{managed, object::Object, patch::Patch, schema, status::Status};

impl Rest {
    /// Replaces an object by what a client sent.
    pub(crate) fn update(
        &self,
        target: &Target,
        value: Value,
        options: &WriteOptions<'_>,
    ) -> Result<Written, Status> {
        let resource = target.resource;
        let shaped = shape(resource, value, options.validation)?;
        let name = shaped.value["metadata"]["name"]
            .as_str()
            .unwrap_or_default();
        if name != target.key.name {
            let message = format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.key.name
            );
            return Err(Status::bad_request(message));
        }
        let _writing = self.write_lock();
        let current = self.get(resource, &target.key)?;
        self.update_locked(target, &current, shaped, options, Ownership::Record)
    }

    pub(crate) fn patch(
        &self,
        target: &Target,
        patch: &Patch,
        options: &WriteOptions<'_>,
    ) -> Result<Written, Status> {
        let resource = target.resource;
        let _writing = self.write_lock();
        let current = self.get(resource, &target.key)?;
        let patched = patch.apply(current.value().clone(), schema::named(resource.schema))?;
        let mut shaped = shape(resource, patched, options.validation)?;
        // A patch that names no version applies to whatever is there.
        if shaped.value["metadata"]["resourceVersion"].is_null() {
            shaped.value["metadata"]["resourceVersion"] = current.version().to_string().into();
        }
        self.update_locked(target, &current, shaped, options, Ownership::Record)
    }

    pub(super) fn update_locked(
        &self,
        target: &Target,
        current: &Arc<Object>,
        shaped: Shaped,
        options: &WriteOptions<'_>,
        ownership: Ownership,
    ) -> Result<Written, Status> {
        let Shaped {
            value,
            missing,
            warnings,
        } = shaped;
        check_preconditions(current, &value)?;
        let value = keep_what_is_not_written(target, current, value);

        let around = self.surroundings();
        let behaviour = target.resource.behaviour;
        let mut value = behaviour.admit(value, Some(current), missing, &around)?;
        if target.resource.generation && value.get("spec") != current.value().get("spec") {
            let generation = current.value()["metadata"]["generation"]
                .as_u64()
                .unwrap_or(0);
            value["metadata"]["generation"] = (generation + 1).into();
        }
        if matches!(ownership, Ownership::Record) {
            let writer = writer(options, target.part, Timestamp::now());
            let shape = schema::named(target.resource.schema);
            managed::record_update(Some(current.value()), &mut value, &writer, shape);
        }
        let object = self.store_update(current, value, options.mode)?;
        Ok(Written {
            object,
            created: false,
            warnings,
        })
    }

    /// Stores `value` in the place of `current`, unless nothing changed; an object that was only kept by
    /// its finalizers goes with the last of them.
    pub(super) fn store_update(
        &self,
        current: &Arc<Object>,
        mut value: Value,
        mode: Mode,
    ) -> Result<Arc<Object>, Status> {
        value["metadata"]["resourceVersion"] = current.version().to_string().into();
        if value == *current.value() {
            return Ok(Arc::clone(current));
        }
        let resource = current.resource();
        let stale = |_raced| Status::stale(resource, current.name());
        if mode == Mode::DryRun {
            return Ok(Arc::new(Object::new(resource, value, current.version())));
        }
        let stored = self.store.replace(current, value).map_err(stale)?;
        if is_released(&stored, current) {
            return self.store.remove(&stored).map_err(stale);
        }
        Ok(stored)
    }
}

/// Whether the update took away what alone kept a deleted object.
fn is_released(object: &Object, before: &Object) -> bool {
    let kept = |object: &Object| {
        let content = crate::apiserver::object::strings(object.value().pointer("/spec/finalizers"));
        let content = content.count() > 0 && object.resource().kind == "Namespace";
        content || object.finalizers().next().is_some()
    };
    let grace = object.value()["metadata"]["deletionGracePeriodSeconds"]
        .as_u64()
        .unwrap_or(0);
    object.is_terminating() && grace == 0 && kept(before) && !kept(object)
}

fn check_preconditions(current: &Object, value: &Value) -> Result<(), Status> {
    let (resource, name) = (current.resource(), current.name());
    let given = |field: &str| {
        value["metadata"][field]
            .as_str()
            .filter(|given| !given.is_empty())
    };
    if let Some(uid) = given("uid").filter(|uid| *uid != current.uid()) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            current.uid()
        );
        return Err(Status::conflict(resource, name, why));
    }
    let version = current.version().to_string();
    match given("resourceVersion") {
        Some(given) if given != version => Err(Status::stale(resource, name)),
        _ => Ok(()),
    }
}

/// The new value, with everything from `current` that this write is not about.
fn keep_what_is_not_written(target: &Target, current: &Object, mut value: Value) -> Value {
    let old = current.value();
    match target.part {
        Part::Main if target.resource.has("status") => keep(&mut value, old, "status"),
        Part::Main => {}
        Part::Status => {
            let written = value;
            value = old.clone();
            value["status"] = written["status"].clone();
            for field in ["managedFields", "resourceVersion"] {
                keep(&mut value["metadata"], &written["metadata"], field);
            }
            // The kubelet speaks of a node's or a pod's nature while it reports on it.
            if matches!(target.resource.kind, "Node" | "Pod") {
                for field in ["labels", "annotations"] {
                    keep(&mut value["metadata"], &written["metadata"], field);
                }
            }
        }
        Part::Finalize | Part::Scale => {
            let written = value;
            value = old.clone();
            let field = if target.part == Part::Scale {
                "replicas"
            } else {
                "finalizers"
            };
            value["spec"][field] = written["spec"][field].clone();
        }
    }
    const SERVER_OWNED: [&str; 7] = [
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
    ];
    for field in SERVER_OWNED {
        keep(&mut value["metadata"], &old["metadata"], field);
    }
    // A namespace's content is not given up by an ordinary update.
    if target.resource.kind == "Namespace" && target.part != Part::Finalize {
        keep(&mut value, old, "spec");
    }
    value
}

/// Sets a field of `value` to what it is in `source`, or takes it away.
fn keep(value: &mut Value, source: &Value, field: &str) {
    let Value::Object(fields) = value else { return };
    match source.get(field).filter(|kept| !kept.is_null()) {
        Some(kept) => {
            fields.insert(field.to_owned(), kept.clone());
        }
        None => {
            fields.remove(field);
        }
    }
}
