//! When two packets are one: the comparison that joining rests on.

use crate::wireguard::gso::MAX_PACKET;
use crate::wireguard::gso::checksum::pseudo_header;
use crate::wireguard::gso::layout::{
    ACK, Layout, PSH, Protocol, TCP_FLAGS, TCP_SEQUENCE, UDP_CHECKSUM, Version, get16, get32,
};

/// The most datagrams in a UDP super-packet (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_DATAGRAMS: usize = 64;

/// What the next packet of a flow is compared with.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) layout: Layout,
    /// Payload bytes of each packet but the last.
    pub(super) size: usize,
    pub(super) count: usize,
    /// Bytes of the whole.
    pub(super) len: usize,
    next_sequence: u32,
    /// Of a kind that joins at all: data, and no flags that stand for one packet only.
    joinable: bool,
    /// The last packet has PSH.
    pub(super) push: bool,
    /// Nothing may follow.
    closed: bool,
    /// The first packet's checksum was checked.
    whole: bool,
}

impl Join {
    pub(super) fn first(packet: &[u8], layout: Layout) -> Self {
        let transport = layout.transport;
        let size = packet.len() - layout.payload;
        let (plain, push, sequence) = match layout.protocol {
            Protocol::Tcp => {
                let flags = packet[transport + TCP_FLAGS];
                let sequence = get32(packet, transport + TCP_SEQUENCE);
                (flags & !PSH == ACK, flags & PSH != 0, sequence)
            }
            Protocol::Udp => (get16(packet, transport + UDP_CHECKSUM) != 0, false, 0),
        };
        let joinable = plain && size > 0;
        Self {
            layout,
            size,
            count: 1,
            len: packet.len(),
            next_sequence: sequence
                .wrapping_add(u32::try_from(size).expect("a packet fits in memory")),
            joinable,
            push,
            closed: !joinable || push,
            whole: false,
        }
    }

    /// Whether `packet`, of the same flow, may follow the frame that starts with `head`.
    pub(super) fn takes(&mut self, head: &[u8], packet: &[u8], new: &Self) -> bool {
        let fits = new.size <= self.size && self.len + new.size <= MAX_PACKET;
        if self.closed || !new.joinable || !fits {
            return false;
        }
        let alike = match self.layout.protocol {
            Protocol::Tcp => {
                let sequence = get32(packet, new.layout.transport + TCP_SEQUENCE);
                sequence == self.next_sequence && same_tcp(head, packet, &self.layout)
            }
            Protocol::Udp => self.count < MAX_DATAGRAMS,
        };
        if !alike || !same_ip(head, packet, self.layout.version) {
            return false;
        }
        self.whole = self.whole || is_whole(head, &self.layout);
        self.whole && is_whole(packet, &new.layout)
    }

    pub(super) fn extend(&mut self, new: &Self) {
        self.count += 1;
        self.len += new.size;
        self.next_sequence = new.next_sequence;
        self.push = new.push;
        self.closed = new.push || new.size < self.size;
    }
}

pub(super) fn same_flow(a: &[u8], shape_a: &Layout, b: &[u8], shape_b: &Layout) -> bool {
    let ports = shape_a.transport..shape_a.transport + 4;
    let addresses = shape_a.version.addresses();
    shape_a.version == shape_b.version
        && shape_a.protocol == shape_b.protocol
        && a[ports.clone()] == b[ports]
        && a[addresses.clone()] == b[addresses]
}

/// Equal in what every piece inherits: type of service, do-not-fragment, time to live; for IPv6 also the
/// flow label. IPv4 identifications need not follow each other: whoever cuts counts them up anew.
fn same_ip(a: &[u8], b: &[u8], version: Version) -> bool {
    match version {
        Version::V4 => a[1] == b[1] && a[6] == b[6] && a[8] == b[8],
        Version::V6 => a[..4] == b[..4] && a[7] == b[7],
    }
}

/// Equal acknowledgement, header length, flags but PSH, window, urgent pointer and options.
fn same_tcp(a: &[u8], b: &[u8], shape: &Layout) -> bool {
    let (a, b) = (&a[shape.transport..shape.payload], &b[shape.transport..]);
    a[8..TCP_FLAGS] == b[8..TCP_FLAGS]
        && (a[TCP_FLAGS] ^ b[TCP_FLAGS]) & !PSH == 0
        && a[14..16] == b[14..16]
        && b.get(18..a.len()).is_some_and(|rest| a[18..] == *rest)
}

fn is_whole(packet: &[u8], layout: &Layout) -> bool {
    let Some(len) = u16::try_from(packet.len() - layout.transport).ok() else {
        return false;
    };
    pseudo_header(packet, layout.version, layout.protocol.number())
        .add_word(len)
        .add(&packet[layout.transport..])
        .is_whole()
}
