//! How fast is the tunnel? Two namespaces and a wire: the wire itself, then tunnels over it.
//!
//! `cargo run -p inroads-methods --example wireguard_throughput [ROUNDS [SECONDS]]` prints, for each way of
//! driving the tunnel, the median over interleaved rounds of the throughput of one TCP connection in either
//! direction and of the time of a one-byte ping-pong. Both ends and the load share this machine, so the
//! figures compare with each other and with nothing else. No rights are needed; `tun` is left out where
//! /dev/net/tun cannot be opened.

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

#[expect(dead_code, reason = "shared with the integration test")]
#[path = "../tests/wireguard/bed.rs"]
mod bed;

use std::env;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, exit};
use std::thread;
use std::time::Duration;

use bed::{Bed, Host, Kind, Result};
use tokio::time::Instant;

const CHUNK: usize = 256 << 10;
const PINGS: usize = 4000;
const CONNECTIONS: usize = 32;
const INSIDE: &str = "INROADS_INSIDE";

fn main() -> Result {
    if env::var_os(INSIDE).is_none() {
        if let Some(reason) = bed::unavailable() {
            println!("skipped: {reason}");
            return Ok(());
        }
        let mut again = Command::new(env::current_exe()?);
        again.args(env::args_os().skip(1)).env(INSIDE, "1");
        bed::isolate(&mut again);
        exit(again.status()?.code().unwrap_or(1));
    }
    let mut arguments = env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(3), |n| n.parse())?;
    let seconds: f64 = arguments.next().map_or(Ok(2.0), |n| n.parse())?;
    let only: Vec<String> = arguments.collect();

    let tun_works = Bed::new()?.tunnel(Kind::TUN).is_ok();
    let kinds = [
        ("veth direct", None),
        ("tun+gso", Some(Kind::TUN)),
        ("packet+gso", Some(Kind::PACKET)),
        ("tun", Some(Kind::TUN.plain())),
        ("packet", Some(Kind::PACKET.plain())),
    ];
    let kinds = kinds.into_iter().filter(|(name, _)| {
        (tun_works || !name.starts_with("tun"))
            && (only.is_empty() || only.iter().any(|n| n == name))
    });
    let mut results: Vec<(&str, Option<Kind>, Vec<Figures>)> =
        kinds.map(|(name, kind)| (name, kind, Vec::new())).collect();
    if !tun_works {
        println!("skipped: tun, for /dev/net/tun cannot be opened here");
    }
    for _ in 0..rounds {
        for (name, kind, figures) in &mut results {
            let measured = measure(*kind, Duration::from_secs_f64(seconds))?;
            println!("{name:<12} {measured}");
            figures.push(measured);
        }
    }
    println!("\nmedians of {rounds} rounds of {seconds} s");
    for (name, _, figures) in &results {
        println!("{name:<12} {}", Figures::median(figures));
    }
    Ok(())
}

/// What one round gives.
#[derive(Clone, Copy)]
struct Figures {
    down_gbit: f64,
    up_gbit: f64,
    p50_us: f64,
    p99_us: f64,
    thousand_per_s: f64,
}

impl Figures {
    fn median(of: &[Self]) -> Self {
        let pick = |field: fn(&Self) -> f64| {
            let mut values: Vec<_> = of.iter().map(field).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            down_gbit: pick(|f| f.down_gbit),
            up_gbit: pick(|f| f.up_gbit),
            p50_us: pick(|f| f.p50_us),
            p99_us: pick(|f| f.p99_us),
            thousand_per_s: pick(|f| f.thousand_per_s),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "down {:5.2} up {:5.2} Gbit/s",
            self.down_gbit, self.up_gbit
        )?;
        write!(
            f,
            "   round trip p50 {:5.1} p99 {:5.1} µs",
            self.p50_us, self.p99_us
        )?;
        write!(
            f,
            "   {CONNECTIONS} connections {:5.1} k round trips/s",
            self.thousand_per_s
        )
    }
}

fn measure(kind: Option<Kind>, span: Duration) -> Result<Figures> {
    let bed = Bed::new()?;
    let ends = kind.map(|kind| bed.tunnel(kind)).transpose()?;
    let server = if ends.is_some() {
        bed::INNER_GATEWAY
    } else {
        bed::GATEWAY
    };
    let (p50_us, p99_us) = ping_pong(&bed, server)?;
    let down_gbit = bulk(&bed.gateway, &bed.laptop, server, Direction::Down, span)?;
    let up_gbit = bulk(&bed.gateway, &bed.laptop, server, Direction::Up, span)?;
    let thousand_per_s = rate(&bed, server, span)?;
    if let (Some((laptop, gateway)), Some(_)) = (ends, env::var_os("INROADS_CALLS")) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        println!("laptop  {:?}", runtime.block_on(laptop.stats())?);
        println!("gateway {:?}", runtime.block_on(gateway.stats())?);
    }
    Ok(Figures {
        down_gbit,
        up_gbit,
        p50_us,
        p99_us,
        thousand_per_s,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

/// One connection, as much as it carries, counted at the receiver.
fn bulk(
    server: &Host,
    client: &Host,
    address: Ipv4Addr,
    direction: Direction,
    span: Duration,
) -> Result<f64> {
    let listener = server.run(|| Ok(TcpListener::bind(SocketAddr::new(address.into(), 0))?))?;
    let to = listener.local_addr()?;
    let stream = client.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?))?;
    let (accepted, _) = listener.accept()?;
    let (mut sender, mut receiver) = match direction {
        Direction::Down => (accepted, stream),
        Direction::Up => (stream, accepted),
    };
    let sending = thread::spawn(move || {
        let chunk = vec![0x5a; CHUNK];
        while sender.write_all(&chunk).is_ok() {}
    });
    let mut buffer = vec![0; CHUNK];
    let mut receive_for = |span: Duration| -> Result<f64> {
        let start = Instant::now();
        let mut bytes = 0;
        while start.elapsed() < span {
            bytes += receiver.read(&mut buffer)?;
        }
        Ok(bytes as f64 * 8e-9 / start.elapsed().as_secs_f64())
    };
    receive_for(span / 5)?;
    let gbit = receive_for(span)?;
    drop(receiver);
    sending.join().expect("the sender only writes");
    Ok(gbit)
}

/// One byte there and back, µs: the median and the 99th percentile.
fn ping_pong(bed: &Bed, address: Ipv4Addr) -> Result<(f64, f64)> {
    let mut stream = echoed(bed, address)?;
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS + PINGS / 10 {
        let start = Instant::now();
        round_trip(&mut stream)?;
        times.push(start.elapsed());
    }
    let mut times = times.split_off(PINGS / 10);
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
    Ok((at(50), at(99)))
}

/// Many connections with one byte each on its way: thousands of round trips a second.
fn rate(bed: &Bed, address: Ipv4Addr, span: Duration) -> Result<f64> {
    let streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| echoed(bed, address))
        .collect::<Result<_>>()?;
    let start = Instant::now();
    let count = |mut stream: TcpStream| {
        thread::spawn(move || -> Result<u32> {
            let mut count = 0;
            while start.elapsed() < span {
                round_trip(&mut stream)?;
                count += 1;
            }
            Ok(count)
        })
    };
    let counting: Vec<_> = streams.into_iter().map(count).collect();
    let mut total = 0;
    for thread in counting {
        total += thread.join().expect("a client only reads and writes")?;
    }
    Ok(f64::from(total) / 1e3 / start.elapsed().as_secs_f64())
}

/// A connection from the laptop whose other end echoes bytes until it is closed.
fn echoed(bed: &Bed, address: Ipv4Addr) -> Result<TcpStream> {
    let listener = bed
        .gateway
        .run(|| Ok(TcpListener::bind(SocketAddr::new(address.into(), 0))?))?;
    let to = listener.local_addr()?;
    let stream = bed
        .laptop
        .run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?))?;
    stream.set_nodelay(true)?;
    let (mut echo, _) = listener.accept()?;
    echo.set_nodelay(true)?;
    thread::spawn(move || {
        let mut byte = [0];
        while echo.read_exact(&mut byte).is_ok() && echo.write_all(&byte).is_ok() {}
    });
    Ok(stream)
}

fn round_trip(stream: &mut TcpStream) -> Result {
    stream.write_all(&[1])?;
    Ok(stream.read_exact(&mut [0])?)
}
