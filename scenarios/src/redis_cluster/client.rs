//! The driver, set up for an access: as it comes where ordinary sockets and names do, and else with a map of
//! addresses, which is all that it has for a way around.
//!
//! The driver has no option for a proxy. Its trait for connections of another kind keeps no state and is hidden
//! from its documentation, so that no user is told to implement it. Through a proxy a user therefore runs a relay
//! for each node, and that is what is done here.

use std::collections::HashMap;
use std::net::SocketAddr;

use inroads_harness::access::Access;
use inroads_harness::dial::{DialError, Dialer};
use inroads_harness::scenario::{ScenarioError, Workload};
use redis::RedisResult;
use redis::cluster::{ClusterClient, NodeAddress};
use redis::cluster_async::ClusterConnection;

use super::relay::Relays;
use super::{PORT, SERVICE};

/// Where the cluster is, as an unmodified client is told: the name of its Service.
#[derive(Debug, Clone)]
pub(super) struct Seed {
    pub(super) host: String,
    pub(super) port: u16,
    /// The addresses of its nodes: what a map has to name, and nothing that a client is told.
    pub(super) nodes: Vec<String>,
}

impl Seed {
    pub(super) fn of(workload: &Workload) -> Result<Self, ScenarioError> {
        let target = workload.service_target(SERVICE, SERVICE)?;
        let nodes = workload.endpoints(SERVICE)?;
        Ok(Self {
            host: workload.fqdn(SERVICE),
            port: target.port,
            nodes: nodes.iter().map(|(_, pod)| pod.ip.to_string()).collect(),
        })
    }

    /// The Service and each node, as clients come to see them.
    fn all(&self) -> Vec<(String, u16)> {
        let nodes = self.nodes.iter().map(|node| (node.clone(), PORT));
        std::iter::once((self.host.clone(), self.port))
            .chain(nodes)
            .collect()
    }
}

/// A driver that is set up, with whatever it needs to stay there.
pub(super) struct Client {
    client: ClusterClient,
    /// What a user has to change, in words; `None` where nothing.
    pub(super) changed: Option<String>,
    _relays: Option<Relays>,
}

impl Client {
    /// Sets the driver up for the access of `dialer`.
    ///
    /// # Errors
    /// Where the access cannot carry it, or relays cannot be started.
    pub(super) fn new(dialer: &Dialer, seed: &Seed) -> Result<Self, SetUpError> {
        let url = format!("redis://{}:{}/", seed.host, seed.port);
        let (map, relays) = match dialer.access() {
            Access::Unmodified => {
                return Ok(Self {
                    client: ClusterClient::new(vec![url])?,
                    changed: None,
                    _relays: None,
                });
            }
            Access::Rewritten(listeners) => {
                let found = seed.all().into_iter().map(|(host, port)| {
                    let listener = listeners.find(&host, port).copied();
                    let listener = listener.ok_or_else(|| SetUpError::NotMapped {
                        address: format!("{host}:{port}"),
                    })?;
                    Ok(((host, port), listener))
                });
                (found.collect::<Result<Vec<_>, SetUpError>>()?, None)
            }
            Access::Socks5 { .. } => {
                let all = seed.all();
                let relays = Relays::start(dialer, &all)?;
                let pairs = all.into_iter().zip(relays.addresses.iter().copied());
                (pairs.collect(), Some(relays))
            }
            Access::UrlPrefix { .. } => return Err(DialError::HttpOnly.into()),
        };
        let changed = in_words(&map, relays.is_some());
        let map: HashMap<NodeAddress, NodeAddress> = map
            .into_iter()
            .map(|((host, port), listener)| {
                let listener = NodeAddress::new(listener.ip().to_string(), listener.port());
                (NodeAddress::new(host, port), listener)
            })
            .collect();
        Ok(Self {
            client: ClusterClient::builder(vec![url])
                .node_address_map(map)
                .build()?,
            changed: Some(changed),
            _relays: relays,
        })
    }

    /// Connects to all nodes that the cluster tells of.
    pub(super) async fn connect(&self) -> RedisResult<ClusterConnection> {
        self.client.get_async_connection().await
    }
}

fn in_words(map: &[((String, u16), SocketAddr)], relayed: bool) -> String {
    let pairs: Vec<String> = map
        .iter()
        .map(|((host, port), listener)| format!("{host}:{port} → {listener}"))
        .collect();
    let through = if relayed {
        ", each a relay through the proxy"
    } else {
        ""
    };
    format!(
        "the driver's `node_address_map` is set: {}{through}",
        pairs.join(", ")
    )
}

/// The driver could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetUpError {
    /// It refuses what it is told.
    #[error("{0}")]
    Driver(#[from] redis::RedisError),
    /// The method has no listener for an address.
    #[error("no listener stands in for {address}")]
    NotMapped {
        /// Which.
        address: String,
    },
    /// The access carries no TCP.
    #[error(transparent)]
    Access(#[from] DialError),
    /// A relay could not be started.
    #[error("starting relays on loopback: {0}")]
    Relay(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use inroads_harness::access::{AddressMap, PrefixMap};

    use super::*;

    fn seed() -> Seed {
        Seed {
            host: "redis.inroads.svc.cluster.local".to_owned(),
            port: PORT,
            nodes: vec!["10.244.1.5".to_owned()],
        }
    }

    #[test]
    fn what_was_changed_is_named_with_every_address() {
        let mut map = AddressMap::default();
        let listener = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        map.insert(&seed().host, PORT, listener(4001));
        let incomplete = Client::new(&Dialer::new(Access::Rewritten(map.clone())), &seed());
        let error = incomplete.err().unwrap().to_string();
        assert_eq!(error, "no listener stands in for 10.244.1.5:6379");
        map.insert("10.244.1.5", PORT, listener(4002));
        let client = Client::new(&Dialer::new(Access::Rewritten(map)), &seed()).unwrap();
        let changed = client.changed.unwrap();
        assert!(
            changed.contains("10.244.1.5:6379 → 127.0.0.1:4002"),
            "{changed}"
        );
    }

    #[test]
    fn an_unmodified_driver_has_nothing_changed() {
        let client = Client::new(&Dialer::new(Access::Unmodified), &seed()).unwrap();
        assert_eq!(client.changed, None);
    }

    #[test]
    fn by_a_path_it_cannot_be_set_up() {
        let access = Access::UrlPrefix {
            server: SocketAddr::from(([127, 0, 0, 1], 8001)),
            prefixes: PrefixMap::default(),
        };
        let error = Client::new(&Dialer::new(access), &seed()).err().unwrap();
        assert!(error.to_string().contains("only HTTP"), "{error}");
    }
}
