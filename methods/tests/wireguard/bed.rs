//! A test bed without rights: two hosts and a wire, in namespaces of a process of our own.
//!
//! Namespaces must be made before a process has threads, so the test runs itself again as a child that
//! enters them before it starts. Nothing of the machine's own network is seen or touched in there, and when
//! the child ends everything is gone.

#![expect(unsafe_code, reason = "`pre_exec` is where a child enters namespaces")]

use std::error::Error;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use inroads_methods::wireguard::{
    Device, DeviceOffload, Driver, OuterSocket, PeerConfig, PrivateKey, Tunnel, TunnelConfig,
    UdpOffload, bring_up,
};
use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::link::VethLink;
use nlink::netlink::namespace::Netns;
use nlink::netlink::{Connection, Route};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The MTU that WireGuard has on Ethernet.
pub(crate) const MTU: u16 = 1420;

/// Where the gateway listens.
pub(crate) const PORT: u16 = 51820;

/// Makes `command` run in user and network namespaces of its own, as root there.
pub(crate) fn isolate(command: &mut Command) {
    let (user, group) = (getuid(), getgid());
    let enter = move || {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))
    };
    // SAFETY: between fork and exec the child has one thread; what runs here takes no lock that another
    // thread of the parent may have held, but for the allocator's, which the C library makes safe to use.
    unsafe { command.pre_exec(enter) };
}

/// Why [`isolate`] cannot work here; `None` where it can.
pub(crate) fn unavailable() -> Option<String> {
    let mut probe = Command::new("true");
    isolate(&mut probe);
    match probe.status() {
        Ok(_) => None,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull
            ) =>
        {
            Some(format!("no user namespaces here: {e}"))
        }
        Err(e) => panic!("cannot try a user namespace: {e}"),
    }
}

/// A host: a network namespace.
pub(crate) struct Host {
    namespace: Netns,
}

impl Host {
    pub(crate) fn new() -> Result<Self> {
        let made = thread::spawn(|| -> Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(fs::File::open("/proc/thread-self/ns/net")?.into())
        });
        let fd = made.join().expect("making a namespace does not panic")?;
        let host = Self {
            namespace: Netns::from_fd(fd)?,
        };
        host.run_async(async || Ok(Connection::<Route>::new()?.set_link_up("lo").await?))?;
        Ok(host)
    }

    /// Runs `body` on this host.
    pub(crate) fn run<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.run(body)?
    }

    /// Runs `body` on this host, in a runtime that lives as long.
    pub(crate) fn run_async<T: Send>(
        &self,
        body: impl AsyncFnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(body())
        })
    }
}

/// A laptop and a gateway on one wire.
pub(crate) struct Bed {
    pub(crate) laptop: Host,
    pub(crate) gateway: Host,
}

/// The outer addresses.
pub(crate) const LAPTOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const LAPTOP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The inner ones.
pub(crate) const INNER_LAPTOP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(crate) const INNER_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const INNER_LAPTOP_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
pub(crate) const INNER_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);

impl Bed {
    pub(crate) fn new() -> Result<Self> {
        let bed = Self {
            laptop: Host::new()?,
            gateway: Host::new()?,
        };
        bed.laptop.run_async(async || {
            let netlink = Connection::<Route>::new()?;
            let wire = VethLink::new("eth0", "eth0").peer_netns_fd(&bed.gateway.namespace);
            netlink.add_link(wire).await?;
            Ok(())
        })?;
        for (host, v4, v6) in [
            (&bed.laptop, LAPTOP, LAPTOP_V6),
            (&bed.gateway, GATEWAY, GATEWAY_V6),
        ] {
            host.run_async(async || {
                let netlink = Connection::<Route>::new()?;
                netlink
                    .add_address(Ipv4Address::new("eth0", v4, 24))
                    .await?;
                netlink
                    .add_address(Ipv6Address::new("eth0", v6, 64).nodad())
                    .await?;
                netlink.set_link_up("eth0").await?;
                Ok(())
            })?;
        }
        Ok(bed)
    }

    /// Both ends of a tunnel, connected on demand.
    pub(crate) fn tunnel(&self, kind: Kind) -> Result<(End, End)> {
        let (laptop, gateway) = (Keys::new(), Keys::new());
        let gateway_end = End::start(
            &self.gateway,
            kind,
            &gateway,
            vec![gateway_sees(&laptop)],
            PORT,
        )?;
        let laptop_end = End::start(&self.laptop, kind, &laptop, vec![laptop_sees(&gateway)], 0)?;
        Ok((laptop_end, gateway_end))
    }
}

/// How a tunnel's ends are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) driver: Driver,
    pub(crate) offload: bool,
}

impl Kind {
    pub(crate) const TUN: Self = Self {
        driver: Driver::Tun,
        offload: true,
    };
    pub(crate) const PACKET: Self = Self {
        driver: Driver::Packet,
        offload: true,
    };

    pub(crate) fn plain(self) -> Self {
        Self {
            offload: false,
            ..self
        }
    }
}

/// One end of a tunnel.
pub(crate) struct End {
    pub(crate) tunnel: Tunnel,
}

impl End {
    pub(crate) fn start(
        host: &Host,
        kind: Kind,
        keys: &Keys,
        peers: Vec<PeerConfig>,
        port: u16,
    ) -> Result<Self> {
        let v6 = peers
            .iter()
            .any(|peer| peer.endpoint.is_some_and(|to| to.is_ipv6()));
        let any: IpAddr = if v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let is_gateway = port == PORT;
        let inner: [IpNet; 2] = if is_gateway {
            [
                IpNet::new(INNER_GATEWAY.into(), 24)?,
                IpNet::new(INNER_GATEWAY_V6.into(), 64)?,
            ]
        } else {
            [
                IpNet::new(INNER_LAPTOP.into(), 24)?,
                IpNet::new(INNER_LAPTOP_V6.into(), 64)?,
            ]
        };
        let any = if is_gateway {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            any
        };
        host.run_async(async || {
            let device_offload = if kind.offload {
                DeviceOffload::Auto
            } else {
                DeviceOffload::Off
            };
            let udp_offload = if kind.offload {
                UdpOffload::Auto
            } else {
                UdpOffload::Off
            };
            let device = Device::open("wg0", MTU, kind.driver, device_offload).await?;
            bring_up("wg0", &inner).await?;
            let socket = OuterSocket::bind(SocketAddr::new(any, port), udp_offload)?;
            let private_key = keys.private.clone();
            let tunnel = Tunnel::start(TunnelConfig {
                private_key,
                socket,
                device,
                peers,
            })?;
            Ok(Self { tunnel })
        })
    }
}

/// Who an end is.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) private: PrivateKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            private: PrivateKey::generate(),
        }
    }
}

/// The gateway, as the laptop is told of it.
pub(crate) fn laptop_sees(gateway: &Keys) -> PeerConfig {
    PeerConfig {
        public_key: gateway.private.public(),
        preshared_key: None,
        endpoint: Some(SocketAddr::new(GATEWAY.into(), PORT)),
        allowed_ips: vec![
            "10.77.0.0/24".parse().unwrap(),
            "fd77::/64".parse().unwrap(),
        ],
        persistent_keepalive: None,
    }
}

/// The laptop, as the gateway is told of it.
pub(crate) fn gateway_sees(laptop: &Keys) -> PeerConfig {
    PeerConfig {
        public_key: laptop.private.public(),
        preshared_key: None,
        endpoint: None,
        allowed_ips: vec![
            "10.77.0.2/32".parse().unwrap(),
            "fd77::2/128".parse().unwrap(),
        ],
        persistent_keepalive: None,
    }
}
