//! The method: what is put into the cluster, what the laptop is told, and what it does with it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use inroads_harness::access::{Access, Secret};
use inroads_harness::ids::MethodId;
use inroads_harness::kubernetes::KubernetesError;
use inroads_harness::method::{
    Capability, Connection, Invitation, LaptopNetwork, Manifest, Method, MethodError, Part, pods_of,
};
use inroads_harness::run::{Component, Provenance};
use inroads_harness::scenario::Target;
use inroads_harness::stage::Stage;
use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1::{Pod, Secret as SecretObject, Service};
use kube::api::{Api, ListParams, LogParams};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::gateway::{DRIVER_LINE, MTU};
use super::{
    Device, Driver, Offload, OuterSocket, PeerConfig, PrivateKey, PublicKey, Tunnel, TunnelConfig,
    TunnelError, bring_up,
};
use crate::laptop::{self, By, Changes};
use crate::resolver::{self, ClusterNames};
use crate::split_dns::SplitDns;

/// The name of the Service, the Deployment and the laptop's interface.
const NAME: &str = "wireguard";

/// The laptop's interface.
const INTERFACE: &str = "inroads0";

/// The secret that the gateway reads, and the one that holds the laptop's side for whoever invites it.
const GATEWAY_SECRET: &str = "wireguard-gateway";
const LAPTOP_SECRET: &str = "wireguard-laptop";

/// The tunnel's network and the gateway's address in it; laptops have those that follow.
const TUNNEL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 13, 13, 0), 24);
const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 13, 13, 1);

/// How often the laptop speaks up, so that the way back through NAT stays open (paper §6.5).
const KEEPALIVE: Duration = Duration::from_secs(25);

/// How long each attempt at the first handshake may take. A lost message is sent again after 5 s (paper
/// §6.1), which is long for someone who waits; a node port that has just been opened may lose the first, and all
/// that follow it from the same port (kubernetes/kubernetes#98305).
const HANDSHAKE_PATIENCE: [Duration; 5] = [
    Duration::from_millis(300),
    Duration::from_millis(600),
    Duration::from_millis(1200),
    Duration::from_millis(2400),
    Duration::from_secs(6),
];

/// The method.
pub(crate) struct WireGuard;

/// What a laptop is told.
#[derive(Serialize, Deserialize)]
struct Told {
    private_key: Secret<String>,
    address: Ipv4Net,
    gateway_key: String,
    endpoint: SocketAddr,
    pods: IpNet,
    services: IpNet,
    names: ClusterNames,
    gateway_driver: String,
}

#[async_trait]
impl Method for WireGuard {
    fn id(&self) -> MethodId {
        MethodId::of(NAME)
    }

    fn title(&self) -> &'static str {
        "WireGuard gateway in a pod"
    }

    fn summary(&self) -> &'static str {
        "a WireGuard tunnel to a gateway in the cluster, and the cluster's DNS for its names"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[
            "laptop: root, for an interface, routes and the resolver",
            "cluster: a privileged pod, Secrets and a NodePort Service",
            "network: a node port over UDP reachable from the laptop",
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
        "the tunnel carries all of IP"
    }

    fn changes_laptop(&self) -> bool {
        true
    }

    fn speaks_to_nodes(&self) -> bool {
        true
    }

    fn parts(&self) -> &'static [Part] {
        &[Part::Pods(NAME)]
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "wireguard.yaml",
            yaml: include_str!("../../manifests/wireguard.yaml"),
        }]
    }

    fn preflight(&self, stage: &Stage, laptop: &LaptopNetwork) -> Result<(), MethodError> {
        let facts = &stage.facts;
        let wanted = [
            ("pod", facts.pod_cidr),
            ("Service", facts.service_cidr),
            ("tunnel", TUNNEL.into()),
        ];
        laptop::refuse_overlap(laptop, &wanted)
    }

    async fn deploy(&self, stage: &Stage) -> Result<(), MethodError> {
        let gateway = PrivateKey::generate();
        let mut peers = String::new();
        let mut laptop_data = Map::new();
        for laptop in 0..stage.laptops {
            let key = PrivateKey::generate();
            let address = address_of(laptop)?.addr();
            writeln!(peers, "{} {address}/32", key.public()).expect("writing to a string");
            laptop_data.insert(key_of(laptop), json!(key.expose()));
        }
        laptop_data.insert(
            "gateway-key".to_owned(),
            json!(gateway.public().to_string()),
        );
        let secret = |name: &str, data| {
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": { "name": name, "namespace": stage.namespace },
                "stringData": data,
            })
        };
        let gateway_data = json!({ "private-key": gateway.expose(), "peers": peers });
        stage.apply(secret(GATEWAY_SECRET, gateway_data)).await?;
        stage
            .apply(secret(LAPTOP_SECRET, laptop_data.into()))
            .await?;
        Ok(stage.deploy(self.manifests()).await?)
    }

    async fn invite(
        &self,
        stage: &Stage,
        _targets: &[Target],
        laptop: usize,
    ) -> Result<Invitation, MethodError> {
        let secrets: Api<SecretObject> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let secret = secrets.get(LAPTOP_SECRET).await;
        let secret = secret.map_err(KubernetesError::call("reading", "secret", LAPTOP_SECRET))?;
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
        let service = services
            .get(NAME)
            .await
            .map_err(KubernetesError::call("reading", "service", NAME))?;
        let port =
            node_port_of(&service)
                .ok_or("it has none")
                .map_err(MethodError::while_doing(
                    "reading the node port of service `wireguard`",
                ))?;
        let node = stage.facts.workers().next().or(stage.facts.nodes.first());
        let node = node
            .ok_or("the cluster has no nodes")
            .map_err(MethodError::while_doing(
                "choosing a node to reach the gateway by",
            ))?;
        Ok(Invitation::pack(&Told {
            private_key: Secret::new(text(&key_of(laptop))?),
            address: address_of(laptop)?,
            gateway_key: text("gateway-key")?,
            endpoint: SocketAddr::new(node.address, port),
            pods: stage.facts.pod_cidr,
            services: stage.facts.service_cidr,
            names: ClusterNames::of(stage),
            gateway_driver: driver_of_gateway(stage)
                .await
                .unwrap_or_else(|| "unknown".to_owned()),
        }))
    }

    /// A key that the gateway does not know: its own and where it listens can be found out.
    fn without_credential(&self, invitation: Invitation) -> Result<Invitation, MethodError> {
        let told: Told = invitation.unpack()?;
        Ok(Invitation::pack(&Told {
            private_key: Secret::new(PrivateKey::generate().expose()),
            ..told
        }))
    }

    async fn connect(&self, invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        let told: Told = invitation.unpack()?;
        let (pods, services) = (
            laptop::v4(told.pods, "pod")?,
            laptop::v4(told.services, "Service")?,
        );
        let mut changes = Changes::begin(NAME).await?;
        let tunnel = open_tunnel(&told, &[TUNNEL, pods, services]).await?;
        for network in [pods, services] {
            changes
                .add_route(network, By::Gateway(GATEWAY_ADDRESS))
                .await?;
        }
        let resolver = resolver::take_over(&mut changes, &told.names).await?;
        Ok(Box::new(Connected {
            changes,
            resolver,
            tunnel,
            gateway_driver: told.gateway_driver,
        }))
    }
}

/// The key of a laptop's private key in the secret.
fn key_of(laptop: usize) -> String {
    format!("private-key-{laptop}")
}

/// The address of a laptop in the tunnel.
fn address_of(laptop: usize) -> Result<Ipv4Net, MethodError> {
    let address = TUNNEL.hosts().nth(laptop + 1);
    let address = address.ok_or_else(|| MethodError::Refused {
        reason: format!("the tunnel's network {TUNNEL} has no address for laptop {laptop}"),
        hint: "use fewer laptops".to_owned(),
    })?;
    Ok(Ipv4Net::new_assert(address, TUNNEL.prefix_len()))
}

/// Makes the interface and waits for the first handshake.
async fn open_tunnel(told: &Told, allowed: &[Ipv4Net]) -> Result<Tunnel, MethodError> {
    let private_key: PrivateKey = told
        .private_key
        .expose()
        .parse()
        .map_err(MethodError::while_doing("reading the laptop's key"))?;
    let gateway: PublicKey = told
        .gateway_key
        .parse()
        .map_err(MethodError::while_doing("reading the gateway's key"))?;
    let device = Device::open(INTERFACE, MTU, Driver::Auto, Offload::Auto).await;
    let device = device.map_err(MethodError::while_doing("making the tunnel's interface"))?;
    bring_up(device.name(), &[told.address.into()])
        .await
        .map_err(MethodError::while_doing(
            "setting the tunnel's interface up",
        ))?;
    let socket = OuterSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Offload::Auto)
        .map_err(MethodError::while_doing("opening the tunnel's socket"))?;
    let peer = PeerConfig {
        public_key: gateway,
        preshared_key: None,
        endpoint: Some(told.endpoint),
        allowed_ips: allowed.iter().copied().map(IpNet::from).collect(),
        persistent_keepalive: Some(KEEPALIVE),
    };
    let tunnel = Tunnel::start(TunnelConfig {
        private_key,
        socket,
        device,
        peers: vec![peer.clone()],
    })
    .map_err(MethodError::while_doing("starting the tunnel"))?;
    meet(&tunnel, &peer)
        .await
        .map_err(MethodError::while_doing("waiting for the gateway"))?;
    Ok(tunnel)
}

/// Waits for the first handshake, beginning it anew, from another port, where an attempt stays unanswered.
async fn meet(tunnel: &Tunnel, peer: &PeerConfig) -> Result<(), TunnelError> {
    let [earlier @ .., last] = &HANDSHAKE_PATIENCE;
    for patience in earlier {
        match tunnel.wait_handshake(&peer.public_key, *patience).await {
            Err(TunnelError::NoHandshake { .. }) => {
                tunnel.remove_peer(&peer.public_key).await?;
                tunnel.change_port().await?;
                tunnel.add_peer(peer.clone()).await?;
            }
            met => return met,
        }
    }
    tunnel.wait_handshake(&peer.public_key, *last).await
}

struct Connected {
    changes: Changes,
    resolver: SplitDns,
    tunnel: Tunnel,
    gateway_driver: String,
}

#[async_trait]
impl Connection for Connected {
    fn accesses(&self) -> Vec<Access> {
        vec![Access::Unmodified]
    }

    fn components(&self) -> Vec<Component> {
        let driver = |side: &str, version: &str| Component {
            name: format!("wireguard driver {side}"),
            version: version.to_owned(),
            provenance: Provenance::Real,
        };
        vec![
            driver("on the laptop", self.tunnel.driver()),
            driver("in the gateway", &self.gateway_driver),
        ]
    }

    async fn close(self: Box<Self>) -> Result<(), MethodError> {
        let Self {
            changes,
            resolver,
            tunnel,
            ..
        } = *self;
        // The routes first: they name the interface, which goes with the tunnel.
        let undone = changes.close().await;
        resolver.shutdown().await;
        let ended = tunnel
            .shutdown()
            .await
            .map_err(MethodError::while_doing("ending the tunnel"));
        undone.and(ended)
    }
}

fn node_port_of(service: &Service) -> Option<u16> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    u16::try_from(ports.first()?.node_port?).ok()
}

/// The drivers that the gateway says it took.
async fn driver_of_gateway(stage: &Stage) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let ours = ListParams::default().labels(&pods_of(NAME));
    let pod = pods
        .list(&ours)
        .await
        .ok()?
        .items
        .into_iter()
        .find_map(|pod| pod.metadata.name)?;
    let log = pods.logs(&pod, &LogParams::default()).await.ok()?;
    log.lines()
        .find_map(|line| line.strip_prefix(DRIVER_LINE))
        .map(ToOwned::to_owned)
}
