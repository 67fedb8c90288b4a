//! EndpointSlices: where each Service's pods are, in pieces of a bounded size.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Context, Controller, Item,
    endpoints::{self, Backend, Port},
    ownership,
};
use crate::apiserver::{
    kinds::Kind,
    registry::{ENDPOINT_SLICES, PODS, Resource, SERVICES},
    status::Status,
    store::Change,
};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const LIMIT: usize = 100;

pub(super) struct EndpointSlices;

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&SERVICES, &PODS, &ENDPOINT_SLICES]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        endpoints::concerned(context, change)
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let (client, key) = (&context.client, &item.key);
        let Some(service) = client.find::<Service>(&key.namespace, &key.name) else {
            // The slices are the Service's own, and go with it.
            return Ok(None);
        };
        let wanted = if endpoints::is_managed(&service) {
            wanted(&service, &client.list::<Pod>(Some(&key.namespace)))
        } else {
            Vec::new()
        };
        settle(context, item, MANAGER, wanted)?;
        Ok(None)
    }
}

/// Makes those slices of `manager` that there should be for the Service of `item`, and deletes its others. A slice is
/// kept for the same ports, so that most changes touch one slice only.
pub(super) fn settle(
    context: &Context<'_>,
    item: &Item,
    manager: &str,
    wanted: Vec<EndpointSlice>,
) -> Result<(), Status> {
    let (client, key) = (&context.client, &item.key);
    let mut present = client.list::<EndpointSlice>(Some(&key.namespace));
    present.retain(|slice| is_of(slice, manager, &key.name));
    for wanted in wanted {
        let same = |slice: &Arc<EndpointSlice>| {
            slice.ports == wanted.ports && slice.address_type == wanted.address_type
        };
        match present.iter().position(same) {
            Some(index) => {
                let slice = present.remove(index);
                let updated = EndpointSlice {
                    metadata: ObjectMeta {
                        labels: wanted.metadata.labels.clone(),
                        ..slice.metadata.clone()
                    },
                    ..wanted
                };
                if *slice != updated {
                    client.update(&updated)?;
                }
            }
            None => client.create(&wanted).map(drop)?,
        }
    }
    present.iter().try_for_each(|slice| client.delete(&**slice))
}

fn is_of(slice: &EndpointSlice, manager: &str, service: &str) -> bool {
    let has = |label: &str, value: &str| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|it| it.get(label)).map(String::as_str) == Some(value)
    };
    has(MANAGER_LABEL, manager) && has(SERVICE_LABEL, service)
}

/// What a slice of `manager` says of itself, for the Service, or the Endpoints of its name, that owns it.
pub(super) fn metadata<T: Kind>(
    owner: &T,
    manager: &str,
    mut labels: BTreeMap<String, String>,
) -> ObjectMeta {
    labels.insert(SERVICE_LABEL.to_owned(), owner.name().to_owned());
    labels.insert(MANAGER_LABEL.to_owned(), manager.to_owned());
    ObjectMeta {
        generate_name: Some(format!("{}-", owner.name())),
        namespace: Some(owner.namespace().to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![ownership::reference(owner)]),
        ..ObjectMeta::default()
    }
}

/// The slices that there should be; one without endpoints, if there are no pods.
fn wanted(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSlice> {
    let publish = service
        .spec
        .as_ref()
        .and_then(|it| it.publish_not_ready_addresses)
        == Some(true);
    let groups = endpoints::groups(service, pods);
    if groups.is_empty() {
        return vec![slice(service, Vec::new(), Vec::new())];
    }
    let of_group = |group: endpoints::Group| {
        let ports: Vec<_> = group.ports.iter().map(port).collect();
        let parts = group.backends.chunks(LIMIT).map(|part| {
            let endpoints = part
                .iter()
                .map(|backend| endpoint(backend, publish))
                .collect();
            slice(service, endpoints, ports.clone())
        });
        parts.collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(of_group).collect()
}

fn slice(service: &Service, endpoints: Vec<Endpoint>, ports: Vec<EndpointPort>) -> EndpointSlice {
    EndpointSlice {
        metadata: metadata(service, MANAGER, endpoints::labels(service)),
        address_type: "IPv4".to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

fn endpoint(backend: &Backend, publish: bool) -> Endpoint {
    Endpoint {
        addresses: vec![backend.address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (backend.ready && !backend.ends)),
            serving: Some(backend.ready),
            terminating: Some(backend.ends),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.reference.clone()),
        ..Endpoint::default()
    }
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}
