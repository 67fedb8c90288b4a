//! EndpointSlices of Endpoints that somebody else writes, for Services without a selector: cluster DNS and
//! kube-proxy read slices only.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};

use super::{Context, Controller, Item, endpoints, endpointslice};
use crate::apiserver::{
    registry::{ENDPOINT_SLICES, ENDPOINTS, Resource, SERVICES},
    status::Status,
    store::Change,
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";

/// Set to `true`, it says that somebody makes slices too.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";

/// Addresses of a subset that are mirrored, as many as the real controller mirrors.
const LIMIT: usize = 1000;

pub(super) struct Mirroring;

impl Controller for Mirroring {
    fn name(&self) -> &'static str {
        "endpointslice-mirroring-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&SERVICES, &ENDPOINTS, &ENDPOINT_SLICES]
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
        let service = client.find::<Service>(&key.namespace, &key.name);
        let listed = client.find::<Endpoints>(&key.namespace, &key.name);
        let wanted = match (service, listed) {
            (Some(service), Some(listed)) if is_mirrored(&service, &listed) => wanted(&listed),
            _ => Vec::new(),
        };
        endpointslice::settle(context, item, MANAGER, wanted)?;
        Ok(None)
    }
}

fn is_mirrored(service: &Service, listed: &Endpoints) -> bool {
    let labels = listed.metadata.labels.as_ref();
    let skipped = labels.and_then(|labels| labels.get(SKIP_LABEL));
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    selector.is_none_or(|selector| selector.is_empty()) && skipped.is_none_or(|it| it != "true")
}

/// The slices that there should be: one for each subset and family of addresses.
fn wanted(listed: &Endpoints) -> Vec<EndpointSlice> {
    let subsets = listed.subsets.iter().flatten();
    subsets
        .flat_map(|subset| {
            ["IPv4", "IPv6"]
                .into_iter()
                .filter_map(|family| slice(listed, subset, family))
        })
        .collect()
}

fn slice(listed: &Endpoints, subset: &EndpointSubset, family: &str) -> Option<EndpointSlice> {
    let ready = subset.addresses.iter().flatten();
    let waiting = subset.not_ready_addresses.iter().flatten();
    let all = ready.map(|it| (it, true));
    let all = all.chain(waiting.map(|it| (it, false))).take(LIMIT);
    let of_family = all.filter(|(address, _)| {
        let is_ipv4 = address.ip.parse::<IpAddr>().map(|ip| ip.is_ipv4());
        is_ipv4.is_ok_and(|is_ipv4| is_ipv4 == (family == "IPv4"))
    });
    let endpoints: Vec<Endpoint> = of_family
        .map(|(address, ready)| endpoint(address, ready))
        .collect();
    if endpoints.is_empty() {
        return None;
    }
    let labels = listed.metadata.labels.clone().unwrap_or_default();
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    });
    Some(EndpointSlice {
        metadata: endpointslice::metadata(listed, MANAGER, labels),
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.collect()),
    })
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
