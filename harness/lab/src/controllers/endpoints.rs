//! Endpoints: where each Service's pods are.
//!
//! What a Service leads to is worked out here (`backends`, pure) for both forms of it: the old Endpoints,
//! and the EndpointSlices of `endpointslice`.

mod backends;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Context, Controller, Item};
use crate::apiserver::{
    kinds::Kind,
    object::{Key, Object},
    registry::{ENDPOINTS, PODS, Resource, SERVICES},
    selector::LabelSelector,
    status::Status,
    store::Change,
};

pub(super) use backends::{Backend, Group, Port, groups};

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

pub(super) struct EndpointsOfServices;

impl Controller for EndpointsOfServices {
    fn name(&self) -> &'static str {
        "endpoints-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&SERVICES, &PODS, &ENDPOINTS]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        concerned(context, change)
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let (client, key) = (&context.client, &item.key);
        let present = client.find::<Endpoints>(&key.namespace, &key.name);
        let Some(service) = client.find::<Service>(&key.namespace, &key.name) else {
            // Endpoints go with their Service, even though it does not own them.
            return present
                .map_or(Ok(()), |present| client.delete(&*present))
                .map(|()| None);
        };
        if !is_managed(&service) {
            return Ok(None);
        }
        let pods = client.list::<Pod>(Some(&key.namespace));
        let groups = groups(&service, &pods);
        let mut endpoints = present.as_deref().cloned().unwrap_or_else(|| Endpoints {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                ..ObjectMeta::default()
            },
            subsets: None,
        });
        let subsets: Vec<_> = groups
            .iter()
            .filter_map(|group| subset(group, &service))
            .collect();
        endpoints.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
        endpoints.metadata.labels = Some(labels(&service)).filter(|labels| !labels.is_empty());
        match present {
            None => client.create(&endpoints).map(drop)?,
            Some(present) if *present != endpoints => client.update(&endpoints).map(drop)?,
            Some(_) => {}
        }
        Ok(None)
    }
}

/// The Services that a change of a Service, its endpoints or a pod concerns.
pub(super) fn concerned(context: &Context<'_>, change: &Change) -> Vec<Item> {
    let object = &change.object;
    match object.resource().kind {
        "Service" => vec![Item::of(change)],
        "Endpoints" => vec![Item::new(&SERVICES, object.key())],
        "EndpointSlice" => {
            let service = object
                .labels()
                .and_then(|it| it["kubernetes.io/service-name"].as_str());
            let key = |name| Item::new(&SERVICES, Key::new(object.namespace(), name));
            service.map(key).into_iter().collect()
        }
        _ => {
            let versions: Vec<_> = [Some(object), change.previous.as_ref()]
                .into_iter()
                .flatten()
                .collect();
            let services = context.client.list::<Service>(Some(object.namespace()));
            let selects =
                |service: &&Arc<Service>| versions.iter().any(|pod| selects(service, pod));
            let key = |service: &Arc<Service>| Key::new(service.namespace(), service.name());
            services
                .iter()
                .filter(selects)
                .map(|it| Item::new(&SERVICES, key(it)))
                .collect()
        }
    }
}

/// Whether the Service has a selector. The endpoints of one without are somebody else's to write.
pub(super) fn is_managed(service: &Service) -> bool {
    let Some(spec) = &service.spec else {
        return false;
    };
    let external = spec.type_.as_deref() == Some("ExternalName");
    !external
        && spec
            .selector
            .as_ref()
            .is_some_and(|selector| !selector.is_empty())
}

fn selects(service: &Service, pod: &Object) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    is_managed(service)
        && selector.is_some_and(|it| LabelSelector::equal(it).matches(&pod.labels()))
}

/// The Service's own labels, and whether it is headless.
pub(super) fn labels(service: &Service) -> std::collections::BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let address = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref());
    if address == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels
}

fn subset(group: &Group, service: &Service) -> Option<EndpointSubset> {
    let publish = service
        .spec
        .as_ref()
        .and_then(|it| it.publish_not_ready_addresses)
        == Some(true);
    let (mut ready, mut waiting) = (Vec::new(), Vec::new());
    for backend in &group.backends {
        let address = EndpointAddress {
            ip: backend.address.to_string(),
            hostname: backend.hostname.clone(),
            node_name: backend.node.clone(),
            target_ref: Some(backend.reference.clone()),
        };
        // Pods that end are not listed at all, unless everything is to be published.
        if backend.ready && !backend.ends || publish {
            ready.push(address);
        } else if !backend.ends {
            waiting.push(address);
        }
    }
    let port = |port: &Port| EndpointPort {
        name: port.name.clone(),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    };
    let ports: Vec<_> = group.ports.iter().map(port).collect();
    (!ready.is_empty() || !waiting.is_empty()).then(|| EndpointSubset {
        addresses: Some(ready).filter(|addresses| !addresses.is_empty()),
        not_ready_addresses: Some(waiting).filter(|addresses| !addresses.is_empty()),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    })
}
