//! What a method costs while it carries the common rate: CPU time and memory of its parts.
//!
//! The laptop's part answers for itself; parts in the cluster are read by way of the API: the metrics that pods,
//! API server and kubelets give of themselves.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::Crew;
use crate::measure::Reading;
use crate::method::{Method, Part, pods_of};
use crate::run::Unit;
use crate::stage::Stage;

/// Longest time for a figure: a run does not wait for an API server that is gone.
const LIMIT: Duration = Duration::from_secs(5);

/// Where our parts show what they cost.
const METRICS_PORT: u16 = 9100;

/// What the parts of a method had used at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    laptop_cpu_s: Option<f64>,
    laptop_bytes: Option<u64>,
    cluster_cpu_s: Option<f64>,
    cluster_bytes: Option<u64>,
}

/// Reads what the parts of `method` have used so far. What cannot be read is left out.
pub(super) async fn read(stage: &Stage, method: &dyn Method, crew: &mut Crew) -> Used {
    let laptop = crew.usage().await.ok().flatten();
    let cluster = cluster(stage, method).await;
    Used {
        laptop_cpu_s: laptop.map(|usage| usage.cpu_s),
        laptop_bytes: laptop.map(|usage| usage.peak_bytes),
        cluster_cpu_s: cluster.map(|(cpu, _)| cpu),
        cluster_bytes: cluster.map(|(_, bytes)| bytes),
    }
}

/// The figures of the time between two readings, in which `operations` were carried: CPU time for each of
/// them, and memory.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of memory and numbers of operations stay far below 2^52"
)]
pub(super) fn between(before: Used, after: Used, operations: u64) -> Vec<Reading> {
    let difference = |a: Option<f64>, b: Option<f64>| Some((b? - a?).max(0.0));
    let bytes = |count: Option<u64>| count.map(|count| count as f64);
    let each = |seconds: Option<f64>| Some(seconds? * 1e6 / operations.max(1) as f64);
    let figures = [
        (
            "cpu-laptop",
            Unit::Microseconds,
            each(difference(before.laptop_cpu_s, after.laptop_cpu_s)),
        ),
        (
            "cpu-cluster",
            Unit::Microseconds,
            each(difference(before.cluster_cpu_s, after.cluster_cpu_s)),
        ),
        ("memory-laptop", Unit::Bytes, bytes(after.laptop_bytes)),
        ("memory-cluster", Unit::Bytes, bytes(after.cluster_bytes)),
    ];
    figures
        .into_iter()
        .filter_map(|(metric, unit, value)| Some(Reading::plain(metric, unit, operations, value?)))
        .collect()
}

/// CPU seconds and resident bytes of all parts in the cluster together; `None` where there are none or
/// one cannot be read.
async fn cluster(stage: &Stage, method: &dyn Method) -> Option<(f64, u64)> {
    let parts = method.parts();
    if parts.is_empty() {
        return None;
    }
    let mut total = (0.0, 0);
    for part in parts {
        let (cpu, bytes) = match part {
            Part::Pods(label) => pods(stage, label).await?,
            Part::ApiServer => process(stage, "/metrics").await?,
            Part::Kubelets => {
                let mut sum = (0.0, 0);
                for node in &stage.facts.nodes {
                    let path = format!("/api/v1/nodes/{}/proxy/metrics", node.name);
                    let (cpu, bytes) = process(stage, &path).await?;
                    sum = (sum.0 + cpu, sum.1 + bytes);
                }
                sum
            }
        };
        total = (total.0 + cpu, total.1 + bytes);
    }
    Some(total)
}

/// One process, from its metrics in Prometheus' text format.
async fn process(stage: &Stage, path: &str) -> Option<(f64, u64)> {
    parse_process(&get(stage, path).await?)
}

fn parse_process(metrics: &str) -> Option<(f64, u64)> {
    let value = |name: &str| -> Option<f64> {
        let mut lines = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.next()?.trim().parse().ok()
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of bytes"
    )]
    let bytes = value("process_resident_memory_bytes")?.max(0.0) as u64;
    Some((value("process_cpu_seconds_total")?, bytes))
}

/// The pods with this label, from the metrics that they show of themselves.
async fn pods(stage: &Stage, label: &str) -> Option<(f64, u64)> {
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let selected = ListParams::default().labels(&pods_of(label));
    let mut total = (0.0, 0);
    let listed = tokio::time::timeout(LIMIT, pods.list(&selected)).await;
    for pod in listed.ok()?.ok()?.items {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}:{METRICS_PORT}/proxy/metrics",
            stage.namespace, pod.metadata.name?
        );
        let (cpu, bytes) = process(stage, &path).await?;
        total = (total.0 + cpu, total.1 + bytes);
    }
    Some(total)
}

async fn get(stage: &Stage, path: &str) -> Option<String> {
    let request = http::Request::get(path).body(Vec::new()).ok()?;
    let asked = stage.client.request_text(request);
    tokio::time::timeout(LIMIT, asked).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_metrics() {
        let text = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.5\n\
                    process_cpu_seconds_total_other 9\nprocess_resident_memory_bytes 4.096e+07\n";
        assert_eq!(parse_process(text), Some((1.5, 40_960_000)));
        assert_eq!(parse_process("nothing"), None);
    }

    #[test]
    fn what_was_not_read_gives_no_figure() {
        let before = Used {
            laptop_cpu_s: Some(1.0),
            ..Used::default()
        };
        let after = Used {
            laptop_cpu_s: Some(1.25),
            cluster_bytes: Some(7),
            ..Used::default()
        };
        let readings = between(before, after, 100);
        let names: Vec<&str> = readings
            .iter()
            .map(|reading| reading.metric.as_str())
            .collect();
        assert_eq!(names, ["cpu-laptop", "memory-cluster"]);
        assert!(
            (readings[0].value - 2500.0).abs() < 1e-9,
            "µs for each of 100 operations"
        );
    }
}
