//! A method at work: the laptop's two agents, or the client in the pod.
//!
//! On a laptop the connection is one process and the client another, so that what the method costs is not
//! mixed up with what the load generator costs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use crate::access::Access;
use crate::agent::{Agent, AgentError, Usage};
use crate::clock::Instant;
use crate::cluster::Cluster;
use crate::ids::MethodId;
use crate::kubernetes::KubernetesError;
use crate::measure::Reading;
use crate::method::{Interruptions, Method, MethodError, Vantage};
use crate::probe::Probe;
use crate::run::{Component, ProbeResult};
use crate::scenario::{LoadOrder, Scenario, Target, Workload};
use crate::stage::Stage;

/// Where the client in a pod listens, on the pod's own loopback.
const CLIENT_PORT: u16 = 7000;

/// A laptop connected by a method, ready for probes and loads.
pub struct Crew {
    /// The method.
    pub method: MethodId,
    /// How clients can use it, in order of effort.
    pub accesses: Vec<Access>,
    /// What carries it.
    pub components: Vec<Component>,
    /// From the first object applied until the first answer through it.
    pub setup: Duration,
    connector: Option<Agent>,
    client: Agent,
    /// How often it was interrupted, as far as that was told.
    interrupted: u64,
}

impl Crew {
    /// Connects a laptop by `method` and waits until `first`, where there is one, answers through it.
    ///
    /// # Errors
    /// Where the laptop, the method or the agent fails; nothing stays connected.
    pub async fn connect(
        cluster: &dyn Cluster,
        stage: &Stage,
        method: &dyn Method,
        targets: &[Target],
        first: Option<&Target>,
        begun: Instant,
    ) -> Result<Self, MethodError> {
        let mut crew = match method.vantage() {
            Vantage::Laptop => Self::on_laptop(cluster, stage, method, targets, begun).await?,
            Vantage::Pod => Self::in_pod(stage, method, begun).await?,
        };
        if let Some((target, host)) = first.and_then(|target| Some((target, target.hosts.last()?)))
        {
            let access = crew.access();
            let reached = crew.client.reach(access, host, target.port).await;
            reached.map_err(MethodError::while_doing("waiting for the first answer"))?;
        }
        crew.setup = begun.elapsed();
        Ok(crew)
    }

    /// The access that loads use: the one that asks least of a client.
    #[must_use]
    pub fn access(&self) -> Access {
        let least = self.accesses.iter().min_by_key(|access| access.effort());
        least.cloned().unwrap_or(Access::Unmodified)
    }

    /// Asks one probe.
    ///
    /// # Errors
    /// Where the agent fails; a probe that fails is no error.
    pub async fn probe(
        &mut self,
        scenario: &dyn Scenario,
        probe: &Probe,
        workload: &Workload,
    ) -> Result<ProbeResult, AgentError> {
        self.client
            .probe(
                scenario.id(),
                probe.id,
                &self.method,
                &self.accesses,
                workload,
            )
            .await
    }

    /// Runs one load.
    ///
    /// # Errors
    /// Where the agent fails or the load could not be run at all.
    pub async fn measure(
        &mut self,
        scenario: &dyn Scenario,
        load: &LoadOrder,
        workload: &Workload,
    ) -> Result<Vec<Reading>, AgentError> {
        let access = self.access();
        self.client
            .measure(scenario.id(), load, &access, workload)
            .await
    }

    /// Waits until the connection carries again, where it has ended by itself, and says how often that was
    /// since it was last asked for; `None` where it was not.
    ///
    /// # Errors
    /// Where the agent fails.
    pub async fn interruptions(&mut self) -> Result<Option<Interruptions>, AgentError> {
        let Some(connector) = &mut self.connector else {
            return Ok(None);
        };
        let mut found = connector.settle().await?;
        let before = std::mem::replace(&mut self.interrupted, found.count);
        found.count -= before.min(found.count);
        Ok(Some(found).filter(|found| found.count > 0))
    }

    /// What the connection has used on the laptop; nothing where there is none.
    ///
    /// # Errors
    /// Where the agent fails.
    pub async fn usage(&mut self) -> Result<Option<Usage>, AgentError> {
        match &mut self.connector {
            Some(connector) => connector.usage().await.map(Some),
            None => Ok(None),
        }
    }

    /// Disconnects. What cannot be undone is logged: the run is over by then.
    pub async fn end(self) {
        for agent in [Some(self.client), self.connector].into_iter().flatten() {
            if let Err(error) = agent.end().await {
                tracing::warn!(%error, "ending an agent");
            }
        }
    }

    async fn on_laptop(
        cluster: &dyn Cluster,
        stage: &Stage,
        method: &dyn Method,
        targets: &[Target],
        begun: Instant,
    ) -> Result<Self, MethodError> {
        let id = method.id();
        let laptop = cluster
            .laptop(&id.as_label())
            .await
            .map_err(MethodError::while_doing("finding the laptop"))?;
        if let Some(why) = laptop.unchangeable().filter(|_| method.changes_laptop()) {
            return Err(MethodError::Refused {
                reason: format!(
                    "`{id}` changes the laptop, which here is this very machine: {why}"
                ),
                hint: "with a Docker engine, laptops are containers".to_owned(),
            });
        }
        let start = |purpose: &str| {
            let mut command = laptop.inroads();
            command.args(["agent", "laptop"]);
            Agent::start(&format!("laptop `{}` ({purpose})", laptop.name()), command)
                .map_err(MethodError::while_doing("starting an agent"))
        };
        let mut connector = start("connection")?;
        let client = start("client")?;
        let network = connector.network().await;
        let network = network.map_err(MethodError::while_doing("reading the laptop's routes"))?;
        method.preflight(stage, &network)?;
        let invitation = method.invite(stage, targets).await?;
        let connected = connector.connect(id.clone(), invitation).await;
        let (accesses, components) =
            connected.map_err(MethodError::while_doing("connecting the laptop"))?;
        Ok(Self {
            method: id,
            accesses,
            components,
            setup: begun.elapsed(),
            connector: Some(connector),
            client,
            interrupted: 0,
        })
    }

    /// The client in the method's own pod, spoken to over a port-forward.
    async fn in_pod(
        stage: &Stage,
        method: &dyn Method,
        begun: Instant,
    ) -> Result<Self, MethodError> {
        let id = method.id();
        let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let selector = format!("inroads.dev/part={}", id.as_label());
        let list = pods
            .list(&ListParams::default().labels(&selector))
            .await
            .map_err(KubernetesError::call("listing", "pods of", id.as_str()))?;
        let name = list.items.into_iter().find_map(|pod| pod.metadata.name);
        let name = name
            .ok_or("it has no pod")
            .map_err(MethodError::while_doing("finding the client's pod"))?;
        let mut forward = pods
            .portforward(&name, &[CLIENT_PORT])
            .await
            .map_err(KubernetesError::call("forwarding to", "pod", &name))?;
        let stream = forward
            .take_stream(CLIENT_PORT)
            .ok_or("its port was not forwarded")
            .map_err(MethodError::while_doing("reaching the client in its pod"))?;
        let (output, input) = tokio::io::split(stream);
        Ok(Self {
            method: id,
            accesses: vec![Access::Unmodified],
            components: Vec::new(),
            setup: begun.elapsed(),
            connector: None,
            client: Agent::over(&format!("pod `{name}`"), output, input),
            interrupted: 0,
        })
    }
}
