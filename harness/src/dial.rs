//! Opening connections through an access: the one place where a client differs between methods.
//!
//! Once open, a connection is a plain TCP socket, whatever the access: what is measured afterwards is
//! the method and not the client. Where an access carries HTTP requests alone, a client of HTTP asks for its
//! [`HttpRoute`], and all others are told so.

pub mod datagram;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fast_socks5::client::{Config, Socks5Datagram, Socks5Stream};
use fast_socks5::{ReplyError, SocksError};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::access::{Access, AddressMap, Secret};

/// Longest time to resolve a name and to connect, each.
const LIMIT: Duration = Duration::from_secs(10);

/// The port that a URL need not name (RFC 9110 §4.2.1).
const HTTP_PORT: u16 = 80;

/// The largest UDP payload over IPv4 (RFC 768, RFC 791), and a buffer that no datagram exceeds.
pub const MAX_DATAGRAM: usize = 65_535;

/// Opens connections through one access.
#[derive(Debug, Clone)]
pub struct Dialer {
    access: Access,
}

impl Dialer {
    /// A dialer that uses `access` and nothing else.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self { access }
    }

    /// The access in use.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Connects to `host:port` over TCP, with `TCP_NODELAY`.
    ///
    /// # Errors
    /// See [`DialError`]; a refusal keeps its kind through every access that can tell.
    pub async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let stream = match &self.access {
            Access::Unmodified => connect(resolve(host, port).await?).await?,
            Access::Rewritten(map) => connect(mapped(map, host, port)?).await?,
            Access::Socks5 {
                proxy,
                username,
                password,
            } => socks_connect(*proxy, username, password, host, port).await?,
            Access::UrlPrefix { .. } => return Err(DialError::HttpOnly),
        };
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        Ok(stream)
    }

    /// Connects such that HTTP requests to `host:port` can be sent, as [`http_route`](Self::http_route)
    /// says. It is [`tcp`](Self::tcp) for all accesses that carry more than HTTP.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn http(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let Access::UrlPrefix { server, .. } = &self.access else {
            return self.tcp(host, port).await;
        };
        let stream = connect(*server).await?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        Ok(stream)
    }

    /// What a request to `host:port` says of where it goes.
    ///
    /// # Errors
    /// [`DialError::NotMapped`] where requests go by a path, and there is none for this address.
    pub fn http_route(&self, host: &str, port: u16) -> Result<HttpRoute, DialError> {
        match &self.access {
            Access::UrlPrefix { server, prefixes } => Ok(HttpRoute {
                host: server.to_string(),
                prefix: prefixes
                    .find(host, port)
                    .ok_or_else(|| DialError::not_mapped("path", host, port))?
                    .clone(),
            }),
            _ if port == HTTP_PORT => Ok(HttpRoute {
                host: host.to_owned(),
                prefix: String::new(),
            }),
            _ => Ok(HttpRoute {
                host: format!("{host}:{port}"),
                prefix: String::new(),
            }),
        }
    }

    /// What a user types into a client for `host:port`: the address of what stands in for it, where
    /// something does.
    ///
    /// # Errors
    /// [`DialError::NotMapped`] where something else must be typed, and there is nothing.
    pub fn typed(&self, host: &str, port: u16) -> Result<(String, u16), DialError> {
        let address = match &self.access {
            Access::Unmodified | Access::Socks5 { .. } => return Ok((host.to_owned(), port)),
            Access::Rewritten(map) => mapped(map, host, port)?,
            Access::UrlPrefix { server, .. } => *server,
        };
        Ok((address.ip().to_string(), address.port()))
    }

    /// A path for datagrams to `host:port`.
    ///
    /// # Errors
    /// See [`DialError`]. Success says nothing of the other end: UDP has no handshake.
    pub async fn udp(&self, host: &str, port: u16) -> Result<UdpPath, DialError> {
        match &self.access {
            Access::Unmodified => connected_udp(resolve(host, port).await?).await,
            Access::Rewritten(map) => connected_udp(mapped(map, host, port)?).await,
            Access::UrlPrefix { .. } => Err(DialError::HttpOnly),
            Access::Socks5 {
                proxy,
                username,
                password,
            } => {
                let control = connect(*proxy).await?;
                let associated = Socks5Datagram::bind_with_password(
                    control,
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    username,
                    password.expose(),
                );
                let relay = limited("the association", associated).await?;
                let relay = relay.map_err(DialError::from_socks)?;
                let header = fast_socks5::new_udp_header((host, port));
                Ok(UdpPath::Socks5 {
                    relay: Box::new(relay),
                    header: header.map_err(|error| DialError::from_socks(error.into()))?,
                    buffer: Vec::with_capacity(MAX_DATAGRAM),
                })
            }
        }
    }
}

/// How a client of HTTP addresses its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRoute {
    /// The value of `Host`: the authority of the URL that a user would type (RFC 9110 §7.2).
    pub host: String,
    /// What stands before the path; empty where the address is the target's own.
    pub prefix: String,
}

impl HttpRoute {
    /// Whether another server's head stands before the answer: what it adds may change with each answer.
    #[must_use]
    pub fn has_middleman(&self) -> bool {
        !self.prefix.is_empty()
    }
}

/// A path for datagrams to one address.
#[derive(Debug)]
pub enum UdpPath {
    /// A connected socket.
    Direct(UdpSocket),
    /// A SOCKS5 UDP association (RFC 1928 §7).
    Socks5 {
        /// The association; the TCP connection inside keeps it alive.
        relay: Box<Socks5Datagram<TcpStream>>,
        /// What stands before each payload: the target, resolved by the proxy where it is a name.
        header: Vec<u8>,
        /// Room for a datagram with its header, either way.
        buffer: Vec<u8>,
    },
}

impl UdpPath {
    /// Sends one datagram.
    ///
    /// # Errors
    /// Of the socket, such as a refusal reported for an earlier datagram.
    pub async fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        match self {
            Self::Direct(socket) => socket.send(payload).await.map(drop),
            Self::Socks5 {
                relay,
                header,
                buffer,
            } => {
                buffer.clear();
                buffer.extend_from_slice(header);
                buffer.extend_from_slice(payload);
                relay.get_ref().send(buffer).await.map(drop)
            }
        }
    }

    /// Receives one datagram into `into` and returns its length, cut to what fits.
    ///
    /// # Errors
    /// Of the socket; `ConnectionRefused` where the other end said that nobody listens.
    pub async fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Direct(socket) => socket.recv(into).await,
            // The library's own `recv_from` zeroes 64 KiB for each datagram and panics where `into` is
            // too small for it.
            Self::Socks5 { relay, buffer, .. } => {
                buffer.clear();
                relay.get_ref().recv_buf(buffer).await?;
                let (_from, payload) = datagram::parse(buffer).await?;
                let kept = payload.len().min(into.len());
                into[..kept].copy_from_slice(&payload[..kept]);
                Ok(kept)
            }
        }
    }
}

/// A connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address here.
    #[error("`{host}` does not resolve: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Connecting failed.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// The proxy answered with an error (RFC 1928 §6).
    #[error("the proxy says: {0}")]
    Proxy(ReplyError),
    /// The proxy connection itself failed.
    #[error("the proxy connection failed: {0}")]
    ProxyBroken(SocksError),
    /// A rewritten access has no stand-in for this address.
    #[error("no {kind} stands in for {address}")]
    NotMapped {
        /// What would stand in for it.
        kind: &'static str,
        /// The address.
        address: String,
    },
    /// The access carries HTTP requests, and nothing else.
    #[error("only HTTP requests can be sent this way, by a path")]
    HttpOnly,
    /// Nothing happened for too long.
    #[error("{what} took longer than {} s", LIMIT.as_secs())]
    TimedOut {
        /// Which step.
        what: &'static str,
    },
}

impl DialError {
    /// Whether the other end refused, as opposed to being out of reach.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Connect(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            Self::Proxy(reply) => matches!(reply, ReplyError::ConnectionRefused),
            _ => false,
        }
    }

    fn not_mapped(kind: &'static str, host: &str, port: u16) -> Self {
        Self::NotMapped {
            kind,
            address: format!("{host}:{port}"),
        }
    }

    fn from_socks(error: SocksError) -> Self {
        match error {
            SocksError::ReplyError(reply) => Self::Proxy(reply),
            other => Self::ProxyBroken(other),
        }
    }
}

/// The listener that stands in for `host:port`.
fn mapped(map: &AddressMap, host: &str, port: u16) -> Result<SocketAddr, DialError> {
    map.find(host, port)
        .copied()
        .ok_or_else(|| DialError::not_mapped("listener", host, port))
}

/// The first address of `host`, by the system's resolver; a literal address needs none.
async fn resolve(host: &str, port: u16) -> Result<SocketAddr, DialError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let failed = |source| DialError::Resolve {
        host: host.to_owned(),
        source,
    };
    let mut found = limited("resolving the name", tokio::net::lookup_host((host, port)))
        .await?
        .map_err(failed)?;
    found
        .next()
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "no address")))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, DialError> {
    limited("connecting", TcpStream::connect(address))
        .await?
        .map_err(DialError::Connect)
}

async fn connected_udp(address: SocketAddr) -> Result<UdpPath, DialError> {
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))
        .await
        .map_err(DialError::Connect)?;
    socket.connect(address).await.map_err(DialError::Connect)?;
    Ok(UdpPath::Direct(socket))
}

async fn socks_connect(
    proxy: SocketAddr,
    username: &str,
    password: &Secret<String>,
    host: &str,
    port: u16,
) -> Result<TcpStream, DialError> {
    let (host, config) = (host.to_owned(), Config::default());
    let negotiated = async {
        if username.is_empty() {
            return Socks5Stream::connect(proxy, host, port, config).await;
        }
        let (username, password) = (username.to_owned(), password.expose().clone());
        Socks5Stream::connect_with_password(proxy, host, port, username, password, config).await
    };
    let stream = limited("the proxy", negotiated)
        .await?
        .map_err(DialError::from_socks)?;
    Ok(stream.get_socket())
}

async fn limited<T>(what: &'static str, future: impl Future<Output = T>) -> Result<T, DialError> {
    timeout(LIMIT, future)
        .await
        .map_err(|_elapsed| DialError::TimedOut { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::PrefixMap;

    #[tokio::test]
    async fn by_a_path_go_http_requests_to_known_addresses_and_nothing_else() {
        let mut prefixes = PrefixMap::default();
        prefixes.insert("web", 80, "/services/web:80/proxy".to_owned());
        let server = SocketAddr::from(([127, 0, 0, 1], 8001));
        let dialer = Dialer::new(Access::UrlPrefix { server, prefixes });
        let route = dialer.http_route("web", 80).unwrap();
        assert_eq!(route.host, "127.0.0.1:8001");
        assert_eq!(route.prefix, "/services/web:80/proxy");
        let unknown = dialer.http_route("web", 81).unwrap_err().to_string();
        assert!(unknown.contains("web:81"), "{unknown}");
        let tcp = dialer.tcp("web", 80).await.unwrap_err();
        let udp = dialer.udp("web", 80).await.unwrap_err();
        assert!(matches!(tcp, DialError::HttpOnly), "{tcp}");
        assert!(matches!(udp, DialError::HttpOnly), "{udp}");
    }

    #[test]
    fn without_a_path_requests_name_their_own_target() {
        let dialer = Dialer::new(Access::Unmodified);
        let host = |port| dialer.http_route("web", port).unwrap().host;
        assert_eq!((host(80), host(8080)), ("web".into(), "web:8080".into()));
        assert!(!dialer.http_route("web", 80).unwrap().has_middleman());
    }

    #[test]
    fn what_is_typed_is_the_targets_own_address_or_its_stand_ins() {
        let mut map = AddressMap::default();
        map.insert("web", 80, SocketAddr::from(([127, 0, 0, 1], 4000)));
        let rewritten = Dialer::new(Access::Rewritten(map));
        assert_eq!(
            rewritten.typed("web", 80).unwrap(),
            ("127.0.0.1".into(), 4000)
        );
        assert!(rewritten.typed("web", 81).is_err());
        let plain = Dialer::new(Access::Unmodified);
        assert_eq!(plain.typed("web", 80).unwrap(), ("web".into(), 80));
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_an_address_without_a_stand_in() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut map = AddressMap::default();
        map.insert("web", 80, closed);
        let dialer = Dialer::new(Access::Rewritten(map));
        assert!(dialer.tcp("web", 80).await.unwrap_err().is_refused());
        let error = dialer.tcp("web", 81).await.unwrap_err();
        assert!(matches!(error, DialError::NotMapped { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_says_so() {
        let error = Dialer::new(Access::Unmodified)
            .tcp("no-such-name.invalid", 80)
            .await
            .unwrap_err();
        assert!(matches!(error, DialError::Resolve { .. }), "{error}");
    }
}
