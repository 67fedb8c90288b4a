//! Segmentation offload in user space: one super-packet of up to 64 KiB instead of 45 packets.
//!
//! The kernel hands over what a TCP socket wrote as one *super-packet* with a [`VirtioHeader`] that says
//! how to cut it; WireGuard needs the pieces ([`Segments`]). On the way back the decrypted pieces are put
//! together again ([`Coalescer`]), so that the kernel walks its stack once for all of them. Both are pure:
//! bytes in, bytes out. No packet is ever held back to wait for the next one.

mod checksum;
mod coalesce;
mod layout;
mod split;
#[cfg(test)]
mod testing;

pub use coalesce::{Coalescer, Offloads};
pub use split::{Malformed, Segment, Segments};

/// Whether the kernel may hand over and take several packets as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Where it can.
    #[default]
    Auto,
    /// Never: one packet at a time, for an honest comparison.
    Off,
}

/// The longest IP packet, bytes.
const MAX_PACKET: usize = 65_535;

/// The zeros that a padded packet may need behind it in its buffer.
pub const TAIL_ROOM: usize = 15;

/// What the kernel says of a packet beside its bytes: `struct virtio_net_hdr` (virtio 1.2 §5.1.6), in
/// the byte order of this machine, as Linux uses it for TUN devices and packet sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VirtioHeader {
    /// [`NEEDS_CHECKSUM`](Self::NEEDS_CHECKSUM) or nothing of interest.
    pub flags: u8,
    /// How to cut it, one of the constants here, or 0: not at all.
    pub gso_type: u8,
    /// Bytes of all headers, a hint.
    pub header_len: u16,
    /// Payload bytes of each piece but the last.
    pub gso_size: u16,
    /// Where the bytes to sum start: the TCP or UDP header.
    pub checksum_start: u16,
    /// Where the checksum goes, counted from there.
    pub checksum_offset: u16,
}

impl VirtioHeader {
    /// Its length on the wire, bytes.
    pub const LEN: usize = 10;
    /// The checksum field holds the pseudo-header's sum only.
    pub const NEEDS_CHECKSUM: u8 = 1;
    /// TCP over IPv4.
    pub const TCP_V4: u8 = 1;
    /// TCP over IPv6.
    pub const TCP_V6: u8 = 4;
    /// UDP over either: datagrams of equal size (Linux 6.2).
    pub const UDP: u8 = 5;
    /// May be added to either TCP type: only the first piece carries CWR (RFC 3168 §6.1.2).
    pub const ECN: u8 = 0x80;

    /// Reads it from the start of `bytes`; `None` where there are too few.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [flags, gso_type, rest @ ..] = bytes.first_chunk::<{ Self::LEN }>()?;
        let field = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        Some(Self {
            flags: *flags,
            gso_type: *gso_type,
            header_len: field(0),
            gso_size: field(2),
            checksum_start: field(4),
            checksum_offset: field(6),
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let [h0, h1] = self.header_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// The same, for a packet behind `prefix` more bytes, such as an Ethernet header.
    #[must_use]
    pub fn behind(mut self, prefix: u16) -> Self {
        if self.flags & Self::NEEDS_CHECKSUM != 0 {
            self.checksum_start += prefix;
            self.header_len += prefix;
        }
        self
    }

    /// The same, without the `prefix` bytes that stood before the packet. `None` where the header
    /// contradicts that there were any.
    #[must_use]
    pub fn without(mut self, prefix: u16) -> Option<Self> {
        if self.flags & Self::NEEDS_CHECKSUM != 0 {
            self.checksum_start = self.checksum_start.checked_sub(prefix)?;
            self.header_len = self.header_len.saturating_sub(prefix);
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_virtio_header_survives_its_bytes_and_a_prefix() {
        let header = VirtioHeader {
            flags: VirtioHeader::NEEDS_CHECKSUM,
            gso_type: VirtioHeader::TCP_V4,
            header_len: 52,
            gso_size: 1368,
            checksum_start: 20,
            checksum_offset: 16,
        };
        assert_eq!(VirtioHeader::decode(&header.encode()), Some(header));
        assert_eq!(header.behind(14).checksum_start, 34);
        assert_eq!(header.behind(14).without(14), Some(header));
        assert_eq!(header.without(21), None);
        assert_eq!(VirtioHeader::decode(&[0; 9]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_virtio_header_or_too_few(bytes in prop::collection::vec(any::<u8>(), 0..20), prefix: u16) {
            let header = VirtioHeader::decode(&bytes);
            prop_assert_eq!(header.is_some(), bytes.len() >= VirtioHeader::LEN);
            if let Some(header) = header {
                prop_assert_eq!(&header.encode(), &bytes[..VirtioHeader::LEN]);
                let _ = header.without(prefix);
            }
        }
    }
}
