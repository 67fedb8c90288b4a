//! One laptop connected by a method, or one client in a pod: two agents, or one.
//!
//! On a laptop the connection is one process and the client another, so that what the method costs is not
//! mixed up with what the load generator costs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use crate::access::Access;
use crate::agent::Agent;
use crate::causes::in_one_line;
use crate::cluster::{Cluster, Laptop};
use crate::kubernetes::KubernetesError;
use crate::method::{Method, MethodError, pods_of};
use crate::probe::NO_LAPTOP;
use crate::run::Component;
use crate::scenario::Target;
use crate::snapshot::Snapshot;
use crate::stage::Stage;

/// Where the client in a pod listens, on the pod's own loopback.
const CLIENT_PORT: u16 = 7000;

/// Where the connection of a laptop that is a pod listens, likewise.
const CONNECTION_PORT: u16 = 7001;

/// Where a node's kubelet listens: whoever is there answers, be it with a refusal.
const KUBELET_PORT: u16 = 10250;

/// Longest time for an agent in a pod to answer, and how often it is tried.
const ANSWER_TRIES: u32 = 40;
const ANSWER_PAUSE: Duration = Duration::from_millis(250);

/// A laptop with its two agents, not connected yet.
pub struct Prepared {
    pub(super) connector: Agent,
    pub(super) client: Agent,
    /// The laptop as it is, or why that is not known.
    before: Result<Snapshot, String>,
}

/// The agents of a laptop that is connected, or of a pod that needs not be.
pub(super) struct Seat {
    /// How clients can use the connection.
    pub(super) accesses: Vec<Access>,
    /// What carries it.
    pub(super) components: Vec<Component>,
    /// The connection; none where there is nothing to connect.
    pub(super) connector: Option<Agent>,
    /// The client.
    pub(super) client: Agent,
    /// The laptop as it was before it was connected, or why that is not known.
    pub(super) before: Result<Snapshot, String>,
}

/// What a laptop is connected to.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) stage: &'a Stage,
    pub(super) method: &'a dyn Method,
    pub(super) targets: &'a [Target],
}

impl Prepared {
    /// The cluster's own laptop for a method.
    pub(super) async fn on_laptop(
        cluster: &dyn Cluster,
        method: &dyn Method,
    ) -> Result<Self, MethodError> {
        let id = method.id();
        let laptop = laptop(cluster, &id.as_label()).await?;
        if let Some(why) = laptop.unchangeable().filter(|_| method.changes_laptop()) {
            return Err(MethodError::Refused {
                reason: format!(
                    "`{id}` changes the laptop, which here is this very machine: {why}"
                ),
                hint: "with a Docker engine, laptops are containers".to_owned(),
            });
        }
        Self::on(laptop.as_ref()).await
    }

    /// Any laptop.
    pub(super) async fn on(laptop: &dyn Laptop) -> Result<Self, MethodError> {
        let connector = agent_on(laptop, "connection")?;
        Ok(Self::of(connector, agent_on(laptop, "client")?).await)
    }

    /// Takes a look at the laptop before anything is changed there, and before any clock runs.
    async fn of(connector: Agent, mut client: Agent) -> Self {
        let before = client.snapshot().await;
        Self {
            connector,
            client,
            before: before.map_err(|error| in_one_line(&error)),
        }
    }

    /// The laptop that is `pod` of `stage`.
    pub(super) async fn on_pod(stage: &Stage, pod: &str) -> Result<Self, MethodError> {
        let (connector, client) = tokio::try_join!(
            agent_in(stage, pod, CONNECTION_PORT),
            agent_in(stage, pod, CLIENT_PORT)
        )?;
        Ok(Self::of(connector, client).await)
    }

    /// Refuses what cannot work from here, before anything is deployed for it.
    pub(super) async fn check(
        &mut self,
        stage: &Stage,
        method: &dyn Method,
    ) -> Result<(), MethodError> {
        let network = self.connector.network().await;
        let network = network.map_err(MethodError::while_doing("reading the laptop's routes"))?;
        method.preflight(stage, &network)
    }

    /// Which of the nodes do not answer this laptop.
    pub(super) async fn silent_nodes(&mut self, stage: &Stage) -> Result<Vec<IpAddr>, MethodError> {
        let nodes = stage.facts.nodes.iter();
        let kubelets = nodes.map(|node| SocketAddr::new(node.address, KUBELET_PORT));
        let silent = self.connector.knock(kubelets.collect()).await;
        let silent = silent.map_err(MethodError::while_doing("knocking at the nodes"))?;
        Ok(silent.into_iter().map(|kubelet| kubelet.ip()).collect())
    }

    /// Connects the laptop of number `index`.
    pub(super) async fn connect(self, way: Way<'_>, index: usize) -> Result<Seat, MethodError> {
        let Self {
            mut connector,
            client,
            before,
        } = self;
        let (accesses, components) = way.connect(&mut connector, index).await?;
        Ok(Seat {
            accesses,
            components,
            connector: Some(connector),
            client,
            before,
        })
    }

    /// Ends both agents. What cannot be undone is logged: nobody waits for it.
    pub(super) async fn end(self) {
        end([self.client, self.connector]).await;
    }
}

impl Way<'_> {
    /// Connects the laptop of number `index`, on which `connector` is.
    pub(super) async fn connect(
        &self,
        connector: &mut Agent,
        index: usize,
    ) -> Result<(Vec<Access>, Vec<Component>), MethodError> {
        let invitation = self.method.invite(self.stage, self.targets, index).await?;
        let connected = connector.connect(self.method.id(), invitation).await;
        connected.map_err(MethodError::while_doing("connecting the laptop"))
    }
}

/// A laptop of the cluster's.
pub(super) async fn laptop(
    cluster: &dyn Cluster,
    name: &str,
) -> Result<Box<dyn Laptop>, MethodError> {
    let found = cluster.laptop(name).await;
    found.map_err(MethodError::while_doing("finding the laptop"))
}

/// Starts an agent on a laptop.
pub(super) fn agent_on(laptop: &dyn Laptop, purpose: &str) -> Result<Agent, MethodError> {
    let mut command = laptop.inroads();
    command.args(["agent", "laptop"]);
    Agent::start(&format!("laptop `{}` ({purpose})", laptop.name()), command)
        .map_err(MethodError::while_doing("starting an agent"))
}

async fn end(agents: impl IntoIterator<Item = Agent>) {
    for agent in agents {
        if let Err(error) = agent.end().await {
            tracing::warn!(%error, "ending an agent");
        }
    }
}

impl Seat {
    /// The clients in the method's own pods.
    pub(super) async fn in_pods(way: Way<'_>) -> Result<Vec<Self>, MethodError> {
        let stage = way.stage;
        let id = way.method.id();
        let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let selector = pods_of(&id.as_label());
        let list = pods
            .list(&ListParams::default().labels(&selector))
            .await
            .map_err(KubernetesError::call("listing", "pods of", id.as_str()))?;
        let mut seats = Vec::new();
        for name in list.items.into_iter().filter_map(|pod| pod.metadata.name) {
            seats.push(Self {
                accesses: vec![Access::Unmodified],
                components: Vec::new(),
                connector: None,
                client: agent_in(stage, &name, CLIENT_PORT).await?,
                before: Err(NO_LAPTOP.to_owned()),
            });
        }
        if seats.is_empty() {
            let none = MethodError::while_doing("finding the client's pod");
            return Err(none("it has no pod"));
        }
        Ok(seats)
    }

    /// The access that asks least of a client.
    pub(super) fn access(&self) -> Access {
        let least = self.accesses.iter().min_by_key(|access| access.effort());
        least.cloned().unwrap_or(Access::Unmodified)
    }

    /// Disconnects. What cannot be undone is logged: the run is over by then.
    pub(super) async fn end(self) {
        end([Some(self.client), self.connector].into_iter().flatten()).await;
    }
}

/// The agent that listens on a port of a pod's loopback, over a port-forward. A container is ready before what runs
/// in it listens.
async fn agent_in(stage: &Stage, pod: &str, port: u16) -> Result<Agent, MethodError> {
    let mut tried = 0;
    loop {
        let mut agent = forwarded(stage, pod, port).await?;
        match agent.usage().await {
            Ok(_) => return Ok(agent),
            Err(_) if tried < ANSWER_TRIES => tokio::time::sleep(ANSWER_PAUSE).await,
            Err(error) => {
                return Err(MethodError::while_doing("reaching the client in its pod")(
                    error,
                ));
            }
        }
        tried += 1;
    }
}

async fn forwarded(stage: &Stage, pod: &str, port: u16) -> Result<Agent, MethodError> {
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let mut forward = pods
        .portforward(pod, &[port])
        .await
        .map_err(KubernetesError::call("forwarding to", "pod", pod))?;
    let stream = forward
        .take_stream(port)
        .ok_or("its port was not forwarded")
        .map_err(MethodError::while_doing("reaching the client in its pod"))?;
    let (output, input) = tokio::io::split(stream);
    Ok(Agent::over(&format!("pod `{pod}`"), output, input))
}
