//! A real cluster at work.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use inroads_harness::causes::in_one_line;
use inroads_harness::cluster::{
    Cluster, ClusterError, ClusterKind, Facts, Laptop, Office, Steps, Supply,
};
use inroads_harness::heir::Heir;
use inroads_harness::kubernetes::{KubernetesError, RUN_LABEL};
use inroads_harness::run::Component;
use inroads_harness::software::Software;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::docker::{Docker, missing};
use crate::kind::{self, KindOptions};
use crate::laptops::{Containers, Laptops};
use crate::ledger::{Ledger, is_name};
use crate::{facts, program};

/// Longest time for the nodes and the DNS of a new cluster to be ready.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// How often they are looked at.
const READY_PAUSE: Duration = Duration::from_millis(500);

/// A cluster of real Kubernetes.
pub struct RealCluster {
    client: kube::Client,
    facts: Facts,
    image: String,
    components: Vec<Component>,
    laptops: Laptops,
    /// Its nodes, where they are containers of this machine's engine, and images can be loaded into them.
    nodes: Vec<String>,
    /// What is on this machine's engine because of the run.
    own: Option<Own>,
}

/// What is on this machine's engine because of a run, and who takes it away if nobody else can.
struct Own {
    ledger: Ledger,
    docker: Docker,
    _janitor: Heir,
}

impl Own {
    fn of_run(id: &str, docker: Docker) -> Result<Self, ClusterError> {
        let ledger = Ledger::open(id, false)?;
        Ok(Self {
            _janitor: ledger.janitor()?,
            ledger,
            docker,
        })
    }

    /// Lets the cluster that was made with it have it, or takes away what was begun.
    async fn go_with(
        self,
        made: Result<RealCluster, ClusterError>,
    ) -> Result<RealCluster, ClusterError> {
        match made {
            Ok(cluster) => Ok(RealCluster {
                own: Some(self),
                ..cluster
            }),
            Err(error) => Err(settled(&self.ledger, &self.docker, error).await),
        }
    }
}

/// How to use a cluster that a kubeconfig names.
#[derive(Debug, Clone, Default)]
pub struct ContextOptions {
    /// The context; the current one otherwise.
    pub name: Option<String>,
    /// The kubeconfig; kubectl's rules otherwise.
    pub kubeconfig: Option<PathBuf>,
    /// An image of this program that the nodes can pull.
    pub agent_image: Option<String>,
}

impl RealCluster {
    /// Makes a kind cluster for the run `id`, which goes with it.
    ///
    /// # Errors
    /// Where Docker, kind or an image is missing, or the cluster does not come up. Nothing is left then.
    pub async fn kind(
        id: &str,
        options: &KindOptions,
        cancel: &CancellationToken,
        progress: Steps<'_>,
    ) -> Result<Self, ClusterError> {
        let mut own = Own::of_run(id, check(progress).await?)?;
        let making = async {
            let context =
                Self::make(&own.docker, &mut own.ledger, options, cancel, progress).await?;
            let nodes = nodes_of(&own.docker, &own.ledger).await;
            Self::equip(
                context,
                ClusterKind::Kind,
                &mut own,
                nodes,
                cancel,
                progress,
            )
            .await
        };
        let made = making.await;
        own.go_with(made).await
    }

    /// Uses the kind cluster that was asked to stay under `name`.
    ///
    /// # Errors
    /// Where there is none, or it cannot be used.
    pub async fn kind_named(
        id: &str,
        name: &str,
        cancel: &CancellationToken,
        progress: Steps<'_>,
    ) -> Result<Self, ClusterError> {
        let found = Ledger::find(name)?.ok_or_else(|| {
            missing(
                &format!("there is no kind cluster `{name}` of ours"),
                &format!("make it: `inroads cluster up --cluster kind --name {name}`"),
            )
        })?;
        let options = ContextOptions {
            kubeconfig: Some(found.kubeconfig()),
            ..ContextOptions::default()
        };
        Self::attach(id, ClusterKind::Kind, &options, cancel, progress).await
    }

    /// Uses a cluster that a kubeconfig names.
    ///
    /// # Errors
    /// Where it cannot be read, or there is no way for this program to get into its pods.
    pub async fn context(
        id: &str,
        options: &ContextOptions,
        cancel: &CancellationToken,
        progress: Steps<'_>,
    ) -> Result<Self, ClusterError> {
        Self::attach(id, ClusterKind::Context, options, cancel, progress).await
    }

    async fn attach(
        id: &str,
        kind: ClusterKind,
        options: &ContextOptions,
        cancel: &CancellationToken,
        progress: Steps<'_>,
    ) -> Result<Self, ClusterError> {
        progress("reading the cluster");
        let context = Context::read(options.name.as_deref(), options.kubeconfig.as_deref()).await?;
        let docker = match Docker::find().await {
            Ok(docker) => docker,
            Err(error) => {
                return Self::without_engine(context, kind, options, &error.to_string()).await;
            }
        };
        let nodes = local_nodes(&docker, &context.client).await?;
        if nodes.is_empty() && options.agent_image.is_none() {
            return Err(no_image());
        }
        let mut own = Own::of_run(id, docker)?;
        let made = Self::equip(context, kind, &mut own, nodes, cancel, progress).await;
        let mut cluster = own.go_with(made).await?;
        if let Some(image) = &options.agent_image {
            cluster.image.clone_from(image);
        }
        Ok(cluster)
    }

    /// A cluster seen from this very machine, with no engine for laptops.
    async fn without_engine(
        context: Context,
        kind: ClusterKind,
        options: &ContextOptions,
        why: &str,
    ) -> Result<Self, ClusterError> {
        let image = options.agent_image.clone().ok_or_else(no_image)?;
        let (facts, components) =
            facts::discover(&context.client, kind, &context.server, &context.ca).await?;
        Ok(Self {
            client: context.client,
            facts,
            image,
            components,
            laptops: Laptops::Host(why.lines().next().unwrap_or_default().to_owned()),
            nodes: Vec::new(),
            own: None,
        })
    }

    /// Makes the cluster of `ledger` and waits until it can be used.
    async fn make(
        docker: &Docker,
        ledger: &mut Ledger,
        options: &KindOptions,
        cancel: &CancellationToken,
        progress: Steps<'_>,
    ) -> Result<Context, ClusterError> {
        kind::create(docker, ledger, options, cancel, progress).await?;
        let context = Context::read(None, Some(&ledger.kubeconfig())).await?;
        tokio::select! {
            ready = await_ready(&context.client, progress) => ready,
            () = cancel.cancelled() => return Err(ClusterError::Interrupted),
            () = tokio::time::sleep(READY_LIMIT) => {
                let logs = ledger.logs();
                let cluster = ledger.cluster.clone().unwrap_or_default();
                drop(kind::export_logs(docker, &cluster, &logs).await);
                let late = not_ready(&context.client).await;
                Err(kind::never_ready(&format!("waiting for {}", late.join(", ")), READY_LIMIT, &logs))
            }
        }?;
        Ok(context)
    }

    /// Puts this program into the cluster, and finds out what is true of it.
    async fn equip(
        context: Context,
        kind: ClusterKind,
        own: &mut Own,
        nodes: Vec<String>,
        cancel: &CancellationToken,
        progress: Steps<'_>,
    ) -> Result<Self, ClusterError> {
        let Own { ledger, docker, .. } = own;
        let equipping = async {
            let image = program::image_of(ledger.name());
            ledger.image = Some(image.clone());
            if ledger.cluster.is_none() {
                ledger.nodes.clone_from(&nodes);
            }
            ledger.write()?;
            progress("making an image of this program");
            program::build(docker, &image, &format!("{RUN_LABEL}={}", ledger.name())).await?;
            if !nodes.is_empty() {
                progress("loading it into the nodes");
                program::load(docker, &image, &nodes).await?;
            }
            let api_server = if context.is_on_loopback() {
                facts::real_api_server(&context.client).await
            } else {
                None
            };
            let api_server = api_server.unwrap_or_else(|| context.server.clone());
            let (mut facts, components) =
                facts::discover(&context.client, kind, &api_server, &context.ca).await?;
            // The engine's resolver, which has the containers' names, is the office's here. It keeps no log.
            facts.office = facts.nodes.first().map(|node| Office {
                name: node.name.clone(),
                address: node.address,
                log: None,
            });
            let network = network_of(docker, nodes.first()).await?;
            Ok((image, facts, components, network))
        };
        let (image, facts, components, network) = tokio::select! {
            equipped = equipping => equipped,
            () = cancel.cancelled() => Err(ClusterError::Interrupted),
        }?;
        Ok(Self {
            client: context.client,
            laptops: Laptops::Containers(Box::new(Containers {
                run: ledger.name().to_owned(),
                image: image.clone(),
                network,
                unknown: vec![facts.pod_cidr, facts.service_cidr],
                docker: docker.clone(),
                made: Mutex::new(HashMap::new()),
            })),
            facts,
            image,
            components,
            nodes,
            own: None,
        })
    }

    /// Makes an image of software that this machine has, or fetches, and loads it into the nodes.
    async fn load(
        &self,
        own: &Own,
        software: &'static Software,
        progress: Steps<'_>,
    ) -> Result<Supply, ClusterError> {
        let provided = software.provide(progress).await?;
        let run = own.ledger.name();
        let image = program::image_of_software(software, run);
        progress(&format!(
            "making an image of {} and loading it into the nodes",
            software.server
        ));
        let label = format!("{RUN_LABEL}={run}");
        program::build_software(&own.docker, &provided, &image, &label).await?;
        program::load(&own.docker, &image, &self.nodes).await?;
        Ok(Supply {
            image,
            component: provided.component(),
            pulled: false,
        })
    }

    /// Lets the cluster of this run stay, and tells its kubeconfig.
    ///
    /// # Errors
    /// Where that cannot be written down.
    pub fn keep(&mut self) -> Result<Option<PathBuf>, ClusterError> {
        let own = self.own.as_mut().map(|own| &mut own.ledger);
        let Some(ledger) = own.filter(|ledger| ledger.cluster.is_some()) else {
            return Ok(None);
        };
        ledger.keep()?;
        Ok(Some(ledger.kubeconfig()))
    }
}

#[async_trait]
impl Cluster for RealCluster {
    fn client(&self) -> kube::Client {
        self.client.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn image(&self) -> &str {
        &self.image
    }

    async fn supply(&self, image: &str, progress: Steps<'_>) -> Result<Supply, ClusterError> {
        let own = self.own.as_ref().filter(|_| !self.nodes.is_empty());
        let (Some(own), Some(software)) = (own, Software::of_image(image)) else {
            return Ok(Supply::pulled(image));
        };
        match self.load(own, software, progress).await {
            Err(ClusterError::Missing { what, .. }) => {
                progress(&format!("{what}; the nodes have to pull `{image}`"));
                Ok(Supply::pulled(image))
            }
            other => other,
        }
    }

    fn components(&self) -> Vec<Component> {
        self.components.clone()
    }

    async fn laptop(&self, name: &str) -> Result<Box<dyn Laptop>, ClusterError> {
        self.laptops.get(name).await
    }

    fn goes_with_the_run(&self) -> bool {
        let own = self.own.as_ref().map(|own| &own.ledger);
        own.is_some_and(|ledger| ledger.cluster.is_some() && !ledger.stays())
    }

    async fn release(self: Box<Self>) -> Result<(), ClusterError> {
        let Self { laptops, own, .. } = *self;
        let ended = match laptops {
            Laptops::Containers(containers) => containers.end().await,
            Laptops::Host(_) => Ok(()),
        };
        match own {
            Some(own) if !own.ledger.stays() => ended.and(own.ledger.settle(&own.docker).await),
            _ => ended,
        }
    }
}

/// A kind cluster that stays until it is asked away.
pub struct Standing {
    /// Its kubeconfig.
    pub kubeconfig: PathBuf,
    /// The name of the kind cluster.
    pub cluster: String,
}

impl Standing {
    /// Makes one.
    ///
    /// # Errors
    /// As [`RealCluster::kind`], and where there is one of that name already.
    pub async fn up(
        name: &str,
        options: &KindOptions,
        cancel: &CancellationToken,
        progress: Steps<'_>,
    ) -> Result<Self, ClusterError> {
        check_name(name)?;
        let docker = check(progress).await?;
        let mut ledger = Ledger::open(name, true)?;
        match RealCluster::make(&docker, &mut ledger, options, cancel, progress).await {
            Ok(_) => Ok(Self::of(&ledger)),
            Err(error) => Err(settled(&ledger, &docker, error).await),
        }
    }

    /// The one of this name.
    ///
    /// # Errors
    /// Where what is written down of it cannot be read.
    pub fn find(name: &str) -> Result<Option<Self>, ClusterError> {
        check_name(name)?;
        let found = Ledger::find(name)?.filter(|ledger| ledger.cluster.is_some());
        Ok(found.as_ref().map(Self::of))
    }

    /// Deletes it. One that is not there is no error.
    ///
    /// # Errors
    /// Where something of it may be left.
    pub async fn down(name: &str) -> Result<bool, ClusterError> {
        check_name(name)?;
        let Some(ledger) = Ledger::find(name)? else {
            return Ok(false);
        };
        ledger.settle(&Docker::find().await?).await?;
        Ok(true)
    }

    fn of(ledger: &Ledger) -> Self {
        Self {
            kubeconfig: ledger.kubeconfig(),
            cluster: ledger.cluster.clone().unwrap_or_default(),
        }
    }
}

/// Removes what runs have left whose controller is gone, and returns their names.
///
/// # Errors
/// Where something cannot be removed.
pub async fn clean() -> Result<Vec<String>, ClusterError> {
    let orphans: Vec<Ledger> = Ledger::all()
        .into_iter()
        .filter(Ledger::is_orphan)
        .collect();
    if orphans.is_empty() {
        return Ok(Vec::new());
    }
    let docker = Docker::find().await?;
    let mut removed = Vec::new();
    for ledger in orphans {
        ledger.settle(&docker).await?;
        removed.push(ledger.name().to_owned());
    }
    Ok(removed)
}

/// A client of the cluster that a kubeconfig names, with its name and server.
///
/// # Errors
/// Where the kubeconfig cannot be used.
pub async fn client(options: &ContextOptions) -> Result<(kube::Client, String), ClusterError> {
    let context = Context::read(options.name.as_deref(), options.kubeconfig.as_deref()).await?;
    let title = context.title();
    Ok((context.client, title))
}

/// Whether a context looks like a cluster that is there to be tried with, with its name and server.
///
/// # Errors
/// Where the kubeconfig cannot be used.
pub async fn looks_like_a_test(options: &ContextOptions) -> Result<(bool, String), ClusterError> {
    let context = Context::read(options.name.as_deref(), options.kubeconfig.as_deref()).await?;
    Ok((context.looks_like_a_test(), context.title()))
}

fn check_name(name: &str) -> Result<(), ClusterError> {
    if is_name(name) {
        return Ok(());
    }
    Err(missing(
        &format!("`{name}` is no name for a cluster"),
        "use up to 40 lower-case letters, digits and `-`",
    ))
}

/// Finds engine and kind, and says which they are.
async fn check(progress: Steps<'_>) -> Result<Docker, ClusterError> {
    let docker = Docker::find().await?;
    docker.check_disk()?;
    let kind = kind::version(&docker).await?;
    progress(&format!(
        "kind {kind} on Docker {}, cgroup v{}",
        docker.info.server_version, docker.info.cgroup_version
    ));
    Ok(docker)
}

/// Takes away what was begun; where that fails too, both are told.
async fn settled(ledger: &Ledger, docker: &Docker, error: ClusterError) -> ClusterError {
    match ledger.settle_unfinished(docker).await {
        Ok(()) => error,
        Err(left) => missing(
            &format!("{}; then {}", in_one_line(&error), in_one_line(&left)),
            "`inroads clean` tries to remove the rest again",
        ),
    }
}

fn no_image() -> ClusterError {
    missing(
        "the cluster's nodes are not containers of this machine's Docker, so this program cannot be put into them",
        "push an image of it to a registry that they pull from, and name it with `--agent-image` \
         (`inroads image` makes one)",
    )
}

async fn nodes_of(docker: &Docker, ledger: &Ledger) -> Vec<String> {
    let cluster = ledger.cluster.clone().unwrap_or_default();
    let nodes = kind::nodes_of(docker, &cluster).await.unwrap_or_default();
    // A high-availability cluster has a load balancer, which is no node.
    nodes
        .into_iter()
        .filter(|name| !name.ends_with("-external-load-balancer"))
        .collect()
}

/// The nodes of a cluster, where all of them are kind's containers on this machine.
async fn local_nodes(docker: &Docker, client: &kube::Client) -> Result<Vec<String>, ClusterError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes
        .list(&ListParams::default())
        .await
        .map_err(KubernetesError::call("listing", "nodes", "of the cluster"))?;
    let names: Vec<String> = nodes
        .items
        .into_iter()
        .filter_map(|node| node.metadata.name)
        .collect();
    let here = kind::all_nodes(docker).await?;
    Ok(if names.iter().all(|name| here.contains_key(name)) {
        names
    } else {
        Vec::new()
    })
}

/// The engine's network that a node is on; the engine's own where nodes are elsewhere.
async fn network_of(docker: &Docker, node: Option<&String>) -> Result<String, ClusterError> {
    let Some(node) = node else {
        return Ok("bridge".to_owned());
    };
    let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}\n{{end}}";
    let inspect = docker.command(["inspect", "--format", format, node]);
    let said = inspect
        .run(&format!("finding the network of node `{node}`"))
        .await?;
    let name = said.lines().find(|line| !line.is_empty());
    name.map(ToOwned::to_owned)
        .ok_or_else(|| missing(&format!("node `{node}` is on no network"), "is it running?"))
}

async fn await_ready(client: &kube::Client, progress: Steps<'_>) -> Result<(), ClusterError> {
    let mut told = Vec::new();
    loop {
        let late = not_ready(client).await;
        if late.is_empty() {
            return Ok(());
        }
        if late != told {
            progress(&format!("waiting for {}", late.join(", ")));
            told = late;
        }
        tokio::time::sleep(READY_PAUSE).await;
    }
}

/// What of a new cluster is not ready: nodes, and the DNS server.
async fn not_ready(client: &kube::Client) -> Vec<String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let Ok(nodes) = nodes.list(&ListParams::default()).await else {
        return vec!["the API server".to_owned()];
    };
    let late_nodes = nodes.items.iter().filter(|node| {
        let conditions = node
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref());
        !conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    let mut late: Vec<String> = late_nodes
        .map(|node| format!("node {}", node.metadata.name.as_deref().unwrap_or_default()))
        .collect();
    let dns: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    let ready = dns.get("coredns").await.ok().and_then(|dns| {
        let status = dns.status?;
        Some(status.ready_replicas? >= status.replicas?)
    });
    if ready != Some(true) {
        late.push("the cluster's DNS".to_owned());
    }
    late
}
