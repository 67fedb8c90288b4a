//! Hash slots (Redis Cluster specification, "Key distribution model"), and a key for each of them.

use std::sync::LazyLock;

/// How many there are.
pub(super) const SLOTS: u16 = 16_384;

/// A hash tag for each slot: what stands in braces in a key, and alone decides its slot.
pub(super) static TAGS: LazyLock<Vec<String>> = LazyLock::new(tags);

/// The slot of a key without a hash tag: CRC16 (XMODEM: polynomial 0x1021, initial value 0) modulo 16384.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let crc = key.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

/// Counts up until every slot has had a number.
fn tags() -> Vec<String> {
    let mut found = vec![String::new(); usize::from(SLOTS)];
    let mut missing = found.len();
    for number in 0_u32.. {
        if missing == 0 {
            break;
        }
        let tag = number.to_string();
        let place = &mut found[usize::from(slot_of(tag.as_bytes()))];
        if place.is_empty() {
            *place = tag;
            missing -= 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use redis::cluster_routing::Slot;

    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // Appendix A of the specification: the CRC of this text is 0x31C3.
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
    }

    #[test]
    fn every_slot_has_a_tag_that_the_driver_puts_there() {
        assert_eq!(TAGS.len(), usize::from(SLOTS));
        for (slot, tag) in (0..).zip(TAGS.iter()) {
            let key = format!("any:{{{tag}}}:thing");
            assert_eq!(Slot::for_key(&key), Slot::new(slot).unwrap(), "{key}");
        }
    }
}
