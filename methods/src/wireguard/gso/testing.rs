//! Packets for tests, built and checked without the code under test.

/// A TCP or UDP packet in the making; what is not set has a harmless value.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) v6: bool,
    pub(super) udp: bool,
    pub(super) source_port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
    pub(super) ttl: u8,
    pub(super) payload: Vec<u8>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            v6: false,
            udp: false,
            source_port: 40_000,
            sequence: u32::MAX - 2000,
            acknowledgement: 7,
            flags: 0x10,
            window: 512,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ttl: 64,
            payload: Vec::new(),
        }
    }
}

impl Recipe {
    pub(super) fn tcp(v6: bool, payload: Vec<u8>) -> Self {
        Self {
            v6,
            payload,
            ..Self::default()
        }
    }

    pub(super) fn udp(v6: bool, payload: Vec<u8>) -> Self {
        Self {
            v6,
            udp: true,
            payload,
            ..Self::default()
        }
    }

    pub(super) fn ip_header(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    pub(super) fn headers(&self) -> usize {
        self.ip_header() + if self.udp { 8 } else { 20 + self.options.len() }
    }

    pub(super) fn checksum_offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    /// The packet, its checksums right.
    pub(super) fn build(&self) -> Vec<u8> {
        let mut packet = self.build_partial();
        let at = self.ip_header() + self.checksum_offset();
        packet[at..at + 2].fill(0);
        let sum = transport_sum(&packet);
        let checksum = if self.udp && sum == 0xffff {
            0xffff
        } else {
            !sum
        };
        packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// The packet as the kernel hands it over: its transport checksum holds the pseudo-header's sum.
    pub(super) fn build_partial(&self) -> Vec<u8> {
        let transport_len = self.headers() - self.ip_header() + self.payload.len();
        let protocol = if self.udp { 17 } else { 6 };
        let mut packet = Vec::new();
        if self.v6 {
            packet.extend([0x60, 0x0a, 0xbc, 0xde]);
            packet.extend(len16(transport_len));
            packet.extend([protocol, self.ttl]);
            packet.extend([0xfd; 16]);
            packet.extend([0xfe; 16]);
        } else {
            packet.extend([0x45, 0]);
            packet.extend(len16(20 + transport_len));
            packet.extend([0xff, 0xfe, 0x40, 0, self.ttl, protocol, 0, 0]);
            packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            let checksum = !sum(&packet);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        packet.extend(self.source_port.to_be_bytes());
        packet.extend(443u16.to_be_bytes());
        if self.udp {
            packet.extend(len16(transport_len));
            packet.extend([0, 0]);
        } else {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(self.acknowledgement.to_be_bytes());
            packet.push(u8::try_from(20 + self.options.len()).unwrap() << 2);
            packet.push(self.flags);
            packet.extend(self.window.to_be_bytes());
            packet.extend([0, 0, 0, 0]);
            packet.extend(&self.options);
        }
        packet.extend(&self.payload);
        let at = self.ip_header() + self.checksum_offset();
        let pseudo = pseudo_header_sum(&packet);
        packet[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
        packet
    }
}

/// Panics unless lengths and checksums of `packet` are right.
pub(super) fn assert_whole(packet: &[u8]) {
    let v6 = packet[0] >> 4 == 6;
    if v6 {
        assert_eq!(packet[4..6], len16(packet.len() - 40), "payload length");
    } else {
        assert_eq!(packet[2..4], len16(packet.len()), "total length");
        assert_eq!(sum(&packet[..20]), 0xffff, "IPv4 header checksum");
    }
    let at = if v6 { 40 } else { 20 };
    if protocol(packet) == 17 {
        assert_eq!(
            packet[at + 4..at + 6],
            len16(packet.len() - at),
            "UDP length"
        );
        assert_ne!(packet[at + 6..at + 8], [0, 0], "UDP checksum is there");
    }
    assert_eq!(transport_sum(packet), 0xffff, "transport checksum");
}

/// The packet without what a cut numbers anew.
pub(super) fn without_id(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

fn protocol(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 6 {
        packet[6]
    } else {
        packet[9]
    }
}

fn transport_sum(packet: &[u8]) -> u16 {
    let at = if packet[0] >> 4 == 6 { 40 } else { 20 };
    add(pseudo_header_sum(packet), sum(&packet[at..]))
}

fn pseudo_header_sum(packet: &[u8]) -> u16 {
    let (addresses, at) = if packet[0] >> 4 == 6 {
        (8..40, 40)
    } else {
        (12..20, 20)
    };
    let len = u16::try_from(packet.len() - at).unwrap();
    add(add(sum(&packet[addresses]), protocol(packet).into()), len)
}

fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
    bytes.chunks(2).map(word).fold(0, add)
}

fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

fn len16(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap().to_be_bytes()
}
