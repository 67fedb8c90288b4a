//! `socks`: a SOCKS5 server in a pod of each node, behind a port of the node; clients on the laptop are told the URL of
//! one.

mod associations;
mod names;
pub(crate) mod server;

use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use inroads_harness::access::{Access, Secret};
use inroads_harness::ids::MethodId;
use inroads_harness::kubernetes::KubernetesError;
use inroads_harness::method::{
    Capability, Connection, Invitation, Manifest, Method, MethodError, Part, pods_of,
};
use inroads_harness::scenario::Target;
use inroads_harness::stage::Stage;
use k8s_openapi::api::core::v1::{Pod, Secret as SecretObject, Service};
use kube::api::{Api, ListParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The name of the Service and the DaemonSet.
const NAME: &str = "socks";

/// The secret that the server reads.
const CREDENTIALS: &str = "socks-credentials";

/// The user name; the password is fresh for each run.
const USERNAME: &str = "inroads";

/// The method.
pub(crate) struct Socks;

/// What a laptop is told.
#[derive(Serialize, Deserialize)]
struct Told {
    proxy: SocketAddr,
    username: String,
    password: Secret<String>,
}

#[async_trait]
impl Method for Socks {
    fn id(&self) -> MethodId {
        MethodId::of("socks")
    }

    fn title(&self) -> &'static str {
        "SOCKS5 server in a pod"
    }

    fn summary(&self) -> &'static str {
        "clients send their connections, names included, to a SOCKS5 server in the cluster"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[
            "cluster: create a DaemonSet, a Secret and a NodePort Service",
            "network: a node port, TCP and UDP, reachable from the laptop",
            "clients: a proxy setting",
        ]
    }

    fn exposes(&self) -> &'static [Capability] {
        &[
            Capability::Tcp,
            Capability::HalfClose,
            Capability::Udp,
            Capability::Dns,
            Capability::PodIp,
            Capability::ClusterIp,
        ]
    }

    fn limit(&self, capability: Capability) -> &'static str {
        match capability {
            Capability::Icmp => "SOCKS5 carries TCP and UDP only (RFC 1928 §4)",
            Capability::Resolver => {
                "the proxy resolves names (RFC 1928 §5): the laptop's own resolver knows nothing of them"
            }
            _ => "SOCKS5 carries it",
        }
    }

    fn speaks_to_nodes(&self) -> bool {
        true
    }

    fn parts(&self) -> &'static [Part] {
        &[Part::Pods("socks")]
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "socks.yaml",
            yaml: include_str!("../manifests/socks.yaml"),
        }]
    }

    async fn deploy(&self, stage: &Stage) -> Result<(), MethodError> {
        let password: String = rand::random::<[u8; 24]>()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": CREDENTIALS, "namespace": stage.namespace },
            "stringData": { "username": USERNAME, "password": password },
        });
        stage.apply(secret).await?;
        Ok(stage.deploy(self.manifests()).await?)
    }

    async fn invite(
        &self,
        stage: &Stage,
        _targets: &[Target],
        _laptop: usize,
    ) -> Result<Invitation, MethodError> {
        let call = |kind: &str, name: &str| KubernetesError::call("reading", kind, name);
        let secrets: Api<SecretObject> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let secret = secrets
            .get(CREDENTIALS)
            .await
            .map_err(call("secret", CREDENTIALS))?;
        let text = |key: &str| {
            let bytes = secret
                .data
                .as_ref()
                .and_then(|data| data.get(key))
                .map(|value| value.0.clone());
            String::from_utf8(bytes.unwrap_or_default()).map_err(MethodError::while_doing(format!(
                "reading `{key}` of the secret"
            )))
        };
        let services: Api<Service> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let service = services.get(NAME).await.map_err(call("service", NAME))?;
        let node_port =
            node_port_of(&service)
                .ok_or("it has none")
                .map_err(MethodError::while_doing(
                    "reading the node port of service `socks`",
                ))?;
        let node = node_of_server(stage).await?;
        Ok(Invitation::pack(&Told {
            proxy: SocketAddr::new(node, node_port),
            username: text("username")?,
            password: Secret::new(text("password")?),
        }))
    }

    /// A client that offers no authentication.
    fn without_credential(&self, invitation: Invitation) -> Result<Invitation, MethodError> {
        let told: Told = invitation.unpack()?;
        Ok(Invitation::pack(&Told {
            username: String::new(),
            password: Secret::new(String::new()),
            ..told
        }))
    }

    /// Nothing on the laptop changes: clients are told where the proxy is.
    async fn connect(&self, invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        Ok(Box::new(Connected(invitation.unpack()?)))
    }
}

struct Connected(Told);

#[async_trait]
impl Connection for Connected {
    fn accesses(&self) -> Vec<Access> {
        let Told {
            proxy,
            username,
            password,
        } = &self.0;
        vec![Access::Socks5 {
            proxy: *proxy,
            username: username.clone(),
            password: password.clone(),
        }]
    }

    async fn close(self: Box<Self>) -> Result<(), MethodError> {
        Ok(())
    }
}

/// The node port of the first port, which is TCP; UDP has the same number.
fn node_port_of(service: &Service) -> Option<u16> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    u16::try_from(ports.first()?.node_port?).ok()
}

/// The address of a node that a server runs on, where alone the node port answers.
async fn node_of_server(stage: &Stage) -> Result<IpAddr, MethodError> {
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let list = pods
        .list(&ListParams::default().labels(&pods_of(NAME)))
        .await
        .map_err(KubernetesError::call("listing", "pods of", NAME))?;
    let running = list
        .items
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut hosts = running.filter_map(|pod| pod.status.as_ref()?.host_ip.as_ref()?.parse().ok());
    hosts
        .next()
        .ok_or("it has no running pod")
        .map_err(MethodError::while_doing(
            "finding the node of the SOCKS server",
        ))
}
