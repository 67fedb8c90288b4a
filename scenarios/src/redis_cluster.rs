//! The `redis-cluster` scenario: a real Redis Cluster, whose clients are told where to go next.

mod client;
pub(crate) mod form;
pub(crate) mod generator;
mod load;
mod node;
mod plan;
mod probes;
mod relay;
mod slots;

use async_trait::async_trait;
use inroads_harness::Scenario;
use inroads_harness::access::{Access, Effort};
use inroads_harness::dial::Dialer;
use inroads_harness::measure::Reading;
use inroads_harness::method::{Capability, Manifest};
use inroads_harness::probe::{Attempt, Probe};
use inroads_harness::scenario::{LoadOrder, LoadSpec, ScenarioError, Shape, Target, Workload};

use client::{Client, Seed};

/// The Service that clients are told of, and its port's name.
const SERVICE: &str = "redis";

/// The port of the nodes.
const PORT: u16 = 6379;

/// Commands of one pipeline.
const DEPTH: usize = 16;

/// The scenario.
pub(crate) struct RedisCluster;

#[async_trait]
impl Scenario for RedisCluster {
    fn id(&self) -> &'static str {
        "redis-cluster"
    }

    fn title(&self) -> &'static str {
        "Redis Cluster"
    }

    fn summary(&self) -> &'static str {
        "three masters with a replica each: clients are told of nodes by their pods' addresses"
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "redis.yaml",
            yaml: include_str!("../manifests/redis.yaml"),
        }]
    }

    fn targets(&self, workload: &Workload) -> Vec<Target> {
        let service = workload.service_target(SERVICE, SERVICE).ok();
        let pods = workload.endpoints(SERVICE).unwrap_or_default();
        let pods = pods
            .into_iter()
            .filter_map(|(pod, _)| workload.pod_target(pod, PORT).ok());
        service.into_iter().chain(pods).collect()
    }

    fn probes(&self) -> &'static [Probe] {
        probes::ALL
    }

    async fn attempt(&self, id: &str, dialer: &Dialer, workload: &Workload) -> Attempt {
        probes::attempt(id, dialer, workload).await
    }

    fn loads(&self) -> &'static [LoadSpec] {
        &[
            LoadSpec {
                id: "operations",
                title: "GET and SET one by one, over all slots",
                shape: Shape::Closed,
                connections: 32,
            },
            LoadSpec {
                id: "latency",
                title: "GET and SET at a fixed rate",
                shape: Shape::Open,
                connections: 16,
            },
            LoadSpec {
                id: "pipelined",
                title: "GET and SET in pipelines of 16",
                shape: Shape::Closed,
                connections: 32,
            },
        ]
    }

    fn load_needs(&self, _load: &LoadSpec) -> &'static [Capability] {
        &[Capability::Tcp]
    }

    /// The driver has no option for a proxy: through one it needs a relay for each node and a map of addresses.
    fn effort(&self, access: &Access) -> Effort {
        match access {
            Access::Socks5 { .. } => Effort::Rewritten,
            other => other.effort(),
        }
    }

    fn measure(
        &self,
        order: &LoadOrder,
        dialer: &Dialer,
        workload: &Workload,
    ) -> Result<Vec<Reading>, ScenarioError> {
        let seed = Seed::of(workload)?;
        let client = Client::new(dialer, &seed)
            .map_err(ScenarioError::while_doing("setting the driver up"))?;
        match order.load.as_str() {
            "operations" => generator::operations(client, order),
            "pipelined" => generator::pipelined(client, order, DEPTH),
            "latency" => generator::latency(client, order),
            other => Err(ScenarioError::NoSuchLoad(other.to_owned())),
        }
    }
}
