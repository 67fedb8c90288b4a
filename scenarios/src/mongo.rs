//! The `mongo-replica-set` scenario: a database whose members send clients on to each other by their names in the
//! cluster.
//!
//! The members are a stand-in, since no distribution's own archive has MongoDB: see `inroads-mongo-stand-in`. The
//! client is the official driver. The manifest says how a real set takes their place.

mod client;
mod load;
pub(crate) mod member;
mod probes;
mod step_down;

use std::rc::Rc;

use async_trait::async_trait;
use inroads_harness::Scenario;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::{Reading, closed_loop, on_this_thread, open_loop};
use inroads_harness::method::Manifest;
use inroads_harness::probe::{Attempt, Probe};
use inroads_harness::run::{Component, Provenance, Unit};
use inroads_harness::scenario::{LoadOrder, LoadSpec, ScenarioError, Shape, Target, Workload};

use load::Base;

/// The headless Service, and the StatefulSet behind it.
const SERVICE: &str = "mongo";

/// The port of members, MongoDB's own.
const PORT: u16 = 27017;

/// How many members the manifest has.
const MEMBERS: usize = 3;

/// The set's name.
const SET: &str = "rs0";

/// The database of probes and loads.
const DATABASE: &str = "inroads";

/// The scenario.
pub(crate) struct MongoReplicaSet;

#[async_trait]
impl Scenario for MongoReplicaSet {
    fn id(&self) -> &'static str {
        "mongo-replica-set"
    }

    fn title(&self) -> &'static str {
        "MongoDB replica set (stand-in)"
    }

    fn summary(&self) -> &'static str {
        "three members that send clients on by name: discovery, a step-down, finds and inserts by the official driver"
    }

    fn components(&self) -> Vec<Component> {
        vec![Component {
            name: "mongod".to_owned(),
            version: format!("inroads-mongo-stand-in {}", env!("CARGO_PKG_VERSION")),
            provenance: Provenance::StandIn,
        }]
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "mongo.yaml",
            yaml: include_str!("../manifests/mongo.yaml"),
        }]
    }

    fn targets(&self, workload: &Workload) -> Vec<Target> {
        let members = client::names(workload).into_iter().enumerate();
        let targets = members.filter_map(|(number, name)| {
            let pod = format!("{SERVICE}-{number}");
            let mut target = workload.pod_target(&pod, PORT).ok()?;
            target.hosts.insert(0, name);
            Some(target)
        });
        targets.collect()
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
                id: "finds",
                title: "finds by _id",
                shape: Shape::Closed,
                connections: 16,
            },
            LoadSpec {
                id: "latency",
                title: "finds at a fixed rate",
                shape: Shape::Open,
                connections: 16,
            },
            LoadSpec {
                id: "inserts",
                title: "inserts, acknowledged by a majority",
                shape: Shape::Closed,
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
        on_this_thread(async {
            let base = Base::open(dialer, workload, order.connections).await?;
            let readings = measure(order, &base).await;
            base.end().await;
            readings
        })
    }
}

async fn measure(order: &LoadOrder, base: &Base) -> Result<Vec<Reading>, ScenarioError> {
    match order.load.as_str() {
        "finds" => {
            base.fill().await?;
            let tally = closed_loop(Rc::new(base.finds()), order.closed()).await?;
            Ok(vec![Reading::rate("finds", Unit::PerSecond, &tally)])
        }
        "inserts" => {
            let tally = closed_loop(Rc::new(base.inserts()), order.closed()).await?;
            Ok(vec![Reading::rate("inserts", Unit::PerSecond, &tally)])
        }
        "latency" => {
            base.fill().await?;
            let plan = order.open()?;
            let tally = open_loop(Rc::new(base.finds()), plan).await?;
            Ok(Reading::latencies(&tally, plan.rate))
        }
        other => Err(ScenarioError::NoSuchLoad(other.to_owned())),
    }
}
