//! What a tunnel counts.

use std::net::SocketAddr;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use serde::Serialize;

use super::keys::PublicKey;

/// A tunnel's counters since it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelStats {
    /// What drives it, `tun+gso, udp-gso`.
    pub driver: String,
    /// Each peer, in no particular order.
    pub peers: Vec<PeerStats>,
    /// What could not be put down to one peer.
    pub drops: TunnelDrops,
    /// In how many pieces it went.
    pub transfers: Transfers,
}

/// One peer's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerStats {
    /// Who.
    pub public_key: PublicKey,
    /// Where it was last heard, or is expected.
    pub endpoint: Option<SocketAddr>,
    /// Since the session in use was agreed on, to a quarter of a second; `None` without one.
    pub handshake_age: Option<Duration>,
    /// From it, decrypted; before the check of allowed IPs.
    pub received: Traffic,
    /// To it.
    pub sent: Traffic,
    /// What was lost between.
    pub drops: PeerDrops,
}

/// Inner IP packets. Handshakes and keepalives do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Their length without padding, bytes; with it for those that waited for a handshake.
    pub bytes: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
    }
}

/// Why packets of one peer were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PeerDrops {
    /// In: an inner source address that is not the peer's (paper §2).
    pub forged_source: u64,
    /// In: seen before, or too old to tell.
    pub replayed: u64,
    /// In: not encrypted with a key that we share, or for a session that is over.
    pub undecryptable: u64,
    /// In: decrypted to something that is no IP packet.
    pub malformed: u64,
    /// Out: nobody knows where the peer is.
    pub no_endpoint: u64,
    /// Out: too many packets waited for a handshake.
    pub queue_full: u64,
    /// Out: longer than any datagram.
    pub oversize: u64,
}

impl PeerDrops {
    pub(super) fn count(&mut self, error: &WireGuardError) {
        let counter = match error {
            WireGuardError::DuplicateCounter
            | WireGuardError::InvalidCounter
            | WireGuardError::WrongTai64nTimestamp => &mut self.replayed,
            WireGuardError::InvalidPacket => &mut self.malformed,
            _ => &mut self.undecryptable,
        };
        *counter += 1;
    }
}

/// Why packets of nobody in particular were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TunnelDrops {
    /// Out: no peer's allowed IPs hold the destination.
    pub unroutable: u64,
    /// Out: the interface described a packet wrongly.
    pub contradictory: u64,
    /// Out: the kernel refused the datagram.
    pub unsendable: u64,
    /// In: no WireGuard message.
    pub malformed: u64,
    /// In: for a session that never was.
    pub unknown_index: u64,
    /// In: a handshake from a key that is no peer's.
    pub unknown_key: u64,
    /// In: a handshake whose sender does not know our key.
    pub bad_mac: u64,
    /// In: a handshake answered with a cookie, for there were too many.
    pub under_load: u64,
    /// In: the way out was full, so there was no room for an answer.
    pub congested: u64,
    /// In: the interface refused the packet.
    pub undeliverable: u64,
}

/// What passed the borders of user space as one piece: super-packets and joined datagrams. Beside the
/// packets in them they show what offload did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Transfers {
    /// Times that the thread looked for work.
    pub wakeups: u64,
    /// From the interface.
    pub frames_read: u64,
    /// To the interface.
    pub frames_written: u64,
    /// From the socket.
    pub messages_received: u64,
    /// To the socket.
    pub messages_sent: u64,
}
