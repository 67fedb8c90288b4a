//! Slowing a laptop's connections down on purpose, to try whether a gate sees it.
//!
//! Every TCP connection that leaves the laptop is redirected to a relay in this process, which opens it to where it was
//! meant for and holds each answer back for a fixed time. With a time of zero there is the same relay, so that nothing
//! but the time differs. The rule is in a table that the kernel removes with this process. Datagrams are left alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nlink::netlink::nftables::{
    BaseChain, Chain, Family, NFT_TABLE_F_OWNER, NatHook, Priority, Rule,
};
use nlink::netlink::{Connection, Nftables};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::clock::{self, Instant};
use crate::measure::on_this_thread;

/// The table, which is this process' own.
const TABLE: &str = "inroads-handicap";

/// What the relay's own connections are marked with, so that they are not redirected to it.
const MARK: u32 = 0x1a6;

/// Bytes that one direction of a connection moves at once.
const CHUNK: usize = 256 << 10;

/// A laptop whose connections are slowed down, for as long as this lives.
pub(crate) struct Handicap {
    /// The kernel removes the table when this is closed.
    _rules: Connection<Nftables>,
}

impl Handicap {
    /// Holds each answer to what this laptop sends over TCP back for `delay`. Connections that are open already stay
    /// as they are.
    ///
    /// # Errors
    /// Where the relay or its rule cannot be had: the latter needs `CAP_NET_ADMIN` and Linux 5.12.
    pub(crate) async fn begin(
        delay: Duration,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        std::thread::Builder::new()
            .name("handicap".to_owned())
            .spawn(move || on_this_thread(relay(listener, delay)))?;

        let rules = Connection::<Nftables>::new()?;
        rules
            .add_table_with_flags(TABLE, Family::Ip, NFT_TABLE_F_OWNER)
            .await?;
        let chain = Chain::new(TABLE, "output")?
            .family(Family::Ip)
            .base(BaseChain::nat(NatHook::Output, Priority::DstNat));
        rules.add_chain(chain).await?;
        let tcp = u8::try_from(nix::libc::IPPROTO_TCP)?;
        let rule = Rule::new(TABLE, "output")
            .family(Family::Ip)
            .match_l4proto(tcp)
            .match_mark_not(MARK)
            .redirect(Some(port));
        rules.add_rule(rule).await?;
        Ok(Self { _rules: rules })
    }
}

async fn relay(listener: std::net::TcpListener, delay: Duration) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the relay of a handicap: {error}"),
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::task::spawn_local(async move {
                    if let Err(error) = carry(client, delay).await {
                        tracing::debug!("a connection through a handicap: {error}");
                    }
                });
            }
            // Out of descriptors, for one: the client sees it, and the relay goes on.
            Err(error) => tracing::warn!("the relay of a handicap: {error}"),
        }
    }
}

/// One connection, from a client to where it was meant for.
async fn carry(client: TcpStream, delay: Duration) -> io::Result<()> {
    let meant = SockRef::from(&client).original_dst_v4()?;
    let meant = meant.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let server = match reach(meant).await {
        Ok(server) => server,
        Err(error) => {
            // The client is to see that nobody was reached, if a moment later.
            SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
            return Err(error);
        }
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let answering = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = from_server.read(&mut buffer).await?;
            hold(clock::now() + delay).await;
            if length == 0 {
                return to_client.shutdown().await;
            }
            to_client.write_all(&buffer[..length]).await?;
        }
    };
    tokio::try_join!(asking, answering).map(|_| ())
}

async fn reach(meant: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    SockRef::from(&socket).set_mark(MARK)?;
    socket.connect(meant).await
}

/// Waits as exactly as the clock tells: timers wake up too late for microseconds. Others go on meanwhile.
async fn hold(until: Instant) {
    while clock::now() < until {
        tokio::task::yield_now().await;
    }
}
