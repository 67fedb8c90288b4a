//! The same tunnel with somebody else's WireGuard at one end.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use inroads_methods::wireguard::{PeerConfig, PresharedKey, PrivateKey, bring_up};
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use tokio::time::Instant;

use super::bed::{self, Bed, Host, INNER_GATEWAY, INNER_LAPTOP, Keys, Kind, PORT, Result};
use super::traffic::{LIMIT, ping, stream};
use super::{INNER, block_on, fast_kinds, inside, only_peer, skip};

const BYTES: usize = 100 << 20;

/// A `wireguard-go` process. It ends with this.
struct WireguardGo(Child);

impl WireguardGo {
    /// Starts it on `host`, with `peer` as its only peer.
    fn start(
        host: &Host,
        inner: &[IpNet],
        key: &PrivateKey,
        port: Option<u16>,
        peer: &PeerConfig,
    ) -> Result<Self> {
        let child = host.run(|| {
            let mut command = Command::new("wireguard-go");
            command.args(["--foreground", "wg0"]).stdin(Stdio::null());
            command.env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1");
            Ok(command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?)
        })?;
        let this = Self(child);
        let start = Instant::now();
        while !fs::exists("/run/wireguard/wg0.sock")?
            || host.run(|| Ok(if_nametoindex("wg0").is_err()))?
        {
            assert!(start.elapsed() < LIMIT, "wireguard-go does not start");
            thread::park_timeout(Duration::from_millis(10));
        }
        host.run(|| configure(key, port, peer))?;
        host.run_async(async || Ok(bring_up("wg0", inner).await?))?;
        Ok(this)
    }
}

impl Drop for WireguardGo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tells it, as an administrator would.
fn configure(key: &PrivateKey, port: Option<u16>, peer: &PeerConfig) -> Result {
    let preshared = peer.preshared_key.as_ref().expect("these tests use one");
    fs::write("/run/preshared", preshared.expose())?;
    let mut command = Command::new("wg");
    command.args(["set", "wg0", "private-key", "/dev/stdin"]);
    if let Some(port) = port {
        command.args(["listen-port", &port.to_string()]);
    }
    command.args([
        "peer",
        &peer.public_key.to_string(),
        "preshared-key",
        "/run/preshared",
    ]);
    if let Some(endpoint) = peer.endpoint {
        command.args(["endpoint", &endpoint.to_string()]);
    }
    let allowed: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    command.args(["allowed-ips", &allowed.join(",")]);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(key.expose().as_bytes())?;
    let status = child.wait()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("wg: {status}").into())
}

/// Runs `body` where both programs are there, with a /run of its own for their sockets.
fn with_wireguard_go(name: &str, body: impl Fn(&Bed, Keys, Kind) -> Result) {
    for program in ["wireguard-go", "wg"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skip(name, &format!("`{program}` is not on PATH"));
        }
    }
    inside(&format!("interop::{name}"), || {
        bed::empty_run()?;
        if !fast_kinds().any(|kind| kind == Kind::TUN) {
            return Ok(()); // The reason is told.
        }
        for kind in fast_kinds() {
            body(&Bed::new()?, Keys::new(), kind)?;
        }
        Ok(())
    });
}

fn with_secret(peer: PeerConfig, secret: &PresharedKey) -> PeerConfig {
    PeerConfig {
        preshared_key: Some(secret.clone()),
        ..peer
    }
}

fn exercise(bed: &Bed) -> Result {
    ping(&bed.laptop, INNER, 56, LIMIT)?;
    ping(&bed.gateway, INNER_LAPTOP.into(), 1372, LIMIT)?;
    stream(&bed.laptop, &bed.gateway, INNER, BYTES)
}

#[test]
#[ignore = "needs wireguard-go and wg on PATH"]
fn wireguard_go_as_the_gateway() {
    with_wireguard_go("wireguard_go_as_the_gateway", |bed, keys, kind| {
        let secret = PresharedKey::generate();
        let inner = [IpNet::new(INNER_GATEWAY.into(), 24)?];
        let peer = with_secret(keys.to_laptop(), &secret);
        let _gateway = WireguardGo::start(&bed.gateway, &inner, &keys.gateway, Some(PORT), &peer)?;
        let peer = with_secret(keys.to_gateway(), &secret);
        let laptop = bed.start_laptop(kind, &keys, vec![peer])?;
        block_on(laptop.wait_handshake(&keys.gateway.public(), LIMIT))?;
        exercise(bed)?;
        assert_eq!(only_peer(&laptop).drops, Default::default());
        Ok(())
    });
}

#[test]
#[ignore = "needs wireguard-go and wg on PATH"]
fn wireguard_go_as_the_laptop() {
    with_wireguard_go("wireguard_go_as_the_laptop", |bed, keys, kind| {
        let secret = PresharedKey::generate();
        let peer = with_secret(keys.to_laptop(), &secret);
        let gateway = bed.start_gateway(kind, &keys, vec![peer])?;
        let inner = [IpNet::new(INNER_LAPTOP.into(), 24)?];
        let peer = with_secret(keys.to_gateway(), &secret);
        let _laptop = WireguardGo::start(&bed.laptop, &inner, &keys.laptop, None, &peer)?;
        exercise(bed)?;
        assert_eq!(only_peer(&gateway).drops, Default::default());
        Ok(())
    });
}
