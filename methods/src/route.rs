//! `route`: static routes to the cluster's pods and Services by way of a node, and the cluster's DNS for
//! the cluster's names. Nothing is deployed.

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
    pods: IpNet,
    services: IpNet,
    names: ClusterNames,
}

#[async_trait]
impl Method for Route {
    fn id(&self) -> MethodId {
        MethodId::of("route")
    }

    fn title(&self) -> &'static str {
        "static routes by a node"
    }

    fn summary(&self) -> &'static str {
        "routes for the pod and Service networks by way of a node, and the cluster's DNS for its names"
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

    async fn deploy(&self, _stage: &Stage) -> Result<(), MethodError> {
        Ok(())
    }

    async fn invite(&self, stage: &Stage, _targets: &[Target]) -> Result<Invitation, MethodError> {
        let facts = &stage.facts;
        let gateway = facts.workers().next().or(facts.nodes.first());
        let gateway = gateway
            .ok_or("the cluster has no nodes")
            .map_err(MethodError::while_doing("choosing a node as gateway"))?;
        Ok(Invitation::pack(&Told {
            gateway: gateway.address,
            pods: facts.pod_cidr,
            services: facts.service_cidr,
            names: ClusterNames::of(stage),
        }))
    }

    async fn connect(&self, invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        let told: Told = invitation.unpack()?;
        let gateway = laptop::v4_address(told.gateway, "the node's address")?;
        let pods = laptop::v4(told.pods, "pod")?;
        let services = laptop::v4(told.services, "Service")?;
        let mut changes = Changes::begin("route").await?;
        changes.add_route(pods, By::Gateway(gateway)).await?;
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
