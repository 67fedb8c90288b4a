//! A test bed without rights: two hosts and a wire, in namespaces of a process of our own.
//!
//! Namespaces must be made before a process has threads, so the test runs itself again as a child that
//! enters them before it starts. Nothing of the machine's own network is seen or touched in there, and when
//! the child ends everything is gone.

#![expect(unsafe_code, reason = "`pre_exec` is where a child enters namespaces")]

use std::error::Error;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use inroads_methods::wireguard::{
    Device, Driver, Offload, OuterSocket, PeerConfig, PrivateKey, Tunnel, TunnelConfig, bring_up,
};
use ipnet::{IpNet, Ipv4Net};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::link::VethLink;
use nlink::netlink::namespace::Netns;
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Connection, Route};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The MTU that WireGuard has on Ethernet.
pub(crate) const MTU: u16 = 1420;

/// Where the gateway listens.
pub(crate) const PORT: u16 = 51820;

/// Makes `command` run in user, network and mount namespaces of its own, as root there.
pub(crate) fn isolate(command: &mut Command) {
    let (user, group) = (getuid(), getgid());
    let enter = move || {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
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

/// Makes `socket` refuse to send what would need fragments.
pub(crate) fn forbid_fragments(socket: &UdpSocket) -> io::Result<()> {
    let always: libc::c_int = libc::IP_PMTUDISC_DO;
    let len = libc::socklen_t::try_from(size_of_val(&always)).expect("an int is short");
    // SAFETY: the option's value is an int that lives through the call.
    let result = unsafe {
        let value = (&raw const always).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            value,
            len,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Makes /dev/net/tun useless for the rest of this process.
pub(crate) fn hide_tun() -> Result {
    let none = None::<&str>;
    Ok(mount(
        Some("/dev/null"),
        "/dev/net/tun",
        none,
        MsFlags::MS_BIND,
        none,
    )?)
}

/// Gives this process a /run of its own.
pub(crate) fn empty_run() -> Result {
    let none = None::<&str>;
    Ok(mount(none, "/run", Some("tmpfs"), MsFlags::empty(), none)?)
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

/// A pod behind the gateway.
pub(crate) const POD: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
pub(crate) const POD_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 88, 0, 0), 24);
const POD_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

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

    /// Connects a third host to the gateway, which forwards for it.
    pub(crate) fn attach_pod(&self) -> Result<Host> {
        let pod = Host::new()?;
        self.gateway.run_async(async || {
            let netlink = Connection::<Route>::new()?;
            netlink
                .add_link(VethLink::new("pod0", "eth0").peer_netns_fd(&pod.namespace))
                .await?;
            netlink
                .add_address(Ipv4Address::new("pod0", POD_ROUTER, 24))
                .await?;
            netlink.set_link_up("pod0").await?;
            Ok(fs::write("/proc/sys/net/ipv4/ip_forward", "1")?)
        })?;
        pod.run_async(async || {
            let netlink = Connection::<Route>::new()?;
            netlink
                .add_address(Ipv4Address::new("eth0", POD, 24))
                .await?;
            netlink.set_link_up("eth0").await?;
            let anywhere = Ipv4Route::new(Ipv4Addr::UNSPECIFIED, 0).gateway(POD_ROUTER);
            Ok(netlink.add_route(anywhere).await?)
        })?;
        Ok(pod)
    }

    /// Sends what is for pods into the tunnel.
    pub(crate) fn route_to_pods(&self) -> Result {
        self.laptop.run_async(async || {
            let route = Ipv4Route::new(POD_NETWORK.network(), POD_NETWORK.prefix_len()).dev("wg0");
            Ok(Connection::<Route>::new()?.add_route(route).await?)
        })
    }

    /// Both ends of a tunnel, connected on demand.
    pub(crate) fn tunnel(&self, kind: Kind) -> Result<(Tunnel, Tunnel)> {
        let keys = Keys::new();
        let gateway = self.start_gateway(kind, &keys, vec![keys.to_laptop()])?;
        let laptop = self.start_laptop(kind, &keys, vec![keys.to_gateway()])?;
        Ok((laptop, gateway))
    }

    pub(crate) fn start_gateway(
        &self,
        kind: Kind,
        keys: &Keys,
        peers: Vec<PeerConfig>,
    ) -> Result<Tunnel> {
        let listen = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
        let inner = [
            IpNet::new(INNER_GATEWAY.into(), 24)?,
            IpNet::new(INNER_GATEWAY_V6.into(), 64)?,
        ];
        start(&self.gateway, kind, &keys.gateway, listen, &inner, peers)
    }

    pub(crate) fn start_laptop(
        &self,
        kind: Kind,
        keys: &Keys,
        peers: Vec<PeerConfig>,
    ) -> Result<Tunnel> {
        let over_v6 = peers
            .iter()
            .any(|peer| peer.endpoint.is_some_and(|to| to.is_ipv6()));
        let any: IpAddr = if over_v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let inner = [
            IpNet::new(INNER_LAPTOP.into(), 24)?,
            IpNet::new(INNER_LAPTOP_V6.into(), 64)?,
        ];
        start(
            &self.laptop,
            kind,
            &keys.laptop,
            SocketAddr::new(any, 0),
            &inner,
            peers,
        )
    }
}

fn start(
    host: &Host,
    kind: Kind,
    key: &PrivateKey,
    listen: SocketAddr,
    inner: &[IpNet],
    peers: Vec<PeerConfig>,
) -> Result<Tunnel> {
    host.run_async(async || {
        let offload = if kind.offload {
            Offload::Auto
        } else {
            Offload::Off
        };
        let device = Device::open("wg0", MTU, kind.driver, offload).await?;
        bring_up("wg0", inner).await?;
        let socket = OuterSocket::bind(listen, offload)?;
        let private_key = key.clone();
        Ok(Tunnel::start(TunnelConfig {
            private_key,
            socket,
            device,
            peers,
        })?)
    })
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

/// Who both ends are.
pub(crate) struct Keys {
    pub(crate) laptop: PrivateKey,
    pub(crate) gateway: PrivateKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            laptop: PrivateKey::generate(),
            gateway: PrivateKey::generate(),
        }
    }

    /// The gateway, as the laptop is told of it.
    pub(crate) fn to_gateway(&self) -> PeerConfig {
        PeerConfig {
            public_key: self.gateway.public(),
            preshared_key: None,
            endpoint: Some(SocketAddr::new(GATEWAY.into(), PORT)),
            allowed_ips: nets(&["10.77.0.0/24", "fd77::/64"]),
            persistent_keepalive: None,
        }
    }

    /// The laptop, as the gateway is told of it.
    pub(crate) fn to_laptop(&self) -> PeerConfig {
        PeerConfig {
            public_key: self.laptop.public(),
            endpoint: None,
            allowed_ips: nets(&["10.77.0.2/32", "fd77::2/128"]),
            ..self.to_gateway()
        }
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    let net = |text: &&str| text.parse().expect("the prefixes here are right");
    texts.iter().map(net).collect()
}
