//! The `dns` scenario: the cluster's names, looked up from where the client stands.

mod libc;
mod load;
mod probes;
mod question;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use async_trait::async_trait;
use inroads_harness::Scenario;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::{
    Errors, Histogram, OpError, Reading, closed_loop, on_this_thread, open_loop,
};
use inroads_harness::method::Manifest;
use inroads_harness::probe::{Attempt, Probe};
use inroads_harness::run::Unit;
use inroads_harness::scenario::{LoadOrder, LoadSpec, ScenarioError, Shape, Target, Workload};

pub(crate) use probes::office_found;

use load::{KINDS, Lookups};
use question::Asker;

/// The Service with a virtual address.
const ADDRESSED: &str = "directory";

/// The headless Service of the same pods.
const HEADLESS: &str = "peers";

/// The Service that is another name for one outside of the namespace.
const ALIAS: &str = "alias";

/// The headless Service of more addresses than a datagram holds: the first ones of 192.0.2.0/24, which nobody
/// has (RFC 5737).
const CROWD: &str = "crowd";

/// How many they are.
const CROWD_SIZE: u8 = 90;

/// The name of both Services' port.
const PORT_NAME: &str = "http";

/// The scenario.
pub(crate) struct Dns;

#[async_trait]
impl Scenario for Dns {
    fn id(&self) -> &'static str {
        "dns"
    }

    fn title(&self) -> &'static str {
        "Cluster DNS"
    }

    fn summary(&self) -> &'static str {
        "lookups of Services, headless Services, SRV and missing names"
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "dns.yaml",
            yaml: include_str!("../manifests/dns.yaml"),
        }]
    }

    fn targets(&self, workload: &Workload) -> Vec<Target> {
        workload.dns_target().into_iter().collect()
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
                id: "lookups",
                title: "lookups of every kind",
                shape: Shape::Closed,
                connections: 16,
            },
            LoadSpec {
                id: "latency",
                title: "lookups at a fixed rate",
                shape: Shape::Open,
                connections: 16,
            },
        ]
    }

    fn measure(
        &self,
        order: &LoadOrder,
        dialer: &Dialer,
        workload: &Workload,
    ) -> Result<Vec<Reading>, ScenarioError> {
        let load = Rc::new(Lookups::new(dialer.clone(), workload)?);
        match order.load.as_str() {
            "lookups" => {
                let tally = on_this_thread(closed_loop(load, order.closed()))?;
                Ok(vec![Reading::rate("lookups", Unit::PerSecond, &tally)])
            }
            "latency" => {
                let plan = order.open()?;
                let tally = on_this_thread(open_loop(load, plan))?;
                let mut readings = Reading::latencies(&tally, plan.rate);
                let empty = Histogram::default();
                for (index, kind) in KINDS.iter().enumerate() {
                    let histogram = tally.classes.get(index).unwrap_or(&empty);
                    let mut reading =
                        Reading::latency(&format!("latency-{kind}"), histogram, &Errors::default());
                    reading.invalid_reason = reading
                        .invalid_reason
                        .or(readings[0].invalid_reason.clone());
                    readings.push(reading);
                }
                Ok(readings)
            }
            other => Err(ScenarioError::NoSuchLoad(other.to_owned())),
        }
    }
}

/// All addresses that the cluster's DNS has for a name, asked over TCP, which every access carries that carries more
/// than HTTP.
pub(crate) async fn looked_up(
    dialer: &Dialer,
    workload: &Workload,
    name: &str,
) -> Result<BTreeSet<IpAddr>, OpError> {
    let server = workload.dns;
    let server = server.ok_or_else(|| OpError("the cluster has no DNS".to_owned()))?;
    let mut asker = Asker::over_tcp(dialer, server).await?;
    probes::lookup(&mut asker, &format!("{name}.")).await
}
