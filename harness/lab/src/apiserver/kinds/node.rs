//! Nodes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::Value;

use super::Kind;
use crate::apiserver::{
    registry::{NODES, Resource},
    table::{AGE, Column, NAME, age},
};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const UNKNOWN: &str = "<unknown>";

impl Kind for Node {
    const RESOURCE: &'static Resource = &NODES;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::text("Status"),
        Column::text("Roles"),
        AGE,
        Column::text("Version"),
        Column::text("Internal-IP").wide(),
        Column::text("External-IP").wide(),
        Column::text("OS-Image").wide(),
        Column::text("Kernel-Version").wide(),
        Column::text("Container-Runtime").wide(),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let info = status.node_info.clone().unwrap_or_default();
        let or_unknown = |text: String| {
            if text.is_empty() {
                UNKNOWN.to_owned()
            } else {
                text
            }
        };
        vec![
            self.name().into(),
            summary(self).into(),
            roles(self).into(),
            age(&self.metadata, now),
            info.kubelet_version.into(),
            address(&status, "InternalIP").into(),
            address(&status, "ExternalIP").into(),
            or_unknown(info.os_image).into(),
            or_unknown(info.kernel_version).into(),
            or_unknown(info.container_runtime_version).into(),
        ]
    }
}

/// Whether the node's kubelet says that it is ready.
pub(crate) fn is_ready(node: &Node) -> bool {
    ready_status(node) == Some("True")
}

fn ready_status(node: &Node) -> Option<&str> {
    let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
    Some(
        conditions
            .find(|condition| condition.type_ == "Ready")?
            .status
            .as_str(),
    )
}

fn summary(node: &Node) -> String {
    let ready = match ready_status(node) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if cordoned {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.to_owned()
    }
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let role = |(key, value): (&String, &String)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        None if key == "kubernetes.io/role" && !value.is_empty() => Some(value.clone()),
        _ => None,
    };
    let roles: Vec<_> = labels.filter_map(role).collect();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    }
}

fn address(status: &NodeStatus, ty: &str) -> String {
    let mut addresses = status.addresses.iter().flatten();
    let found = addresses.find(|address| address.type_ == ty);
    found.map_or_else(|| "<none>".to_owned(), |found| found.address.clone())
}
