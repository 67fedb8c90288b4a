//! Who is let in, who is not, and who is found again.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use inroads_methods::wireguard::{PeerConfig, PrivateKey, TunnelError};
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::{Connection, Route};

use super::bed::{Bed, GATEWAY, INNER_GATEWAY, Keys, Kind, LAPTOP, PORT};
use super::nat::Nat;
use super::traffic::{LIMIT, is_silent, ping, stream};
use super::{INNER, block_on, fast_kinds, inside, inside_for, note, only_peer};

#[test]
fn a_wrong_key_never_connects() {
    inside("peers::a_wrong_key_never_connects", || {
        let (bed, keys) = (Bed::new()?, Keys::new());
        let gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        let stranger = Keys {
            laptop: PrivateKey::generate(),
            gateway: keys.gateway.clone(),
        };
        let laptop = bed.start_laptop(Kind::PACKET, &stranger, vec![keys.to_gateway()])?;
        let peer = keys.gateway.public();
        let result = block_on(laptop.wait_handshake(&peer, Duration::from_millis(300)));
        assert!(
            matches!(result, Err(TunnelError::NoHandshake { .. })),
            "{result:?}"
        );
        assert!(is_silent(&bed.laptop, INNER));
        assert!(block_on(gateway.stats())?.drops.unknown_key > 0);
        assert_eq!(only_peer(&gateway).endpoint, None);
        Ok(())
    });
}

#[test]
fn a_source_outside_the_allowed_ips_is_dropped_and_counted() {
    inside(
        "peers::a_source_outside_the_allowed_ips_is_dropped_and_counted",
        || {
            for kind in fast_kinds() {
                let bed = Bed::new()?;
                let (_laptop, gateway) = bed.tunnel(kind)?;
                ping(&bed.laptop, INNER, 56, LIMIT)?;
                let forged = Ipv4Addr::new(10, 77, 0, 99);
                bed.laptop.run_async(async || {
                    let netlink = Connection::<Route>::new()?;
                    Ok(netlink
                        .add_address(Ipv4Address::new("wg0", forged, 32))
                        .await?)
                })?;
                let from_forged = bed.laptop.run(|| Ok(UdpSocket::bind((forged, 0))?))?;
                for _ in 0..10 {
                    from_forged.send_to(b"it was me", (INNER_GATEWAY, 9))?;
                }
                ping(&bed.laptop, INNER, 56, LIMIT)?;
                assert_eq!(only_peer(&gateway).drops.forged_source, 10);
            }
            Ok(())
        },
    );
}

#[test]
fn a_removed_peer_is_silent_and_an_added_one_is_heard() {
    inside(
        "peers::a_removed_peer_is_silent_and_an_added_one_is_heard",
        || {
            let (bed, keys) = (Bed::new()?, Keys::new());
            let gateway = bed.start_gateway(Kind::PACKET, &keys, vec![])?;
            let laptop = bed.start_laptop(Kind::PACKET, &keys, vec![keys.to_gateway()])?;
            assert!(is_silent(&bed.laptop, INNER));
            block_on(gateway.add_peer(keys.to_laptop()))?;
            let again = block_on(gateway.add_peer(keys.to_laptop()));
            assert!(matches!(again, Err(TunnelError::DuplicatePeer(_))));
            ping(&bed.laptop, INNER, 56, LIMIT)?;
            block_on(laptop.wait_handshake(&keys.gateway.public(), LIMIT))?;
            block_on(gateway.remove_peer(&keys.laptop.public()))?;
            assert!(is_silent(&bed.laptop, INNER));
            let gone = block_on(gateway.remove_peer(&keys.laptop.public()));
            assert!(matches!(gone, Err(TunnelError::UnknownPeer(_))));
            Ok(())
        },
    );
}

#[test]
fn a_laptop_that_moves_is_followed_without_a_handshake() {
    inside(
        "peers::a_laptop_that_moves_is_followed_without_a_handshake",
        || {
            let (bed, keys) = (Bed::new()?, Keys::new());
            let gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
            let nat = Nat::new(&bed)?;
            let through_nat = PeerConfig {
                endpoint: Some(nat.address()?),
                ..keys.to_gateway()
            };
            let laptop = bed.start_laptop(Kind::PACKET, &keys, vec![through_nat])?;
            ping(&bed.laptop, INNER, 56, LIMIT)?;
            let before = only_peer(&gateway).endpoint;
            let moved = nat.change(&bed)?;
            let took = ping(&bed.laptop, INNER, 56, LIMIT)?.after;
            assert!(took < Duration::from_secs(1), "{took:?}");
            assert_ne!(before, Some(moved));
            assert_eq!(only_peer(&gateway).endpoint, Some(moved));
            let age = only_peer(&laptop).handshake_age;
            stream(&bed.laptop, &bed.gateway, INNER, 1 << 20)?;
            assert!(only_peer(&laptop).handshake_age >= age, "no new handshake");
            Ok(())
        },
    );
}

/// What a stale entry of conntrack on a node does, for as long as datagrams keep it alive.
#[test]
fn a_port_that_leads_nowhere_any_more_is_given_up() {
    let (name, limit) = (
        "peers::a_port_that_leads_nowhere_any_more_is_given_up",
        Duration::from_secs(60),
    );
    inside_for(limit * 2, name, || {
        let (bed, keys) = (Bed::new()?, Keys::new());
        let _gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        let nat = Nat::new(&bed)?;
        let through_nat = PeerConfig {
            endpoint: Some(nat.address()?),
            ..keys.to_gateway()
        };
        let _laptop = bed.start_laptop(Kind::PACKET, &keys, vec![through_nat])?;
        ping(&bed.laptop, INNER, 56, LIMIT)?;
        let before = nat.lead_astray();
        let took = ping(&bed.laptop, INNER, 56, limit)?.after;
        note(&format!("measured: by another port after {took:?}"));
        let after = nat.laptop();
        assert!(before.is_some() && after != before, "{before:?}, {after:?}");
        Ok(())
    });
}

#[test]
fn a_restarted_gateway_is_found_again() {
    inside("peers::a_restarted_gateway_is_found_again", || {
        let (bed, keys) = (Bed::new()?, Keys::new());
        let gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        let _laptop = bed.start_laptop(Kind::PACKET, &keys, vec![keys.to_gateway()])?;
        ping(&bed.laptop, INNER, 56, LIMIT)?;
        block_on(gateway.shutdown())?;
        let _gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        let took = ping(&bed.laptop, INNER, 56, Duration::from_secs(25))?.after;
        // Keepalive-Timeout + Rekey-Timeout (paper §6.1), for the laptop cannot know earlier.
        note(&format!(
            "measured: a restarted gateway answered after {took:?}"
        ));
        assert!(took < Duration::from_secs(18), "{took:?}");
        Ok(())
    });
}

#[test]
fn a_restarted_laptop_is_back_at_once() {
    inside("peers::a_restarted_laptop_is_back_at_once", || {
        let (bed, keys) = (Bed::new()?, Keys::new());
        let _gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        for _ in 0..3 {
            let laptop = bed.start_laptop(Kind::PACKET, &keys, vec![keys.to_gateway()])?;
            let took = ping(&bed.laptop, INNER, 56, LIMIT)?.after;
            assert!(took < Duration::from_millis(500), "{took:?}");
            block_on(laptop.shutdown())?;
        }
        Ok(())
    });
}

#[test]
fn a_flood_of_garbage_stops_nothing() {
    inside("peers::a_flood_of_garbage_stops_nothing", || {
        let bed = Bed::new()?;
        let (_laptop, gateway) = bed.tunnel(Kind::PACKET)?;
        ping(&bed.laptop, INNER, 56, LIMIT)?;
        let attacker = bed.laptop.run(|| Ok(UdpSocket::bind((LAPTOP, 0))?))?;
        for n in 0..20_000u32 {
            let len = usize::try_from(n % 200)?;
            let mut datagram = vec![u8::try_from(n % 251)?; len];
            if len >= 4 {
                datagram[..4].copy_from_slice(&(n % 5).to_le_bytes());
            }
            attacker.send_to(&datagram, (GATEWAY, PORT))?;
        }
        let took = ping(&bed.laptop, INNER, 56, LIMIT)?.after;
        assert!(took < Duration::from_secs(2), "{took:?}");
        let drops = block_on(gateway.stats())?.drops;
        assert!(
            drops.malformed > 0 && drops.bad_mac > 0 && drops.unknown_index > 0,
            "{drops:?}"
        );
        Ok(())
    });
}
