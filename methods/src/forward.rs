//! `forward`: listeners on the laptop whose connections travel through the API server to a pod, as
//! `kubectl port-forward` makes them; over the WebSocket protocol, by the `kube` crate.
//!
//! A connection that is refused or reset ends alone, and a pod that is replaced is found again at the next
//! connection: kubectl's command needs the user for both.

mod listener;

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use inroads_harness::access::{Access, AddressMap};
use inroads_harness::ids::MethodId;
use inroads_harness::kubernetes;
use inroads_harness::method::{
    Capability, Connection, Invitation, Manifest, Method, MethodError, Part,
};
use inroads_harness::scenario::Target;
use inroads_harness::stage::Stage;
use tokio::task::JoinSet;

use crate::account::{self, Kind, Told};
use listener::Forwarder;

/// The ServiceAccount that the laptop acts as.
pub(crate) const ACCOUNT: &str = "forward";

/// What the ServiceAccount may do.
pub(crate) const MANIFESTS: &[Manifest] = &[Manifest {
    file: "forward.yaml",
    yaml: include_str!("../manifests/forward.yaml"),
}];

/// The method.
pub(crate) struct Forward;

#[async_trait]
impl Method for Forward {
    fn id(&self) -> MethodId {
        MethodId::of("forward")
    }

    fn title(&self) -> &'static str {
        "API-server port-forward"
    }

    fn summary(&self) -> &'static str {
        "one local listener for each target, by way of the API server and the kubelet"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[
            "cluster: get on pods/portforward, pods and services",
            "network: the API server reachable from the laptop",
            "clients: the listener's address instead of the target's",
        ]
    }

    fn exposes(&self) -> &'static [Capability] {
        &[Capability::Tcp]
    }

    fn limit(&self, capability: Capability) -> &'static str {
        match capability {
            Capability::HalfClose => {
                "the WebSocket protocol cannot end one direction: the end of either is the end of both"
            }
            Capability::Udp => "port-forward carries TCP only (kubernetes/kubernetes#47862)",
            Capability::Icmp => "port-forward carries TCP only",
            Capability::Dns | Capability::Resolver => {
                "names stay unknown to the laptop: each target has a local port instead"
            }
            Capability::PodIp | Capability::ClusterIp => {
                "only targets that were named in advance have a listener"
            }
            Capability::Tcp | Capability::Http => "port-forward carries it",
        }
    }

    fn parts(&self) -> &'static [Part] {
        &[Part::ApiServer, Part::Kubelets]
    }

    fn manifests(&self) -> &'static [Manifest] {
        MANIFESTS
    }

    async fn invite(
        &self,
        stage: &Stage,
        targets: &[Target],
        _laptop: usize,
    ) -> Result<Invitation, MethodError> {
        account::invite(stage, ACCOUNT, targets).await
    }

    fn without_credential(&self, invitation: Invitation) -> Result<Invitation, MethodError> {
        account::without_token(&invitation)
    }

    async fn connect(&self, invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        let told: Told = invitation.unpack()?;
        // It has the rights of the ServiceAccount alone.
        let client = kubernetes::client(&told.api_server, &told.ca, &told.token)?;
        let mut map = AddressMap::default();
        let mut listeners = JoinSet::new();
        for target in &told.targets {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener =
                listener.map_err(MethodError::while_doing("opening a local listener"))?;
            let local = listener.local_addr().map_err(MethodError::while_doing(
                "reading a local listener's address",
            ))?;
            for host in &target.hosts {
                map.insert(host, target.port, local);
            }
            let forwarder =
                Forwarder::new(client.clone(), object(target, &told.namespace), target.port);
            listeners.spawn(Arc::new(forwarder).serve(listener));
        }
        Ok(Box::new(Connected {
            map,
            _listeners: listeners,
        }))
    }
}

/// Listeners at work; they end when this is dropped.
struct Connected {
    map: AddressMap,
    _listeners: JoinSet<()>,
}

#[async_trait]
impl Connection for Connected {
    fn accesses(&self) -> Vec<Access> {
        vec![Access::Rewritten(self.map.clone())]
    }

    async fn close(self: Box<Self>) -> Result<(), MethodError> {
        Ok(())
    }
}

/// Where a target's pods are found.
fn object(target: &Target, namespace: &str) -> listener::Wanted {
    let (kind, namespace, name) = account::found_at(target, namespace);
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    match kind {
        Kind::Service => listener::Wanted::Service { namespace, name },
        Kind::Pod => listener::Wanted::Pod { namespace, name },
    }
}
