//! kube-proxy's place: keeps the node's rules in step with Services and their endpoints.

use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use nlink::netlink::netfilter::{ConntrackFilter, IpProtocol};
use nlink::netlink::nftables::Family;
use nlink::netlink::{Connection, Netfilter, Nftables};

use super::ruleset;
use super::service_ports::{Endpoint, Protocol, ServedPort, service_ports};
use super::{Node, NodeError, PODS};
use crate::net::NetError;

/// How long changes are gathered before the rules are replaced: a rollout is many changes.
const GATHER: Duration = Duration::from_millis(3);

/// Replaces the rules after every change that matters, for as long as it runs.
pub(crate) async fn follow(node: &Node) -> Result<(), NodeError> {
    let rules =
        Connection::<Nftables>::new().map_err(NetError::while_doing("opening a netlink socket"))?;
    let flows = Connection::<Netfilter>::new()
        .map_err(NetError::while_doing("opening a netlink socket"))?;
    let (services, services_writer) = reflector::store::<Service>();
    let (slices, slices_writer) = reflector::store::<EndpointSlice>();
    let config = watcher::Config::default;
    let services_seen = watcher(Api::<Service>::all(node.client.clone()), config())
        .default_backoff()
        .reflect(services_writer)
        .map(drop);
    let slices_seen = watcher(Api::<EndpointSlice>::all(node.client.clone()), config())
        .default_backoff()
        .reflect(slices_writer)
        .map(drop);
    let mut changes = std::pin::pin!(futures_util::stream::select(services_seen, slices_seen));

    let mut current: Option<Vec<ServedPort>> = None;
    while changes.next().await.is_some() {
        while let Ok(Some(())) = tokio::time::timeout(GATHER, changes.next()).await {}
        let services = services.state();
        let slices: Vec<_> = slices
            .state()
            .iter()
            .map(|slice| (**slice).clone())
            .collect();
        let mut wanted = service_ports(services.iter().map(AsRef::as_ref), &slices);
        wanted.sort_by(|a, b| a.name.cmp(&b.name));
        if current.as_ref() == Some(&wanted) {
            continue;
        }
        let failed = || NetError::while_doing("replacing the rules for Services");
        let begun = match current {
            Some(_) => rules.transaction().del_table(ruleset::TABLE, Family::Ip),
            None => rules.transaction(),
        };
        let transaction =
            ruleset::transaction(begun, &wanted, &node.spec.name, PODS).map_err(failed())?;
        transaction.commit(&rules).await.map_err(failed())?;
        for stale in stale_flows(current.as_deref().unwrap_or_default(), &wanted) {
            flows
                .flush_conntrack_matching(&stale)
                .await
                .map_err(failed())?;
        }
        current = Some(wanted);
    }
    Ok(())
}

/// UDP flows that the kernel still sends where they went before. TCP notices that its other end is gone;
/// a flow of datagrams goes on for as long as datagrams do, so kube-proxy forgets it too.
fn stale_flows(before: &[ServedPort], now: &[ServedPort]) -> Vec<ConntrackFilter> {
    let flow = || ConntrackFilter::new().proto(IpProtocol::Udp);
    let udp = |port: &&ServedPort| port.protocol == Protocol::Udp;
    let served = |ports: &[ServedPort], name: &str| -> Vec<Endpoint> {
        let port = ports.iter().find(|port| port.name == name);
        port.map(|port| port.endpoints.clone()).unwrap_or_default()
    };
    let mut stale = Vec::new();
    for port in before.iter().filter(udp) {
        let kept = served(now, &port.name);
        let gone = port
            .endpoints
            .iter()
            .filter(|endpoint| !kept.contains(endpoint));
        stale.extend(gone.map(|endpoint| {
            flow()
                .reply_src(endpoint.address)
                .reply_src_port(endpoint.port)
        }));
    }
    // What came while nobody served, or before there was a rule, went nowhere and would go on to.
    for port in now.iter().filter(udp) {
        if !port.endpoints.is_empty() && served(before, &port.name).is_empty() {
            stale.push(flow().orig_dst(port.cluster_ip).orig_dst_port(port.port));
            stale.extend(
                port.node_port
                    .map(|node_port| flow().orig_dst_port(node_port)),
            );
        }
    }
    stale
}
