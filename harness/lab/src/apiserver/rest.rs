//! The API without HTTP: reading and writing objects by the rules of the real API server.
//!
//! Requests over the network and the controllers inside this process come through here alike, so both
//! meet the same decoding, defaults, validation and bookkeeping. Who may do what is decided before: see
//! `rbac`.

mod apply;
mod create;
mod delete;
mod pods;
mod scale;
mod typed;
mod update;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    admission::{ServiceNetwork, Surroundings},
    field::Problems,
    managed::Writer,
    object::{Key, Object},
    registry::Resource,
    schema,
    selector::{FieldSelector, LabelSelector},
    status::Status,
    store::{Snapshot, Store},
};

pub(crate) use delete::{DeleteOptions, Deleted, FOREGROUND, ORPHAN, Propagation};
pub(crate) use typed::Client;

/// The API's state and rules.
pub(crate) struct Rest {
    pub(crate) store: Store,
    network: ServiceNetwork,
    mount_tokens: bool,
    /// Held from the first look at other objects until the write is stored: what was true when an
    /// object was admitted (its namespace exists, its address is free) is true when it appears.
    writing: Mutex<()>,
}

/// One object, or the part of it that a subresource is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) resource: &'static Resource,
    pub(crate) key: Key,
    pub(crate) part: Part,
}

/// What of an object a write concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status, of kinds that have one.
    Main,
    Status,
    /// The finalizers of a namespace's content.
    Finalize,
    /// The number of replicas.
    Scale,
}

/// How a write is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions<'a> {
    /// On whose behalf; owns the fields that are written.
    pub(crate) manager: &'a str,
    pub(crate) validation: FieldValidation,
    pub(crate) mode: Mode,
}

/// What to do about fields that no kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Store,
    DryRun,
}

/// An object that was written, and what the client should be told about it.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) object: Arc<Object>,
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Filter {
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels.matches(&object.labels()) && self.fields.matches(object.value())
    }
}

impl Rest {
    pub(crate) fn new(network: ServiceNetwork, mount_tokens: bool) -> Self {
        Self {
            store: Store::new(),
            network,
            mount_tokens,
            writing: Mutex::new(()),
        }
    }

    pub(crate) fn get(&self, resource: &Resource, key: &Key) -> Result<Arc<Object>, Status> {
        let found = self.store.find(resource, key);
        found.ok_or_else(|| Status::not_found(resource, &key.name))
    }

    pub(crate) fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        filter: &Filter,
    ) -> Snapshot {
        let mut snapshot = self.store.list(resource, namespace);
        snapshot.objects.retain(|object| filter.matches(object));
        snapshot
    }

    /// The same rules, spoken to with types.
    pub(crate) fn client(&self, manager: &'static str) -> Client<'_> {
        Client::new(self, manager)
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            store: &self.store,
            network: &self.network,
            mount_tokens: self.mount_tokens,
        }
    }

    fn write_lock(&self) -> MutexGuard<'_, ()> {
        // The lock guards no data of its own: a panic under it leaves the store as it was.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value in the shape of its kind.
struct Shaped {
    value: Value,
    missing: Problems,
    warnings: Vec<String>,
}

/// Brings what a client sent into the shape of `resource`'s kind.
fn shape(
    resource: &Resource,
    mut value: Value,
    validation: FieldValidation,
) -> Result<Shaped, Status> {
    if !value.is_object() {
        return Err(Status::bad_request(format!(
            "the {} must be an object",
            resource.kind
        )));
    }
    let unlike = |key: &str, expected: &str| {
        value[key]
            .as_str()
            .filter(|given| !given.is_empty() && *given != expected)
    };
    if let Some(given) = unlike("kind", resource.kind) {
        let message = format!(
            "{given} in version \"{}\" cannot be handled as a {}: converting {given} to {} is not \
             possible",
            resource.version, resource.kind, resource.kind
        );
        return Err(Status::bad_request(message));
    }
    if let Some(given) = unlike("apiVersion", &resource.api_version()) {
        let message = format!(
            "the API version in the data ({given}) does not match the expected API version ({})",
            resource.api_version()
        );
        return Err(Status::bad_request(message));
    }
    value["kind"] = resource.kind.into();
    value["apiVersion"] = resource.api_version().into();

    let refuse = |why: &dyn std::fmt::Display| {
        let (kind, version) = (resource.kind, resource.version);
        Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        ))
    };
    let decoded = schema::decode(&mut value, schema::named(resource.schema)).map_err(|misfit| {
        refuse(&misfit).caused_by([serde_json::json!({
            "reason": "FieldValueTypeInvalid",
            "message": misfit.message,
            "field": misfit.field,
        })])
    })?;
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => decoded.unknown,
        FieldValidation::Strict if decoded.unknown.is_empty() => Vec::new(),
        FieldValidation::Strict => {
            let unknown = decoded.unknown.join(", ");
            return Err(refuse(&format!("strict decoding error: {unknown}")));
        }
    };
    Ok(Shaped {
        value,
        missing: decoded.missing,
        warnings,
    })
}

fn writer<'a>(options: &WriteOptions<'a>, part: Part, now: Timestamp) -> Writer<'a> {
    let subresource = match part {
        Part::Main | Part::Finalize => None,
        Part::Status => Some("status"),
        Part::Scale => Some("scale"),
    };
    Writer {
        manager: options.manager,
        subresource,
        now,
    }
}

/// The time as `metav1.Time` keeps it: whole seconds.
fn now_in_seconds(now: Timestamp) -> Value {
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
        .into()
}

#[cfg(test)]
mod tests;
