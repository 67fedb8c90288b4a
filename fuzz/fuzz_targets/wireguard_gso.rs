//! Any packet with any offload header is cut or refused; any packets that come out of a tunnel are joined such that
//! cutting them again gives as many, of the same lengths.

#![no_main]

use inroads_methods::wireguard::gso::{
    Coalescer, Malformed, Offloads, Segments, TAIL_ROOM, VirtioHeader,
};
use libfuzzer_sys::fuzz_target;

const MTU: usize = 1420;

fuzz_target!(|bytes: &[u8]| {
    if let Some(header) = VirtioHeader::decode(bytes) {
        drop(cut(&header, &bytes[VirtioHeader::LEN..]));
    }
    join(bytes);
});

/// The lengths of a packet's pieces.
fn cut(header: &VirtioHeader, packet: &[u8]) -> Result<Vec<usize>, Malformed> {
    let mut buffer = [packet, &[0; TAIL_ROOM]].concat();
    let mut segments = Segments::new(header, &mut buffer, packet.len(), MTU)?;
    let mut lengths = Vec::new();
    while let Some(segment) = segments.next_packet() {
        assert!(segment.len <= segment.padded.len());
        lengths.push(segment.len);
    }
    Ok(lengths)
}

/// Takes packets of up to 255 bytes, each behind its length.
fn join(mut bytes: &[u8]) {
    let mut memory = Vec::new();
    let mut ranges = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (packet, rest) = rest.split_at(rest.len().min((*length).into()));
        memory.extend_from_slice(packet);
        ranges.push(memory.len() - packet.len()..memory.len());
        bytes = rest;
    }
    let mut lengths: Vec<usize> = ranges.iter().map(ExactSizeIterator::len).collect();
    let mut coalescer = Coalescer::new(Offloads {
        tcp: true,
        udp: true,
    });
    for range in ranges {
        coalescer.push(&memory, range);
    }
    let mut again = Vec::new();
    let frames: Vec<_> = coalescer.finish(&mut memory).collect();
    for (header, frame) in frames {
        let mut packet = memory[frame.head()].to_vec();
        for piece in coalescer.pieces(frame) {
            packet.extend_from_slice(&memory[piece]);
        }
        if frame.count() == 1 {
            again.push(packet.len());
        } else {
            again.extend(cut(&header, &packet).expect("what was joined can be cut"));
        }
    }
    lengths.sort_unstable();
    again.sort_unstable();
    assert_eq!(again, lengths);
}
