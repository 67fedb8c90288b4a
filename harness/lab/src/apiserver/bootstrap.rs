//! What every cluster has from the start: namespaces, roles, and the Service that leads to the API.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    admission::ServiceNetwork,
    rbac,
    registry::{ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, Resource, SERVICES},
    rest::{Rest, WriteOptions},
    status::Status,
};

const NAMESPACE_NAMES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
const MANAGER: &str = "kube-apiserver";

pub(crate) fn create(
    rest: &Rest,
    network: &ServiceNetwork,
    advertise: SocketAddr,
) -> Result<(), Status> {
    let make = |resource: &'static Resource, namespace: &str, value: Value| {
        rest.create(resource, namespace, value, &WriteOptions::trusted(MANAGER))
            .map(drop)
    };
    for name in NAMESPACE_NAMES {
        make(&NAMESPACES, "", json!({"metadata": {"name": name}}))?;
    }
    rbac::bootstrap::create(rest)?;
    make(&SERVICES, "default", service(network, advertise))?;
    make(&ENDPOINTS, "default", endpoints(advertise))?;
    make(&ENDPOINT_SLICES, "default", endpoint_slice(advertise))
}

fn service(network: &ServiceNetwork, advertise: SocketAddr) -> Value {
    json!({
        "metadata": {
            "name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": network.api_server,
            "ports": [{"name": "https", "port": 443, "targetPort": advertise.port()}],
        },
    })
}

/// The Service has no selector: nobody else writes its endpoints.
fn endpoints(advertise: SocketAddr) -> Value {
    json!({
        "metadata": {
            "name": "kubernetes",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": [{"ip": advertise.ip()}],
            "ports": [{"name": "https", "port": advertise.port()}],
        }],
    })
}

fn endpoint_slice(advertise: SocketAddr) -> Value {
    json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertise.ip()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertise.port()}],
    })
}
