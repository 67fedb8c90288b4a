//! What a team can need, and the probes that answer whether a method gives it: the one table between the two.

use inroads_harness::method::Capability;

use super::team::{Names, Team};

/// A need that is not a workload's: probes that must all pass.
pub(super) struct Need {
    /// What is needed, for a sentence.
    pub(super) what: &'static str,
    /// Whether a team has it.
    pub(super) of: fn(&Team) -> bool,
    /// The probes.
    pub(super) probes: &'static [&'static str],
    /// The effort at which they count.
    pub(super) at: At,
    /// What a method must declare to carry where the probes were not asked.
    pub(super) carries: Option<Capability>,
}

/// The effort at which a pass counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Only where nothing is changed in a client.
    Unmodified,
    /// Any, and these clients have to be set up for it.
    SettingUp(&'static str),
    /// Any: it says something of the way itself, however clients are told to use it.
    TheWayItself,
}

/// All needs, in the order of the answer.
pub(super) const NEEDS: &[Need] = &[
    Need {
        what: "UDP",
        of: |team| team.needs.udp,
        probes: &["fidelity/udp-echo", "fidelity/udp-sizes"],
        at: At::SettingUp("the programs that send UDP"),
        carries: Some(Capability::Udp),
    },
    Need {
        what: "ICMP",
        of: |team| team.needs.icmp,
        probes: &["fidelity/icmp-live", "fidelity/icmp-honest"],
        at: At::SettingUp("the programs that ping"),
        carries: Some(Capability::Icmp),
    },
    Need {
        what: "cluster names in clients",
        of: |team| team.needs.cluster_names == Names::Clients,
        probes: &["dns/service-fqdn", "fidelity/tls-name"],
        at: At::SettingUp("the programs that use the cluster's names"),
        carries: Some(Capability::Dns),
    },
    Need {
        what: "cluster names in every program",
        of: |team| team.needs.cluster_names == Names::EveryProgram,
        probes: &["dns/libc-parity", "dns/service-short"],
        at: At::Unmodified,
        carries: Some(Capability::Resolver),
    },
    Need {
        what: "pods see the client's address",
        of: |team| team.needs.source_ip,
        probes: &["safety/source-ip"],
        at: At::TheWayItself,
        carries: None,
    },
    Need {
        what: "not to be read on the LAN",
        of: |team| team.needs.confidential,
        probes: &["safety/wire-canary"],
        at: At::TheWayItself,
        carries: None,
    },
    Need {
        what: "no way in for others on the LAN",
        of: |team| team.needs.authenticated,
        probes: &["safety/neighbour"],
        at: At::TheWayItself,
        carries: None,
    },
    Need {
        what: "other traffic untouched",
        of: |team| team.needs.other_traffic_untouched,
        probes: &["safety/unrelated", "dns/split"],
        at: At::TheWayItself,
        carries: None,
    },
];

/// The probes that say how long nothing answers after a restart, and of what.
pub(super) const SILENCE: &[(&str, &str)] = &[
    (POD_REPLACED, "a pod that is replaced"),
    (GATEWAY_RESTART, "a restart of the way's own part"),
];

const POD_REPLACED: &str = "lifecycle/pod-replaced";

/// Asked of methods only that have pods of their own.
pub(super) const GATEWAY_RESTART: &str = "lifecycle/gateway-restart";

/// The probe that shows what becomes of networks that overlap.
pub(super) const OVERLAP: &str = "safety/cidr-overlap";

/// What a workload needs, and the figures that count for it.
pub(super) struct Reached {
    /// The scenario that stands for it.
    pub(super) scenario: &'static str,
    /// The probes that must all pass, at an effort that its driver takes.
    pub(super) probes: &'static [&'static str],
    /// The metric that is its throughput.
    pub(super) throughput: &'static str,
}

/// The workloads that scenarios stand for.
pub(super) const WORKLOADS: &[Reached] = &[
    Reached {
        scenario: "http",
        probes: &["reach/cluster-ip", "fidelity/http"],
        throughput: "requests",
    },
    Reached {
        scenario: "redis-cluster",
        probes: &["redis/moved", "redis/ask"],
        throughput: "operations",
    },
    Reached {
        scenario: "mongo-replica-set",
        probes: &["mongo/topology", "mongo/step-down"],
        throughput: "finds",
    },
    Reached {
        scenario: "dns",
        probes: &["dns/service-fqdn", "dns/headless-set", "dns/srv"],
        throughput: "lookups",
    },
];

/// What is asked for a workload that no scenario stands for: its addresses, and no more.
pub(super) const OTHER_WORKLOAD: &[&str] = &["reach/pod-ip", "reach/cluster-ip"];

/// The metric of every scenario that is its latency.
pub(super) const LATENCY: &str = "latency";

/// The metrics that are its cost: the processor's time for each request, on the laptop and in the cluster.
pub(super) const COST: [&str; 2] = ["cpu-laptop", "cpu-cluster"];

/// The scenario that stands for a workload.
pub(super) fn reached(name: &str) -> Option<&'static Reached> {
    WORKLOADS.iter().find(|it| it.scenario == name)
}

/// Every probe that a rule asks for.
pub fn probes() -> impl Iterator<Item = &'static str> {
    let of_needs = NEEDS.iter().flat_map(|need| need.probes);
    let of_workloads = WORKLOADS.iter().flat_map(|it| it.probes);
    let of_silence = SILENCE.iter().map(|(id, _)| id);
    let all = of_needs.chain(of_workloads).chain(of_silence);
    all.chain(OTHER_WORKLOAD).chain([&OVERLAP]).copied()
}
