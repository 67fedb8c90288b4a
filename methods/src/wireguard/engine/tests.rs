use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wireguard::gso::{Offloads, Segments, TAIL_ROOM, VirtioHeader};
use crate::wireguard::inbox::Sink;
use crate::wireguard::keys::PresharedKey;
use crate::wireguard::stats::PeerDrops;
use crate::wireguard::udp::Sent;

const MTU: usize = 1420;
const LAPTOP: SocketAddr = address(1);
const GATEWAY: SocketAddr = address(2);
const ELSEWHERE: SocketAddr = address(3);

const fn address(host: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)), 51820)
}

/// One end, its wires in hand.
struct End {
    engine: Engine,
    inbox: Inbox,
    outbox: Outbox,
    at: SocketAddr,
}

type Datagram = (SocketAddr, Vec<u8>);

impl End {
    fn new(key: &PrivateKey, at: SocketAddr, peers: Vec<PeerConfig>) -> Self {
        let mut engine = Engine::new(key);
        for peer in peers {
            engine.add_peer(peer).unwrap();
        }
        let none = Offloads {
            tcp: false,
            udp: false,
        };
        Self {
            engine,
            inbox: Inbox::new(none),
            outbox: Outbox::new(),
            at,
        }
    }

    /// Sends a packet from the interface.
    fn send(&mut self, packet: &[u8]) {
        let Some(id) = self.engine.route(packet) else {
            return;
        };
        let mut buffer = packet.to_vec();
        buffer.extend([0; TAIL_ROOM]);
        let mut segments =
            Segments::new(&VirtioHeader::default(), &mut buffer, packet.len(), MTU).unwrap();
        let segment = segments.next_packet().unwrap();
        self.engine.seal(id, &segment, &mut self.outbox);
    }

    /// Takes a datagram from the wire.
    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.engine
            .open(from, datagram, &mut self.inbox, &mut self.outbox);
    }

    /// What went out to the wire.
    fn datagrams(&mut self) -> Vec<Datagram> {
        let mut datagrams = Vec::new();
        self.outbox.flush(|run, bytes| {
            datagrams.extend(
                bytes
                    .chunks(run.segment)
                    .map(|datagram| (run.to, datagram.to_vec())),
            );
            Ok(Sent {
                bytes: bytes.len(),
                refused: 0,
            })
        });
        datagrams
    }

    /// What went out to the interface.
    fn packets(&mut self) -> Vec<Vec<u8>> {
        let interface = Interface::default();
        self.inbox.flush(&interface);
        interface.0.into_inner()
    }

    fn only_peer(&self) -> PeerStats {
        let [peer] = self.engine.peer_stats().try_into().unwrap();
        peer
    }
}

#[derive(Default)]
struct Interface(RefCell<Vec<Vec<u8>>>);

impl Sink for Interface {
    fn prefix_len(&self) -> usize {
        3
    }

    fn write_prefix(&self, _header: &VirtioHeader, _packet: &[u8], prefix: &mut [u8]) {
        prefix.copy_from_slice(b"pre");
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        assert_eq!(bytes[..3], *b"pre");
        self.0.borrow_mut().push(bytes[3..].to_vec());
        Ok(())
    }
}

/// Carries datagrams between both until there are none. Returns how many there were.
fn exchange(a: &mut End, b: &mut End) -> usize {
    let mut count = 0;
    loop {
        let (from_a, from_b) = (a.datagrams(), b.datagrams());
        if from_a.is_empty() && from_b.is_empty() {
            return count;
        }
        count += from_a.len() + from_b.len();
        assert!(count < 2000, "they do not come to rest");
        for (_, datagram) in from_a {
            b.receive(a.at, &datagram);
        }
        for (_, datagram) in from_b {
            a.receive(b.at, &datagram);
        }
    }
}

struct Keys {
    laptop: PrivateKey,
    gateway: PrivateKey,
}

impl Keys {
    fn new() -> Self {
        Self {
            laptop: PrivateKey::generate(),
            gateway: PrivateKey::generate(),
        }
    }

    fn to_gateway(&self) -> PeerConfig {
        PeerConfig {
            public_key: self.gateway.public(),
            preshared_key: None,
            endpoint: Some(GATEWAY),
            allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            persistent_keepalive: None,
        }
    }

    fn to_laptop(&self) -> PeerConfig {
        PeerConfig {
            public_key: self.laptop.public(),
            endpoint: None,
            allowed_ips: vec!["10.0.0.2/32".parse().unwrap()],
            ..self.to_gateway()
        }
    }

    fn ends(&self) -> (End, End) {
        (
            End::new(&self.laptop, LAPTOP, vec![self.to_gateway()]),
            End::new(&self.gateway, GATEWAY, vec![self.to_laptop()]),
        )
    }
}

/// Two ends with a session.
fn connected() -> (End, End) {
    let (mut laptop, mut gateway) = Keys::new().ends();
    laptop.send(&request(0));
    exchange(&mut laptop, &mut gateway);
    assert_eq!(gateway.packets(), [request(0)]);
    (laptop, gateway)
}

/// A packet from the laptop, `n` in it and in its length.
fn request(n: u16) -> Vec<u8> {
    ipv4([10, 0, 0, 2], [10, 0, 0, 1], n)
}

fn reply(n: u16) -> Vec<u8> {
    ipv4([10, 0, 0, 1], [10, 0, 0, 2], n)
}

fn ipv4(source: [u8; 4], destination: [u8; 4], n: u16) -> Vec<u8> {
    let len = 22 + n % 1000;
    let mut packet = vec![0; len.into()];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet[20..22].copy_from_slice(&n.to_be_bytes());
    packet
}

#[test]
fn packets_start_exactly_one_handshake() {
    let (mut laptop, _) = Keys::new().ends();
    for n in 0..20 {
        laptop.send(&request(n));
    }
    assert_eq!(laptop.datagrams().len(), 1);
    laptop.send(&request(20));
    assert!(
        laptop.datagrams().is_empty(),
        "no second one while it is under way"
    );
}

#[test]
fn what_waited_for_the_handshake_is_sent_then() {
    let (mut laptop, mut gateway) = Keys::new().ends();
    let packets: Vec<_> = (0..20).map(request).collect();
    for packet in &packets {
        laptop.send(packet);
    }
    exchange(&mut laptop, &mut gateway);
    assert_eq!(gateway.packets(), packets);
    assert_eq!(laptop.only_peer().sent.packets, 20);
    assert_eq!(gateway.only_peer().received.packets, 20);
    assert!(laptop.only_peer().handshake_age.unwrap() < Duration::from_secs(5));
}

#[test]
fn more_than_the_queue_holds_is_dropped_and_counted() {
    let (mut laptop, mut gateway) = Keys::new().ends();
    for n in 0..300 {
        laptop.send(&request(n));
    }
    exchange(&mut laptop, &mut gateway);
    assert_eq!(gateway.packets(), (0..256).map(request).collect::<Vec<_>>());
    assert_eq!(laptop.only_peer().drops.queue_full, 44);
}

#[test]
fn both_directions_carry_packets_of_every_length() {
    let (mut laptop, mut gateway) = connected();
    for n in 0..500 {
        laptop.send(&request(n));
        gateway.send(&reply(n));
        exchange(&mut laptop, &mut gateway);
        assert_eq!(
            (gateway.packets(), laptop.packets()),
            (vec![request(n)], vec![reply(n)])
        );
    }
}

#[test]
fn datagrams_are_padded_to_sixteen_bytes_but_not_beyond_the_mtu() {
    let (mut laptop, mut gateway) = connected();
    for (len, padded) in [
        (22, 32),
        (32, 32),
        (33, 48),
        (1408, 1408),
        (1409, 1420),
        (1420, 1420),
    ] {
        let mut packet = request(0);
        packet.resize(len, 7);
        packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        laptop.send(&packet);
        let [(_, datagram)] = laptop.datagrams().try_into().unwrap();
        assert_eq!(datagram.len(), padded + 32, "a packet of {len} bytes");
        gateway.receive(LAPTOP, &datagram);
        assert_eq!(
            gateway.packets(),
            [packet],
            "the padding is taken off again"
        );
    }
}

#[test]
fn a_stranger_never_connects() {
    let keys = Keys::new();
    let (_, mut gateway) = keys.ends();
    let stranger = PrivateKey::generate();
    let mut stranger = End::new(&stranger, ELSEWHERE, vec![keys.to_gateway()]);
    stranger.send(&request(1));
    exchange(&mut stranger, &mut gateway);
    assert!(gateway.packets().is_empty());
    assert_eq!(gateway.engine.drops().unknown_key, 1);
    assert_eq!(gateway.only_peer().endpoint, None);
}

#[test]
fn who_does_not_know_our_key_is_not_even_decrypted_for() {
    let keys = Keys::new();
    let (_, mut gateway) = keys.ends();
    let wrong = PeerConfig {
        public_key: PrivateKey::generate().public(),
        ..keys.to_gateway()
    };
    let mut laptop = End::new(&keys.laptop, LAPTOP, vec![wrong]);
    laptop.send(&request(1));
    exchange(&mut laptop, &mut gateway);
    assert_eq!(gateway.engine.drops().bad_mac, 1);
}

#[test]
fn preshared_keys_must_agree() {
    let keys = Keys::new();
    let key = PresharedKey::generate();
    let with = |key: &PresharedKey, peer| PeerConfig {
        preshared_key: Some(key.clone()),
        ..peer
    };
    for (theirs, arrives) in [(key.clone(), 1), (PresharedKey::generate(), 0)] {
        let mut laptop = End::new(&keys.laptop, LAPTOP, vec![with(&key, keys.to_gateway())]);
        let mut gateway = End::new(
            &keys.gateway,
            GATEWAY,
            vec![with(&theirs, keys.to_laptop())],
        );
        laptop.send(&request(1));
        exchange(&mut laptop, &mut gateway);
        assert_eq!(gateway.packets().len(), arrives);
    }
}

#[test]
fn a_source_outside_the_allowed_ips_is_dropped_and_counted() {
    let (mut laptop, mut gateway) = connected();
    laptop.send(&ipv4([10, 0, 0, 3], [10, 0, 0, 1], 1));
    laptop.send(&ipv4([192, 168, 0, 1], [10, 0, 0, 1], 1));
    laptop.send(&request(5));
    exchange(&mut laptop, &mut gateway);
    assert_eq!(gateway.packets(), [request(5)]);
    assert_eq!(gateway.only_peer().drops.forged_source, 2);
}

#[test]
fn a_destination_of_nobody_is_dropped_and_counted() {
    let (mut laptop, _) = connected();
    laptop.send(&ipv4([10, 0, 0, 2], [192, 168, 0, 1], 1));
    laptop.send(&[0x45; 10]);
    assert!(laptop.datagrams().is_empty());
    assert_eq!(laptop.engine.drops().unroutable, 2);
}

#[test]
fn nothing_is_sent_to_who_was_never_heard() {
    let (_, mut gateway) = Keys::new().ends();
    gateway.send(&reply(1));
    assert!(gateway.datagrams().is_empty());
    assert_eq!(gateway.only_peer().drops.no_endpoint, 1);
}

#[test]
fn an_answer_goes_to_where_the_peer_was_last_heard() {
    let (mut laptop, mut gateway) = connected();
    laptop.send(&request(1));
    for (_, datagram) in laptop.datagrams() {
        gateway.receive(ELSEWHERE, &datagram);
    }
    gateway.send(&reply(1));
    let [(to, _)] = gateway.datagrams().try_into().unwrap();
    assert_eq!(to, ELSEWHERE);
}

#[test]
fn only_what_is_authentic_moves_an_endpoint() {
    let (mut laptop, mut gateway) = connected();
    laptop.send(&request(1));
    let [(_, datagram)] = laptop.datagrams().try_into().unwrap();
    gateway.receive(LAPTOP, &datagram);
    gateway.receive(ELSEWHERE, &datagram);
    assert_eq!(gateway.only_peer().drops.replayed, 1, "a replay");
    let mut forged = datagram.clone();
    forged[8] += 1;
    gateway.receive(ELSEWHERE, &forged);
    assert_eq!(gateway.only_peer().drops.undecryptable, 1, "a forgery");
    assert_eq!(gateway.only_peer().endpoint, Some(LAPTOP));
    assert_eq!(gateway.packets(), [request(1)]);
}

#[test]
fn a_removed_peer_is_forgotten() {
    let keys = Keys::new();
    let (mut laptop, mut gateway) = keys.ends();
    laptop.send(&request(1));
    exchange(&mut laptop, &mut gateway);
    assert!(gateway.engine.remove_peer(&keys.laptop.public()).is_some());
    assert!(gateway.engine.remove_peer(&keys.laptop.public()).is_none());
    gateway.packets();
    laptop.send(&request(2));
    gateway.send(&reply(2));
    exchange(&mut laptop, &mut gateway);
    assert!(gateway.packets().is_empty());
    assert_eq!(gateway.engine.drops().unknown_index, 1);
    assert_eq!(gateway.engine.drops().unroutable, 1);

    gateway.engine.add_peer(keys.to_laptop()).unwrap();
    laptop.send(&request(3));
    exchange(&mut laptop, &mut gateway);
    assert!(
        gateway.packets().is_empty(),
        "an old session does not come back with its peer"
    );
}

#[test]
fn peers_are_told_apart() {
    let keys = Keys::new();
    let other = PrivateKey::generate();
    let other_peer = PeerConfig {
        public_key: other.public(),
        allowed_ips: vec!["10.0.0.3/32".parse().unwrap()],
        ..keys.to_laptop()
    };
    let mut gateway = End::new(&keys.gateway, GATEWAY, vec![keys.to_laptop(), other_peer]);
    let mut laptop = End::new(&keys.laptop, LAPTOP, vec![keys.to_gateway()]);
    let mut other = End::new(&other, ELSEWHERE, vec![keys.to_gateway()]);
    laptop.send(&request(1));
    exchange(&mut laptop, &mut gateway);
    other.send(&ipv4([10, 0, 0, 3], [10, 0, 0, 1], 2));
    exchange(&mut other, &mut gateway);
    assert_eq!(gateway.packets().len(), 2);
    gateway.send(&reply(1));
    gateway.send(&ipv4([10, 0, 0, 1], [10, 0, 0, 3], 1));
    let to: Vec<_> = gateway.datagrams().into_iter().map(|(to, _)| to).collect();
    assert_eq!(to, [LAPTOP, ELSEWHERE]);
}

#[test]
fn a_peer_is_added_once_and_is_not_oneself() {
    let keys = Keys::new();
    let (mut laptop, _) = keys.ends();
    let again = laptop.engine.add_peer(keys.to_gateway());
    assert!(matches!(again, Err(TunnelError::DuplicatePeer(key)) if key == keys.gateway.public()));
    let own = PeerConfig {
        public_key: keys.laptop.public(),
        ..keys.to_gateway()
    };
    assert!(matches!(
        laptop.engine.add_peer(own),
        Err(TunnelError::OwnKey)
    ));
}

#[test]
fn a_peer_to_be_kept_alive_is_greeted_without_a_packet() {
    let keys = Keys::new();
    let kept = PeerConfig {
        persistent_keepalive: Some(Duration::from_secs(25)),
        ..keys.to_gateway()
    };
    let mut laptop = End::new(&keys.laptop, LAPTOP, vec![kept]);
    let (_, mut gateway) = keys.ends();
    laptop.engine.tick(&mut laptop.outbox);
    exchange(&mut laptop, &mut gateway);
    let id = laptop.engine.id(&keys.gateway.public()).unwrap();
    assert!(laptop.engine.is_connected(id));
    assert_eq!(gateway.only_peer().endpoint, Some(LAPTOP));
}

/// Initiations from strangers, more than a gateway answers in a second.
fn flood(gateway: &mut End, keys: &Keys) -> Vec<Datagram> {
    for _ in 0..3 * HANDSHAKES_PER_SECOND {
        let stranger = PrivateKey::generate();
        let mut stranger = End::new(&stranger, ELSEWHERE, vec![keys.to_gateway()]);
        stranger.send(&request(1));
        for (_, datagram) in stranger.datagrams() {
            gateway.receive(ELSEWHERE, &datagram);
        }
    }
    gateway.datagrams()
}

#[test]
fn a_flood_of_handshakes_is_answered_with_cookies_and_hurts_no_session() {
    let keys = Keys::new();
    let (mut laptop, mut gateway) = keys.ends();
    laptop.send(&request(0));
    exchange(&mut laptop, &mut gateway);
    gateway.packets();
    let cookies = flood(&mut gateway, &keys);
    assert!(
        cookies
            .iter()
            .all(|(to, cookie)| *to == ELSEWHERE && cookie.len() == 64)
    );
    assert!(
        cookies.len() >= 190,
        "two thirds of them: {}",
        cookies.len()
    );
    laptop.send(&request(1));
    exchange(&mut laptop, &mut gateway);
    assert_eq!(gateway.packets(), [request(1)]);
}

#[test]
fn a_cookie_does_not_move_an_endpoint() {
    let keys = Keys::new();
    let (mut laptop, mut gateway) = keys.ends();
    flood(&mut gateway, &keys);
    laptop.send(&request(1));
    let [(_, initiation)] = laptop.datagrams().try_into().unwrap();
    gateway.receive(LAPTOP, &initiation);
    let [(_, cookie)] = gateway.datagrams().try_into().unwrap();
    laptop.receive(ELSEWHERE, &cookie);
    assert_eq!(
        laptop.only_peer().drops,
        PeerDrops::default(),
        "it was a good cookie"
    );
    assert_eq!(laptop.only_peer().endpoint, Some(GATEWAY));
}

#[test]
fn a_counter_at_the_end_of_its_range_is_refused() {
    let (mut laptop, mut gateway) = connected();
    laptop.send(&request(1));
    let [(_, mut datagram)] = laptop.datagrams().try_into().unwrap();
    datagram[8..16].fill(0xff);
    gateway.receive(LAPTOP, &datagram);
    assert_eq!(gateway.engine.drops().malformed, 1);
}

#[test]
fn a_way_out_that_is_full_costs_answers_only() {
    let (mut laptop, mut gateway) = connected();
    while !gateway.outbox.is_full() {
        gateway.outbox.commit(ELSEWHERE, 60_000);
    }
    laptop.send(&request(1));
    for (_, datagram) in laptop.datagrams() {
        gateway.receive(LAPTOP, &datagram);
    }
    assert_eq!(gateway.packets(), [request(1)]);
    gateway.receive(LAPTOP, &[1; 148]);
    assert_eq!(gateway.engine.drops().congested, 1);
}

/// Real messages of each kind, to be damaged.
fn messages() -> (End, End, Vec<Vec<u8>>) {
    let (mut laptop, mut gateway) = Keys::new().ends();
    laptop.send(&request(1));
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut carry = |from: &mut End, to: &mut End| {
        for (_, datagram) in from.datagrams() {
            to.receive(from.at, &datagram);
            messages.push(datagram);
        }
    };
    for _ in 0..4 {
        carry(&mut laptop, &mut gateway);
        carry(&mut gateway, &mut laptop);
    }
    laptop.send(&request(900));
    messages.extend(laptop.datagrams().into_iter().map(|(_, datagram)| datagram));
    messages.push([&[3, 0, 0, 0, 1][..], &[0; 59]].concat());
    gateway.packets();
    (laptop, gateway, messages)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_datagrams_never_panic_and_never_stop_the_tunnel(
        damage in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..60,
        ),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let (mut laptop, mut gateway, messages) = messages();
        prop_assert_eq!(messages.len(), 6, "initiation, response, keepalive, two packets, cookie");
        for (which, place, byte, kind) in damage {
            let mut message = which.get(&messages).clone();
            let at = place.index(message.len());
            match kind {
                0 => message[at] ^= byte.max(1),
                1 => message.truncate(at),
                _ => message.resize(message.len() + usize::from(byte) + 1, byte),
            }
            gateway.receive(ELSEWHERE, &message);
            laptop.receive(ELSEWHERE, &message);
        }
        for mut datagram in noise {
            gateway.receive(ELSEWHERE, &datagram);
            if datagram.len() >= 4 {
                datagram[..4].copy_from_slice(&[4, 0, 0, 0]);
                gateway.receive(ELSEWHERE, &datagram);
            }
        }
        laptop.datagrams();
        gateway.datagrams();
        prop_assert!(gateway.packets().is_empty());
        laptop.send(&request(7));
        gateway.send(&reply(7));
        exchange(&mut laptop, &mut gateway);
        prop_assert_eq!((gateway.packets(), laptop.packets()), (vec![request(7)], vec![reply(7)]));
    }
}
