use proptest::prelude::*;

use super::super::split::tests::{cut, describe};
use super::super::testing::{Recipe, without_id};
use super::*;

const ALL: Offloads = Offloads {
    tcp: true,
    udp: true,
};

/// Puts `packets` through a coalescer. Returns what goes to the device.
fn coalesce(packets: &[Vec<u8>], offloads: Offloads) -> Vec<(VirtioHeader, Vec<u8>)> {
    let mut coalescer = Coalescer::new(offloads);
    let mut memory = Vec::new();
    let ranges: Vec<_> = packets
        .iter()
        .map(|packet| {
            memory.extend([0xee; 24]);
            memory.extend(packet);
            memory.len() - packet.len()..memory.len()
        })
        .collect();
    for range in ranges {
        coalescer.push(&memory, range);
    }
    let headers: Vec<_> = coalescer
        .finish(&mut memory)
        .map(|(header, _)| header)
        .collect();
    let whole = |frame: &Frame| {
        let mut bytes = memory[frame.head()].to_vec();
        for piece in coalescer.pieces(frame) {
            bytes.extend(&memory[piece]);
        }
        bytes
    };
    headers
        .into_iter()
        .zip(coalescer.frames().iter().map(whole))
        .collect()
}

/// Packets of one TCP connection that follow each other, with payloads of `sizes`.
fn stream(sizes: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    let mut next = Recipe::default();
    let packet = |size: usize| {
        next.payload = (0..=255).cycle().take(size).collect();
        let packet = next.build();
        next.sequence = next.sequence.wrapping_add(size.try_into().unwrap());
        packet
    };
    sizes.into_iter().map(packet).collect()
}

fn lengths(frames: &[(VirtioHeader, Vec<u8>)]) -> Vec<usize> {
    frames.iter().map(|(_, bytes)| bytes.len()).collect()
}

#[test]
fn a_stream_becomes_the_super_packet_it_was_cut_from() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let recipe = Recipe {
            udp,
            flags: 0x18,
            ..Recipe::tcp(v6, vec![0xab; 30_000])
        };
        let header = describe(&recipe, 1368);
        let packets = cut(&header, &recipe.build_partial()).unwrap();
        assert_eq!(
            coalesce(&packets, ALL),
            [(header, recipe.build_partial())],
            "v6 {v6} udp {udp}"
        );
    }
}

#[test]
fn a_super_packet_is_never_longer_than_an_ip_packet_can_be() {
    let frames = coalesce(&stream([1368; 100]), ALL);
    assert_eq!(
        lengths(&frames),
        [47 * 1368 + 52, 47 * 1368 + 52, 6 * 1368 + 52]
    );
}

#[test]
fn a_short_packet_ends_a_super_packet() {
    let frames = coalesce(&stream([1000, 1000, 500, 1000, 1000]), ALL);
    assert_eq!(lengths(&frames), [2552, 2052]);
}

#[test]
fn a_push_ends_a_super_packet() {
    let mut packets = stream([1000; 3]);
    let pushed = Recipe {
        flags: 0x18,
        ..Recipe::tcp(false, packets[1][52..].to_vec())
    };
    packets[1] = Recipe {
        sequence: pushed.sequence.wrapping_add(1000),
        ..pushed
    }
    .build();
    assert_eq!(lengths(&coalesce(&packets, ALL)), [2052, 1052]);
}

#[test]
fn packets_that_differ_in_more_than_position_stay_apart() {
    let first = Recipe::tcp(false, vec![1; 100]);
    let mut next = first.clone();
    next.sequence = first.sequence.wrapping_add(100);
    assert_eq!(
        coalesce(&[first.build(), next.build()], ALL).len(),
        1,
        "these two join"
    );

    type Change = fn(&mut Recipe);
    let changes: [(&str, Change); 11] = [
        ("flow", |packet| packet.source_port = 1),
        ("position", |packet| packet.sequence += 1),
        ("acknowledgement", |packet| packet.acknowledgement = 8),
        ("window", |packet| packet.window = 1),
        ("time to live", |packet| packet.ttl = 63),
        ("options", |packet| packet.options = vec![1; 12]),
        ("header length", |packet| packet.options = vec![1; 8]),
        ("flags", |packet| packet.flags = 0x11),
        ("size", |packet| packet.payload.push(1)),
        ("no payload", |packet| packet.payload.clear()),
        ("version", |packet| packet.v6 = true),
    ];
    for (what, change) in changes {
        let mut other = next.clone();
        change(&mut other);
        let packets = [first.build(), other.build()];
        let apart = packets
            .clone()
            .map(|packet| (VirtioHeader::default(), packet));
        assert_eq!(coalesce(&packets, ALL), apart, "{what}");
    }
}

#[test]
fn a_broken_checksum_is_handed_on_as_it_is() {
    for broken in 0..3 {
        let mut packets = stream([1000; 3]);
        packets[broken][600] ^= 1;
        let frames = coalesce(&packets, ALL);
        let found = frames
            .iter()
            .any(|(header, bytes)| *header == VirtioHeader::default() && *bytes == packets[broken]);
        assert!(found, "packet {broken} is neither joined nor repaired");
    }
}

#[test]
fn without_offload_nothing_is_joined() {
    let none = Offloads {
        tcp: false,
        udp: false,
    };
    assert_eq!(coalesce(&stream([100; 5]), none).len(), 5);
    let no_udp = Offloads {
        tcp: true,
        udp: false,
    };
    let datagram = Recipe::udp(false, vec![1; 100]).build();
    assert_eq!(
        coalesce(&[datagram.clone(), datagram.clone()], no_udp).len(),
        2
    );
    assert_eq!(coalesce(&[datagram.clone(), datagram], ALL).len(), 1);
}

#[test]
fn datagrams_without_a_checksum_stay_apart() {
    let mut datagram = Recipe::udp(false, vec![1; 100]).build();
    datagram[26..28].fill(0);
    assert_eq!(coalesce(&[datagram.clone(), datagram], ALL).len(), 2);
}

#[test]
fn fragments_stay_apart() {
    let mut packets = stream([1000; 2]);
    packets[1][6] = 0x20;
    assert_eq!(coalesce(&packets, ALL).len(), 2);
}

/// Packets of a few flows, most of them in sequence.
fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let packet = (
        0..4usize,
        prop_oneof![9 => Just(0u32), 1 => any::<u32>()],
        0..12u8,
        1..5usize,
        any::<bool>(),
    );
    prop::collection::vec(packet, 1..120).prop_map(|packets| {
        let mut sequences = [u32::MAX - 500; 4];
        let mut built = Vec::new();
        for (flow, gap, kind, size, spoil) in packets {
            let payload = match kind {
                0 => vec![],
                1 => vec![kind; size * 10],
                _ => vec![kind; 100],
            };
            let sequence = sequences[flow].wrapping_add(gap);
            sequences[flow] = sequence.wrapping_add(u32::try_from(payload.len()).unwrap());
            let recipe = Recipe {
                udp: flow == 3,
                source_port: 1000 + u16::try_from(flow).unwrap(),
                sequence,
                flags: if kind == 2 {
                    0x18
                } else if kind == 3 {
                    0x11
                } else {
                    0x10
                },
                ..Recipe::tcp(flow == 2, payload)
            };
            let mut packet = recipe.build();
            if spoil && kind == 4 {
                *packet.last_mut().unwrap() ^= 0x40;
            }
            built.push(packet);
        }
        built
    })
}

proptest! {
    #[test]
    fn whatever_is_joined_is_cut_into_the_same_packets(packets in packets()) {
        let mut again = Vec::new();
        for (header, bytes) in coalesce(&packets, ALL) {
            again.extend(cut(&header, &bytes).unwrap());
        }
        prop_assert_eq!(again.len(), packets.len());
        for flow in 0..4u16 {
            let of = |packets: &[Vec<u8>]| -> Vec<_> {
                let mine = packets.iter().filter(|packet| port(packet) == 1000 + flow);
                mine.map(|packet| without_id(packet.clone())).collect()
            };
            prop_assert_eq!(of(&again), of(&packets), "flow {} keeps its packets and their order", flow);
        }
    }

    #[test]
    fn garbage_never_panics_and_is_never_changed(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..90), any::<u8>()), 0..40),
    ) {
        let packets: Vec<_> = packets.into_iter().map(|(mut bytes, kind)| {
            if let Some(first) = bytes.first_mut() {
                *first = if kind % 2 == 0 { 0x45 } else { 0x60 };
            }
            bytes
        }).collect();
        let frames = coalesce(&packets, ALL);
        prop_assert_eq!(frames.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), packets);
    }
}

fn port(packet: &[u8]) -> u16 {
    let at = if packet[0] >> 4 == 6 { 40 } else { 20 };
    u16::from_be_bytes([packet[at], packet[at + 1]])
}
