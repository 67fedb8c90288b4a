//! What is true of the machine that a run takes place on.

use crate::clock;
use crate::cluster::Cluster;
use crate::run::{ClusterInfo, Environment, LaptopsInfo};

use super::PodLaptops;

/// A fresh id for a run: date, time and four random hexadecimal digits, in order of time.
#[must_use]
pub fn new_run_id() -> String {
    let suffix: u16 = rand::random();
    format!("{}-{suffix:04x}", clock::wall().strftime("%Y%m%d-%H%M%S"))
}

/// The environment of a run on `cluster`.
pub(super) fn environment(cluster: &dyn Cluster, laptops: Option<&PodLaptops<'_>>) -> Environment {
    let facts = cluster.facts();
    let info = ClusterInfo {
        kind: facts.kind.to_string(),
        kubernetes: facts.kubernetes.clone(),
        cni: facts.cni.clone(),
        kube_proxy: facts.kube_proxy.clone(),
        nodes: facts.nodes.len(),
    };
    let mut environment = Environment {
        inroads: env!("CARGO_PKG_VERSION").to_owned(),
        build_profile: build_profile().to_owned(),
        kernel: read_line("/proc/sys/kernel/osrelease"),
        cpu: cpu_model(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cluster: info,
        laptops: laptops.map(|laptops| LaptopsInfo {
            count: laptops.count,
            place: match laptops.cluster {
                None => "pods of the same cluster".to_owned(),
                Some(other) => format!("pods of another cluster, {}", other.facts().kubernetes),
            },
        }),
        components: cluster.components(),
        comparable_key: String::new(),
    };
    environment.comparable_key = comparable_key(&environment);
    environment
}

/// Whether this program was built with optimisation: `optimised` or `debug`.
#[must_use]
pub fn build_profile() -> &'static str {
    if env!("INROADS_OPT_LEVEL") == "0" {
        "debug"
    } else {
        "optimised"
    }
}

/// Everything that moves figures and can be bucketed; readings that differ at every boot stay out.
fn comparable_key(environment: &Environment) -> String {
    let Environment {
        inroads,
        build_profile,
        kernel,
        cpu,
        cores,
        cluster,
        laptops,
        ..
    } = environment;
    let kernel: String = kernel.split('.').take(2).collect::<Vec<_>>().join(".");
    let ClusterInfo {
        kind,
        kubernetes,
        cni,
        kube_proxy,
        nodes,
    } = cluster;
    let laptops = match laptops {
        Some(LaptopsInfo { count, place }) => format!("; {count} laptops, {place}"),
        None => String::new(),
    };
    format!(
        "inroads {inroads} {build_profile}; {cpu} x{cores}; linux {kernel}; {kind} {kubernetes}, {cni}, {kube_proxy}, {nodes} nodes{laptops}"
    )
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(':'))
        .map(|(_, name)| name.trim().to_owned());
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn read_line(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_runs_differ_and_sort_by_time() {
        let (a, b) = (new_run_id(), new_run_id());
        assert_ne!(a, b);
        assert_eq!(a.len(), "20261123-063000-0f1e".len());
        assert!(a[..15] <= b[..15]);
    }
}
