//! The `way-in` scenario: not what is behind a way in, but the way itself. What becomes of it when pods go, who else
//! gets in by it, what can be read on the LAN, and what it changes on a laptop.

mod canary;
mod inside;
mod watch;

use async_trait::async_trait;
use inroads_harness::Scenario;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::Reading;
use inroads_harness::method::{Capability, Manifest};
use inroads_harness::probe::{Attempt, Manner, Probe, Trial, Whose};
use inroads_harness::scenario::{LoadOrder, LoadSpec, ScenarioError, Target, Workload};

/// The Service that stays as it is.
const STEADY: &str = "steady";

/// The Service whose pod is replaced.
const MORTAL: &str = "mortal";

/// The port of the pods' web server.
const POD_PORT: u16 = 8080;

/// All probes, in report order.
const PROBES: &[Probe] = &[
    Probe::must(
        "lifecycle/pod-replaced",
        "a Service answers again by itself after its pod was replaced",
        &[Capability::Tcp],
    )
    .asked(Manner::WhileReplaced(Whose::Workload("app=mortal"))),
    Probe::must(
        "lifecycle/gateway-restart",
        "the way in carries again by itself after its own part in the cluster was restarted",
        &[Capability::Tcp],
    )
    .asked(Manner::WhileReplaced(Whose::Method)),
    Probe::must(
        "lifecycle/teardown",
        "after its end, and after SIGKILL, laptop and cluster are as before",
        &[],
    )
    .asked(Manner::Tried(Trial::Teardown)),
    Probe::must(
        "safety/wire-canary",
        "what is sent through cannot be read on the office LAN",
        &[],
    )
    .asked(Manner::OnLaptops),
    Probe::must(
        "safety/neighbour",
        "another host on the LAN, without the method's credential, gets nothing from inside",
        &[],
    )
    .asked(Manner::Tried(Trial::Neighbour)),
    Probe::must(
        "safety/unrelated",
        "traffic elsewhere and the office's names go where they went before",
        &[],
    )
    .asked(Manner::Tried(Trial::Unrelated)),
    Probe::must(
        "safety/cidr-overlap",
        "an office whose network overlaps the cluster's is told before anything is changed",
        &[],
    )
    .asked(Manner::Tried(Trial::Overlap)),
    Probe::must(
        "safety/least-privilege",
        "it works with exactly the rights that its manifests grant, and not without any of them",
        &[],
    )
    .asked(Manner::Tried(Trial::Privilege)),
    Probe::must(
        "safety/source-ip",
        "a pod sees the client's own address",
        &[],
    ),
];

/// The scenario.
pub(crate) struct WayIn;

#[async_trait]
impl Scenario for WayIn {
    fn id(&self) -> &'static str {
        "way-in"
    }

    fn title(&self) -> &'static str {
        "The way in itself"
    }

    fn summary(&self) -> &'static str {
        "what becomes of the way in when pods go, who else gets in by it, and what it changes on a laptop"
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "way-in.yaml",
            yaml: include_str!("../manifests/way-in.yaml"),
        }]
    }

    fn targets(&self, workload: &Workload) -> Vec<Target> {
        let services = [STEADY, MORTAL].iter();
        let services = services.filter_map(|name| workload.service_target(name, "http").ok());
        let pods = workload.endpoints(STEADY).unwrap_or_default().into_iter();
        let pods = pods.filter_map(|(name, _)| workload.pod_target(name, POD_PORT).ok());
        services.chain(pods).chain(workload.dns_target()).collect()
    }

    fn probes(&self) -> &'static [Probe] {
        PROBES
    }

    async fn attempt(&self, id: &str, dialer: &Dialer, workload: &Workload) -> Attempt {
        match id {
            "lifecycle/pod-replaced" => watch::pod_replaced(dialer, workload).await,
            "lifecycle/gateway-restart" => watch::gateway_restart(dialer, workload).await,
            "safety/wire-canary" => canary::on_the_wire(dialer, workload).await,
            "safety/source-ip" => inside::source_ip(dialer, workload).await,
            "safety/neighbour" => inside::closed(dialer, workload).await,
            "safety/unrelated" => inside::office(workload).await,
            // What the controller tries with the connection: here it is asked only what answers.
            _ => inside::open(dialer, workload).await,
        }
    }

    fn loads(&self) -> &'static [LoadSpec] {
        &[]
    }

    fn measure(
        &self,
        order: &LoadOrder,
        _dialer: &Dialer,
        _workload: &Workload,
    ) -> Result<Vec<Reading>, ScenarioError> {
        Err(ScenarioError::NoSuchLoad(order.load.clone()))
    }
}

/// The virtual address and port of a Service.
fn address(workload: &Workload, service: &str) -> Result<(String, u16), String> {
    let address = workload.service_address(service, "http");
    address.map_err(|error| error.to_string())
}
