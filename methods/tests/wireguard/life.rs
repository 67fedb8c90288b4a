//! How a tunnel and its interface begin and end, and what they cost in between.

use std::env;
use std::error::Error as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use inroads_methods::wireguard::{Device, Driver, Offload, OuterSocket, TunnelError};
use nix::net::if_::if_nametoindex;
use nlink::netlink::{Connection, Route};
use tokio::time::Instant;

use super::bed::{self, Bed, GATEWAY, Keys, Kind, Result};
use super::traffic::{Datagrams, LIMIT, ping};
use super::{INNER, block_on, fast_kinds, inside, inside_for, note, only_peer};

#[test]
fn the_interface_goes_with_the_tunnel() {
    inside("life::the_interface_goes_with_the_tunnel", || {
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
            wait_until("it is gone", || Ok(!there()?))?;
            note(&format!(
                "measured: {kind:?}: gone {:?} after drop",
                dropped.elapsed()
            ));
        }
        Ok(())
    });
}

/// Set for the process that is to be killed.
const HOLD: &str = "INROADS_HOLD";

#[test]
fn the_interface_goes_with_a_process_that_is_killed() {
    let name = "life::the_interface_goes_with_a_process_that_is_killed";
    inside(name, || {
        if env::var_os(HOLD).is_some() {
            return hold_interface();
        }
        let bed = Bed::new()?;
        let there = || bed.laptop.run(|| Ok(if_nametoindex("wg0").is_ok()));
        for kind in fast_kinds() {
            let driver = if kind == Kind::TUN { "tun" } else { "packet" };
            let mut child = bed.laptop.run(|| {
                let mut command = Command::new(env::current_exe()?);
                command
                    .args([name, "--exact"])
                    .env(HOLD, driver)
                    .stdout(Stdio::null());
                Ok(command.spawn()?)
            })?;
            wait_until("it is there", there)?;
            child.kill()?;
            child.wait()?;
            let killed = Instant::now();
            wait_until("it is gone", || Ok(!there()?))?;
            note(&format!(
                "measured: {kind:?}: gone {:?} after a kill",
                killed.elapsed()
            ));
        }
        Ok(())
    });
}

/// Opens an interface in this process's namespace and waits to be killed.
fn hold_interface() -> Result {
    let driver = if env::var(HOLD)? == "tun" {
        Driver::Tun
    } else {
        Driver::Packet
    };
    let _device = block_on(Device::open("wg0", bed::MTU, driver, Offload::Auto))?;
    loop {
        thread::park();
    }
}

fn wait_until(what: &str, met: impl Fn() -> Result<bool>) -> Result {
    let start = Instant::now();
    while !met()? {
        assert!(start.elapsed() < LIMIT, "waiting until {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}

#[test]
fn a_tunnel_whose_interface_is_deleted_says_so() {
    inside("life::a_tunnel_whose_interface_is_deleted_says_so", || {
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
            let (stats, again) = (block_on(laptop.stats()), block_on(laptop.ended()));
            assert!(matches!(stats, Err(TunnelError::Stopped)), "{stats:?}");
            assert!(matches!(again, TunnelError::Stopped), "{again:?}");
            block_on(laptop.shutdown())?;
        }
        Ok(())
    });
}

#[test]
fn where_tun_cannot_be_opened_packet_is_taken_and_the_reason_told() {
    inside(
        "life::where_tun_cannot_be_opened_packet_is_taken_and_the_reason_told",
        || {
            let bed = Bed::new()?;
            let open = |driver| {
                bed.laptop.run_async(async || {
                    Ok(Device::open("wg0", bed::MTU, driver, Offload::Auto).await?)
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
    inside("life::a_bad_port_is_an_error_that_names_it", || {
        let bed = Bed::new()?;
        bed.laptop.run(|| {
            let first = OuterSocket::bind(SocketAddr::new(GATEWAY.into(), 1), Offload::Auto);
            let error = first.unwrap_err().to_string();
            assert!(error.contains("192.0.2.2:1"), "{error}");
            let taken = UdpSocket::bind("127.0.0.1:0")?;
            let again = OuterSocket::bind(taken.local_addr()?, Offload::Auto);
            let source = again.unwrap_err().source().map(ToString::to_string);
            assert!(source.is_some_and(|source| source.contains("in use")));
            let adopted = OuterSocket::adopt(taken.try_clone()?, Offload::Auto)?;
            assert_eq!(adopted.local_addr(), taken.local_addr()?);
            Ok(())
        })
    });
}

#[test]
fn an_idle_tunnel_sleeps() {
    inside("life::an_idle_tunnel_sleeps", || {
        let bed = Bed::new()?;
        let (laptop, _gateway) = bed.tunnel(Kind::PACKET)?;
        ping(&bed.laptop, INNER, 56, LIMIT)?;
        let (before, start) = (block_on(laptop.stats())?.transfers.wakeups, Instant::now());
        thread::park_timeout(Duration::from_secs(1));
        let wakeups = block_on(laptop.stats())?.transfers.wakeups - before;
        let ticks = start.elapsed().as_millis() / 250;
        assert!(
            u128::from(wakeups) <= ticks + 4,
            "{wakeups} times in {:?}",
            start.elapsed()
        );
        Ok(())
    });
}

/// Rekey-After-Time is 120 s (paper §6.1).
#[test]
#[ignore = "needs two and a quarter minutes"]
fn a_session_is_replaced_without_a_loss() {
    let (name, limit) = (
        "life::a_session_is_replaced_without_a_loss",
        Duration::from_secs(200),
    );
    inside_for(limit, name, || {
        let bed = Bed::new()?;
        let (laptop, gateway) = bed.tunnel(Kind::PACKET)?;
        let datagrams = Datagrams::new(&bed.laptop, &bed.gateway, INNER)?;
        let (start, mut longest) = (Instant::now(), Duration::ZERO);
        while start.elapsed() < Duration::from_secs(135) {
            let sent = Instant::now();
            datagrams.echo(1000)?;
            longest = longest.max(sent.elapsed());
            thread::park_timeout(Duration::from_millis(2));
        }
        for tunnel in [laptop, gateway] {
            let age = only_peer(&tunnel).handshake_age;
            assert!(
                age.is_some_and(|age| age < Duration::from_secs(20)),
                "{age:?}"
            );
        }
        note(&format!("measured: the longest round trip was {longest:?}"));
        Ok(())
    });
}
