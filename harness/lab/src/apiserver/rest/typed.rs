//! The API as the controllers use it: with types, and under their own names.

use std::sync::Arc;

use super::{DeleteOptions, Part, Rest, Target, WriteOptions};
use crate::apiserver::{
    kinds::Kind,
    object::{Key, Object},
    status::Status,
};

/// Speaks to [`Rest`] for one part of this process.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) rest: &'a Rest,
    manager: &'static str,
}

impl<'a> Client<'a> {
    pub(super) fn new(rest: &'a Rest, manager: &'static str) -> Self {
        Self { rest, manager }
    }

    /// The name under which this client writes.
    pub(crate) fn manager(&self) -> &'static str {
        self.manager
    }

    pub(crate) fn find<K: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let object = self
            .rest
            .store
            .find(K::RESOURCE, &Key::new(namespace, name))?;
        Some(object.typed::<K>())
    }

    /// All objects of a kind, or those in one namespace.
    pub(crate) fn list<K: Kind>(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        let objects = self.rest.store.list(K::RESOURCE, namespace).objects;
        objects.iter().map(|object| object.typed::<K>()).collect()
    }

    pub(crate) fn create<K: Kind>(&self, object: &K) -> Result<Arc<K>, Status> {
        let value = encode(object)?;
        let options = WriteOptions::trusted(self.manager);
        let written = self
            .rest
            .create(K::RESOURCE, object.namespace(), value, &options)?;
        Ok(written.object.typed::<K>())
    }

    /// Fails if the object changed since it was read.
    pub(crate) fn update<K: Kind>(&self, object: &K) -> Result<Arc<K>, Status> {
        self.update_part(object, Part::Main)
    }

    pub(crate) fn update_status<K: Kind>(&self, object: &K) -> Result<Arc<K>, Status> {
        self.update_part(object, Part::Status)
    }

    pub(crate) fn update_finalizers<K: Kind>(&self, object: &K) -> Result<Arc<K>, Status> {
        self.update_part(object, Part::Finalize)
    }

    fn update_part<K: Kind>(&self, object: &K, part: Part) -> Result<Arc<K>, Status> {
        let key = Key::new(object.namespace(), object.name());
        let target = Target {
            resource: K::RESOURCE,
            key,
            part,
        };
        let options = WriteOptions::trusted(self.manager);
        let written = self.rest.update(&target, encode(object)?, &options)?;
        Ok(written.object.typed::<K>())
    }

    /// Deletes just this object, not another of its name. That it is gone already is no error.
    pub(crate) fn delete<K: Kind>(&self, object: &K) -> Result<(), Status> {
        self.delete_with(object, DeleteOptions::default())
    }

    pub(crate) fn delete_with<K: Kind>(
        &self,
        object: &K,
        options: DeleteOptions,
    ) -> Result<(), Status> {
        let key = Key::new(object.namespace(), object.name());
        let options = DeleteOptions {
            uid: Some(object.uid().to_owned()),
            ..options
        };
        gone_is_fine(self.rest.delete(K::RESOURCE, &key, &options).map(drop))
    }

    /// The same for an object of any kind.
    pub(crate) fn delete_object(
        &self,
        object: &Object,
        options: DeleteOptions,
    ) -> Result<(), Status> {
        let options = DeleteOptions {
            uid: Some(object.uid().to_owned()),
            ..options
        };
        gone_is_fine(
            self.rest
                .delete(object.resource(), &object.key(), &options)
                .map(drop),
        )
    }
}

fn gone_is_fine(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
        other => other,
    }
}

fn encode<K: Kind>(object: &K) -> Result<serde_json::Value, Status> {
    serde_json::to_value(object).map_err(|error| Status::internal(error.to_string()))
}
