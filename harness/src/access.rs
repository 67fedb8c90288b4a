//! How a client has to be set up to use a method: the ladder of effort, and what stands on each step.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a user must change in a client, least first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// Nothing: the address that works in a pod works here.
    Unmodified,
    /// A setting: a proxy URL, an environment variable, a driver option. The address stays.
    Configured,
    /// Another address must be typed, such as `localhost:40001`.
    Rewritten,
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unmodified => "unmodified",
            Self::Configured => "configured",
            Self::Rewritten => "rewritten",
        })
    }
}

/// One way for a client on a connected laptop to reach what is in the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "access", rename_all = "kebab-case")]
pub enum Access {
    /// Ordinary sockets and the system's resolver.
    Unmodified,
    /// A SOCKS5 proxy (RFC 1928, RFC 1929) that resolves names on its side: `socks5h://`.
    Socks5 {
        /// Where the proxy listens, as seen from the laptop.
        proxy: SocketAddr,
        /// RFC 1929 user name; empty for a client that offers no authentication (RFC 1928 §3).
        username: String,
        /// RFC 1929 password.
        password: Secret<String>,
    },
    /// Listeners on the laptop that stand in for addresses in the cluster.
    Rewritten(AddressMap),
    /// A web server on the laptop that passes HTTP requests on, to where the beginning of their path says.
    UrlPrefix {
        /// Where it listens.
        server: SocketAddr,
        /// What to put before a request's own path.
        prefixes: PrefixMap,
    },
}

impl Access {
    /// The step of the ladder this access stands on.
    #[must_use]
    pub fn effort(&self) -> Effort {
        match self {
            Self::Unmodified => Effort::Unmodified,
            Self::Socks5 { .. } => Effort::Configured,
            Self::Rewritten(_) | Self::UrlPrefix { .. } => Effort::Rewritten,
        }
    }

    /// What listens on a laptop, as another host would address it; `None` where nothing does.
    #[must_use]
    pub fn from_outside(&self, laptop: IpAddr) -> Option<Self> {
        let moved = |listener: &SocketAddr| SocketAddr::new(laptop, listener.port());
        match self {
            Self::Unmodified | Self::Socks5 { .. } => None,
            Self::Rewritten(StandIns(map)) => {
                let map = map.iter().map(|(of, it)| (of.clone(), moved(it)));
                Some(Self::Rewritten(StandIns(map.collect())))
            }
            Self::UrlPrefix { server, prefixes } => Some(Self::UrlPrefix {
                server: moved(server),
                prefixes: prefixes.clone(),
            }),
        }
    }
}

/// Which local listener stands for which address in the cluster.
pub type AddressMap = StandIns<SocketAddr>;

/// Which beginning of a path stands for which address in the cluster.
pub type PrefixMap = StandIns<String>;

/// What stands for which address in the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StandIns<T>(BTreeMap<String, T>);

impl<T> Default for StandIns<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> StandIns<T> {
    /// Adds a stand-in for `host:port`.
    pub fn insert(&mut self, host: &str, port: u16, stand_in: T) {
        self.0.insert(authority(host, port), stand_in);
    }

    /// The stand-in for `host:port`, if there is one.
    #[must_use]
    pub fn find(&self, host: &str, port: u16) -> Option<&T> {
        self.0.get(&authority(host, port))
    }

    /// The pairs, by address in the cluster.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(from, to)| (from.as_str(), to))
    }
}

fn authority(host: &str, port: u16) -> String {
    format!("{}:{port}", host.trim_end_matches('.'))
}

/// A value that must not reach a log or a report: `Debug` and `Display` hide it.
///
/// It is serialised in the clear, since orders carry it to agents over a private pipe.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, named so that its use stands out.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_in_debug() {
        let access = Access::Socks5 {
            proxy: SocketAddr::from(([10, 0, 0, 1], 1080)),
            username: "inroads".into(),
            password: Secret::new("hunter2".into()),
        };
        assert!(!format!("{access:?}").contains("hunter2"));
    }

    #[test]
    fn a_trailing_dot_names_the_same_host() {
        let mut map = AddressMap::default();
        map.insert(
            "web.inroads.svc.cluster.local.",
            80,
            SocketAddr::from(([127, 0, 0, 1], 4000)),
        );
        assert!(map.find("web.inroads.svc.cluster.local", 80).is_some());
    }
}
