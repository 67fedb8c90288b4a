//! Services, and their addresses and ports.

mod allocation;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
        SessionAffinityConfig,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::Value;

use super::{
    Kind,
    container::{PROTOCOLS, validate_choice},
    metadata::{self, IMMUTABLE},
    probe,
};
use crate::apiserver::{
    admission::Surroundings,
    field::{Path, Problems},
    registry::{Resource, SERVICES},
    selector::LabelSelector,
    status::Status,
    syntax,
    table::{AGE, Column, NAME, age},
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const NONE: &str = "None";

impl Kind for Service {
    const RESOURCE: &'static Resource = &SERVICES;
    const NAME: fn(&str) -> syntax::Checked = syntax::label_1035;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::text("Type"),
        Column::text("Cluster-IP"),
        Column::text("External-IP"),
        Column::text("Port(s)"),
        AGE,
        Column::text("Selector").wide(),
    ];

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.session_affinity.get_or_insert_with(|| NONE.to_owned());
        let ty = spec
            .type_
            .get_or_insert_with(|| "ClusterIP".to_owned())
            .clone();
        for port in spec.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
            port.target_port.get_or_insert(IntOrString::Int(port.port));
        }
        if spec.session_affinity.as_deref() == Some("ClientIP") {
            let config = SessionAffinityConfig {
                client_ip: Some(ClientIPConfig {
                    timeout_seconds: Some(10_800),
                }),
            };
            spec.session_affinity_config.get_or_insert(config);
        } else {
            spec.session_affinity_config = None;
        }
        if ty == "ExternalName" {
            return;
        }
        spec.internal_traffic_policy
            .get_or_insert_with(|| "Cluster".to_owned());
        spec.ip_families
            .get_or_insert_with(|| vec!["IPv4".to_owned()]);
        spec.ip_family_policy
            .get_or_insert_with(|| "SingleStack".to_owned());
        if has_node_ports(&ty) {
            spec.external_traffic_policy
                .get_or_insert_with(|| "Cluster".to_owned());
        }
        if ty == "LoadBalancer" {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
    }

    fn prepare_create(&mut self) {
        let load_balancer = Some(LoadBalancerStatus::default());
        self.status = Some(ServiceStatus {
            load_balancer,
            conditions: None,
        });
    }

    fn prepare_update(&mut self, old: &Self) {
        if let (Some(new), Some(old)) = (&mut self.spec, &old.spec) {
            allocation::keep(new, old);
        }
    }

    fn admit(&mut self, _old: Option<&Self>, around: &Surroundings<'_>) -> Result<(), Status> {
        let key = (self.namespace().to_owned(), self.name().to_owned());
        let Some(spec) = &mut self.spec else {
            return Ok(());
        };
        let mut problems = Problems::default();
        validate_addresses(spec, &mut problems);
        if problems.is_empty() {
            allocation::allocate(spec, (&key.0, &key.1), around, &mut problems);
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Status::invalid(&SERVICES, self.name(), &problems))
        }
    }

    fn validate(&self, problems: &mut Problems) {
        let path = Path::new("spec");
        let Some(spec) = &self.spec else {
            return problems.required(&path, "");
        };
        let ty = spec.type_.as_deref().unwrap_or_default();
        validate_choice(Some(ty), &TYPES, &path.field("type"), problems);
        let affinity = spec.session_affinity.as_deref();
        let affinity_path = path.field("sessionAffinity");
        validate_choice(affinity, &["ClientIP", NONE], &affinity_path, problems);
        metadata::validate_labels(spec.selector.as_ref(), &path.field("selector"), problems);
        for (field, policy) in [
            ("externalTrafficPolicy", &spec.external_traffic_policy),
            ("internalTrafficPolicy", &spec.internal_traffic_policy),
        ] {
            validate_choice(
                policy.as_deref(),
                &["Cluster", "Local"],
                &path.field(field),
                problems,
            );
        }
        validate_external_name(spec, ty, &path.field("externalName"), problems);
        validate_ports(spec, ty, &path.field("ports"), problems);
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        let external = |spec: &ServiceSpec| spec.type_.as_deref() == Some("ExternalName");
        if !external(new) && !external(old) && new.cluster_ip != old.cluster_ip {
            let path = Path::new("spec");
            let value = [new.cluster_ip.as_deref().unwrap_or_default()];
            problems.invalid(&path.field("clusterIPs").index(0), value, IMMUTABLE);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let ty = spec.type_.clone().unwrap_or_default();
        let selector = spec
            .selector
            .as_ref()
            .filter(|selector| !selector.is_empty());
        let selector = selector.map(|selector| LabelSelector::equal(selector).to_string());
        let cluster_ip = spec
            .cluster_ip
            .clone()
            .filter(|address| !address.is_empty());
        vec![
            self.name().into(),
            ty.as_str().into(),
            cluster_ip.unwrap_or_else(|| "<none>".to_owned()).into(),
            external_address(self, &spec, &ty).into(),
            ports_cell(spec.ports.as_deref().unwrap_or_default()).into(),
            age(&self.metadata, now),
            selector.unwrap_or_else(|| "<none>".to_owned()).into(),
        ]
    }
}

pub(super) fn has_node_ports(ty: &str) -> bool {
    matches!(ty, "NodePort" | "LoadBalancer")
}

/// What must be right before addresses can be given.
fn validate_addresses(spec: &ServiceSpec, problems: &mut Problems) {
    let path = Path::new("spec");
    let first = spec.cluster_ips.iter().flatten().next();
    if spec
        .cluster_ips
        .as_ref()
        .is_some_and(|addresses| addresses.len() > 1)
    {
        let why = "may only hold up to 1 value: the lab has IPv4 only";
        problems.invalid(&path.field("clusterIPs"), &spec.cluster_ips, why);
    }
    if spec
        .ip_families
        .iter()
        .flatten()
        .any(|family| family != "IPv4")
    {
        let why = "not configured on this cluster: the lab has IPv4 only";
        problems.invalid(&path.field("ipFamilies"), &spec.ip_families, why);
    }
    if let (Some(address), Some(first)) = (&spec.cluster_ip, first)
        && address != first
    {
        let why = "first value must match `clusterIP`";
        problems.invalid(&path.field("clusterIPs"), &spec.cluster_ips, why);
    }
    let ty = spec.type_.as_deref().unwrap_or_default();
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    if ty == "ExternalName" && !address.is_empty() {
        let why = "may not be set for ExternalName services";
        problems.forbidden(&path.field("clusterIP"), why);
    }
    if has_node_ports(ty) && address == NONE {
        let why = "may not be set to 'None' for NodePort and LoadBalancer services";
        problems.invalid(&path.field("clusterIPs").index(0), address, why);
    }
    if ty == "ClusterIP" {
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            if port.node_port.is_some_and(|port| port != 0) {
                let ports = path.field("ports");
                let port = ports.index(index);
                let why = "may not be used when `type` is 'ClusterIP'";
                problems.forbidden(&port.field("nodePort"), why);
            }
        }
    }
}

fn validate_external_name(spec: &ServiceSpec, ty: &str, path: &Path<'_>, problems: &mut Problems) {
    if ty != "ExternalName" {
        return;
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        problems.required(path, "");
    } else if let Err(why) = syntax::subdomain_1123(name.trim_end_matches('.')) {
        problems.invalid(path, name, why);
    }
}

fn validate_ports(spec: &ServiceSpec, ty: &str, path: &Path<'_>, problems: &mut Problems) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some(NONE);
    if ports.is_empty() && ty != "ExternalName" && !headless {
        problems.required(path, "");
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        match port.name.as_deref().unwrap_or_default() {
            "" if ports.len() > 1 => problems.required(&path.field("name"), ""),
            "" => {}
            name => {
                if let Err(why) = syntax::label_1123(name) {
                    problems.invalid(&path.field("name"), name, why);
                } else if !names.insert(name) {
                    problems.duplicate(&path.field("name"), name);
                }
            }
        }
        if let Err(why) = syntax::port_number(port.port) {
            problems.invalid(&path.field("port"), port.port, why);
        }
        let protocol = port.protocol.as_deref();
        validate_choice(protocol, &PROTOCOLS, &path.field("protocol"), problems);
        if let Some(target) = &port.target_port {
            probe::validate_port(target, &path.field("targetPort"), problems);
        }
        if !numbers.insert((protocol, port.port)) {
            problems.duplicate(&path, crate::apiserver::field::Json(port));
        }
    }
}

fn external_address(service: &Service, spec: &ServiceSpec, ty: &str) -> String {
    let given = spec.external_ips.clone().unwrap_or_default();
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .and_then(|balancer| balancer.ingress.clone())
        .unwrap_or_default();
    let balanced = ingress
        .into_iter()
        .filter_map(|ingress| ingress.ip.or(ingress.hostname));
    let addresses: Vec<_> = balanced.chain(given).collect();
    match ty {
        "ExternalName" => spec.external_name.clone().unwrap_or_default(),
        "LoadBalancer" if addresses.is_empty() => "<pending>".to_owned(),
        _ if addresses.is_empty() => "<none>".to_owned(),
        _ => addresses.join(","),
    }
}

fn ports_cell(ports: &[ServicePort]) -> String {
    let shown = |port: &ServicePort| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        match port.node_port {
            Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port.port),
            _ => format!("{}/{protocol}", port.port),
        }
    };
    match ports {
        [] => "<none>".to_owned(),
        ports => ports.iter().map(shown).collect::<Vec<_>>().join(","),
    }
}
