//! Routes to the pods of the other nodes, by way of those nodes: what a CNI without overlay does.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use futures_util::StreamExt as _;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};

use super::{Node, NodeError};
use crate::net;

/// Adds a route for each node that the API shows, for as long as it runs.
pub(crate) async fn follow(node: &Node) -> Result<(), NodeError> {
    let nodes: Api<NodeObject> = Api::all(node.client.clone());
    let mut seen = std::pin::pin!(
        watcher(nodes, watcher::Config::default())
            .default_backoff()
            .applied_objects()
    );
    let mut routed = BTreeSet::new();
    while let Some(object) = seen.next().await {
        let Ok(object) = object else { continue };
        if object.metadata.name.as_deref() == Some(&node.spec.name) {
            continue;
        }
        if let Some((pods, address)) = way_to(&object)
            && routed.insert(pods)
        {
            net::route_by(&node.links, pods, address).await?;
        }
    }
    Ok(())
}

fn way_to(node: &NodeObject) -> Option<(Ipv4Net, Ipv4Addr)> {
    let pods = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses
        .iter()
        .find(|address| address.type_ == "InternalIP")?;
    Some((pods, internal.address.parse().ok()?))
}
