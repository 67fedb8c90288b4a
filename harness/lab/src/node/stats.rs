//! What pods have used: the kubelet's `/stats/summary`, as far as the cost of a method is read from it.

use inroads_harness::clock;
use inroads_harness::process_usage::ProcessUsage;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Node;

/// The summary API's answer (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`), CPU and memory only.
pub(crate) fn summary(node: &Node) -> Value {
    let now = clock::wall();
    let pods = node.pods.all();
    let pods = pods.iter().map(|pod| {
        let running = pod.containers();
        let containers = running.iter().filter_map(|(name, running)| {
            let used = ProcessUsage::of_tree(running.pid?);
            Some(container(name, used, now))
        });
        json!({
            "podRef": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
            "startTime": pod.started,
            "containers": containers.collect::<Vec<Value>>(),
        })
    });
    json!({
        "node": { "nodeName": node.spec.name, "startTime": now },
        "pods": pods.collect::<Vec<Value>>(),
    })
}

fn container(name: &str, used: ProcessUsage, now: Timestamp) -> Value {
    let ProcessUsage {
        cpu,
        resident_bytes,
        ..
    } = used;
    json!({
        "name": name,
        "cpu": {
            "time": now,
            "usageCoreNanoSeconds": u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX),
        },
        "memory": { "time": now, "rssBytes": resident_bytes, "workingSetBytes": resident_bytes },
    })
}
