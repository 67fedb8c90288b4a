//! Making objects.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    FieldValidation, Mode, Part, Rest, Shaped, WriteOptions, Written, now_in_seconds, shape, writer,
};
use crate::apiserver::{
    managed,
    object::{Key, Object},
    registry::{NAMESPACES, Resource, SERVICE_ACCOUNTS},
    schema,
    status::Status,
    words,
};

/// How often a generated name is made anew when it is taken.
const NAME_ATTEMPTS: usize = 8;
const GENERATED_LENGTH: usize = 5;
/// A generated name must still be a label.
const PREFIX_LIMIT: usize = 63 - GENERATED_LENGTH;

/// Who owns the fields of a new object: noted by the one who made it, or to be noted now.
pub(super) enum Ownership {
    Record,
    Recorded,
}

impl Rest {
    /// Makes an object out of what a client sent.
    pub(crate) fn create(
        &self,
        resource: &'static Resource,
        namespace: &str,
        value: Value,
        options: &WriteOptions<'_>,
    ) -> Result<Written, Status> {
        let shaped = shape(resource, value, options.validation)?;
        let _writing = self.write_lock();
        self.create_locked(resource, namespace, shaped, options, Ownership::Record)
    }

    pub(super) fn create_locked(
        &self,
        resource: &'static Resource,
        namespace: &str,
        shaped: Shaped,
        options: &WriteOptions<'_>,
        ownership: Ownership,
    ) -> Result<Written, Status> {
        let Shaped {
            mut value,
            missing,
            warnings,
        } = shaped;
        let now = Timestamp::now();
        prepare_metadata(resource, namespace, &mut value, now)?;
        let key = self.choose_name(resource, namespace, &mut value)?;
        self.check_namespace(resource, &key)?;
        if resource.has("status") && resource.kind != "Node" {
            value.as_object_mut().map(|fields| fields.remove("status"));
        }

        let around = self.surroundings();
        let mut value = resource.behaviour.admit(value, None, missing, &around)?;
        if matches!(ownership, Ownership::Record) {
            let shape = schema::named(resource.schema);
            managed::record_update(None, &mut value, &writer(options, Part::Main, now), shape);
        }
        if self.store.find(resource, &key).is_some() {
            return Err(Status::already_exists(resource, &key.name));
        }
        let object = match options.mode {
            Mode::DryRun => Arc::new(Object::new(resource, value, 0)),
            Mode::Store => {
                let taken = |_raced| Status::already_exists(resource, &key.name);
                self.store
                    .insert(resource, key.clone(), value)
                    .map_err(taken)?
            }
        };
        if *resource == NAMESPACES && options.mode == Mode::Store {
            self.create_default_account(&key.name)?;
        }
        Ok(Written {
            object,
            created: true,
            warnings,
        })
    }

    /// Gives a new namespace its service account at once. A real cluster leaves that to a controller, and
    /// pods that are made right after their namespace may be refused for want of it.
    fn create_default_account(&self, namespace: &str) -> Result<(), Status> {
        let value = serde_json::json!({"metadata": {"name": "default"}});
        let shaped = shape(&SERVICE_ACCOUNTS, value, FieldValidation::Ignore)?;
        let options = WriteOptions::trusted("kube-apiserver");
        let ownership = Ownership::Record;
        let account = &SERVICE_ACCOUNTS;
        self.create_locked(account, namespace, shaped, &options, ownership)
            .map(drop)
    }

    /// The name that was asked for, or a generated one that is free.
    fn choose_name(
        &self,
        resource: &Resource,
        namespace: &str,
        value: &mut Value,
    ) -> Result<Key, Status> {
        let text = |field: &str| {
            value["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let (name, prefix) = (text("name"), text("generateName"));
        if !name.is_empty() || prefix.is_empty() {
            return Ok(Key::new(namespace, name));
        }
        let prefix: String = prefix.chars().take(PREFIX_LIMIT).collect();
        let candidates = (0..NAME_ATTEMPTS).map(|_| {
            Key::new(
                namespace,
                format!("{prefix}{}", words::random(GENERATED_LENGTH)),
            )
        });
        let free = candidates
            .into_iter()
            .find(|key| self.store.find(resource, key).is_none());
        let key = free.ok_or_else(|| Status::already_exists(resource, &prefix))?;
        value["metadata"]["name"] = key.name.as_str().into();
        Ok(key)
    }

    /// Objects are only made in a namespace that is there, and not on its way out.
    fn check_namespace(&self, resource: &Resource, key: &Key) -> Result<(), Status> {
        if !resource.namespaced {
            return Ok(());
        }
        let namespace = &key.namespace;
        let found = self.get(&NAMESPACES, &Key::new("", namespace))?;
        if !found.is_terminating() {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let cause = serde_json::json!({
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        });
        Err(Status::forbidden(resource, &key.name, why).caused_by([cause]))
    }
}

fn prepare_metadata(
    resource: &Resource,
    namespace: &str,
    value: &mut Value,
    now: Timestamp,
) -> Result<(), Status> {
    if value.get("metadata").is_none() {
        value["metadata"] = Value::Object(Map::new());
    }
    let Some(metadata) = value["metadata"].as_object_mut() else {
        return Err(Status::bad_request("metadata must be an object"));
    };
    let given = metadata
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !given.is_empty() && given != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on \
                       the request";
        return Err(Status::bad_request(message));
    }
    if metadata
        .get("resourceVersion")
        .and_then(Value::as_str)
        .is_some_and(|it| !it.is_empty())
    {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::bad_request(message));
    }
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ] {
        metadata.remove(field);
    }
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), namespace.into());
    } else {
        metadata.remove("namespace");
    }
    metadata.insert("uid".to_owned(), words::uuid().into());
    metadata.insert("creationTimestamp".to_owned(), now_in_seconds(now));
    if resource.generation {
        metadata.insert("generation".to_owned(), 1.into());
    } else {
        metadata.remove("generation");
    }
    Ok(())
}

impl WriteOptions<'_> {
    /// How the parts of this process write: their objects have the right shape by their types.
    pub(crate) fn trusted(manager: &'static str) -> WriteOptions<'static> {
        WriteOptions {
            manager,
            validation: FieldValidation::Ignore,
            mode: Mode::Store,
        }
    }
}
