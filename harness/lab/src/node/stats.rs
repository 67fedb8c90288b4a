//! What pods and this process have used: the kubelet's `/stats/summary` and `/metrics`, as far as the
//! cost of a method is read from them.

use std::fs;

use serde_json::{Value, json};

use super::Node;
use inroads_harness::clock;

/// What a group of processes has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// CPU time, user and system, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
}

/// The summary API's answer (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`), CPU and memory only.
pub(crate) fn summary(node: &Node) -> Value {
    let now = clock::wall();
    let pods: Vec<Value> = node.pods.all().iter().map(|pod| {
        let containers: Vec<Value> = pod
            .containers()
            .iter()
            .filter_map(|(name, running)| {
                let used = of_tree(running.pid?);
                Some(json!({
                    "name": name,
                    "cpu": { "time": now, "usageCoreNanoSeconds": used.cpu_ns },
                    "memory": { "time": now, "rssBytes": used.resident, "workingSetBytes": used.resident },
                }))
            })
            .collect();
        json!({
            "podRef": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
            "startTime": pod.started,
            "containers": containers,
        })
    }).collect();
    json!({ "node": { "nodeName": node.spec.name, "startTime": now }, "pods": pods })
}

/// This process in Prometheus' text format, under the names that every Go program gives them.
pub(crate) fn metrics() -> String {
    let used = of_process(std::process::id()).unwrap_or_default();
    let seconds = std::time::Duration::from_nanos(used.cpu_ns).as_secs_f64();
    format!(
        "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {seconds}\n\
         # TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}\n",
        used.resident
    )
}

/// A process and all below it. Processes that end while they are read are left out.
fn of_tree(pid: u32) -> Used {
    let mut total = of_process(pid).unwrap_or_default();
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children
        .split_ascii_whitespace()
        .filter_map(|child| child.parse().ok())
    {
        let used = of_tree(child);
        total.cpu_ns += used.cpu_ns;
        total.resident += used.resident;
    }
    total
}

/// One process, with those it has waited for (proc_pid_stat(5)).
fn of_process(pid: u32) -> Option<Used> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<Used> {
    // The name may hold anything, even `)`; the fields after it do not.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
    };
    // Fields are counted from 3, the state, here 0: utime 14, stime 15, cutime 16, cstime 17, rss 24.
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Used {
        cpu_ns: ticks * NANOS_PER_TICK,
        resident: number(21)? * page_size(),
    })
}

/// `USER_HZ` is 100 on every architecture that this runs on.
const NANOS_PER_TICK: u64 = 10_000_000;

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let used = parse_stat(&format!("1 (a) b) c) {}", fields.join(" "))).unwrap();
        assert_eq!(used.cpu_ns, (14 + 15 + 16 + 17) * NANOS_PER_TICK);
        assert_eq!(used.resident, 24 * page_size());
    }
}
