//! One peer: its sessions, where it was last heard, and what became of its packets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;

use super::{DATA, HANDSHAKE_ROOM};
use crate::wireguard::gso::Segment;
use crate::wireguard::keys::PublicKey;
use crate::wireguard::outbox::Outbox;
use crate::wireguard::stats::{PeerDrops, PeerStats, Traffic};
use crate::wireguard::tunnel::PeerConfig;

/// The first byte of a handshake initiation (paper §5.4.2).
const INITIATION: u8 = 1;

/// The first byte of a cookie reply (paper §5.4.7).
const COOKIE_REPLY: u8 = 3;

/// Handshakes in a row that nothing answers, five seconds apart, before the way is taken for lost.
const LOST_AFTER: u32 = 3;

/// What WireGuard adds to a packet, bytes.
const OVERHEAD: usize = 32;

/// Packets that boringtun keeps while there is no session; it drops more without a word.
const QUEUE: usize = 256;

pub(super) struct Peer {
    key: PublicKey,
    tunn: Box<Tunn>,
    endpoint: Option<SocketAddr>,
    /// To be connected at all times, not only when there are packets.
    persistent: bool,
    greeted: bool,
    /// Handshakes that the timers began since something came from the peer.
    unanswered: u32,
    /// Packets that wait for a session.
    queued: usize,
    received: Traffic,
    sent: Traffic,
    pub(super) drops: PeerDrops,
}

/// What a datagram held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A packet, at the start of the space that was given.
    Packet {
        /// Its length.
        len: usize,
        /// The address it says it is from.
        source: IpAddr,
    },
    /// Nothing for the interface.
    Nothing,
}

impl Peer {
    pub(super) fn new(
        config: PeerConfig,
        private: x25519::StaticSecret,
        index: u32,
        limiter: Arc<RateLimiter>,
    ) -> Self {
        let keepalive = config.persistent_keepalive.map(|interval| {
            // Zero would mean "off" to boringtun, and was not asked for.
            u16::try_from(interval.as_secs()).unwrap_or(u16::MAX).max(1)
        });
        let preshared = config.preshared_key.map(|key| key.bytes());
        let key = config.public_key;
        let tunn = Tunn::new(
            private,
            key.point(),
            preshared,
            keepalive,
            index,
            Some(limiter),
        );
        Self {
            key,
            tunn: Box::new(tunn),
            endpoint: config.endpoint,
            persistent: keepalive.is_some(),
            greeted: false,
            unanswered: 0,
            queued: 0,
            received: Traffic::default(),
            sent: Traffic::default(),
            drops: PeerDrops::default(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    pub(super) fn initiate(&mut self, out: &mut Outbox) {
        let Some(to) = self.endpoint else {
            return;
        };
        if let TunnResult::WriteToNetwork(message) =
            self.tunn.format_handshake_initiation(out.space(), false)
        {
            let len = message.len();
            out.commit(to, len);
        }
    }

    /// Encrypts `packet`, or queues it and starts a handshake.
    pub(super) fn seal(&mut self, packet: &Segment<'_>, out: &mut Outbox) {
        let Some(to) = self.endpoint else {
            self.drops.no_endpoint += 1;
            return;
        };
        if out.space().len() < (packet.padded.len() + OVERHEAD).max(HANDSHAKE_ROOM) {
            self.drops.oversize += 1;
            return;
        }
        match self.tunn.encapsulate(packet.padded, out.space()) {
            TunnResult::WriteToNetwork(message) => {
                let len = message.len();
                if message[0] == DATA {
                    self.sent.add(packet.len);
                } else {
                    self.note_queued();
                }
                out.commit(to, len);
            }
            _ => self.note_queued(),
        }
    }

    /// Decrypts `datagram` into `space`. Whoever sent a datagram that proves to be from this peer is
    /// where the peer is now.
    pub(super) fn open(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        space: &mut [u8],
        out: &mut Outbox,
    ) -> Outcome {
        let outcome = match self.tunn.decapsulate(Some(from.ip()), datagram, space) {
            TunnResult::Done => Outcome::Nothing,
            TunnResult::WriteToNetwork(answer) => {
                out.push(from, answer);
                Outcome::Nothing
            }
            TunnResult::WriteToTunnelV4(packet, source) => Outcome::Packet {
                len: packet.len(),
                source: source.into(),
            },
            TunnResult::WriteToTunnelV6(packet, source) => Outcome::Packet {
                len: packet.len(),
                source: source.into(),
            },
            TunnResult::Err(error) => {
                self.drops.count(&error);
                return Outcome::Nothing;
            }
        };
        self.unanswered = 0;
        // A cookie proves that the peer is under load, not where it is.
        if datagram.first() != Some(&COOKIE_REPLY) {
            self.endpoint = Some(from);
        }
        if let Outcome::Packet { len, .. } = outcome {
            self.received.add(len);
        }
        if self.queued > 0 {
            self.send_queued(out);
        }
        outcome
    }

    /// Does what is due. Says whether the way to the peer seems lost, which it does again after as many more
    /// handshakes.
    pub(super) fn tick(&mut self, out: &mut Outbox) -> bool {
        if self.persistent && !self.greeted {
            self.greeted = true;
            self.initiate(out);
            return false;
        }
        let mut lost = false;
        match self.tunn.update_timers(out.space()) {
            TunnResult::WriteToNetwork(message) => {
                let len = message.len();
                if message[0] == INITIATION {
                    self.unanswered += 1;
                    lost = self.unanswered.is_multiple_of(LOST_AFTER);
                }
                if let Some(to) = self.endpoint {
                    out.commit(to, len);
                }
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                self.queued = 0;
                self.greeted = false;
            }
            _ => {}
        }
        if self.queued > 0 {
            self.send_queued(out);
        }
        lost
    }

    pub(super) fn stats(&self) -> PeerStats {
        PeerStats {
            public_key: self.key,
            endpoint: self.endpoint,
            handshake_age: self.tunn.time_since_last_handshake(),
            received: self.received,
            sent: self.sent,
            drops: self.drops,
        }
    }

    fn note_queued(&mut self) {
        if self.queued < QUEUE {
            self.queued += 1;
        } else {
            self.drops.queue_full += 1;
        }
    }

    /// Sends what waited for a session, if there is one now.
    fn send_queued(&mut self, out: &mut Outbox) {
        let Some(to) = self.endpoint.filter(|_| self.is_connected()) else {
            return;
        };
        while !out.is_full() {
            let TunnResult::WriteToNetwork(message) = self.tunn.decapsulate(None, &[], out.space())
            else {
                self.queued = 0;
                return;
            };
            let len = message.len();
            self.sent.add(len.saturating_sub(OVERHEAD));
            out.commit(to, len);
        }
    }
}
