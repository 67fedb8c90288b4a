//! The tunnel between two hosts, with real interfaces and sockets. No rights are needed.

mod bed;
mod traffic;

use std::env;
use std::io::{self, ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bed::{
    Bed, GATEWAY, GATEWAY_V6, INNER_GATEWAY, INNER_GATEWAY_V6, INNER_LAPTOP, Keys, Kind, PORT,
    Result,
};
use inroads_methods::wireguard::{
    Device, DeviceOffload, Driver, PeerConfig, PeerStats, PrivateKey, Tunnel, TunnelError,
};
use nix::net::if_::if_nametoindex;
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::{Connection, Route};
use tokio::time::Instant;
use traffic::{Datagrams, LIMIT, connections, is_silent, ping, stream};

const INSIDE: &str = "INROADS_INSIDE";

/// Runs `body`, the body of the test called `name`, in a child with namespaces of its own.
fn inside(name: &str, body: impl FnOnce() -> Result) {
    if env::var_os(INSIDE).is_some() {
        return body().unwrap_or_else(|error| panic!("{error:?}"));
    }
    if let Some(reason) = bed::unavailable() {
        return skip(name, &reason);
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1");
    bed::isolate(&mut child);
    let output = child.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("1 passed"),
        "the child ran another test than `{name}`:\n{text}"
    );
    for line in text.lines().filter(|line| line.starts_with("skipped")) {
        note(line);
    }
}

fn skip(what: &str, reason: &str) {
    note(&format!("skipped: {what}: {reason}"));
}

/// Past the test harness, which keeps what `println` says of a test that passes.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Every way of driving a tunnel that this machine has.
fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::PACKET, Kind::PACKET.plain()];
    match std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        Ok(_) => kinds.extend([Kind::TUN, Kind::TUN.plain()]),
        Err(error) => note(&format!("skipped: driver `tun`: /dev/net/tun: {error}")),
    }
    kinds
}

/// The ways of driving it with offload.
fn fast_kinds() -> impl Iterator<Item = Kind> {
    kinds().into_iter().filter(|kind| kind.offload)
}

const INNER: IpAddr = IpAddr::V4(INNER_GATEWAY);
const INNER_V6: IpAddr = IpAddr::V6(INNER_GATEWAY_V6);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn only_peer(tunnel: &Tunnel) -> PeerStats {
    let [peer] = block_on(tunnel.stats()).unwrap().peers.try_into().unwrap();
    peer
}

#[test]
fn pings_streams_and_datagrams_cross_in_both_directions() {
    inside(
        "pings_streams_and_datagrams_cross_in_both_directions",
        || {
            for kind in kinds() {
                let bed = Bed::new()?;
                let (laptop, gateway) = bed.tunnel(kind)?;
                for address in [INNER, INNER_V6] {
                    ping(&bed.laptop, address, 56, LIMIT)?;
                    ping(
                        &bed.gateway,
                        if address.is_ipv4() {
                            INNER_LAPTOP.into()
                        } else {
                            bed::INNER_LAPTOP_V6.into()
                        },
                        1300,
                        LIMIT,
                    )?;
                    stream(&bed.laptop, &bed.gateway, address, 20 << 20)?;
                    let datagrams = Datagrams::new(&bed.laptop, &bed.gateway, address)?;
                    for size in [1, 2, 15, 16, 17, 500, 1372, 1391, 1392, 1393, 4000, 8192] {
                        datagrams.echo(size)?;
                    }
                }
                stream(&bed.gateway, &bed.laptop, INNER_LAPTOP.into(), 20 << 20)?;
                for tunnel in [&laptop, &gateway] {
                    let stats = block_on(tunnel.stats())?;
                    let peer = &stats.peers[0];
                    assert!(
                        peer.handshake_age.is_some_and(|age| age < LIMIT),
                        "{stats:?}"
                    );
                    assert!(
                        peer.received.bytes > 60 << 20 && peer.sent.bytes > 60 << 20,
                        "{stats:?}"
                    );
                    assert_eq!(stats.drops.contradictory, 0, "{stats:?}");
                    assert_eq!(peer.drops, Default::default(), "{stats:?}");
                    let per_datagram =
                        peer.received.packets as f64 / stats.calls.udp_messages_in as f64;
                    assert_eq!(per_datagram > 2.0, kind.offload, "offload shows: {stats:?}");
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_tun_and_a_packet_interface_speak_to_each_other() {
    inside("a_tun_and_a_packet_interface_speak_to_each_other", || {
        let Some(tun) = fast_kinds().find(|kind| *kind == Kind::TUN) else {
            return Ok(());
        };
        let (bed, keys) = (Bed::new()?, Keys::new());
        let _gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        let _laptop = bed.start_laptop(tun, &keys, vec![keys.to_gateway()])?;
        stream(&bed.laptop, &bed.gateway, INNER, 20 << 20)
    });
}

#[test]
fn the_mtu_is_where_fragments_begin() {
    inside("the_mtu_is_where_fragments_begin", || {
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
            assert_eq!(too_long, Some(Some(nix::libc::EMSGSIZE)));
        }
        Ok(())
    });
}

#[test]
fn the_outer_way_may_be_ipv6() {
    inside("the_outer_way_may_be_ipv6", || {
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
fn a_wrong_key_never_connects() {
    inside("a_wrong_key_never_connects", || {
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
        assert_eq!(block_on(gateway.stats())?.drops.unknown_key, 1);
        assert_eq!(only_peer(&gateway).endpoint, None);
        Ok(())
    });
}

#[test]
fn a_source_outside_the_allowed_ips_is_dropped_and_counted() {
    inside(
        "a_source_outside_the_allowed_ips_is_dropped_and_counted",
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

/// A router whose translation of the laptop's address can change.
struct Nat {
    inner: UdpSocket,
    outer: Arc<Mutex<UdpSocket>>,
    gateway: SocketAddr,
    laptop: Arc<Mutex<Option<SocketAddr>>>,
}

impl Nat {
    fn new(bed: &Bed) -> Result<Self> {
        let gateway = SocketAddr::new(GATEWAY.into(), PORT);
        let inner = bed.gateway.run(|| Ok(UdpSocket::bind((GATEWAY, 0))?))?;
        let outer = bed.gateway.run(|| Ok(UdpSocket::bind((GATEWAY, 0))?))?;
        let nat = Self {
            inner,
            outer: Arc::new(Mutex::new(outer)),
            gateway,
            laptop: Arc::default(),
        };
        let (inner, outer, laptop) = (
            nat.inner.try_clone()?,
            nat.outer.clone(),
            nat.laptop.clone(),
        );
        thread::spawn(move || {
            let mut buffer = vec![0; 2000];
            while let Ok((len, from)) = inner.recv_from(&mut buffer) {
                *laptop.lock().unwrap() = Some(from);
                let _ = outer.lock().unwrap().send_to(&buffer[..len], gateway);
            }
        });
        nat.serve()?;
        Ok(nat)
    }

    /// The way back, for the present translation.
    fn serve(&self) -> Result {
        let (inner, laptop) = (self.inner.try_clone()?, self.laptop.clone());
        let outer = self.outer.lock().unwrap().try_clone()?;
        thread::spawn(move || {
            let mut buffer = vec![0; 2000];
            while let Ok((len, _)) = outer.recv_from(&mut buffer) {
                let to = laptop
                    .lock()
                    .unwrap()
                    .expect("nobody answers before he is asked");
                let _ = inner.send_to(&buffer[..len], to);
            }
        });
        Ok(())
    }

    /// From now on the laptop seems to be at another port.
    fn change(&self, bed: &Bed) -> Result<SocketAddr> {
        let outer = bed.gateway.run(|| Ok(UdpSocket::bind((GATEWAY, 0))?))?;
        let address = outer.local_addr()?;
        *self.outer.lock().unwrap() = outer;
        self.serve()?;
        assert_ne!(address, self.gateway);
        Ok(address)
    }
}

#[test]
fn a_laptop_that_moves_is_followed_without_a_handshake() {
    inside(
        "a_laptop_that_moves_is_followed_without_a_handshake",
        || {
            let (bed, keys) = (Bed::new()?, Keys::new());
            let gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
            let nat = Nat::new(&bed)?;
            let through_nat = PeerConfig {
                endpoint: Some(nat.inner.local_addr()?),
                ..keys.to_gateway()
            };
            let laptop = bed.start_laptop(Kind::PACKET, &keys, vec![through_nat])?;
            ping(&bed.laptop, INNER, 56, LIMIT)?;
            let before = only_peer(&gateway).endpoint;
            let moved = nat.change(&bed)?;
            let took = ping(&bed.laptop, INNER, 56, LIMIT)?;
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

#[test]
fn a_restarted_gateway_is_found_again() {
    inside("a_restarted_gateway_is_found_again", || {
        let (bed, keys) = (Bed::new()?, Keys::new());
        let gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        let _laptop = bed.start_laptop(Kind::PACKET, &keys, vec![keys.to_gateway()])?;
        ping(&bed.laptop, INNER, 56, LIMIT)?;
        block_on(gateway.shutdown())?;
        let _gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        let took = ping(&bed.laptop, INNER, 56, Duration::from_secs(25))?;
        // Keepalive-Timeout + Rekey-Timeout (paper §6.1), for the laptop cannot know earlier.
        note(&format!("a restarted gateway answered after {took:?}"));
        assert!(took < Duration::from_secs(18), "{took:?}");
        Ok(())
    });
}

#[test]
fn a_restarted_laptop_is_back_at_once() {
    inside("a_restarted_laptop_is_back_at_once", || {
        let (bed, keys) = (Bed::new()?, Keys::new());
        let _gateway = bed.start_gateway(Kind::PACKET, &keys, vec![keys.to_laptop()])?;
        for _ in 0..3 {
            let laptop = bed.start_laptop(Kind::PACKET, &keys, vec![keys.to_gateway()])?;
            let took = ping(&bed.laptop, INNER, 56, LIMIT)?;
            assert!(took < Duration::from_millis(500), "{took:?}");
            block_on(laptop.shutdown())?;
        }
        Ok(())
    });
}

#[test]
fn five_hundred_connections_at_once() {
    inside("five_hundred_connections_at_once", || {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 4096, 4096)?;
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

#[test]
fn a_removed_peer_is_silent_and_an_added_one_is_heard() {
    inside("a_removed_peer_is_silent_and_an_added_one_is_heard", || {
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
    });
}

#[test]
fn a_flood_of_garbage_stops_nothing() {
    inside("a_flood_of_garbage_stops_nothing", || {
        let bed = Bed::new()?;
        let (_laptop, gateway) = bed.tunnel(Kind::PACKET)?;
        ping(&bed.laptop, INNER, 56, LIMIT)?;
        let attacker = bed.laptop.run(|| Ok(UdpSocket::bind((bed::LAPTOP, 0))?))?;
        for n in 0..20_000u32 {
            let len = usize::try_from(n % 200)?;
            let mut datagram = vec![u8::try_from(n % 251)?; len];
            if len >= 4 {
                datagram[..4].copy_from_slice(&(n % 5).to_le_bytes());
            }
            attacker.send_to(&datagram, (GATEWAY, PORT))?;
        }
        let took = ping(&bed.laptop, INNER, 56, LIMIT)?;
        assert!(took < Duration::from_secs(2), "{took:?}");
        let drops = block_on(gateway.stats())?.drops;
        assert!(
            drops.malformed > 0 && drops.bad_mac > 0 && drops.unknown_index > 0,
            "{drops:?}"
        );
        Ok(())
    });
}

#[test]
fn an_idle_tunnel_sleeps() {
    inside("an_idle_tunnel_sleeps", || {
        let bed = Bed::new()?;
        let (laptop, _gateway) = bed.tunnel(Kind::PACKET)?;
        ping(&bed.laptop, INNER, 56, LIMIT)?;
        let before = block_on(laptop.stats())?.calls.wakeups;
        thread::park_timeout(Duration::from_secs(1));
        let wakeups = block_on(laptop.stats())?.calls.wakeups - before;
        assert!(wakeups <= 8, "four ticks and one question, not {wakeups}");
        Ok(())
    });
}

#[test]
fn the_interface_goes_with_the_tunnel() {
    inside("the_interface_goes_with_the_tunnel", || {
        for kind in fast_kinds() {
            let bed = Bed::new()?;
            let there = || bed.laptop.run(|| Ok(if_nametoindex("wg0").is_ok()));
            let (laptop, _gateway) = bed.tunnel(kind)?;
            assert!(there()?);
            block_on(laptop.shutdown())?;
            assert!(!there()?, "after shutdown");
            let keys = Keys::new();
            drop(bed.start_laptop(kind, &keys, vec![])?);
            let dropped = Instant::now();
            while there()? {
                assert!(dropped.elapsed() < LIMIT, "after drop");
                thread::park_timeout(Duration::from_millis(5));
            }
            note(&format!(
                "{kind:?}: gone {:?} after drop",
                dropped.elapsed()
            ));
        }
        Ok(())
    });
}

#[test]
fn a_tunnel_whose_interface_is_deleted_says_so() {
    inside("a_tunnel_whose_interface_is_deleted_says_so", || {
        for kind in fast_kinds() {
            let bed = Bed::new()?;
            let (mut laptop, _gateway) = bed.tunnel(kind)?;
            bed.laptop
                .run_async(async || Ok(Connection::<Route>::new()?.del_link("wg0").await?))?;
            let ended = block_on(async { tokio::time::timeout(LIMIT, laptop.ended()).await })?;
            assert!(
                matches!(ended, TunnelError::Device(_)),
                "{kind:?}: {ended:?}"
            );
            assert!(matches!(
                block_on(laptop.stats()),
                Err(TunnelError::Stopped)
            ));
        }
        Ok(())
    });
}

#[test]
fn where_tun_cannot_be_opened_packet_is_taken_and_the_reason_told() {
    inside(
        "where_tun_cannot_be_opened_packet_is_taken_and_the_reason_told",
        || {
            let bed = Bed::new()?;
            let open = |driver| {
                bed.laptop.run_async(async || {
                    Ok(Device::open("wg0", bed::MTU, driver, DeviceOffload::Auto).await?)
                })
            };
            if fast_kinds().any(|kind| kind == Kind::TUN) {
                let device = open(Driver::Auto)?;
                assert_eq!((device.driver(), device.why_not_tun()), ("tun+gso", None));
                drop(device);
                bed::hide_tun()?;
            }
            let device = open(Driver::Auto)?;
            assert_eq!(device.driver(), "packet+gso");
            assert!(
                device
                    .why_not_tun()
                    .is_some_and(|reason| !reason.is_empty())
            );
            let taken = open(Driver::Packet).unwrap_err().to_string();
            assert!(taken.contains("`wg0`"), "{taken}");
            assert!(open(Driver::Tun).is_err());
            Ok(())
        },
    );
}

#[test]
fn a_bad_port_is_an_error_that_names_it() {
    inside("a_bad_port_is_an_error_that_names_it", || {
        use inroads_methods::wireguard::{OuterSocket, UdpOffload};
        let bed = Bed::new()?;
        bed.laptop.run(|| {
            let first = OuterSocket::bind(SocketAddr::new(GATEWAY.into(), 1), UdpOffload::Auto);
            let error = first.unwrap_err().to_string();
            assert!(error.contains("192.0.2.2:1"), "{error}");
            let taken = UdpSocket::bind("127.0.0.1:0")?;
            let again = OuterSocket::bind(taken.local_addr()?, UdpOffload::Auto);
            let source = std::error::Error::source(&again.unwrap_err()).map(ToString::to_string);
            assert!(source.is_some_and(|source| source.contains("in use")));
            let adopted = OuterSocket::adopt(taken.try_clone()?, UdpOffload::Auto)?;
            assert_eq!(adopted.local_addr(), taken.local_addr()?);
            assert_eq!(
                taken.set_read_timeout(None).map_err(|e| e.kind()),
                Ok::<_, ErrorKind>(())
            );
            Ok(())
        })
    });
}
