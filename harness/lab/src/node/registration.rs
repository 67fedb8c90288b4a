//! Telling the API that this node exists, what it is and that it is ready.

use std::time::Duration;

use inroads_harness::clock;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{KUBELET_PORT, Node, NodeError};
use crate::node::status::KUBELET;

/// How long the API server may take to come up, and how often it is tried.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// Registers the node as soon as the API server answers: it starts at the same time.
pub(crate) async fn register(node: &Node) -> Result<(), NodeError> {
    let begun = clock::now();
    loop {
        match try_register(node).await {
            Err(NodeError::Api { source, .. })
                if !is_answer(&source) && begun.elapsed() < LIMIT =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Whether the API server said something, as opposed to not being there yet.
fn is_answer(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(_))
}

/// Creates the node's object, or takes over the one that is there.
async fn try_register(node: &Node) -> Result<(), NodeError> {
    let spec = &node.spec;
    let api: Api<NodeObject> = Api::all(node.client.clone());
    let mut labels = json!({
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch(),
    });
    let mut taints = json!([]);
    if spec.control_plane {
        labels["node-role.kubernetes.io/control-plane"] = json!("");
        taints =
            json!([{ "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" }]);
    }
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": spec.name, "labels": labels },
        "spec": { "podCIDR": spec.pod_cidr, "podCIDRs": [spec.pod_cidr], "taints": taints },
    });
    let apply = PatchParams::apply(KUBELET).force();
    let failed = |source| NodeError::Api {
        doing: "registering the node",
        source: Box::new(source),
    };
    api.patch(&spec.name, &apply, &Patch::Apply(&object))
        .await
        .map_err(failed)?;
    let status = json!({ "status": status(node) });
    api.patch_status(&spec.name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map_err(failed)?;
    Ok(())
}

fn status(node: &Node) -> serde_json::Value {
    let now = clock::wall();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let capacity = json!({
        "cpu": cores.to_string(),
        "memory": format!("{}Ki", memory_kib()),
        "pods": node.spec.pod_cidr.hosts().count().saturating_sub(1).to_string(),
    });
    json!({
        "addresses": [
            { "type": "InternalIP", "address": node.spec.address },
            { "type": "Hostname", "address": node.spec.name },
        ],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": KUBELET_PORT } },
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [
            condition("Ready", "True", "KubeletReady", "the node's process is running"),
        ],
        "nodeInfo": {
            "architecture": arch(),
            "bootID": first_line("/proc/sys/kernel/random/boot_id"),
            "containerRuntimeVersion": concat!("inroads://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": first_line("/proc/sys/kernel/osrelease"),
            "kubeProxyVersion": concat!("inroads-lab-", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": crate::apiserver::VERSION,
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "the machine that the lab runs on",
            "systemUUID": "",
        },
    })
}

/// This machine's architecture, as Kubernetes names it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn memory_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}

fn first_line(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
