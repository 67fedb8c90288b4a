//! What every namespace is furnished with, and how one is emptied before it goes.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Context, Controller, Item};
use crate::apiserver::{
    kinds::{CONTENT_FINALIZER, Kind},
    object::Key,
    registry::{self, CONFIG_MAPS, NAMESPACES, Resource, SERVICE_ACCOUNTS},
    rest::DeleteOptions,
    status::Status,
    store::Change,
};

const CERTIFICATE_MAP: &str = "kube-root-ca.crt";
const CERTIFICATE_KEY: &str = "ca.crt";

/// Gives every namespace its default service account and the cluster's certificate.
pub(super) struct Furnishing {
    pub(super) certificate: String,
}

impl Controller for Furnishing {
    fn name(&self) -> &'static str {
        "namespace-furnishing"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&NAMESPACES, &SERVICE_ACCOUNTS, &CONFIG_MAPS]
    }

    fn concerned(&self, _context: &Context<'_>, change: &Change) -> Vec<Item> {
        let object = &change.object;
        let namespace = match (object.resource().kind, object.name()) {
            ("Namespace", name) => name,
            ("ServiceAccount", "default") | ("ConfigMap", CERTIFICATE_MAP) => object.namespace(),
            _ => return Vec::new(),
        };
        vec![Item::new(&NAMESPACES, Key::new("", namespace))]
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let (client, name) = (&context.client, &item.key.name);
        let namespace = client.find::<Namespace>("", name);
        if namespace.is_none_or(|namespace| namespace.is_terminating()) {
            return Ok(None);
        }
        let metadata = |object: &str| ObjectMeta {
            name: Some(object.to_owned()),
            namespace: Some(name.clone()),
            ..ObjectMeta::default()
        };
        if client.find::<ServiceAccount>(name, "default").is_none() {
            let metadata = metadata("default");
            client.create(&ServiceAccount {
                metadata,
                ..ServiceAccount::default()
            })?;
        }
        let data = Some([(CERTIFICATE_KEY.to_owned(), self.certificate.clone())].into());
        match client.find::<ConfigMap>(name, CERTIFICATE_MAP) {
            None => {
                let metadata = metadata(CERTIFICATE_MAP);
                client.create(&ConfigMap {
                    metadata,
                    data,
                    ..ConfigMap::default()
                })?;
            }
            Some(map) if map.data != data => {
                client.update(&ConfigMap {
                    data,
                    ..ConfigMap::clone(&map)
                })?;
            }
            Some(_) => {}
        }
        Ok(None)
    }
}

/// Deletes what is in a namespace that is being deleted, and then lets it go.
pub(super) struct Emptying;

impl Controller for Emptying {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        let namespaced = registry::ALL
            .iter()
            .copied()
            .filter(|resource| resource.namespaced);
        namespaced.chain([&NAMESPACES]).collect()
    }

    fn concerned(&self, _context: &Context<'_>, change: &Change) -> Vec<Item> {
        let object = &change.object;
        let namespace = match object.resource().kind {
            "Namespace" => object.name(),
            _ if change.deleted => object.namespace(),
            _ => return Vec::new(),
        };
        vec![Item::new(&NAMESPACES, Key::new("", namespace))]
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let (client, name) = (&context.client, &item.key.name);
        let Some(namespace) = client.find::<Namespace>("", name) else {
            return Ok(None);
        };
        if !namespace.is_terminating() {
            return Ok(None);
        }
        let mut left = 0;
        for resource in registry::ALL.iter().filter(|resource| resource.namespaced) {
            for object in client.rest.store.list(resource, Some(name)).objects {
                if !object.is_terminating() {
                    client.delete_object(&object, DeleteOptions::default())?;
                }
            }
            left += client.rest.store.list(resource, Some(name)).objects.len();
        }
        if left > 0 {
            return Ok(None);
        }
        let mut emptied = Namespace::clone(&namespace);
        let finalizers = emptied
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        if finalizers
            .iter()
            .any(|finalizer| finalizer == CONTENT_FINALIZER)
        {
            finalizers.retain(|finalizer| finalizer != CONTENT_FINALIZER);
            client.update_finalizers(&emptied)?;
        }
        Ok(None)
    }
}
