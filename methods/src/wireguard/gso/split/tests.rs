use proptest::prelude::*;

use super::super::testing::{Recipe, assert_whole};
use super::*;

const MTU: usize = 1420;

/// Cuts `packet` and collects the pieces, without their padding.
pub(in super::super) fn cut(
    header: &VirtioHeader,
    packet: &[u8],
) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut buffer = packet.to_vec();
    buffer.extend([0xee; TAIL_ROOM]);
    let mut segments = Segments::new(header, &mut buffer, packet.len(), MTU)?;
    let mut pieces = Vec::new();
    while let Some(piece) = segments.next_packet() {
        assert!(
            piece.padded[piece.len..].iter().all(|byte| *byte == 0),
            "zeros pad"
        );
        assert!(
            piece.padded.len() <= MTU || piece.padded.len() == piece.len,
            "within the MTU"
        );
        let multiple = piece.padded.len().is_multiple_of(16);
        assert!(
            multiple || piece.padded.len() >= MTU,
            "padded as far as the MTU lets"
        );
        pieces.push(piece.padded[..piece.len].to_vec());
    }
    Ok(pieces)
}

/// What the kernel says of a super-packet.
pub(in super::super) fn describe(recipe: &Recipe, gso_size: u16) -> VirtioHeader {
    VirtioHeader {
        flags: VirtioHeader::NEEDS_CHECKSUM,
        gso_type: match (recipe.udp, recipe.v6) {
            (true, _) => VirtioHeader::UDP,
            (_, false) => VirtioHeader::TCP_V4,
            (_, true) => VirtioHeader::TCP_V6,
        },
        header_len: recipe.headers().try_into().unwrap(),
        gso_size,
        checksum_start: recipe.ip_header().try_into().unwrap(),
        checksum_offset: recipe.checksum_offset().try_into().unwrap(),
    }
}

#[test]
fn a_super_packet_is_cut_into_packets_that_are_whole() {
    let recipe = Recipe {
        flags: 0x10 | 0x08 | 0x01 | 0x80,
        ..Recipe::tcp(false, vec![0xab; 3000])
    };
    let pieces = cut(&describe(&recipe, 1368), &recipe.build_partial()).unwrap();
    assert_eq!(
        pieces.iter().map(Vec::len).collect::<Vec<_>>(),
        [1420, 1420, 316]
    );
    for (index, piece) in (0..).zip(&pieces) {
        assert_whole(piece);
        let id = u16::from_be_bytes([piece[4], piece[5]]);
        assert_eq!(id, 0xfffe_u16.wrapping_add(index));
    }
    // FIN and PSH speak of the end, CWR of the start.
    assert_eq!(
        pieces.iter().map(|piece| piece[33]).collect::<Vec<_>>(),
        [0x90, 0x10, 0x19]
    );
    assert_eq!(get32(&pieces[1], 24), recipe.sequence.wrapping_add(1368));
    assert_eq!(
        get32(&pieces[2], 24),
        recipe.sequence.wrapping_add(2 * 1368)
    );
}

#[test]
fn a_plain_packet_gets_the_checksum_it_was_promised() {
    for recipe in [
        Recipe::tcp(false, vec![1; 77]),
        Recipe::udp(true, vec![2; 1000]),
        Recipe::udp(false, vec![]),
    ] {
        let header = VirtioHeader {
            gso_type: 0,
            gso_size: 0,
            ..describe(&recipe, 0)
        };
        let pieces = cut(&header, &recipe.build_partial()).unwrap();
        assert_eq!(pieces, [recipe.build()]);
        assert_whole(&pieces[0]);
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let recipe = Recipe::tcp(false, vec![0; 3000]);
    let good = describe(&recipe, 1000);
    let packet = recipe.build_partial();
    let bad = [
        VirtioHeader {
            gso_size: 0,
            ..good
        },
        VirtioHeader { flags: 0, ..good },
        VirtioHeader {
            gso_type: 77,
            ..good
        },
        VirtioHeader {
            gso_type: VirtioHeader::TCP_V6,
            ..good
        },
        VirtioHeader {
            gso_type: VirtioHeader::UDP,
            ..good
        },
        VirtioHeader {
            checksum_start: 0,
            ..good
        },
        VirtioHeader {
            checksum_start: 3050,
            ..good
        },
        VirtioHeader {
            checksum_offset: 6,
            ..good
        },
        VirtioHeader {
            gso_type: 0,
            checksum_start: 65_535,
            ..good
        },
    ];
    for header in bad {
        assert_eq!(cut(&header, &packet), Err(Malformed), "{header:?}");
    }
    let mut no_header = packet;
    no_header[0] = 0x40;
    assert_eq!(cut(&good, &no_header), Err(Malformed));
    assert_eq!(cut(&VirtioHeader::default(), &[]), Err(Malformed));
    assert_eq!(cut(&VirtioHeader::default(), &[0x45; 19]), Err(Malformed));
    assert_eq!(cut(&VirtioHeader::default(), &[0x50; 60]), Err(Malformed));
}

proptest! {
    #[test]
    fn the_byte_stream_survives_the_cut(
        v6: bool,
        udp: bool,
        payload in prop::collection::vec(any::<u8>(), 1..20_000),
        gso_size in 1..2000u16,
        options in (0..=10usize).prop_map(|words| vec![1; words * 4]),
    ) {
        let recipe = Recipe { options, udp, ..Recipe::tcp(v6, payload) };
        let pieces = cut(&describe(&recipe, gso_size), &recipe.build_partial()).unwrap();
        let mut stream = Vec::new();
        for piece in &pieces {
            assert_whole(piece);
            stream.extend_from_slice(&piece[recipe.headers()..]);
        }
        prop_assert_eq!(stream, recipe.payload);
    }

    /// Another implementation of the same, that of tun-rs, as a witness.
    #[test]
    fn tun_rs_cuts_alike(
        v6: bool,
        udp: bool,
        payload in prop::collection::vec(any::<u8>(), 1..20_000),
        gso_size in 200..2000u16,
        flags in prop::sample::select(vec![0x10, 0x18, 0x11]),
    ) {
        let recipe = Recipe { udp, flags, ..Recipe::tcp(v6, payload) };
        let header = describe(&recipe, gso_size);
        let theirs = tun_rs::VirtioNetHdr {
            flags: header.flags,
            gso_type: header.gso_type,
            hdr_len: header.header_len,
            gso_size,
            csum_start: header.checksum_start,
            csum_offset: header.checksum_offset,
        };
        let mut buffers = vec![vec![0; 2200]; 128];
        let mut sizes = vec![0; 128];
        let mut packet = recipe.build_partial();
        let count = tun_rs::gso_split(&mut packet, theirs, &mut buffers, &mut sizes, 0, v6).unwrap();
        let theirs: Vec<_> = buffers.iter().zip(&sizes).take(count).map(|(b, len)| b[..*len].to_vec()).collect();
        prop_assert_eq!(cut(&header, &recipe.build_partial()).unwrap(), theirs);
    }

    #[test]
    fn garbage_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        version in prop::sample::select(vec![0x41u8, 0x45, 0x46, 0x4f, 0x60, 0x00]),
        flags in 0..3u8,
        gso_type in prop::sample::select(vec![0u8, 1, 3, 4, 5, 0x81, 0x84, 0xff]),
        gso_size in 0..100u16,
        checksum_start in 0..310u16,
        checksum_offset in 0..20u16,
    ) {
        let mut packet = bytes;
        if let Some(first) = packet.first_mut() {
            *first = version;
        }
        let header = VirtioHeader { flags, gso_type, header_len: 0, gso_size, checksum_start, checksum_offset };
        if let Ok(pieces) = cut(&header, &packet) {
            prop_assert!(!pieces.is_empty() || header.gso_type != 0);
        }
    }
}
