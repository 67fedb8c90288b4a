//! What an object's admission can see of the cluster around it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{object::Key, registry::SERVICE_ACCOUNTS, store::Store};

/// The addresses and ports that Services are given.
#[derive(Clone, Debug)]
pub struct ServiceNetwork {
    /// Where cluster IPs come from.
    pub cidr: Ipv4Net,
    /// The cluster IP of the Service `kubernetes`: the API server itself.
    pub api_server: Ipv4Addr,
    /// Kept for the cluster's DNS: given only to the Service that asks for it.
    pub cluster_dns: Ipv4Addr,
    pub node_ports: std::ops::RangeInclusive<u16>,
}

impl Default for ServiceNetwork {
    fn default() -> Self {
        Self {
            cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12),
            api_server: Ipv4Addr::new(10, 96, 0, 1),
            cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
            node_ports: 30_000..=32_767,
        }
    }
}

/// The other objects, and the rules of this cluster.
pub(crate) struct Surroundings<'a> {
    pub(crate) store: &'a Store,
    pub(crate) network: &'a ServiceNetwork,
    /// Whether pods are given a volume with a token for the API server.
    pub(crate) mount_tokens: bool,
}

impl Surroundings<'_> {
    pub(crate) fn has_service_account(&self, namespace: &str, name: &str) -> bool {
        self.store
            .find(&SERVICE_ACCOUNTS, &Key::new(namespace, name))
            .is_some()
    }

    /// Whether pods of that account are given its token unless they say no.
    pub(crate) fn automounts(&self, namespace: &str, account: &str) -> bool {
        let account = self
            .store
            .find(&SERVICE_ACCOUNTS, &Key::new(namespace, account));
        let refuses = account.and_then(|account| {
            account
                .typed::<ServiceAccount>()
                .automount_service_account_token
        });
        refuses.unwrap_or(true)
    }
}
