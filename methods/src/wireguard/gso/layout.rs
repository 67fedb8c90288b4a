//! Where the headers of a TCP or UDP packet lie, and the few fields that cutting and joining touch.

use std::ops::Range;

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
pub(super) const TCP_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

// Offsets inside a TCP header (RFC 9293 §3.1).
pub(super) const TCP_SEQUENCE: usize = 4;
pub(super) const TCP_FLAGS: usize = 13;
pub(super) const TCP_CHECKSUM: usize = 16;
pub(super) const UDP_LENGTH: usize = 4;
pub(super) const UDP_CHECKSUM: usize = 6;

pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const CWR: u8 = 0x80;

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

impl Version {
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }

    /// Bytes of a header without options.
    pub(super) fn header_len(self) -> usize {
        match self {
            Self::V4 => IPV4_HEADER,
            Self::V6 => IPV6_HEADER,
        }
    }

    /// Where source and destination stand, one behind the other.
    pub(super) fn addresses(self) -> Range<usize> {
        match self {
            Self::V4 => 12..20,
            Self::V6 => 8..40,
        }
    }
}

/// A protocol that can be cut and joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
        }
    }

    pub(super) fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => TCP_CHECKSUM,
            Self::Udp => UDP_CHECKSUM,
        }
    }
}

/// The shape of one TCP or UDP packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) version: Version,
    pub(super) protocol: Protocol,
    /// Where the TCP or UDP header starts.
    pub(super) transport: usize,
    /// Where the payload starts.
    pub(super) payload: usize,
}

impl Layout {
    /// The shape of a packet whose transport header is known to start at `transport`.
    pub(super) fn at(packet: &[u8], protocol: Protocol, transport: usize) -> Option<Self> {
        let version = Version::of(packet)?;
        let header = match protocol {
            Protocol::Tcp => {
                let words = packet.get(transport + 12)? >> 4;
                usize::from(words) * 4
            }
            Protocol::Udp => UDP_HEADER,
        };
        let sound = transport >= version.header_len()
            && (protocol == Protocol::Udp || header >= TCP_HEADER)
            && transport + header <= packet.len();
        sound.then_some(Self {
            version,
            protocol,
            transport,
            payload: transport + header,
        })
    }

    /// The shape of a plain packet: no IP options, extension headers or fragments, and exactly as long
    /// as its IP header says. Anything else is not ours to join.
    pub(super) fn plain(packet: &[u8]) -> Option<Self> {
        let version = Version::of(packet)?;
        if packet.len() < version.header_len() {
            return None;
        }
        let (protocol, len) = match version {
            Version::V4 => {
                let no_options = packet[0] & 0x0f == 5;
                let no_fragment = get16(packet, 6) & 0x3fff == 0;
                if !(no_options && no_fragment) {
                    return None;
                }
                (packet[9], get16(packet, 2).into())
            }
            Version::V6 => (packet[6], IPV6_HEADER + usize::from(get16(packet, 4))),
        };
        let protocol = match protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return None,
        };
        if len != packet.len() {
            return None;
        }
        Self::at(packet, protocol, version.header_len())
    }

    /// Writes the lengths that follow from a packet being `len` bytes long. `false` where no header
    /// can say so.
    pub(super) fn set_lengths(&self, packet: &mut [u8], len: usize) -> bool {
        let field = |len: usize| u16::try_from(len).ok();
        let ip = match self.version {
            Version::V4 => field(len),
            Version::V6 => field(len - IPV6_HEADER),
        };
        let (Some(ip), Some(transport)) = (ip, field(len - self.transport)) else {
            return false;
        };
        match self.version {
            Version::V4 => put16(packet, 2, ip),
            Version::V6 => put16(packet, 4, ip),
        }
        if self.protocol == Protocol::Udp {
            put16(packet, self.transport + UDP_LENGTH, transport);
        }
        true
    }
}

pub(super) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub(super) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
