//! Listening for questions over UDP and TCP (RFC 1035 §4.2, RFC 7766).
//!
//! A [`Responder`] is handed each message with the way back. It may answer at once or keep the [`Reply`] and
//! answer later; nothing here waits for it, so a slow answer holds nobody up.

mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

/// Answers questions.
pub trait Responder: Send + Sync + 'static {
    /// Takes a message as it came, whatever is in it. Dropping `reply` leaves it unanswered.
    fn respond(&self, message: &[u8], reply: Reply);
}

impl<F: Fn(&[u8], Reply) + Send + Sync + 'static> Responder for F {
    fn respond(&self, message: &[u8], reply: Reply) {
        self(message, reply);
    }
}

/// How a question came, and how its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: an answer may have to be cut.
    Udp,
    /// On a connection: an answer may be as large as a message gets.
    Tcp,
}

/// The way back to whoever asked.
#[derive(Debug)]
pub struct Reply {
    client: SocketAddr,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Udp(Arc<UdpSocket>),
    Tcp {
        connection: mpsc::UnboundedSender<Vec<u8>>,
        /// Its place among the connection's open questions.
        _place: OwnedSemaphorePermit,
    },
}

impl Reply {
    /// How the question came.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.way {
            Way::Udp(_) => Transport::Udp,
            Way::Tcp { .. } => Transport::Tcp,
        }
    }

    /// Who asked.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Sends the answer. A client that is gone is none of our errors.
    pub fn send(self, message: &[u8]) {
        match self.way {
            Way::Udp(socket) => udp::send(socket, message, self.client),
            Way::Tcp { connection, .. } => drop(connection.send(message.to_vec())),
        }
    }
}

/// The sockets of a server, listening and not yet served.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Listens on `address`, over UDP and TCP. Port 0 takes one that is free for both.
    ///
    /// # Errors
    /// [`ListenError`], naming the address. Must be called in a tokio runtime.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let mut attempts = PORT_ATTEMPTS;
        loop {
            let udp = std::net::UdpSocket::bind(address).map_err(failed)?;
            let port = udp.local_addr().map_err(failed)?.port();
            match std::net::TcpListener::bind(SocketAddr::new(address.ip(), port)) {
                Ok(tcp) => return Self::from_std(udp, tcp).map_err(failed),
                // What the kernel had free for UDP may be taken for TCP.
                Err(error)
                    if address.port() == 0
                        && error.kind() == io::ErrorKind::AddrInUse
                        && attempts > 0 =>
                {
                    attempts -= 1;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Takes sockets that listen already, on the same address.
    ///
    /// # Errors
    /// Where the kernel refuses to make them non-blocking. Must be called in a tokio runtime.
    pub fn from_std(udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        enlarge_buffers(&udp);
        Ok(Self {
            udp: UdpSocket::from_std(udp)?,
            tcp: TcpListener::from_std(tcp)?,
        })
    }

    /// Where they listen.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// A server's sockets could not be had.
#[derive(Debug, thiserror::Error)]
#[error("listening for DNS on `{address}`")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A server at work, until it is dropped or shut down.
#[derive(Debug)]
pub struct Server {
    tasks: JoinSet<()>,
}

impl Server {
    /// Hands what comes in by `sockets` to `responder`.
    #[must_use]
    pub fn start(sockets: Sockets, responder: Arc<impl Responder>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(udp::serve(Arc::new(sockets.udp), responder.clone()));
        tasks.spawn(tcp::serve(sockets.tcp, responder));
        Self { tasks }
    }

    /// Returns when it no longer serves, which it does only where a [`Responder`] panics.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }

    /// Closes its sockets and all connections, and returns when they are closed.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Makes room for a burst of questions: the kernel's usual buffer holds under three hundred. As much as
/// it gives, which is more with rights over the network namespace than without.
pub(super) fn enlarge_buffers(socket: &std::net::UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _best_effort = setsockopt(socket, sockopt::RcvBufForce, &BUFFER)
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &BUFFER));
    let _best_effort = setsockopt(socket, sockopt::SndBufForce, &BUFFER)
        .or_else(|_| setsockopt(socket, sockopt::SndBuf, &BUFFER));
}

/// The room asked for, in bytes, either way.
const BUFFER: usize = 4 << 20;

/// How many ports are tried where any will do.
const PORT_ATTEMPTS: usize = 16;

/// A pause, lest an error that stays turns a loop into a busy one.
const AFTER_ERROR: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
