//! A method at work: its laptops, or its clients in pods.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use super::fleet::Fleet;
use super::seat::{Prepared, Seat, Way};
use crate::access::Access;
use crate::agent::{AgentError, Usage};
use crate::clock::Instant;
use crate::cluster::Cluster;
use crate::ids::MethodId;
use crate::measure::Reading;
use crate::method::{Interruptions, Method, MethodError, Vantage};
use crate::probe::Probe;
use crate::run::{Component, ProbeResult};
use crate::scenario::{LoadOrder, Scenario, Target, Workload};
use crate::stage::Stage;

/// Laptops connected by a method, ready for probes and loads. Probes are asked on the first; loads run on all at
/// once, and their figures are those of all together.
pub struct Crew {
    /// The method.
    pub method: MethodId,
    /// What carries it.
    pub components: Vec<Component>,
    /// From the first object applied until the first answer through it.
    pub setup: Duration,
    /// At least one.
    pub(super) seats: Vec<Seat>,
    /// How often it was interrupted, as far as that was told.
    interrupted: u64,
}

/// Where laptops are taken from.
#[derive(Clone, Copy)]
pub enum Laptops<'a> {
    /// The one that the cluster has for the method.
    OfCluster(&'a dyn Cluster),
    /// Pods.
    Pods(&'a Fleet),
}

impl Crew {
    /// Gets the laptops of `method` ready and finds out whether it can work from there. Returns them with the nodes
    /// that do not answer them; no laptop, where the method's clients are in pods of its own.
    ///
    /// # Errors
    /// Where it cannot work from here: nothing has been deployed or connected.
    pub async fn prepare(
        laptops: Laptops<'_>,
        stage: &Stage,
        method: &dyn Method,
    ) -> Result<(Vec<Prepared>, Vec<IpAddr>), MethodError> {
        stage.rehearse(method.manifests()).await?;
        let mut prepared = match (method.vantage(), laptops) {
            (Vantage::Pod, _) => Vec::new(),
            (Vantage::Laptop, Laptops::OfCluster(cluster)) => {
                vec![Prepared::on_laptop(cluster, method).await?]
            }
            (Vantage::Laptop, Laptops::Pods(fleet)) => {
                let pods = fleet.raise(method).await?;
                let reaching = pods.iter().map(|pod| Prepared::on_pod(fleet.stage(), pod));
                try_join_all(reaching).await?
            }
        };
        try_join_all(prepared.iter_mut().map(|it| it.check(stage, method))).await?;
        let silent = match prepared.first_mut() {
            Some(laptop) if method.speaks_to_nodes() => laptop.silent_nodes(stage).await?,
            _ => Vec::new(),
        };
        Ok((prepared, silent))
    }

    /// Connects laptops by `method` and waits until `first`, where there is one, answers through it.
    ///
    /// # Errors
    /// Where a laptop, the method or an agent fails; nothing stays connected.
    pub async fn connect(
        prepared: Vec<Prepared>,
        stage: &Stage,
        method: &dyn Method,
        targets: &[Target],
        first: Option<&Target>,
        begun: Instant,
    ) -> Result<Self, MethodError> {
        let way = Way {
            stage,
            method,
            targets,
        };
        let mut seats = match method.vantage() {
            Vantage::Pod => Seat::in_pods(way).await?,
            Vantage::Laptop => {
                let connecting = prepared.into_iter().enumerate();
                try_join_all(connecting.map(|(index, laptop)| laptop.connect(way, index))).await?
            }
        };
        if let Some((target, host)) = first.and_then(|target| Some((target, target.hosts.last()?)))
        {
            let reaching = seats.iter_mut().map(|seat| {
                let access = seat.access();
                seat.client.reach(access, host, target.port)
            });
            let reached = try_join_all(reaching).await;
            reached.map_err(MethodError::while_doing("waiting for the first answer"))?;
        }
        let none = || MethodError::while_doing("finding the method's laptops")("there are none");
        let components = seats.first().ok_or_else(none)?.components.clone();
        Ok(Self {
            method: method.id(),
            components,
            setup: begun.elapsed(),
            seats,
            interrupted: 0,
        })
    }

    /// The access that loads use on the first laptop: the one that asks least of a client.
    #[must_use]
    pub fn access(&self) -> Access {
        self.seats[0].access()
    }

    /// Asks one probe, on the first laptop.
    ///
    /// # Errors
    /// Where the agent fails; a probe that fails is no error.
    pub async fn probe(
        &mut self,
        scenario: &dyn Scenario,
        probe: &Probe,
        workload: &Workload,
    ) -> Result<ProbeResult, AgentError> {
        let seat = &mut self.seats[0];
        seat.client
            .probe(scenario.id(), probe, &self.method, &seat.accesses, workload)
            .await
    }

    /// Runs one load, on all laptops at once.
    ///
    /// # Errors
    /// Where an agent fails or the load could not be run at all.
    pub async fn measure(
        &mut self,
        scenario: &dyn Scenario,
        load: &LoadOrder,
        workload: &Workload,
    ) -> Result<Vec<Reading>, AgentError> {
        let laptops = self.seats.len();
        let measuring = self.seats.iter_mut().enumerate().map(|(index, seat)| {
            let (access, share) = (seat.access(), load.share(index, laptops));
            async move {
                seat.client
                    .measure(scenario.id(), &share, &access, workload)
                    .await
            }
        });
        let readings = try_join_all(measuring).await?;
        Reading::together(readings).map_err(|reason| AgentError::Failed {
            name: format!("laptops of `{}`", self.method),
            reason,
        })
    }

    /// Slows its laptops down on purpose, until the end of the run.
    ///
    /// # Errors
    /// Where a laptop cannot be: a method whose clients are in pods has none.
    pub(super) async fn handicap(&mut self, delay: Duration) -> Result<(), AgentError> {
        let slowing = self
            .seats
            .iter_mut()
            .map(|seat| seat.client.handicap(delay));
        try_join_all(slowing).await.map(drop)
    }

    /// Waits until the connections carry again, where one has ended by itself, and says how often that was
    /// since it was last asked for; `None` where it was not.
    ///
    /// # Errors
    /// Where an agent fails.
    pub async fn interruptions(&mut self) -> Result<Option<Interruptions>, AgentError> {
        let connectors = self.seats.iter_mut();
        let connectors = connectors.filter_map(|seat| seat.connector.as_mut());
        let mut all = Interruptions::default();
        for found in try_join_all(connectors.map(|connector| connector.settle())).await? {
            all.count += found.count;
            if !found.said.is_empty() {
                all.said = found.said;
            }
        }
        let before = std::mem::replace(&mut self.interrupted, all.count);
        all.count -= before.min(all.count);
        Ok(Some(all).filter(|found| found.count > 0))
    }

    /// What the connections have used on their laptops: CPU time of all, memory of the one that took most; nothing
    /// where there is none.
    ///
    /// # Errors
    /// Where an agent fails.
    pub async fn usage(&mut self) -> Result<Option<Usage>, AgentError> {
        let connectors = self.seats.iter_mut();
        let connectors = connectors.filter_map(|seat| seat.connector.as_mut());
        let used = try_join_all(connectors.map(|connector| connector.usage())).await?;
        Ok(used.into_iter().reduce(|all, one| Usage {
            cpu_s: all.cpu_s + one.cpu_s,
            peak_bytes: all.peak_bytes.max(one.peak_bytes),
        }))
    }

    /// Disconnects. What cannot be undone is logged: the run is over by then.
    pub async fn end(self) {
        join_all(self.seats.into_iter().map(Seat::end)).await;
    }
}
