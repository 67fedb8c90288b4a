//! The SOCKS5 server in the pod (RFC 1928, RFC 1929).
//!
//! `fast-socks5` speaks the protocol; what is done with a request is ours: names are resolved here, in the
//! cluster, and every address is tried; connections are relayed with large buffers and without Nagle's
//! algorithm, half-closes included; datagrams are never cut.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use fast_socks5::server::{Socks5ServerProtocol, SocksServerError, states};
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{ReplyError, Socks5Command};
use inroads_harness::access::Secret;
use inroads_harness::role::{Role, RoleError, RoleFuture};
use tokio::io::{AsyncReadExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::associations::Associations;
use super::names;

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: "socks-server",
    about: "the SOCKS5 server of the socks method",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

/// How much one direction of a connection holds at once, in bytes.
const BUFFER: usize = 256 << 10;

/// Longest time for a client to say what it wants.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Longest time to resolve a name, and to connect to one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(name = "socks-server", no_binary_name = true)]
struct Arguments {
    /// Where to listen, TCP and UDP.
    #[arg(long, default_value = "0.0.0.0:1080")]
    listen: SocketAddr,
    /// Where clients reach the UDP port.
    #[arg(long)]
    advertise_udp: SocketAddr,
    /// The user name that clients must give.
    #[arg(long, env = "SOCKS_USERNAME")]
    username: String,
    /// The password that clients must give.
    #[arg(long, env = "SOCKS_PASSWORD", hide_env_values = true)]
    password: String,
}

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let datagrams = UdpSocket::bind(arguments.listen).await?;
    let credentials = Credentials {
        username: arguments.username,
        password: Secret::new(arguments.password),
    };
    Server::new(credentials, datagrams, arguments.advertise_udp)
        .serve(listener)
        .await;
    Ok(())
}

/// Who may use the server.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Secret<String>,
}

impl Credentials {
    /// Compares in a time that does not depend on where the texts differ.
    fn admit(&self, username: &str, password: &str) -> bool {
        let same = |a: &[u8], b: &[u8]| {
            a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
        };
        same(self.username.as_bytes(), username.as_bytes())
            & same(self.password.expose().as_bytes(), password.as_bytes())
    }
}

/// The server, listening and not yet serving.
pub(super) struct Server {
    credentials: Credentials,
    associations: Arc<Associations>,
    advertise_udp: SocketAddr,
}

impl Server {
    pub(super) fn new(
        credentials: Credentials,
        datagrams: UdpSocket,
        advertise_udp: SocketAddr,
    ) -> Self {
        Self {
            credentials,
            associations: Associations::new(datagrams),
            advertise_udp,
        }
    }

    /// Serves for as long as it is polled. A connection that breaks ends alone.
    pub(super) async fn serve(self, listener: TcpListener) {
        let server = Arc::new(self);
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let server = server.clone();
                        tokio::spawn(async move {
                            if let Err(error) = server.converse(stream, peer).await {
                                tracing::debug!(%peer, %error, "a client was turned away");
                            }
                        });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        tokio::join!(accepting, server.associations.relay());
    }

    async fn converse(&self, stream: TcpStream, peer: SocketAddr) -> Result<(), SocksServerError> {
        drop(stream.set_nodelay(true));
        let Ok(request) = timeout(HANDSHAKE_LIMIT, self.handshake(stream)).await else {
            return Ok(());
        };
        let (protocol, command, target) = request?;
        match command {
            Socks5Command::TCPConnect => connect(protocol, &target).await,
            Socks5Command::UDPAssociate => self.associate(protocol, peer).await,
            Socks5Command::TCPBind => protocol.reply_error(&ReplyError::CommandNotSupported).await,
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Result<Request, SocksServerError> {
        let admit =
            |username: String, password: String| self.credentials.admit(&username, &password);
        let (protocol, _admitted) =
            Socks5ServerProtocol::accept_password_auth(stream, admit).await?;
        protocol.read_command().await
    }

    /// RFC 1928 §7: an association lasts as long as its TCP connection.
    async fn associate(
        &self,
        protocol: Protocol,
        peer: SocketAddr,
    ) -> Result<(), SocksServerError> {
        let association = self.associations.open(peer.ip());
        let mut control = protocol.reply_success(self.advertise_udp).await?;
        let mut ignored = [0; 64];
        while matches!(control.read(&mut ignored).await, Ok(count) if count > 0) {}
        drop(association);
        Ok(())
    }
}

type Protocol = Socks5ServerProtocol<TcpStream, states::CommandRead>;
type Request = (Protocol, Socks5Command, TargetAddr);

/// RFC 1928 §4, CONNECT: dials before it answers, so that a refusal reaches the client as one.
async fn connect(protocol: Protocol, target: &TargetAddr) -> Result<(), SocksServerError> {
    let mut outbound = match dial(target).await {
        Ok(stream) => stream,
        Err(error) => return protocol.reply_error(&reply_to(&error)).await,
    };
    let bound = outbound
        .local_addr()
        .unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let mut client = protocol.reply_success(bound).await?;
    let relayed = copy_bidirectional_with_sizes(&mut client, &mut outbound, BUFFER, BUFFER).await;
    if relayed.is_err() {
        // One side has broken off. An orderly end would make half a stream look whole to the other.
        drop(client.set_zero_linger());
        drop(outbound.set_zero_linger());
    }
    Ok(())
}

/// Connects to the target, trying all of its addresses; the last failure counts.
async fn dial(target: &TargetAddr) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve(target).await? {
        match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// All addresses of a target, by this side's resolver.
pub(super) async fn resolve(target: &TargetAddr) -> io::Result<BTreeSet<SocketAddr>> {
    match target {
        TargetAddr::Ip(address) => Ok(BTreeSet::from([*address])),
        TargetAddr::Domain(name, port) => {
            let name = names::as_asked(name);
            let found = timeout(CONNECT_LIMIT, lookup_host((name.as_ref(), *port))).await;
            let found = found.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?;
            // libc gives no kind to "no such name".
            found
                .map(Iterator::collect)
                .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))
        }
    }
}

/// RFC 1928 §6: the reply that says what happened.
fn reply_to(error: &io::Error) -> ReplyError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ReplyError::ConnectionRefused,
        io::ErrorKind::NetworkUnreachable => ReplyError::NetworkUnreachable,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NotFound => ReplyError::HostUnreachable,
        io::ErrorKind::TimedOut => ReplyError::TtlExpired,
        _ => ReplyError::GeneralFailure,
    }
}

#[cfg(test)]
mod tests {
    use inroads_harness::access::Access;
    use inroads_harness::dial::{DialError, Dialer};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn server() -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, udp) = (
            listener.local_addr().unwrap(),
            datagrams.local_addr().unwrap(),
        );
        let credentials = Credentials {
            username: "u".to_owned(),
            password: Secret::new("p".to_owned()),
        };
        let serving = tokio::spawn(Server::new(credentials, datagrams, udp).serve(listener));
        (address, serving)
    }

    fn dialer(proxy: SocketAddr, password: &str) -> Dialer {
        Dialer::new(Access::Socks5 {
            proxy,
            username: "u".to_owned(),
            password: Secret::new(password.to_owned()),
        })
    }

    #[tokio::test]
    async fn a_connection_is_relayed_with_its_half_closes() {
        let (proxy, _serving) = server().await;
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = target.local_addr().unwrap().port();
        let echo = tokio::spawn(async move {
            let (mut stream, _) = target.accept().await.unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            stream.write_all(&got).await.unwrap();
        });
        let mut stream = dialer(proxy, "p").tcp("localhost", port).await.unwrap();
        stream.write_all(&vec![7; 1 << 20]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, vec![7; 1 << 20]);
        echo.await.unwrap();
    }

    #[tokio::test]
    async fn an_abort_of_the_target_is_one_for_the_client() {
        let (proxy, _serving) = server().await;
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = target.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = target.accept().await.unwrap();
            stream.read_u8().await.unwrap();
            stream.set_zero_linger().unwrap();
        });
        let mut stream = dialer(proxy, "p").tcp("127.0.0.1", port).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_datagram_is_lost_between_many_associations() {
        const CLIENTS: usize = 16;
        const EACH: u32 = 3000;
        let (proxy, _serving) = server().await;
        let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = target.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = target.recv_from(&mut buffer).await {
                target.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        let clients = (0..CLIENTS).map(|client| {
            tokio::spawn(async move {
                let mut path = dialer(proxy, "p").udp("127.0.0.1", port).await.unwrap();
                let mut answer = [0; 64];
                for number in 0..EACH {
                    path.send(&number.to_be_bytes()).await.unwrap();
                    let received = timeout(Duration::from_secs(2), path.receive(&mut answer));
                    let length = received
                        .await
                        .unwrap_or_else(|_| panic!("client {client} lost datagram {number}"))
                        .unwrap();
                    assert_eq!(answer[..length], number.to_be_bytes());
                }
            })
        });
        for client in futures_util::future::join_all(clients).await {
            client.unwrap();
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_told_from_a_missing_name_and_from_a_wrong_password() {
        let (proxy, _serving) = server().await;
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let refused = dialer(proxy, "p")
            .tcp("127.0.0.1", closed)
            .await
            .unwrap_err();
        assert!(refused.is_refused(), "{refused}");
        let missing = dialer(proxy, "p")
            .tcp("no-such-name.invalid", 80)
            .await
            .unwrap_err();
        assert!(
            matches!(missing, DialError::Proxy(ReplyError::HostUnreachable)),
            "{missing}"
        );
        let wrong = dialer(proxy, "x")
            .tcp("127.0.0.1", closed)
            .await
            .unwrap_err();
        assert!(matches!(wrong, DialError::ProxyBroken(_)), "{wrong}");
    }

    #[tokio::test]
    async fn datagrams_of_every_size_come_back_whole() {
        let (proxy, _serving) = server().await;
        let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = target.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            loop {
                let (length, from) = target.recv_from(&mut buffer).await.unwrap();
                target.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        for host in ["127.0.0.1", "localhost"] {
            let mut path = dialer(proxy, "p").udp(host, port).await.unwrap();
            for size in [0, 1, 1472, 8182, 8183, 9000, 60_000] {
                let payload = vec![5; size];
                path.send(&payload).await.unwrap();
                let mut back = vec![0; 65_535];
                let received = timeout(Duration::from_secs(5), path.receive(&mut back)).await;
                let length = received.expect("an answer in time").unwrap();
                assert_eq!(back[..length], payload[..], "{size} bytes to {host}");
            }
        }
    }
}
