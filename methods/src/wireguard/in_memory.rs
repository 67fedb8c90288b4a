//! One end of a tunnel without interface and socket, for `benches/wireguard.rs`: what the worker does between one
//! and the other, so that neither rights nor the kernel are in the figure.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::engine::Engine;
use super::gso::{Malformed, Offloads, Segments, VirtioHeader};
use super::inbox::{Inbox, Sink};
use super::keys::PrivateKey;
use super::outbox::Outbox;
use super::tunnel::{PeerConfig, TunnelError};
use super::udp::Sent;

/// One end.
pub struct End {
    engine: Engine,
    inbox: Inbox,
    outbox: Outbox,
    peer: SocketAddr,
    mtu: usize,
}

impl End {
    /// Two ends with a session between them, whose interfaces have `mtu`; every packet goes to the other one.
    ///
    /// # Errors
    /// None: their keys are fresh.
    pub fn pair(mtu: usize) -> Result<[Self; 2], TunnelError> {
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        let at = [1, 2].map(|host| SocketAddr::from(([192, 0, 2, host], 51_820)));
        let end = |own: usize, other: usize| -> Result<Self, TunnelError> {
            let mut engine = Engine::new(&keys[own]);
            engine.add_peer(PeerConfig {
                public_key: keys[other].public(),
                preshared_key: None,
                endpoint: Some(at[other]),
                allowed_ips: vec![IpNet::new_assert([0, 0, 0, 0].into(), 0)],
                // The first tick greets the peer.
                persistent_keepalive: (own == 0).then_some(Duration::from_secs(25)),
            })?;
            let offloads = Offloads {
                tcp: true,
                udp: true,
            };
            Ok(Self {
                engine,
                inbox: Inbox::new(offloads),
                outbox: Outbox::new(),
                peer: at[other],
                mtu,
            })
        };
        let mut ends = [end(0, 1)?, end(1, 0)?];
        ends[0].engine.tick(&mut ends[0].outbox);
        // Initiation, response, and the keepalive that confirms the session.
        for from in [0, 1, 0] {
            let mut datagrams = Vec::new();
            ends[from].send(|datagram| datagrams.push(datagram.to_vec()));
            ends[1 - from].open(datagrams.iter().map(Vec::as_slice), |_frame| {});
        }
        Ok(ends)
    }

    /// Encrypts what the interface hands over, `header` and the first `len` bytes of `buffer`, and gives the
    /// datagrams to `wire`. What is in `buffer` is of no use afterwards, where it was cut.
    ///
    /// # Errors
    /// [`Malformed`], as [`Segments::new`].
    pub fn seal(
        &mut self,
        header: &VirtioHeader,
        buffer: &mut [u8],
        len: usize,
        wire: impl FnMut(&[u8]),
    ) -> Result<(), Malformed> {
        if let Some(id) = self.engine.route(&buffer[..len]) {
            let mut segments = Segments::new(header, buffer, len, self.mtu)?;
            while let Some(packet) = segments.next_packet() {
                self.engine.seal(id, &packet, &mut self.outbox);
            }
        }
        self.send(wire);
        Ok(())
    }

    /// Decrypts `datagrams` of the peer and gives what comes of them, joined where it can be, to `interface`: frames
    /// in parts, the header before them.
    pub fn open<'d>(
        &mut self,
        datagrams: impl IntoIterator<Item = &'d [u8]>,
        interface: impl FnMut(&[IoSlice<'_>]),
    ) {
        let interface = Interface(RefCell::new(interface));
        for datagram in datagrams {
            if self.inbox.is_full() {
                self.inbox.flush(&interface);
            }
            self.engine
                .open(self.peer, datagram, &mut self.inbox, &mut self.outbox);
        }
        self.inbox.flush(&interface);
    }

    /// Gives what waits to `wire`, datagram by datagram.
    fn send(&mut self, mut wire: impl FnMut(&[u8])) {
        self.outbox.flush(|run, bytes| {
            bytes.chunks(run.segment).for_each(&mut wire);
            Ok(Sent {
                bytes: bytes.len(),
                refused: 0,
            })
        });
    }
}

/// Takes frames as a TUN does.
struct Interface<F>(RefCell<F>);

impl<F: FnMut(&[IoSlice<'_>])> Sink for Interface<F> {
    fn prefix_len(&self) -> usize {
        VirtioHeader::LEN
    }

    fn write_prefix(&self, header: &VirtioHeader, _packet: &[u8], prefix: &mut [u8]) {
        prefix.copy_from_slice(&header.encode());
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (self.0.borrow_mut())(parts);
        Ok(())
    }
}
