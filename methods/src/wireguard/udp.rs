//! The outer socket: encrypted datagrams, many per system call.
//!
//! Runs of equal datagrams to one endpoint leave as one `UDP_SEGMENT` send and arrive as one `UDP_GRO`
//! receive, where the kernel has both; where it has not, they go one by one. What is in them, it does
//! not know.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::gso::Offload;
use super::outbox::Run;
use super::sys::{self, Slot};

/// The most bytes of payload in a UDP datagram over IPv4, and in one `UDP_SEGMENT` send.
pub(super) const MAX_DATAGRAM: usize = 65_507;

/// The most datagrams in one `UDP_SEGMENT` send (`UDP_MAX_SEGMENTS` of older kernels).
pub(super) const MAX_SEGMENTS: usize = 64;

/// Kernel buffers asked for, bytes: what arrives while a batch is decrypted must wait somewhere.
const KERNEL_BUFFER: libc::c_int = 4 << 20;

/// The socket could not be had.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The kernel refused it.
    #[error("cannot open a UDP socket on `{address}`")]
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why it cannot.
        #[source]
        source: io::Error,
    },
    /// It was given, and cannot be used.
    #[error("cannot use the given UDP socket")]
    Adopt(#[source] io::Error),
}

/// The socket that a tunnel's encrypted datagrams pass through. It stays in the network namespace it
/// was made in.
#[derive(Debug)]
pub struct OuterSocket {
    socket: UdpSocket,
    local: SocketAddr,
    segmenting: bool,
    /// Where it was asked to listen, if any port would do.
    any_port: Option<(SocketAddr, Offload)>,
}

impl OuterSocket {
    /// Listens on `address`, in this thread's network namespace; port 0 takes a free one. An IPv6 wildcard
    /// takes IPv4 too.
    ///
    /// # Errors
    /// [`SocketError::Bind`].
    pub fn bind(address: SocketAddr, offload: Offload) -> Result<Self, SocketError> {
        let open = || {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::DGRAM,
                Some(Protocol::UDP),
            )?;
            if address.is_ipv6() {
                socket.set_only_v6(false)?;
            }
            socket.bind(&address.into())?;
            let any_port = (address.port() == 0).then_some((address, offload));
            let prepared = Self::prepare(socket.into(), offload)?;
            Ok(Self {
                any_port,
                ..prepared
            })
        };
        open().map_err(|source| SocketError::Bind { address, source })
    }

    /// Takes a bound socket.
    ///
    /// # Errors
    /// [`SocketError::Adopt`].
    pub fn adopt(socket: UdpSocket, offload: Offload) -> Result<Self, SocketError> {
        Self::prepare(socket, offload).map_err(SocketError::Adopt)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Its name for a report: `udp-gso` where whole runs go to the kernel, else `udp`.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        if self.segmenting { "udp-gso" } else { "udp" }
    }

    fn prepare(socket: UdpSocket, offload: Offload) -> io::Result<Self> {
        let local = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        sys::set_kernel_buffers(&socket, KERNEL_BUFFER)?;
        // Like the kernel's own WireGuard: routers may fragment over IPv4, which an IPv6 socket sends too.
        let never = libc::IP_PMTUDISC_DONT;
        sys::set_option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, never)?;
        let auto = offload == Offload::Auto;
        if auto && let Err(error) = setsockopt(&socket, sockopt::UdpGroSegment, &true) {
            tracing::debug!(%error, "the kernel does not join UDP datagrams");
        }
        let segmenting = auto && setsockopt(&socket, sockopt::UdpGsoSegment, &0).is_ok();
        Ok(Self {
            socket,
            local,
            segmenting,
            any_port: None,
        })
    }

    /// Takes another port, where any would do, in this thread's network namespace. Whatever on the way remembers the
    /// old one and leads it astray has never seen the new one: a NAT, or a node whose kube-proxy left an entry of
    /// conntrack behind, which lives as long as it is used (kubernetes/kubernetes#98305). Peers follow (paper §2.1).
    pub(super) fn renew(&mut self) {
        let Some((address, offload)) = self.any_port else {
            return;
        };
        match Self::bind(address, offload) {
            Ok(fresh) => {
                tracing::info!(old = %self.local, new = %fresh.local, "no answer to handshakes: another port");
                *self = fresh;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no other port to be had"
                );
            }
        }
    }

    /// Receives what is there into `slots`. Returns how many were filled.
    pub(super) fn receive(&self, slots: &mut [Slot]) -> io::Result<usize> {
        sys::receive_many(&self.socket, slots)
    }

    /// Sends `run`, whose datagrams are `bytes`, as far as the kernel takes it. Returns the bytes done
    /// with, sent or refused, and the datagrams refused.
    ///
    /// # Errors
    /// `WouldBlock` where the kernel's buffer is full: nothing of it was sent then.
    pub(super) fn send(&mut self, run: &Run, bytes: &[u8]) -> io::Result<Sent> {
        let to = self.reachable(run.to);
        if run.count > 1 && self.segmenting {
            match self.send_message(bytes, Some(run.segment), &to) {
                Ok(()) => {
                    return Ok(Sent {
                        bytes: bytes.len(),
                        refused: 0,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                // The way out cannot checksum for us, so it cannot cut: not now, not later.
                Err(e) if e.raw_os_error() == Some(libc::EIO) => self.segmenting = false,
                // Pieces too large for this way, which one by one are fragmented.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE)) => {}
                Err(_unreachable) => {
                    return Ok(Sent {
                        bytes: bytes.len(),
                        refused: run.count,
                    });
                }
            }
        }
        let mut sent = Sent {
            bytes: 0,
            refused: 0,
        };
        for datagram in bytes.chunks(run.segment) {
            match self.send_message(datagram, None, &to) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && sent.bytes == 0 => {
                    return Err(e);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_unreachable) => sent.refused += 1,
            }
            sent.bytes += datagram.len();
        }
        Ok(sent)
    }

    fn send_message(
        &self,
        bytes: &[u8],
        segment: Option<usize>,
        to: &SockaddrStorage,
    ) -> io::Result<()> {
        let segment =
            segment.map(|size| u16::try_from(size).expect("a datagram's length fits 16 bits"));
        let control = segment.as_ref().map(ControlMessage::UdpGsoSegments);
        let fd = self.socket.as_raw_fd();
        sendmsg(
            fd,
            &[IoSlice::new(bytes)],
            control.as_slice(),
            MsgFlags::MSG_DONTWAIT,
            Some(to),
        )?;
        Ok(())
    }

    /// `to` in the form that a socket of our family takes.
    fn reachable(&self, to: SocketAddr) -> SockaddrStorage {
        match (self.local.ip(), to.ip()) {
            (IpAddr::V6(_), IpAddr::V4(v4)) => {
                SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()).into()
            }
            _ => to.into(),
        }
    }
}

impl AsFd for OuterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    /// Bytes of the run that need no further try.
    pub(super) bytes: usize,
    /// Datagrams among them that the kernel refused for good.
    pub(super) refused: usize,
}
