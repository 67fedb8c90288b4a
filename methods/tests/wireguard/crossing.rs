//! Whether everything gets across, whole, whatever lies between.

use std::io;
use std::net::SocketAddr;

use inroads_methods::wireguard::{PeerConfig, PeerDrops, TunnelStats};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nlink::netlink::{Connection, Ethtool, Route};

use super::bed::{
    self, Bed, GATEWAY_V6, Host, INNER_LAPTOP, INNER_LAPTOP_V6, Keys, Kind, PORT, Result,
};
use super::traffic::{Datagrams, LIMIT, connections, ping, stream};
use super::{INNER, INNER_V6, block_on, fast_kinds, inside, kinds};

#[test]
fn pings_streams_and_datagrams_cross_in_both_directions() {
    inside(
        "crossing::pings_streams_and_datagrams_cross_in_both_directions",
        || {
            for kind in kinds() {
                let bed = Bed::new()?;
                let (laptop, gateway) = bed.tunnel(kind)?;
                let first = ping(&bed.laptop, INNER, 56, LIMIT)?;
                assert_eq!(first.request, 0, "what starts the handshake is not lost");
                let both = [
                    (INNER, INNER_LAPTOP.into()),
                    (INNER_V6, INNER_LAPTOP_V6.into()),
                ];
                for (to_gateway, to_laptop) in both {
                    ping(&bed.laptop, to_gateway, 1300, LIMIT)?;
                    ping(&bed.gateway, to_laptop, 1300, LIMIT)?;
                    stream(&bed.laptop, &bed.gateway, to_gateway, 20 << 20)?;
                    let datagrams = Datagrams::new(&bed.laptop, &bed.gateway, to_gateway)?;
                    for size in [1, 2, 15, 16, 17, 500, 1372, 1391, 1392, 1393, 4000, 8192] {
                        datagrams.echo(size)?;
                    }
                }
                stream(&bed.gateway, &bed.laptop, INNER_LAPTOP.into(), 20 << 20)?;
                for tunnel in [&laptop, &gateway] {
                    assert_counted(&block_on(tunnel.stats())?, kind);
                }
            }
            Ok(())
        },
    );
}

fn assert_counted(stats: &TunnelStats, kind: Kind) {
    let peer = &stats.peers[0];
    assert!(
        peer.handshake_age.is_some_and(|age| age < LIMIT),
        "{stats:?}"
    );
    assert!(
        peer.received.bytes > 60 << 20 && peer.sent.bytes > 60 << 20,
        "{stats:?}"
    );
    assert_eq!(peer.drops, PeerDrops::default(), "{stats:?}");
    assert_eq!(stats.drops.contradictory, 0, "{stats:?}");
    let per_message = peer.received.packets / stats.transfers.messages_received;
    assert_eq!(per_message > 1, kind.offload, "offload shows: {stats:?}");
}

#[test]
fn a_tun_and_a_packet_interface_speak_to_each_other() {
    inside(
        "crossing::a_tun_and_a_packet_interface_speak_to_each_other",
        || {
            let Some(tun) = fast_kinds().find(|kind| *kind == Kind::TUN) else {
                return Ok(());
            };
            let (bed, keys) = (Bed::new()?, Keys::new());
            let _gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
            let _laptop = bed.start_laptop(tun, &keys, vec![keys.to_gateway()])?;
            stream(&bed.laptop, &bed.gateway, INNER, 20 << 20)
        },
    );
}

#[test]
fn the_mtu_is_where_fragments_begin() {
    inside("crossing::the_mtu_is_where_fragments_begin", || {
        for kind in fast_kinds() {
            let bed = Bed::new()?;
            let _ends = bed.tunnel(kind)?;
            let datagrams = Datagrams::new(&bed.laptop, &bed.gateway, INNER)?;
            // Packets of 29, 1419, 1420 and 1421 bytes, UDP and IP headers among them.
            for size in [1, 1391, 1392, 1393] {
                datagrams.echo(size)?;
            }
            bed::forbid_fragments(datagrams.socket())?;
            datagrams.echo(1391)?;
            datagrams.echo(1392)?;
            let too_long = datagrams.echo(1393).unwrap_err();
            let too_long = too_long
                .downcast_ref::<io::Error>()
                .map(io::Error::raw_os_error);
            assert_eq!(too_long, Some(Some(libc::EMSGSIZE)));
        }
        Ok(())
    });
}

#[test]
fn the_outer_way_may_be_ipv6() {
    inside("crossing::the_outer_way_may_be_ipv6", || {
        let (bed, keys) = (Bed::new()?, Keys::new());
        let _gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        let over_v6 = PeerConfig {
            endpoint: Some(SocketAddr::new(GATEWAY_V6.into(), PORT)),
            ..keys.to_gateway()
        };
        let _laptop = bed.start_laptop(Kind::PACKET, &keys, vec![over_v6])?;
        stream(&bed.laptop, &bed.gateway, INNER, 8 << 20)
    });
}

#[test]
fn five_hundred_connections_at_once() {
    inside("crossing::five_hundred_connections_at_once", || {
        setrlimit(Resource::RLIMIT_NOFILE, 4096, 4096)?;
        for kind in fast_kinds() {
            let bed = Bed::new()?;
            let (laptop, gateway) = bed.tunnel(kind)?;
            connections(&bed.laptop, &bed.gateway, INNER, 500)?;
            for tunnel in [laptop, gateway] {
                let stats = block_on(tunnel.stats())?;
                assert_eq!(
                    stats.drops.undeliverable + stats.drops.unsendable,
                    0,
                    "{stats:?}"
                );
            }
        }
        Ok(())
    });
}

/// A small MTU makes `UDP_SEGMENT` fail for datagrams that need fragments.
#[test]
fn the_outer_way_may_be_narrower_than_the_tunnel() {
    inside(
        "crossing::the_outer_way_may_be_narrower_than_the_tunnel",
        || {
            let bed = Bed::new()?;
            for host in [&bed.laptop, &bed.gateway] {
                host.run_async(async || {
                    Ok(Connection::<Route>::new()?
                        .set_link_mtu("eth0", 1300)
                        .await?)
                })?;
            }
            let (laptop, _gateway) = bed.tunnel(Kind::PACKET)?;
            stream(&bed.laptop, &bed.gateway, INNER, 4 << 20)?;
            Datagrams::new(&bed.laptop, &bed.gateway, INNER)?.echo(1392)?;
            assert_eq!(block_on(laptop.stats())?.drops.unsendable, 0);
            Ok(())
        },
    );
}

/// Where nobody computes checksums for us, older kernels refuse `UDP_SEGMENT` altogether; newer ones cut
/// themselves.
#[test]
fn the_outer_way_may_lack_offload() {
    inside("crossing::the_outer_way_may_lack_offload", || {
        let bed = Bed::new()?;
        forbid_checksum_offload(&bed.laptop)?;
        let (laptop, _gateway) = bed.tunnel(Kind::PACKET)?;
        stream(&bed.laptop, &bed.gateway, INNER, 4 << 20)?;
        assert_eq!(block_on(laptop.stats())?.drops.unsendable, 0);
        Ok(())
    });
}

/// A `virtio_net_hdr` cannot say that SCTP's own kind of checksum is missing, or that a tunnel's packet is
/// to be cut: the kernel must have done both before a packet comes to us.
#[test]
fn a_packet_interface_promises_no_more_than_it_keeps() {
    inside(
        "crossing::a_packet_interface_promises_no_more_than_it_keeps",
        || {
            let bed = Bed::new()?;
            let _ends = bed.tunnel(Kind::PACKET)?;
            bed.laptop.run_async(async || {
                let features = Connection::<Ethtool>::new_async()
                    .await?
                    .get_features("wg0")
                    .await?;
                assert!(features.is_active("tx-tcp-segmentation"));
                for feature in [
                    "tx-checksum-sctp",
                    "tx-gre-segmentation",
                    "tx-udp_tnl-segmentation",
                ] {
                    assert!(
                        features.is_changeable(feature),
                        "{feature} is there to be turned off"
                    );
                    assert!(!features.is_active(feature), "{feature}");
                }
                Ok(())
            })
        },
    );
}

fn forbid_checksum_offload(host: &Host) -> Result {
    host.run_async(async || {
        let ethtool = Connection::<Ethtool>::new_async().await?;
        Ok(ethtool
            .set_features("eth0", |change| change.disable("tx-checksum-ip-generic"))
            .await?)
    })
}

/// What the gateway is for. Super-packets pass it whole: it never cuts them nor sums them up.
#[test]
fn the_gateway_forwards() {
    inside("crossing::the_gateway_forwards", || {
        for kind in fast_kinds() {
            let (bed, keys) = (Bed::new()?, Keys::new());
            let pod = bed.attach_pod()?;
            let gateway = bed.start_gateway(kind, &keys, vec![keys.to_laptop()])?;
            let mut to_gateway = keys.to_gateway();
            to_gateway.allowed_ips.push(bed::POD_NETWORK.into());
            let _laptop = bed.start_laptop(kind, &keys, vec![to_gateway])?;
            bed.route_to_pods()?;
            ping(&bed.laptop, bed::POD.into(), 56, LIMIT)?;
            stream(&bed.laptop, &pod, bed::POD.into(), 20 << 20)?;
            stream(&pod, &bed.laptop, INNER_LAPTOP.into(), 20 << 20)?;
            let stats = block_on(gateway.stats())?;
            let per_frame = stats.peers[0].sent.packets / stats.transfers.frames_read;
            assert!(per_frame > 1, "{kind:?}: {stats:?}");
            assert_eq!(
                stats.peers[0].drops,
                PeerDrops::default(),
                "{kind:?}: {stats:?}"
            );
        }
        Ok(())
    });
}
