//! Network namespaces and what connects them, over netlink.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, unshare};
use nlink::netlink::link::{BridgeLink, VethLink};
use nlink::netlink::namespace::Netns;
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Connection, Route};

/// The MTU of all links in the lab: Ethernet's.
const MTU: u32 = 1500;

/// A step on the network failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub(crate) struct NetError {
    doing: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl NetError {
    pub(crate) fn while_doing<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self {
            doing: doing.into(),
            source: source.into(),
        }
    }
}

/// Makes a network namespace without a name: it goes with the last thing that uses it.
pub(crate) fn new_netns() -> Result<Netns, NetError> {
    // A thread of its own enters it, and leaves nothing behind but the descriptor.
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        std::fs::File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
    });
    let fd = made
        .join()
        .unwrap_or_else(|_panicked| Err(std::io::Error::other("the thread panicked")))
        .map_err(NetError::while_doing("making a network namespace"))?;
    Netns::from_fd(fd).map_err(NetError::while_doing("opening a network namespace"))
}

/// Talks to the kernel about the links of `netns`, or of this process's own namespace.
pub(crate) fn links_of(netns: Option<&Netns>) -> Result<Connection<Route>, NetError> {
    let connection = match netns {
        Some(netns) => Connection::<Route>::new_in(netns),
        None => Connection::<Route>::new(),
    };
    connection.map_err(NetError::while_doing("opening a netlink socket"))
}

/// Brings up loopback.
pub(crate) async fn loopback_up(links: &Connection<Route>) -> Result<(), NetError> {
    links
        .set_link_up("lo")
        .await
        .map_err(NetError::while_doing("bringing up loopback"))
}

/// Makes the bridge `name` in this process's own namespace: the switch of the office LAN, on which this
/// process has `address`.
pub(crate) async fn add_switch(
    links: &Connection<Route>,
    name: &str,
    address: Ipv4Addr,
    lan: Ipv4Net,
) -> Result<(), NetError> {
    let failed = || NetError::while_doing(format!("making the bridge `{name}`"));
    links
        .add_link(BridgeLink::new(name).mtu(MTU).forward_delay_ms(0))
        .await
        .map_err(failed())?;
    links
        .add_address_by_name(name, address.into(), lan.prefix_len())
        .await
        .map_err(failed())?;
    links.set_link_up(name).await.map_err(failed())
}

/// Plugs the namespace `netns` into the bridge `switch` by a link named `eth0` inside and `port` outside,
/// with `address` on it and a default route by `gateway`.
pub(crate) async fn plug_in(
    switch: (&Connection<Route>, &str),
    port: &str,
    netns: &Netns,
    address: Ipv4Addr,
    lan: Ipv4Net,
    gateway: Option<Ipv4Addr>,
) -> Result<(), NetError> {
    let failed = || NetError::while_doing(format!("plugging `{port}` into the LAN"));
    let (outside, bridge) = switch;
    outside
        .add_link(VethLink::new(port, "eth0").mtu(MTU).peer_netns_fd(netns))
        .await
        .map_err(failed())?;
    outside
        .set_link_master(port, bridge)
        .await
        .map_err(failed())?;
    outside.set_link_up(port).await.map_err(failed())?;
    let inside = links_of(Some(netns))?;
    loopback_up(&inside).await?;
    inside.set_link_up("eth0").await.map_err(failed())?;
    inside
        .add_address_by_name("eth0", address.into(), lan.prefix_len())
        .await
        .map_err(failed())?;
    if let Some(gateway) = gateway {
        inside
            .add_route(Ipv4Route::default_route().gateway(gateway))
            .await
            .map_err(failed())?;
    }
    Ok(())
}

/// Connects a pod's namespace as the `ptp` plug-in does: a link named `port` on this side and `eth0` in
/// the pod, a host route to `address`, and everything of the pod's by way of `gateway`, which is on the
/// pod's own link. So traffic between pods of one node is routed too, and Service translation sees it.
pub(crate) async fn connect_pod(
    links: &Connection<Route>,
    port: &str,
    netns: &Netns,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
) -> Result<(), NetError> {
    let failed = || NetError::while_doing(format!("connecting the pod at {address}"));
    links
        .add_link(VethLink::new(port, "eth0").mtu(MTU).peer_netns_fd(netns))
        .await
        .map_err(failed())?;
    links.set_link_up(port).await.map_err(failed())?;
    links
        .add_address_by_name(port, gateway.into(), 32)
        .await
        .map_err(failed())?;
    let inside = links_of(Some(netns))?;
    loopback_up(&inside).await?;
    inside.set_link_up("eth0").await.map_err(failed())?;
    inside
        .add_address_by_name("eth0", address.into(), 32)
        .await
        .map_err(failed())?;
    inside
        .add_route(Ipv4Route::from_addr(gateway, 32).dev("eth0"))
        .await
        .map_err(failed())?;
    inside
        .add_route(Ipv4Route::default_route().gateway(gateway))
        .await
        .map_err(failed())?;
    links
        .add_route(Ipv4Route::from_addr(address, 32).dev(port))
        .await
        .map_err(failed())
}

/// Sends packets for `pods` by way of the node at `gateway`.
pub(crate) async fn route_by(
    links: &Connection<Route>,
    pods: Ipv4Net,
    gateway: Ipv4Addr,
) -> Result<(), NetError> {
    let route = Ipv4Route::from_addr(pods.network(), pods.prefix_len()).gateway(gateway);
    links
        .add_route(route)
        .await
        .map_err(NetError::while_doing(format!(
            "routing {pods} by way of {gateway}"
        )))
}

/// Makes a namespace forward packets between its links, as a router or a node does.
pub(crate) fn forward_packets(netns: &Netns) -> Result<(), NetError> {
    let failed = |key: &str| NetError::while_doing(format!("setting `{key}`"));
    let settings = [
        ("net.ipv4.ip_forward", "1"),
        // Answers may come by another way than questions went: pods answer the LAN directly.
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        // A router on a single LAN would tell hosts to skip it, which hides what is measured.
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
        // A laptop that tries ten closed doors is to hear of each at once, not of one a second.
        ("net.ipv4.icmp_ratelimit", "0"),
    ];
    for (key, value) in settings {
        netns.sysctl().set(key, value).map_err(failed(key))?;
    }
    Ok(())
}
