//! What a Service leads to. Pure: a Service and pods in, addresses and ports out.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    apiserver::{kinds::Kind, selector::LabelSelector},
    controllers::pods,
};

/// A pod behind a Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backend {
    pub(crate) address: IpAddr,
    /// For the pod's own name below the Service's.
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) ready: bool,
    /// The pod is being deleted.
    pub(crate) ends: bool,
    pub(crate) reference: ObjectReference,
}

/// A port as it is at the pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) number: i32,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
}

/// Pods whose ports have the same numbers: they can differ, where a Service names them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) ports: Vec<Port>,
    pub(crate) backends: Vec<Backend>,
}

/// The pods that the Service selects and that have an address, by their ports and then by address.
pub(crate) fn groups(service: &Service, pods: &[Arc<Pod>]) -> Vec<Group> {
    let spec = service.spec.clone().unwrap_or_default();
    let selector = LabelSelector::equal(&spec.selector.unwrap_or_default());
    let service_ports = spec.ports.unwrap_or_default();
    let mut groups: BTreeMap<Vec<Port>, Vec<Backend>> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| selector.matches(&pod.metadata.labels))
    {
        let Some(backend) = backend(service, pod) else {
            continue;
        };
        let ports: Vec<_> = service_ports
            .iter()
            .filter_map(|port| resolve(port, pod))
            .collect();
        // A pod that has none of the ports is behind none of them; a Service without ports is headless.
        if ports.is_empty() && !service_ports.is_empty() {
            continue;
        }
        groups.entry(ports).or_default().push(backend);
    }
    let group = |(ports, mut backends): (Vec<Port>, Vec<Backend>)| {
        backends.sort_by_key(|backend| backend.address);
        Group { ports, backends }
    };
    groups.into_iter().map(group).collect()
}

fn backend(service: &Service, pod: &Pod) -> Option<Backend> {
    if pods::is_finished(pod) {
        return None;
    }
    let address = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    let spec = pod.spec.as_ref()?;
    let named = spec.subdomain.as_deref() == Some(service.name());
    let hostname = spec
        .hostname
        .clone()
        .filter(|name| named && !name.is_empty());
    Some(Backend {
        address,
        hostname,
        node: pods::node(pod).map(str::to_owned),
        ready: pods::is_ready(pod),
        ends: pod.is_terminating(),
        reference: ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod.name().to_owned()),
            namespace: Some(pod.namespace().to_owned()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectReference::default()
        },
    })
}

/// The number of a Service's port at a pod; none, if the pod has no port of the wanted name.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod
                .spec
                .as_ref()
                .into_iter()
                .flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let found = ports.find(|candidate| {
                candidate.name.as_ref() == Some(name)
                    && candidate.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            found?.container_port
        }
    };
    let app_protocol = port.app_protocol.clone();
    Some(Port {
        name: port.name.clone(),
        number,
        protocol,
        app_protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        let service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
        serde_json::from_value(service).unwrap()
    }

    fn pod(name: &str, address: &str, more: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [], "nodeName": "worker-1"},
            "status": {"phase": "Running", "podIP": address, "conditions": [
                {"type": "Ready", "status": "True"},
            ]},
        });
        json_patch::merge(&mut pod, &more);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn pods_that_have_an_address_and_have_not_ended_are_behind_a_service() {
        let service = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
        let pods = [
            pod("b", "10.244.1.10", json!({})),
            pod("a", "10.244.1.9", json!({"status": {"conditions": []}})),
            pod(
                "done",
                "10.244.1.3",
                json!({"status": {"phase": "Succeeded"}}),
            ),
            pod(
                "other",
                "10.244.1.4",
                json!({"metadata": {"labels": {"app": "db"}}}),
            ),
            pod("new", "", json!({"status": {"podIP": null}})),
        ];
        let groups = groups(&service, &pods);
        assert_eq!(groups.len(), 1);
        let seen: Vec<_> = groups[0]
            .backends
            .iter()
            .map(|it| (it.address.to_string(), it.ready))
            .collect();
        assert_eq!(
            seen,
            [
                ("10.244.1.9".to_owned(), false),
                ("10.244.1.10".to_owned(), true)
            ]
        );
        assert_eq!(groups[0].ports[0].number, 80);
    }

    #[test]
    fn a_named_port_is_what_each_pod_says_it_is() {
        let service = service(json!({
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
        }));
        let with_port = |name: &str, address: &str, port: Value| {
            let ports = json!([{"name": "c", "ports": [port]}]);
            pod(name, address, json!({"spec": {"containers": ports}}))
        };
        let pods = [
            with_port(
                "a",
                "10.244.1.1",
                json!({"name": "web", "containerPort": 8080}),
            ),
            with_port(
                "b",
                "10.244.1.2",
                json!({"name": "web", "containerPort": 9090}),
            ),
            with_port(
                "c",
                "10.244.1.3",
                json!({"name": "else", "containerPort": 1}),
            ),
        ];
        let groups = groups(&service, &pods);
        let numbers: Vec<_> = groups.iter().map(|group| group.ports[0].number).collect();
        assert_eq!(numbers, [8080, 9090]);
    }

    #[test]
    fn a_pod_has_a_name_of_its_own_below_the_service_of_its_subdomain() {
        let service = service(json!({"clusterIP": "None", "selector": {"app": "web"}}));
        let named =
            |subdomain: &str| json!({"spec": {"hostname": "web-0", "subdomain": subdomain}});
        let pods = [
            pod("a", "10.244.1.1", named("web")),
            pod("b", "10.244.1.2", named("other")),
        ];
        let groups = groups(&service, &pods);
        let names: Vec<_> = groups[0]
            .backends
            .iter()
            .map(|it| it.hostname.as_deref())
            .collect();
        assert_eq!(names, [Some("web-0"), None]);
        assert!(groups[0].ports.is_empty());
    }
}
