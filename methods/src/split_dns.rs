//! The split resolver: what a connected laptop's `resolv.conf` points to.
//!
//! Questions for the cluster's names and addresses go to the cluster's DNS, all others to the office's, so
//! that neither side sees what is not its own. Messages stay as they came, by the transport they came with;
//! nothing is cached. What the laptop's files say is not touched here.

mod zones;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use inroads_harness::dns::message::{self, Unusable};
use inroads_harness::dns::{ListenError, Patience, Reply, Responder, Server, Sockets, Upstream};
use ipnet::IpNet;

pub use inroads_harness::dns::ResolvConf;
use zones::Zones;
pub use zones::reverse_zones;

/// What a resolver needs to know.
#[derive(Debug)]
pub struct SplitDnsConfig {
    /// Where it answers.
    pub listen: Listen,
    /// The cluster's domains, `cluster.local`.
    pub domains: Vec<String>,
    /// The networks whose addresses the cluster's DNS has names for: those of pods and Services.
    pub networks: Vec<IpNet>,
    /// The cluster's DNS.
    pub cluster: Vec<SocketAddr>,
    /// The servers for everything else, the first first.
    pub office: Vec<SocketAddr>,
}

/// Where a resolver answers.
#[derive(Debug)]
pub enum Listen {
    /// On an address of this network namespace. Port 0 takes one that is free.
    On(SocketAddr),
    /// On sockets that listen already, both on the same address.
    Through {
        /// For datagrams.
        udp: UdpSocket,
        /// For connections.
        tcp: TcpListener,
    },
}

/// A resolver at work, until it is dropped or shut down.
pub struct SplitDns {
    address: SocketAddr,
    server: Server,
    split: Arc<Split>,
}

impl SplitDns {
    /// Begins to answer. Must be called in a tokio runtime; sockets stay in the network namespace of the
    /// calling thread, those to the servers in that of the runtime's threads.
    ///
    /// # Errors
    /// Where it cannot listen, or a domain is none.
    pub fn start(config: SplitDnsConfig) -> Result<Self, SplitDnsError> {
        let zones = Zones::new(&config.domains, &config.networks).map_err(SplitDnsError::Domain)?;
        let sockets = match config.listen {
            Listen::On(address) => Sockets::bind(address)?,
            Listen::Through { udp, tcp } => {
                Sockets::from_std(udp, tcp).map_err(SplitDnsError::Socket)?
            }
        };
        let split = Arc::new(Split {
            zones,
            cluster: upstream(&config.cluster),
            office: upstream(&config.office),
        });
        Ok(Self {
            address: sockets.local_addr().map_err(SplitDnsError::Socket)?,
            server: Server::start(sockets, split.clone()),
            split,
        })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops answering, and returns when all its sockets are closed. Open questions go unanswered.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
        self.split.cluster.shutdown().await;
        self.split.office.shutdown().await;
    }
}

/// A resolver could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SplitDnsError {
    /// A domain of the cluster is no name.
    #[error("`{0}` is no domain")]
    Domain(String),
    /// The address is taken, or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The sockets given are of no use.
    #[error("using the resolver's sockets")]
    Socket(#[source] io::Error),
}

struct Split {
    zones: Zones,
    cluster: Upstream,
    office: Upstream,
}

impl Responder for Split {
    fn respond(&self, bytes: &[u8], reply: Reply) {
        match message::question(bytes) {
            Ok(question) if self.zones.cover(question.name()) => self.cluster.relay(bytes, reply),
            Ok(_) => self.office.relay(bytes, reply),
            Err(Unusable::Malformed) => reply.send(&message::refusal(bytes, ResponseCode::FormErr)),
            Err(Unusable::Ignore) => {}
        }
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        self.cluster.close();
        self.office.close();
    }
}

/// Every server is asked, and the only one twice, as resolvers do.
fn upstream(servers: &[SocketAddr]) -> Upstream {
    let patience = Patience {
        attempt: ATTEMPT,
        attempts: servers.len().max(2),
    };
    Upstream::new(servers, patience)
}

/// How long a server may take: as long as the C library waits (resolv.conf(5), `timeout`).
const ATTEMPT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
