//! What the kinds of objects mean: their defaults, their validity and their columns in a table.
//!
//! One file per kind (or group of small ones), each implementing [`Kind`] for the type of
//! `k8s-openapi`. Nothing here knows of HTTP, and only admission sees other objects.

mod config;
mod container;
mod daemonset;
mod deployment;
mod endpoints;
mod event;
mod job;
mod metadata;
mod namespace;
mod node;
mod pod;
mod pod_columns;
mod pod_template;
mod probe;
mod rbac;
mod replicaset;
mod revision;
mod service;
mod serviceaccount;
mod statefulset;
mod volume;
mod workload;

use std::marker::PhantomData;

use jiff::Timestamp;
use k8s_openapi::{Metadata, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    admission::Surroundings,
    field::Problems,
    object::Object,
    registry::Resource,
    status::Status,
    syntax,
    table::{AGE, Column, NAME, age},
};

pub(crate) use namespace::CONTENT_FINALIZER;
pub(crate) use node::is_ready as node_is_ready;

/// A kind of object.
pub(crate) trait Kind:
    Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
    const RESOURCE: &'static Resource;

    /// The grammar of the object's name.
    const NAME: fn(&str) -> syntax::Checked = syntax::subdomain_1123;

    /// The columns of a table; the first is the name.
    const COLUMNS: &'static [Column] = &[NAME, AGE];

    /// Fills in what the client left out.
    fn set_defaults(&mut self) {}

    /// Sets, on a new object, what is not the client's to choose.
    fn prepare_create(&mut self) {}

    /// Keeps, on an update, what the client may leave out or may not change by it.
    fn prepare_update(&mut self, _old: &Self) {}

    /// Fits the object into the cluster: what depends on other objects.
    fn admit(&mut self, _old: Option<&Self>, _around: &Surroundings<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn validate(&self, _problems: &mut Problems) {}

    fn validate_update(&self, _old: &Self, _problems: &mut Problems) {}

    /// The cells of a table's row, one for each of [`Kind::COLUMNS`].
    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![self.name().into(), age(self.metadata(), now)]
    }

    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    fn is_terminating(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
}

/// A [`Kind`] that the registry can hold without its type.
pub(crate) trait Behaviour: Send + Sync {
    /// Makes an object that has the right shape ready to be stored, or refuses it.
    fn admit(
        &self,
        new: Value,
        old: Option<&Object>,
        missing: Problems,
        around: &Surroundings<'_>,
    ) -> Result<Value, Status>;

    fn columns(&self) -> &'static [Column];

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value>;
}

/// The [`Behaviour`] of the kind `K`.
pub(crate) struct Of<K>(PhantomData<fn() -> K>);

impl<K> Of<K> {
    pub(crate) const NEW: Self = Self(PhantomData);
}

impl<K: Kind> Behaviour for Of<K> {
    fn admit(
        &self,
        new: Value,
        old: Option<&Object>,
        missing: Problems,
        around: &Surroundings<'_>,
    ) -> Result<Value, Status> {
        let mut new: K = serde_json::from_value(new)
            .map_err(|error| Status::bad_request(format!("decode the object: {error}")))?;
        let old = old.map(Object::typed::<K>);
        let old = old.as_deref();

        new.set_defaults();
        match old {
            Some(old) => new.prepare_update(old),
            None => new.prepare_create(),
        }
        new.admit(old, around)?;

        let mut problems = missing;
        metadata::validate(new.metadata(), K::NAME, &mut problems);
        new.validate(&mut problems);
        if let Some(old) = old {
            metadata::validate_update(new.metadata(), old.metadata(), &mut problems);
            new.validate_update(old, &mut problems);
        }
        if !problems.is_empty() {
            return Err(Status::invalid(K::RESOURCE, new.name(), &problems));
        }
        serde_json::to_value(new).map_err(|error| Status::internal(error.to_string()))
    }

    fn columns(&self) -> &'static [Column] {
        K::COLUMNS
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        object.typed::<K>().cells(now)
    }
}
