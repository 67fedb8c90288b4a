//! `forward`: listeners on the laptop whose connections travel through the API server to a pod, as
//! `kubectl port-forward` makes them; over the WebSocket protocol, by the `kube` crate.
//!
//! A connection that is refused or reset ends alone, and a pod that is replaced is found again at the next
//! connection: kubectl's command needs the user for both.

mod listener;

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use inroads_harness::access::{Access, AddressMap, Secret};
use inroads_harness::ids::MethodId;
use inroads_harness::kubernetes::{self, KubernetesError};
use inroads_harness::method::{
    Capability, Connection, Invitation, Manifest, Method, MethodError, Part,
};
use inroads_harness::scenario::{Object, Target};
use inroads_harness::stage::Stage;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use listener::Forwarder;

/// The ServiceAccount that the laptop acts as.
const ACCOUNT: &str = "forward";

/// How long its token is good for, in seconds: longer than any run.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// The method.
pub(crate) struct Forward;

/// What a laptop is told.
#[derive(Serialize, Deserialize)]
struct Told {
    api_server: String,
    ca: String,
    token: Secret<String>,
    namespace: String,
    targets: Vec<Target>,
}

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
            Capability::Dns => {
                "names stay unknown to the laptop: each target has a local port instead"
            }
            Capability::PodIp | Capability::ClusterIp => {
                "only targets that were named in advance have a listener"
            }
            Capability::Tcp => "port-forward carries it",
        }
    }

    fn parts(&self) -> &'static [Part] {
        &[Part::ApiServer, Part::Kubelets]
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "forward.yaml",
            yaml: include_str!("../manifests/forward.yaml"),
        }]
    }

    async fn deploy(&self, stage: &Stage) -> Result<(), MethodError> {
        Ok(stage.deploy(self.manifests()).await?)
    }

    async fn invite(&self, stage: &Stage, targets: &[Target]) -> Result<Invitation, MethodError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let made = accounts
            .create_token_request(ACCOUNT, &PostParams::default(), &request)
            .await;
        let made = made.map_err(KubernetesError::call(
            "making a token of",
            "serviceaccount",
            ACCOUNT,
        ))?;
        Ok(Invitation::pack(&Told {
            api_server: stage.facts.api_server.clone(),
            ca: stage.facts.api_server_ca.clone(),
            token: Secret::new(
                made.status
                    .and_then(|status| status.token)
                    .unwrap_or_default(),
            ),
            namespace: stage.namespace.clone(),
            targets: targets.to_vec(),
        }))
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
    let service = |namespace: &str, name: &str| listener::Wanted::Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    match &target.object {
        Object::Service(name) => service(namespace, name),
        Object::ClusterDns => service("kube-system", "kube-dns"),
        Object::Pod(name) => listener::Wanted::Pod {
            namespace: namespace.to_owned(),
            name: name.clone(),
        },
    }
}
