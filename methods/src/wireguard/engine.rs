//! The protocol without its wires: packets and datagrams in, datagrams and packets out.
//!
//! Around boringtun's `Tunn`, which is one peer's handshakes and sessions, it does what the protocol
//! leaves to whoever drives it: cryptokey routing in both directions (paper §2), roaming endpoints (§2.1),
//! who a datagram belongs to, denial-of-service limits (§5.3), and counting. It has no sockets and no
//! clock of its own beyond boringtun's; whoever holds it calls [`tick`](Engine::tick) every so often.

mod peer;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{HandshakeInit, Packet, Tunn, TunnResult};
use boringtun::x25519;

use super::allowed_ips::AllowedIps;
use super::gso::Segment;
use super::inbox::Inbox;
use super::keys::{PrivateKey, PublicKey};
use super::outbox::Outbox;
use super::stats::{PeerStats, TunnelDrops};
use super::tunnel::{PeerConfig, TunnelError};
use peer::{Outcome, Peer};

/// Handshake messages a second that are answered without asking for a cookie first (paper §5.3).
const HANDSHAKES_PER_SECOND: u64 = 100;

/// Data messages that a session may carry (paper §6.1, Reject-After-Messages).
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// The first byte of a data message (paper §5.4.6), the only kind that is never answered.
const DATA: u8 = 4;

/// The shortest datagram space that boringtun writes a handshake message to.
const HANDSHAKE_ROOM: usize = 148;

/// A peer of an [`Engine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PeerId(u32);

/// All peers of one interface.
pub(super) struct Engine {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Guards the expensive part of a handshake.
    limiter: RateLimiter,
    /// What each `Tunn` gets, so that nothing is counted twice.
    unlimited: Arc<RateLimiter>,
    /// By the upper 24 bits of the receiver index in a datagram.
    peers: Vec<Option<Peer>>,
    by_key: HashMap<PublicKey, PeerId>,
    allowed_ips: AllowedIps<PeerId>,
    drops: TunnelDrops,
}

impl Engine {
    pub(super) fn new(private: &PrivateKey) -> Self {
        let public = private.public().point();
        Self {
            private: private.secret().clone(),
            public,
            limiter: RateLimiter::new(&public, HANDSHAKES_PER_SECOND),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            peers: Vec::new(),
            by_key: HashMap::new(),
            allowed_ips: AllowedIps::default(),
            drops: TunnelDrops::default(),
        }
    }

    /// Adds a peer. One with an endpoint and a keepalive is greeted with the next [`tick`](Self::tick).
    pub(super) fn add_peer(&mut self, config: PeerConfig) -> Result<PeerId, TunnelError> {
        let key = config.public_key;
        if key.point() == self.public {
            return Err(TunnelError::OwnKey);
        }
        if self.by_key.contains_key(&key) {
            return Err(TunnelError::DuplicatePeer(key));
        }
        let free = self.peers.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.peers.len());
        let index = u32::try_from(slot).ok().filter(|index| *index < 1 << 24);
        let id = PeerId(index.ok_or(TunnelError::TooManyPeers)?);
        let allowed_ips = config.allowed_ips.clone();
        let peer = Peer::new(
            config,
            self.private.clone(),
            id.0,
            Arc::clone(&self.unlimited),
        );
        match free {
            Some(slot) => self.peers[slot] = Some(peer),
            None => self.peers.push(Some(peer)),
        }
        self.by_key.insert(key, id);
        self.allowed_ips.insert(allowed_ips, id);
        Ok(id)
    }

    /// Forgets a peer, its sessions and its prefixes. Returns who it was.
    pub(super) fn remove_peer(&mut self, key: &PublicKey) -> Option<PeerId> {
        let id = self.by_key.remove(key)?;
        self.peers[id.0 as usize] = None;
        self.allowed_ips.remove(id);
        Some(id)
    }

    pub(super) fn id(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    /// Whether there is a session that packets can go through.
    pub(super) fn is_connected(&self, id: PeerId) -> bool {
        self.peer(id).is_some_and(Peer::is_connected)
    }

    /// Starts a handshake, unless there is a session, one is under way, or nobody to send it to.
    pub(super) fn connect(&mut self, id: PeerId, out: &mut Outbox) {
        if let Some(peer) = self.peers[id.0 as usize].as_mut()
            && !peer.is_connected()
            && !out.is_full()
        {
            peer.initiate(out);
        }
    }

    /// The peer that an outgoing packet is for. One for nobody is counted.
    pub(super) fn route(&mut self, packet: &[u8]) -> Option<PeerId> {
        let destination = Tunn::dst_address(packet);
        let id = destination.and_then(|address| self.allowed_ips.lookup(address));
        if id.is_none() {
            self.drops.unroutable += 1;
        }
        id
    }

    /// Encrypts a packet for `id`, or keeps it until there is a session. `out` must not be full.
    pub(super) fn seal(&mut self, id: PeerId, packet: &Segment<'_>, out: &mut Outbox) {
        if let Some(peer) = self.peers[id.0 as usize].as_mut() {
            peer.seal(packet, out);
        }
    }

    /// Takes a datagram that `from` sent: whatever its bytes, it is answered, decrypted or counted.
    /// `inbox` must not be full; answers that `out` has no room for are lost, as on any network.
    pub(super) fn open(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        inbox: &mut Inbox,
        out: &mut Outbox,
    ) {
        if out.is_full() && datagram.first() != Some(&DATA) {
            self.drops.congested += 1;
            return;
        }
        let Some(id) = self.addressee(from, datagram, out) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            self.drops.unknown_index += 1;
            return;
        };
        let outcome = peer.open(from, datagram, inbox.space(), out);
        if let Outcome::Packet { len, source } = outcome {
            if self.allowed_ips.lookup(source) == Some(id) {
                inbox.commit(len);
            } else {
                peer.drops.forged_source += 1;
            }
        }
    }

    /// Does what is due: handshakes, keepalives, expiry. Call it about every quarter of a second. Says whether the
    /// way to a peer seems lost: one from another port of ours may be open.
    pub(super) fn tick(&mut self, out: &mut Outbox) -> bool {
        self.limiter.reset_count();
        let mut lost = false;
        for peer in self.peers.iter_mut().flatten() {
            if out.is_full() {
                break;
            }
            lost |= peer.tick(out);
        }
        lost
    }

    /// Those that happen here.
    pub(super) fn drops(&self) -> TunnelDrops {
        self.drops
    }

    pub(super) fn peer_stats(&self) -> Vec<PeerStats> {
        self.peers.iter().flatten().map(Peer::stats).collect()
    }

    fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.0 as usize)?.as_ref()
    }

    /// Whose datagram it is. Handshake messages prove first that their sender knows our public key, and
    /// under load that it receives at the address it sends from.
    fn addressee(&mut self, from: SocketAddr, datagram: &[u8], out: &mut Outbox) -> Option<PeerId> {
        let Ok(packet) = Tunn::parse_incoming_packet(datagram) else {
            self.drops.malformed += 1;
            return None;
        };
        match packet {
            Packet::PacketData(data) => {
                // The parser made sure of 32 bytes. boringtun does not look at this limit, and its replay
                // window overflows beyond it.
                let counter = datagram[8..]
                    .first_chunk()
                    .map(|bytes| u64::from_le_bytes(*bytes))?;
                if counter >= REJECT_AFTER_MESSAGES {
                    self.drops.malformed += 1;
                    return None;
                }
                Some(PeerId(data.receiver_idx >> 8))
            }
            Packet::PacketCookieReply(reply) => Some(PeerId(reply.receiver_idx >> 8)),
            Packet::HandshakeResponse(response) => {
                self.admit(from, datagram, out)?;
                Some(PeerId(response.receiver_idx >> 8))
            }
            Packet::HandshakeInit(init) => {
                self.admit(from, datagram, out)?;
                self.initiator(&init)
            }
        }
    }

    /// Lets a handshake message pass, or answers it with a cookie.
    fn admit(&mut self, from: SocketAddr, datagram: &[u8], out: &mut Outbox) -> Option<()> {
        match self
            .limiter
            .verify_packet(Some(from.ip()), datagram, out.space())
        {
            Ok(_) => Some(()),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                let len = cookie.len();
                out.commit(from, len);
                self.drops.under_load += 1;
                None
            }
            Err(_) => {
                self.drops.bad_mac += 1;
                None
            }
        }
    }

    fn initiator(&mut self, init: &HandshakeInit<'_>) -> Option<PeerId> {
        let half = parse_handshake_anon(&self.private, &self.public, init).ok();
        let key = half.map(|half| PublicKey::from_bytes(half.peer_static_public));
        let id = key.and_then(|key| self.id(&key));
        if id.is_none() {
            self.drops.unknown_key += 1;
        }
        id
    }
}

#[cfg(test)]
mod tests;
