//! Making the veth pair, its hidden namespace and the socket in it.

use std::error::Error;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nlink::netlink::devconf::AddrGenMode;
use nlink::netlink::link::VethLink;
use nlink::netlink::namespace::Netns;
use nlink::netlink::{Connection, Ethtool, Route};
use socket2::{Domain, Socket, Type};

use crate::wireguard::gso::Offload;
use crate::wireguard::sys;

/// The addresses of both ends: locally administered (IEEE 802, the second bit of the first byte), and
/// alone on their wire, so they may be the same everywhere.
pub(super) const VISIBLE: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
pub(super) const HIDDEN: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// The hidden end's name, in its own namespace.
const HIDDEN_NAME: &str = "peer";

/// Bytes of frames that may wait for us, where the system lets us have so much.
const KERNEL_BUFFER: libc::c_int = 4 << 20;

/// Offloads of a veth that a `virtio_net_hdr` has no words for: the kernel must do these itself.
const NEVER: [&str; 12] = [
    "tx-checksum-sctp",
    "tx-sctp-segmentation",
    "tx-esp-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-tunnel-remcsum-segmentation",
    "tx-gso-partial",
    "tx-gso-list",
];

/// The ones it has, which bring super-packets.
const SUPER_PACKETS: [&str; 5] = [
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-udp-segmentation",
];

/// What was made.
pub(super) struct Made {
    pub(super) socket: Socket,
    /// The namespace of the visible end, and its index there.
    pub(super) visible: Netns,
    pub(super) index: u32,
}

/// What failed, and how.
pub(super) type Failure = (&'static str, Box<dyn Error + Send + Sync>);

/// Makes it all. Leaves this thread in the hidden namespace; where it fails, the pair is gone when the
/// thread is.
pub(super) fn make(name: &str, mtu: u16, offload: Offload) -> Result<Made, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(doing("starting a runtime"))?;
    runtime.block_on(async {
        let visible = Netns::current().map_err(doing("opening this namespace"))?;
        let here = Connection::<Route>::new().map_err(doing("opening netlink"))?;
        let ethtool = Connection::<Ethtool>::new_async()
            .await
            .map_err(doing("opening ethtool"))?;
        let control = Socket::new(Domain::IPV4, Type::DGRAM, None)
            .map_err(doing("opening a control socket"))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(doing("leaving for a namespace of its own"))?;
        let hidden = Netns::current().map_err(doing("opening that namespace"))?;

        let pair = VethLink::new(name, HIDDEN_NAME)
            .mtu(mtu.into())
            .address(VISIBLE)
            .peer_address(HIDDEN)
            .peer_netns_fd(&hidden);
        here.add_link(pair)
            .await
            .map_err(doing("making the pair"))?;
        let index = here
            .resolve_interface(&name.into())
            .await
            .map_err(doing("finding its visible end"))?;
        sys::set_noarp(&control, name).map_err(doing("turning ARP off"))?;
        limit_offloads(&ethtool, name, offload)
            .await
            .map_err(doing("setting its offloads"))?;
        let socket = open_hidden_end().await?;
        Ok(Made {
            socket,
            visible,
            index,
        })
    })
}

async fn limit_offloads(
    ethtool: &Connection<Ethtool>,
    name: &str,
    offload: Offload,
) -> nlink::Result<()> {
    let features = ethtool.get_features_by_name(name).await?;
    let super_packets = SUPER_PACKETS.iter().filter(|_| offload == Offload::Off);
    let unwanted = NEVER
        .iter()
        .chain(super_packets)
        .filter(|feature| features.is_active(feature));
    ethtool
        .set_features_by_name(name, |change| {
            unwanted.fold(change, |change, feature| change.disable(feature))
        })
        .await
}

/// Brings up the end in this thread's namespace, and listens there.
async fn open_hidden_end() -> Result<Socket, Failure> {
    let netlink = Connection::<Route>::new().map_err(doing("opening netlink there"))?;
    let index = if_nametoindex(HIDDEN_NAME).map_err(doing("finding its hidden end"))?;
    // Best effort: a kernel without IPv6 has no such setting, and nothing to silence.
    let _ = netlink
        .set_addr_gen_mode_by_index(index, AddrGenMode::None)
        .await;
    netlink
        .set_link_up_by_index(index)
        .await
        .map_err(doing("bringing its hidden end up"))?;
    // Only now: a packet socket on an interface that is down reports just that.
    let socket = sys::packet_socket(index).map_err(doing("opening a packet socket"))?;
    sys::set_kernel_buffers(&socket, KERNEL_BUFFER).map_err(doing("sizing its buffers"))?;
    Ok(socket)
}

fn doing<E>(what: &'static str) -> impl FnOnce(E) -> Failure
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    move |error| (what, error.into())
}
