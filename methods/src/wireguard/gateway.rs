//! The gateway in its pod: a tunnel with every laptop as a peer, and forwarding into the pod network with
//! the pod's own address as the source, so that answers find their way back without routes.

use std::net::SocketAddr;

use clap::Parser;
use inroads_harness::role::{Role, RoleError, RoleFuture};
use ipnet::{IpNet, Ipv4Net};
use nlink::netlink::nftables::{
    BaseChain, Chain, Family, Field, Match, NatHook, Priority, Rule, Value,
};
use nlink::netlink::{Connection, Nftables};
use tokio::net::TcpListener;

use super::{
    Device, Driver, Offload, OuterSocket, PeerConfig, PrivateKey, PublicKey, Tunnel, TunnelConfig,
    bring_up,
};

/// The role of this module.
pub(crate) const GATEWAY: Role = Role {
    name: "wireguard-gateway",
    about: "the gateway of the wireguard method",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

/// The longest inner packet: an Ethernet frame's, less the outer IPv6 and UDP headers and WireGuard's own
/// (paper §5.4.6), as `wg-quick` has it.
pub(super) const MTU: u16 = 1420;

/// What the gateway prints in front of its drivers' names, once it is up.
pub(super) const DRIVER_LINE: &str = "driver: ";

/// The table with the gateway's own rule.
const TABLE: &str = "inroads-wireguard";

/// The setting that makes a network namespace a router.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

#[derive(Debug, Parser)]
#[command(name = "wireguard-gateway", no_binary_name = true)]
struct Arguments {
    /// Where encrypted datagrams arrive.
    #[arg(long, default_value = "0.0.0.0:51820")]
    listen: SocketAddr,
    /// The gateway's address in the tunnel, with the tunnel's network.
    #[arg(long, default_value = "10.13.13.1/24")]
    address: Ipv4Net,
    /// Where a TCP connection is accepted once the gateway is up.
    #[arg(long, default_value = "0.0.0.0:51821")]
    ready: SocketAddr,
    /// The gateway's private key.
    #[arg(long, env = "WIREGUARD_PRIVATE_KEY", hide_env_values = true)]
    private_key: String,
    /// The laptops: a line each, with the public key and the addresses that are its own.
    #[arg(long, env = "WIREGUARD_PEERS")]
    peers: String,
}

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    forward_packets()?;
    masquerade(arguments.address).await?;
    let device = Device::open("wg0", MTU, Driver::Auto, Offload::Auto).await?;
    bring_up(device.name(), &[arguments.address.into()]).await?;
    let tunnel = Tunnel::start(TunnelConfig {
        private_key: arguments.private_key.parse::<PrivateKey>()?,
        socket: OuterSocket::bind(arguments.listen, Offload::Auto)?,
        device,
        peers: peers(&arguments.peers)?,
    })?;
    announce(&tunnel);
    let ready = TcpListener::bind(arguments.ready).await?;
    loop {
        drop(ready.accept().await);
    }
}

/// Tells the log which drivers were taken: the report names them.
#[expect(
    clippy::print_stdout,
    reason = "a container's standard output is its log"
)]
fn announce(tunnel: &Tunnel) {
    println!("{DRIVER_LINE}{}", tunnel.driver());
}

/// One peer a line: its public key, then its addresses. Empty lines and comments are left out.
fn peers(text: &str) -> Result<Vec<PeerConfig>, RoleError> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(peer).collect()
}

fn peer(line: &str) -> Result<PeerConfig, RoleError> {
    let mut words = line.split_ascii_whitespace();
    let key = words.next().unwrap_or_default();
    let public_key: PublicKey = key
        .parse()
        .map_err(|error| format!("`{key}` is no public key: {error}"))?;
    let allowed_ips = words
        .map(|word| {
            word.parse::<IpNet>()
                .map_err(|error| format!("`{word}` is no network: {error}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if allowed_ips.is_empty() {
        return Err(format!("the peer `{key}` has no address").into());
    }
    Ok(PeerConfig {
        public_key,
        preshared_key: None,
        endpoint: None,
        allowed_ips,
        persistent_keepalive: None,
    })
}

/// Makes the pod a router, unless it is one.
fn forward_packets() -> Result<(), RoleError> {
    if std::fs::read_to_string(FORWARDING).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    std::fs::write(FORWARDING, "1").map_err(|error| {
        format!("cannot set `{FORWARDING}`: {error}\n(hint: the pod must be privileged, or have the sysctl in its securityContext)")
            .into()
    })
}

/// Gives what comes out of the tunnel the pod's own address.
async fn masquerade(tunnel: Ipv4Net) -> Result<(), RoleError> {
    let rules = Connection::<Nftables>::new()?;
    let chain = Chain::new(TABLE, "postrouting")?
        .family(Family::Ip)
        .base(BaseChain::nat(NatHook::Postrouting, Priority::SrcNat));
    let inside = Value::Prefix(tunnel.network().into(), tunnel.prefix_len());
    let rule = Rule::new(TABLE, "postrouting")
        .family(Family::Ip)
        .match_saddr_v4(tunnel.network(), tunnel.prefix_len())
        .then(Match::ne(Field::Ip4Daddr, inside))
        .masquerade();
    // A restarted container finds the pod's network as the first one left it.
    rules.del_table_if_exists(TABLE, Family::Ip).await?;
    rules
        .transaction()
        .add_table(TABLE, Family::Ip)
        .add_chain(chain)
        .add_rule(rule)
        .commit(&rules)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_a_key_and_an_address() {
        let key = PrivateKey::generate().public().to_string();
        let read = peers(&format!("# laptops\n\n{key} 10.13.13.2/32 10.0.0.0/8\n")).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].allowed_ips.len(), 2);
        for bad in [
            key.as_str(),
            "nokey 10.0.0.0/8",
            &format!("{key} 10.0.0.0/99"),
        ] {
            assert!(peers(bad).is_err(), "{bad}");
        }
    }
}
