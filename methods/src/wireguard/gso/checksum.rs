//! The Internet checksum (RFC 1071) and the pseudo-headers it covers (RFC 9293 §3.1, RFC 8200 §8.1).

use super::layout::{UDP_CHECKSUM, Version};

/// A running one's complement sum, not yet folded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds `bytes`; an odd one at the end counts as if a zero followed, so only the last call may have one.
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        // The vectorised sum of tun-rs: it is exported for exactly such callers, though its docs hide it.
        Self(tun_rs::checksum_no_fold(bytes, self.0))
    }

    pub(super) fn add_word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// Folded to 16 bits, not complemented: what a partial checksum holds.
    #[expect(clippy::cast_possible_truncation, reason = "folded until it fits")]
    pub(super) fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    /// The value for a checksum field at `offset` in a transport header. In UDP zero means "none", so it is
    /// sent as its equal, all ones (RFC 768).
    pub(super) fn checksum(self, offset: usize) -> u16 {
        match !self.folded() {
            0 if offset == UDP_CHECKSUM => 0xffff,
            sum => sum,
        }
    }

    /// Whether the bytes summed, their checksum among them, are whole.
    pub(super) fn is_whole(self) -> bool {
        self.folded() == 0xffff
    }
}

/// The pseudo-header of `packet` without its length: the addresses and the protocol.
pub(super) fn pseudo_header(packet: &[u8], version: Version, protocol: u8) -> Sum {
    Sum::default()
        .add(&packet[version.addresses()])
        .add_word(protocol.into())
}

/// Writes the header checksum of the IPv4 packet at the start of `packet`.
pub(super) fn set_ipv4_header_checksum(packet: &mut [u8], header_len: usize) {
    let header = &mut packet[..header_len];
    header[10..12].fill(0);
    let checksum = !Sum::default().add(header).folded();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_as_it_says() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().add(&bytes).folded(), 0xddf2);
    }

    proptest! {
        #[test]
        fn it_agrees_with_summing_word_by_word(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let mut naive: u32 = 0;
            for word in bytes.chunks(2) {
                naive += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
                naive = (naive >> 16) + (naive & 0xffff);
            }
            // All zeros and all ones are the same number in one's complement.
            prop_assert_eq!(u32::from(Sum::default().add(&bytes).folded()) % 0xffff, naive % 0xffff);
        }
    }
}
