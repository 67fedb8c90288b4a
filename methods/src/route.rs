//! `route`: static routes to the cluster's pods and Services by way of its nodes, and the cluster's DNS for
//! the cluster's names. Nothing is deployed.
//!
//! Pods are reached by their own node. By another one, answers would come back past it, straight from the pod's
//! node to the laptop, and kube-proxy drops the rest of a connection of which a node has seen one direction only
//! (projectcalico/calico#4296). Services go by one node, which answers in its own name.

use std::net::IpAddr;

use async_trait::async_trait;
use inroads_harness::access::Access;
use inroads_harness::ids::MethodId;
use inroads_harness::method::{
    Capability, Connection, Invitation, LaptopNetwork, Manifest, Method, MethodError, Part,
};
use inroads_harness::run::{Component, Provenance};
use inroads_harness::scenario::Target;
use inroads_harness::stage::Stage;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::laptop::{self, By, Changes};
use crate::resolver::{self, ClusterNames};
use crate::split_dns::SplitDns;

/// The method.
pub(crate) struct Route;

/// What a laptop is told.
#[derive(Serialize, Deserialize)]
struct Told {
    gateway: IpAddr,
    /// Each node's pods, and the node.
    pods: Vec<(IpNet, IpAddr)>,
    services: IpNet,
    names: ClusterNames,
}

#[async_trait]
impl Method for Route {
    fn id(&self) -> MethodId {
        MethodId::of("route")
    }

    fn title(&self) -> &'static str {
        "static routes by the nodes"
    }

    fn summary(&self) -> &'static str {
        "routes for pods by way of their nodes, for Services by way of one, and the cluster's DNS for its names"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[
            "laptop: root, for routes and the resolver",
            "network: the laptop on the nodes' LAN, or every router on the way configured",
            "network: pod and Service networks that overlap nothing",
        ]
    }

    fn exposes(&self) -> &'static [Capability] {
        &[
            Capability::Tcp,
            Capability::HalfClose,
            Capability::Udp,
            Capability::Icmp,
            Capability::Dns,
            Capability::Resolver,
            Capability::PodIp,
            Capability::ClusterIp,
        ]
    }

    fn limit(&self, _capability: Capability) -> &'static str {
        "routes carry all of IP"
    }

    fn changes_laptop(&self) -> bool {
        true
    }

    fn speaks_to_nodes(&self) -> bool {
        true
    }

    fn parts(&self) -> &'static [Part] {
        &[]
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[]
    }

    fn preflight(&self, stage: &Stage, laptop: &LaptopNetwork) -> Result<(), MethodError> {
        let facts = &stage.facts;
        laptop::refuse_overlap(
            laptop,
            &[("pod", facts.pod_cidr), ("Service", facts.service_cidr)],
        )
    }

    async fn invite(
        &self,
        stage: &Stage,
        _targets: &[Target],
        _laptop: usize,
    ) -> Result<Invitation, MethodError> {
        let facts = &stage.facts;
        let gateway = facts.workers().next().or(facts.nodes.first());
        let gateway = gateway
            .ok_or("the cluster has no nodes")
            .map_err(MethodError::while_doing("choosing a node as gateway"))?;
        let mut pods: Vec<(IpNet, IpAddr)> = facts
            .nodes
            .iter()
            .filter_map(|node| Some((node.pod_cidr?, node.address)))
            .collect();
        if pods.is_empty() {
            pods.push((facts.pod_cidr, gateway.address));
        }
        Ok(Invitation::pack(&Told {
            gateway: gateway.address,
            pods,
            services: facts.service_cidr,
            names: ClusterNames::of(stage),
        }))
    }

    async fn connect(&self, invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        let told: Told = invitation.unpack()?;
        let gateway = laptop::v4_address(told.gateway, "the node's address")?;
        let services = laptop::v4(told.services, "Service")?;
        let mut changes = Changes::begin("route").await?;
        for (pods, node) in told.pods {
            let pods = laptop::v4(pods, "pod")?;
            let node = laptop::v4_address(node, "the node's address")?;
            changes.add_route(pods, By::Gateway(node)).await?;
        }
        changes.add_route(services, By::Gateway(gateway)).await?;
        let resolver = resolver::take_over(&mut changes, &told.names).await?;
        Ok(Box::new(Connected { changes, resolver }))
    }
}

struct Connected {
    changes: Changes,
    resolver: SplitDns,
}

#[async_trait]
impl Connection for Connected {
    fn accesses(&self) -> Vec<Access> {
        vec![Access::Unmodified]
    }

    fn components(&self) -> Vec<Component> {
        vec![Component {
            name: "route data plane".to_owned(),
            version: "the kernel's forwarding".to_owned(),
            provenance: Provenance::Real,
        }]
    }

    async fn close(self: Box<Self>) -> Result<(), MethodError> {
        let Self { changes, resolver } = *self;
        changes.close().await?;
        resolver.shutdown().await;
        Ok(())
    }
}
