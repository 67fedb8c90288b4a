//! An object as the store keeps it: immutable, shared, and read in several forms.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde_json::Value;

use super::{kinds::Kind, registry::Resource};

/// Where an object stands among those of its resource; the namespace is empty for cluster-wide ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// One version of an object. Its other forms are made when first asked for and then kept, because a
/// version that one client reads is mostly read by several.
pub(crate) struct Object {
    resource: &'static Resource,
    version: u64,
    value: Value,
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
    json: OnceLock<Bytes>,
}

impl Object {
    /// Takes a value that admission has passed.
    pub(crate) fn new(resource: &'static Resource, mut value: Value, version: u64) -> Self {
        value["metadata"]["resourceVersion"] = version.to_string().into();
        Self {
            resource,
            version,
            value,
            typed: OnceLock::new(),
            json: OnceLock::new(),
        }
    }

    pub(crate) fn resource(&self) -> &'static Resource {
        self.resource
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// The object as its type. The store holds only what admission decoded as `K` before.
    pub(crate) fn typed<K: Kind>(&self) -> Arc<K> {
        let decode = || -> Arc<dyn Any + Send + Sync> {
            let decoded = serde::Deserialize::deserialize(&self.value);
            Arc::<K>::new(decoded.expect("admission encoded this value from the same type"))
        };
        let typed = Arc::clone(self.typed.get_or_init(decode));
        typed.downcast().expect("a resource has one kind")
    }

    pub(crate) fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| Bytes::from(self.value.to_string()))
            .clone()
    }

    pub(crate) fn key(&self) -> Key {
        Key::new(self.namespace(), self.name())
    }

    pub(crate) fn name(&self) -> &str {
        self.text("name")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.text("namespace")
    }

    pub(crate) fn uid(&self) -> &str {
        self.text("uid")
    }

    pub(crate) fn labels(&self) -> Option<&Value> {
        self.metadata("labels")
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.metadata("deletionTimestamp").is_some()
    }

    pub(crate) fn finalizers(&self) -> impl Iterator<Item = &str> {
        strings(self.metadata("finalizers"))
    }

    pub(crate) fn owner_references(&self) -> impl Iterator<Item = &Value> {
        self.metadata("ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    fn text(&self, field: &str) -> &str {
        self.metadata(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn metadata(&self, field: &str) -> Option<&Value> {
        self.value.get("metadata")?.get(field)
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Key { namespace, name } = self.key();
        write!(f, "{:?} {namespace}/{name}@{}", self.resource, self.version)
    }
}

/// The texts of a list, leaving out anything else in it.
pub(crate) fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
