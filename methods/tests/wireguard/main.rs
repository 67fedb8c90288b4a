//! The tunnel between two hosts, with real interfaces and sockets. No rights are needed.

mod bed;
mod crossing;
mod interop;
mod life;
mod nat;
mod peers;
mod traffic;

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::process::{Command, Stdio, abort};
use std::thread;
use std::time::Duration;

use bed::{INNER_GATEWAY, INNER_GATEWAY_V6, Kind, Result};
use inroads_methods::wireguard::{PeerStats, Tunnel};

const INSIDE: &str = "INROADS_INSIDE";

/// A test that takes longer hangs.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Runs `body`, the body of the test with the path `name`, in a child with namespaces of its own.
fn inside(name: &str, body: impl FnOnce() -> Result) {
    inside_for(TEST_LIMIT, name, body);
}

/// The same, for a test that takes its time.
fn inside_for(limit: Duration, name: &str, body: impl FnOnce() -> Result) {
    if env::var_os(INSIDE).is_some() {
        thread::spawn(move || {
            thread::park_timeout(limit);
            note("the test hangs");
            abort();
        });
        return body().unwrap_or_else(|error| panic!("{error:?}"));
    }
    if let Some(reason) = bed::unavailable() {
        return skip(name, &reason);
    }
    let mut child = Command::new(env::current_exe().expect("a running test has a file"));
    child.args([
        name,
        "--exact",
        "--include-ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    bed::isolate(&mut child);
    let output = child.env(INSIDE, "1").stdin(Stdio::null()).output();
    let output = output.expect("what could be isolated a moment ago still can");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("1 passed"),
        "the child ran another test than `{name}`:\n{text}"
    );
    for line in text
        .lines()
        .filter(|line| line.starts_with("skipped") || line.starts_with("measured"))
    {
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
    match File::options().read(true).write(true).open("/dev/net/tun") {
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("a runtime needs nothing special")
        .block_on(future)
}

fn only_peer(tunnel: &Tunnel) -> PeerStats {
    let stats = block_on(tunnel.stats()).expect("the tunnel runs");
    let [peer] = stats.peers.try_into().expect("the tunnel has one peer");
    peer
}
