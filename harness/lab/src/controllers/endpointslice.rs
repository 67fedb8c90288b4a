//! EndpointSlices: where each Service's pods are, in pieces of a bounded size.

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
        let mut present = own_slices(context, &service);
        if !endpoints::is_managed(&service) {
            present
                .iter()
                .try_for_each(|slice| client.delete(&**slice))?;
            return Ok(None);
        }
        let pods = client.list::<Pod>(Some(&key.namespace));
        for wanted in wanted(&service, &pods) {
            // A slice is kept for the same ports, so that most changes touch one slice only.
            match present.iter().position(|slice| slice.ports == wanted.ports) {
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
        present
            .iter()
            .try_for_each(|slice| client.delete(&**slice))?;
        Ok(None)
    }
}

/// The slices that this controller made for the Service; there may be others.
fn own_slices(context: &Context<'_>, service: &Service) -> Vec<Arc<EndpointSlice>> {
    let all = context
        .client
        .list::<EndpointSlice>(Some(service.namespace()));
    let is_own = |slice: &Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.clone().unwrap_or_default();
        labels
            .get(MANAGER_LABEL)
            .is_some_and(|manager| manager == MANAGER)
            && labels
                .get(SERVICE_LABEL)
                .is_some_and(|name| name == service.name())
    };
    all.into_iter().filter(is_own).collect()
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
    let mut labels = endpoints::labels(service);
    labels.insert(SERVICE_LABEL.to_owned(), service.name().to_owned());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![ownership::reference(service)]),
            ..ObjectMeta::default()
        },
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
