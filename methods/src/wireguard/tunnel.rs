//! A running WireGuard peer: what the method holds on to.

use std::fmt;
use std::io::{self, PipeWriter, Write as _};
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::device::Device;
use super::engine::Engine;
use super::keys::{PresharedKey, PrivateKey, PublicKey};
use super::stats::TunnelStats;
use super::udp::OuterSocket;
use super::worker::{Order, Worker};

/// How long the thread may take for an answer, or to end. It never blocks, so this is generous.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Orders that may wait for the thread.
const ORDERS: usize = 16;

/// What a tunnel is made of.
#[derive(Debug)]
pub struct TunnelConfig {
    /// Who we are.
    pub private_key: PrivateKey,
    /// Where encrypted datagrams pass.
    pub socket: OuterSocket,
    /// Where packets pass.
    pub device: Device,
    /// Who we talk to.
    pub peers: Vec<PeerConfig>,
}

/// Another peer.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Who it is.
    pub public_key: PublicKey,
    /// A second secret, where both have it.
    pub preshared_key: Option<PresharedKey>,
    /// Where it listens; `None` where it will come to us.
    pub endpoint: Option<SocketAddr>,
    /// The inner addresses that are its own.
    pub allowed_ips: Vec<IpNet>,
    /// How often to send something although there is nothing to say, whole seconds from 1: it keeps the
    /// way through NAT open, and the tunnel connected at all times.
    pub persistent_keepalive: Option<Duration>,
}

/// Why a tunnel does not start, or not do what it was asked.
#[derive(Debug, Error)]
pub enum TunnelError {
    /// Its thread could not be started.
    #[error("cannot start the tunnel's thread")]
    Thread(#[source] io::Error),
    /// Waiting failed, which ends the tunnel.
    #[error("cannot wait for packets")]
    Poll(#[source] io::Error),
    /// The interface is gone, which ends the tunnel.
    #[error("cannot read from the tunnel's interface")]
    Device(#[source] io::Error),
    /// The socket is gone, which ends the tunnel.
    #[error("cannot receive from the tunnel's UDP socket")]
    Socket(#[source] io::Error),
    /// A peer is already there.
    #[error("the peer `{0}` is in the tunnel already")]
    DuplicatePeer(PublicKey),
    /// A peer is not there.
    #[error("the peer `{0}` is not in the tunnel")]
    UnknownPeer(PublicKey),
    /// A peer with our own key.
    #[error("a peer has the tunnel's own key")]
    OwnKey,
    /// The protocol's indices are used up.
    #[error("the tunnel has all the peers it can have (2^24)")]
    TooManyPeers,
    /// No session in time.
    #[error(
        "no handshake with the peer `{peer}` within {limit:?}\n(hint: is it reachable over UDP, and does it know this key?)"
    )]
    NoHandshake {
        /// With whom.
        peer: PublicKey,
        /// How long was waited.
        limit: Duration,
    },
    /// The thread is gone.
    #[error("the tunnel has stopped")]
    Stopped,
    /// The thread panicked.
    #[error("the tunnel's thread panicked")]
    Panicked,
    /// The thread does not answer.
    #[error("the tunnel did not answer within {ANSWER_LIMIT:?}")]
    Silent,
}

/// A running tunnel. Dropping it ends it, its interface with it.
pub struct Tunnel {
    orders: mpsc::Sender<Order>,
    bell: PipeWriter,
    /// Its last word, until it was told.
    last_word: Option<oneshot::Receiver<Result<(), TunnelError>>>,
    thread: JoinHandle<()>,
    driver: String,
    device: String,
    local: SocketAddr,
}

impl Tunnel {
    /// Starts it, in the network namespace of its socket. The interface must be brought up by the caller, before or after.
    ///
    /// # Errors
    /// Where two peers have one key, or the kernel has no thread, pipe or timer to give.
    pub fn start(config: TunnelConfig) -> Result<Self, TunnelError> {
        let TunnelConfig {
            private_key,
            socket,
            device,
            peers,
        } = config;
        let mut engine = Engine::new(&private_key);
        for peer in peers {
            engine.add_peer(peer)?;
        }
        let driver = format!("{}, {}", device.driver(), socket.driver());
        let name = device.name().to_owned();
        let local = socket.local_addr();
        let (orders, inbound) = mpsc::channel(ORDERS);
        let (ring, bell) = io::pipe().map_err(TunnelError::Thread)?;
        let worker =
            Worker::new(engine, device, socket, inbound, ring).map_err(TunnelError::Thread)?;
        let (end, last_word) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(format!("wireguard-{name}"))
            .spawn(move || {
                let result = worker.run();
                if let Err(error) = &result {
                    tracing::error!(
                        error = error as &dyn std::error::Error,
                        "a WireGuard tunnel ended"
                    );
                }
                // Whoever dropped the tunnel does not want to know.
                let _ = end.send(result);
            })
            .map_err(TunnelError::Thread)?;
        Ok(Self {
            orders,
            bell,
            last_word: Some(last_word),
            thread,
            driver,
            device: name,
            local,
        })
    }

    /// What drives it, for a report: the interface's driver and the socket's, `tun+gso, udp-gso`.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Its interface's name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Where it listened when it started. One that was given any port takes another after handshakes that nothing
    /// answers.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Adds a peer. One with an endpoint and a keepalive is greeted at once.
    ///
    /// # Errors
    /// [`TunnelError::DuplicatePeer`] and [`TunnelError::OwnKey`]; [`TunnelError::Stopped`].
    pub async fn add_peer(&self, peer: PeerConfig) -> Result<(), TunnelError> {
        self.ask(|answer| Order::AddPeer(Box::new(peer), answer))
            .await?
    }

    /// Removes a peer, its sessions and its prefixes.
    ///
    /// # Errors
    /// [`TunnelError::UnknownPeer`]; [`TunnelError::Stopped`].
    pub async fn remove_peer(&self, peer: &PublicKey) -> Result<(), TunnelError> {
        self.ask(|answer| Order::RemovePeer(*peer, answer)).await?
    }

    /// Takes another UDP port, where it was given any: nothing on the way has led that one astray yet.
    ///
    /// # Errors
    /// [`TunnelError::Stopped`].
    pub async fn change_port(&self) -> Result<(), TunnelError> {
        self.ask(Order::ChangePort).await
    }

    /// Counters of now.
    ///
    /// # Errors
    /// [`TunnelError::Stopped`].
    pub async fn stats(&self) -> Result<TunnelStats, TunnelError> {
        self.ask(Order::Stats).await
    }

    /// Waits until packets can go through to `peer`, and starts a handshake if none is under way and its
    /// endpoint is known. A lost handshake message is sent again after 5 s (paper §6.1).
    ///
    /// Cancel safe: the handshake goes on.
    ///
    /// # Errors
    /// [`TunnelError::NoHandshake`] after `limit`; [`TunnelError::UnknownPeer`];
    /// [`TunnelError::Stopped`].
    pub async fn wait_handshake(
        &self,
        peer: &PublicKey,
        limit: Duration,
    ) -> Result<(), TunnelError> {
        let (answer, connected) = oneshot::channel();
        self.order(Order::Connect(*peer, answer)).await?;
        match timeout(limit, connected).await {
            Ok(answer) => answer.unwrap_or(Err(TunnelError::UnknownPeer(*peer))),
            Err(_elapsed) => Err(TunnelError::NoHandshake { peer: *peer, limit }),
        }
    }

    /// Waits until the tunnel ends by itself, which it does only where its interface or socket is gone.
    /// Asked again, it says [`TunnelError::Stopped`].
    ///
    /// Cancel safe.
    pub async fn ended(&mut self) -> TunnelError {
        let Some(last_word) = &mut self.last_word else {
            return TunnelError::Stopped;
        };
        let said = last_word.await;
        self.last_word = None;
        match said {
            Ok(Err(error)) => error,
            Ok(Ok(())) => TunnelError::Stopped,
            Err(_dropped) => TunnelError::Panicked,
        }
    }

    /// Ends it and waits until its thread, socket and interface are gone.
    ///
    /// # Errors
    /// Why it had ended before, if it had and nobody was told; [`TunnelError::Silent`].
    pub async fn shutdown(self) -> Result<(), TunnelError> {
        let Self {
            bell,
            last_word,
            thread,
            ..
        } = self;
        drop(bell);
        let result = match last_word {
            None => Ok(()),
            Some(last_word) => match timeout(ANSWER_LIMIT, last_word).await {
                Ok(said) => said.unwrap_or(Err(TunnelError::Panicked)),
                Err(_elapsed) => return Err(TunnelError::Silent),
            },
        };
        // It has said its last word, so this does not block.
        thread.join().map_err(|_panic| TunnelError::Panicked)?;
        result
    }

    async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, TunnelError> {
        let (answer, answered) = oneshot::channel();
        self.order(order(answer)).await?;
        match timeout(ANSWER_LIMIT, answered).await {
            Ok(answer) => answer.map_err(|_dropped| TunnelError::Stopped),
            Err(_elapsed) => Err(TunnelError::Silent),
        }
    }

    async fn order(&self, order: Order) -> Result<(), TunnelError> {
        self.orders
            .send(order)
            .await
            .map_err(|_closed| TunnelError::Stopped)?;
        (&self.bell)
            .write_all(&[1])
            .map_err(|_closed| TunnelError::Stopped)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("device", &self.device)
            .field("driver", &self.driver)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
