//! What is true of a cluster, found out by its API alone.
//!
//! What only its administrator wrote down (kubeadm's configuration, the arguments of its parts) is read where
//! it is there and may be read; the rest is deduced from what every cluster shows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use inroads_harness::cluster::{ClusterError, ClusterKind, Facts, Node};
use inroads_harness::kubernetes::KubernetesError;
use inroads_harness::run::{Component, Provenance};
use ipnet::IpNet;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Node as NodeObject, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams};
use serde_json::Value;

/// Where a cluster keeps its own parts.
const SYSTEM: &str = "kube-system";

/// What pod networks' agents are called, and what they are.
const POD_NETWORKS: &[(&str, &str)] = &[
    ("kindnet", "kindnet"),
    ("calico-node", "Calico"),
    ("cilium", "Cilium"),
    ("kube-flannel", "Flannel"),
    ("weave-net", "Weave Net"),
    ("antrea-agent", "Antrea"),
    ("aws-node", "AWS VPC CNI"),
];

/// The facts of the cluster that `client` reaches, and the parts whose behaviour stands in its figures; laptops
/// reach its API server at `api_server`.
///
/// # Errors
/// Where the API cannot be read, or does not show a network that methods must know.
pub(crate) async fn discover(
    client: &kube::Client,
    kind: ClusterKind,
    api_server: &str,
    ca: &str,
) -> Result<(Facts, Vec<Component>), ClusterError> {
    let version = client
        .apiserver_version()
        .await
        .map_err(KubernetesError::call(
            "reading the version of",
            "API server",
            api_server,
        ))?;
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let nodes = nodes
        .list(&ListParams::default())
        .await
        .map_err(KubernetesError::call("listing", "nodes", "of the cluster"))?
        .items;
    let kubeadm = config(client, "kubeadm-config", "ClusterConfiguration").await;
    let networking = &kubeadm["networking"];
    let pod_cidr = first_net(&networking["podSubnet"])
        .or_else(|| pods_of_nodes(&nodes))
        .ok_or_else(|| unknown("the pod network", "no node has spec.podCIDR"))?;
    let service_cidr = match first_net(&networking["serviceSubnet"]) {
        Some(net) => net,
        None => services_by_trial(client).await?,
    };
    let services: Api<Service> = Api::namespaced(client.clone(), SYSTEM);
    let dns = services
        .get("kube-dns")
        .await
        .map_err(KubernetesError::call(
            "reading",
            "service",
            "kube-system/kube-dns",
        ))?;
    let dns = dns.spec.and_then(|spec| spec.cluster_ip?.parse().ok());
    let image = of_node_image(client).await;
    let facts = Facts {
        kind,
        kubernetes: version.git_version,
        cni: pod_network(client, &image).await,
        kube_proxy: kube_proxy(client).await,
        nodes: nodes.iter().filter_map(node).collect(),
        pod_cidr,
        service_cidr,
        dns: dns.ok_or_else(|| unknown("the cluster's DNS server", "kube-dns has no address"))?,
        domain: networking["dnsDomain"]
            .as_str()
            .unwrap_or("cluster.local")
            .to_owned(),
        api_server: api_server.to_owned(),
        api_server_ca: ca.to_owned(),
        office: None,
    };
    let components = components(client, &facts, &nodes, &image).await;
    Ok((facts, components))
}

/// Where the API server really is: what a kubeconfig names may be this machine's loopback only.
pub(crate) async fn real_api_server(client: &kube::Client) -> Option<String> {
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), "default");
    let found = endpoints.get("kubernetes").await.ok()?;
    let subset = found.subsets?.into_iter().next()?;
    let address: IpAddr = subset.addresses?.first()?.ip.parse().ok()?;
    let port = u16::try_from(subset.ports?.first()?.port).ok()?;
    Some(format!(
        "https://{}",
        std::net::SocketAddr::new(address, port)
    ))
}

fn unknown(what: &str, why: &str) -> ClusterError {
    ClusterError::Missing {
        what: format!("{what} cannot be found out: {why}"),
        hint: "ask the cluster's administrator; `kubectl cluster-info dump | grep -i cidr` may show it".to_owned(),
    }
}

/// A YAML document in a ConfigMap of the system's; null where it may not be read.
async fn config(client: &kube::Client, name: &str, key: &str) -> Value {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    let map = maps.get(name).await.ok();
    let text = map.and_then(|map| map.data?.remove(key));
    text.and_then(|text| serde_saphyr::from_str(&text).ok())
        .unwrap_or(Value::Null)
}

/// The first network of a list such as `10.244.0.0/16,fd00:10:244::/56`.
fn first_net(value: &Value) -> Option<IpNet> {
    value.as_str()?.split(',').next()?.trim().parse().ok()
}

/// The smallest network that holds the pods of all nodes.
fn pods_of_nodes(nodes: &[NodeObject]) -> Option<IpNet> {
    let each: Vec<IpNet> = nodes
        .iter()
        .filter_map(|node| node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok())
        .collect();
    let mut net = *each.first()?;
    while !each.iter().all(|other| net.contains(other)) {
        net = net.supernet()?;
    }
    Some(net.trunc())
}

/// The Service network, from the words in which the API server refuses an address that is not in it. Nothing is
/// made: it is asked to only try.
async fn services_by_trial(client: &kube::Client) -> Result<IpNet, ClusterError> {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let trial = Service {
        metadata: ObjectMeta {
            name: Some("inroads-trial".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("0.0.0.1".to_owned()),
            ports: Some(vec![ServicePort {
                port: 80,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let only_try = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match services.create(&only_try, &trial).await {
        Err(kube::Error::Api(status)) => {
            net_in(&status.message).ok_or_else(|| unknown("the Service network", &status.message))
        }
        Err(other) => Err(ClusterError::while_doing("asking for the Service network")(
            other,
        )),
        Ok(_) => Err(unknown(
            "the Service network",
            "the API server took an address outside of any",
        )),
    }
}

/// The network that a text names: `… The range of valid IPs is 10.96.0.0/12`.
fn net_in(text: &str) -> Option<IpNet> {
    let words = text.split(|c: char| c.is_whitespace() || ",;\"".contains(c));
    words
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.contains('/'))
        .find_map(|word| word.parse().ok())
}

/// What our own node image says of itself; nothing where nodes are of another.
async fn of_node_image(client: &kube::Client) -> BTreeMap<String, String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    let map = maps.get("inroads-node-image").await.ok();
    map.and_then(|map| map.data).unwrap_or_default()
}

async fn pod_network(client: &kube::Client, image: &BTreeMap<String, String>) -> String {
    if let Some(ours) = image.get("pod-network") {
        return ours.clone();
    }
    let sets: Api<DaemonSet> = Api::all(client.clone());
    let sets = sets.list(&ListParams::default()).await.ok();
    let names: Vec<String> = sets
        .into_iter()
        .flatten()
        .filter_map(|set| set.metadata.name)
        .collect();
    let known = POD_NETWORKS
        .iter()
        .find(|(agent, _)| names.iter().any(|name| name.starts_with(agent)));
    known.map_or("unknown", |(_, title)| title).to_owned()
}

async fn kube_proxy(client: &kube::Client) -> String {
    let config = config(client, "kube-proxy", "config.conf").await;
    match config["mode"].as_str() {
        // What an empty mode is on Linux.
        Some("") => "iptables".to_owned(),
        Some(mode) => mode.to_owned(),
        None => "unknown".to_owned(),
    }
}

fn node(node: &NodeObject) -> Option<Node> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses
        .iter()
        .find(|address| address.type_ == "InternalIP")?;
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    Some(Node {
        name: node.metadata.name.clone()?,
        address: internal.address.parse().ok()?,
        pod_cidr: node
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_cidr.as_ref()?.parse().ok()),
        control_plane: taints.unwrap_or_default().iter().any(|taint| {
            taint.effect == "NoSchedule" && taint.key.starts_with("node-role.kubernetes.io/")
        }),
    })
}

/// The parts whose behaviour stands in the figures.
async fn components(
    client: &kube::Client,
    facts: &Facts,
    nodes: &[NodeObject],
    image: &BTreeMap<String, String>,
) -> Vec<Component> {
    let part = |name: &str, version: String| Component {
        name: name.to_owned(),
        version,
        provenance: Provenance::Real,
    };
    let mut all = vec![part("kube-apiserver", facts.kubernetes.clone())];
    let info = nodes
        .iter()
        .find_map(|node| node.status.as_ref()?.node_info.clone());
    if let Some(info) = info {
        let proxy = format!("{} ({})", info.kube_proxy_version, facts.kube_proxy);
        all.push(part("kubelet", info.kubelet_version));
        all.push(part("kube-proxy", proxy));
        all.push(part("container runtime", info.container_runtime_version));
    }
    all.push(match image.get("dns") {
        // It is this program in the place of CoreDNS.
        Some(ours) => Component {
            provenance: Provenance::StandIn,
            ..part("cluster DNS", ours.clone())
        },
        None => part("cluster DNS", dns_image(client).await),
    });
    let web = format!("inroads {}", env!("CARGO_PKG_VERSION"));
    all.push(part("web server", web));
    all
}

async fn dns_image(client: &kube::Client) -> String {
    let dns: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let image = dns.get("coredns").await.ok().and_then(|dns| {
        let containers = dns.spec.template.spec?.containers;
        containers.into_iter().next()?.image
    });
    image.unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::NodeSpec;

    use super::*;

    fn node_with(cidr: &str) -> NodeObject {
        NodeObject {
            spec: Some(NodeSpec {
                pod_cidr: Some(cidr.to_owned()),
                ..NodeSpec::default()
            }),
            ..NodeObject::default()
        }
    }

    #[test]
    fn the_pod_network_holds_the_pods_of_all_nodes() {
        let nodes = ["10.244.0.0/24", "10.244.3.0/24"].map(node_with);
        assert_eq!(pods_of_nodes(&nodes), "10.244.0.0/22".parse().ok());
        assert_eq!(pods_of_nodes(&[]), None);
    }

    #[test]
    fn the_service_network_is_in_the_words_of_the_refusal() {
        for (text, net) in [
            (
                "provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/12",
                "10.96.0.0/12",
            ),
            (
                "spec.clusterIPs: Invalid value: [\"0.0.0.1\"]: the range of valid IPs is fd00::/108.",
                "fd00::/108",
            ),
        ] {
            assert_eq!(net_in(text), net.parse().ok(), "{text}");
        }
        assert_eq!(net_in("services is forbidden"), None);
    }

    #[test]
    fn of_two_networks_the_first_counts() {
        let value = Value::from("10.244.0.0/16,fd00:10:244::/56");
        assert_eq!(first_net(&value), "10.244.0.0/16".parse().ok());
    }
}
