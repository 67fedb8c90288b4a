//! An interface without `/dev/net/tun`: one end of a veth pair whose other end only we can see.
//!
//! The other end lives in a fresh network namespace that nobody else holds, and a packet socket there
//! reads and writes its frames, with a `virtio_net_hdr` before each, so super-packets pass whole and
//! checksums stay undone in both directions. The namespace lasts as long as the socket: when the process
//! dies the kernel takes both ends away, as it would a TUN interface.
//!
//! The visible end resolves no addresses (`NOARP`): every frame is sent to the interface's own address, so
//! at the other end it is for somebody else, and that namespace's own stack drops it unseen.

use std::error::Error;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::thread;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{MsgFlags, sendmsg};
use nlink::netlink::devconf::AddrGenMode;
use nlink::netlink::link::VethLink;
use nlink::netlink::namespace::Netns;
use nlink::netlink::{Connection, Route};
use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;

use super::{DeviceError, DeviceOffload, Frame};
use crate::wireguard::gso::{Offloads, VirtioHeader};
use crate::wireguard::inbox::Sink;
use crate::wireguard::sys;

const ETHERNET: u16 = 14;
const PREFIX: usize = VirtioHeader::LEN + ETHERNET as usize;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// The addresses of both ends: locally administered (IEEE 802, the second bit of the first byte), and
/// alone on their wire, so they may be the same everywhere.
const VISIBLE: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const HIDDEN: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// The other end's name, in its own namespace.
const HIDDEN_NAME: &str = "peer";

/// Bytes of frames that may wait for us: with the virtual wire's speed, a few hundred super-packets.
const KERNEL_BUFFER: libc::c_int = 4 << 20;

#[derive(Debug)]
pub(super) struct PacketDevice {
    socket: Socket,
    offloads: Offloads,
    /// Where the visible end is, and which it is there.
    visible: Netns,
    index: u32,
}

/// What was made.
struct Made {
    socket: Socket,
    visible: Netns,
    index: u32,
}

/// What failed, and how.
type Failure = (&'static str, io::Error);

impl PacketDevice {
    pub(super) async fn open(
        name: &str,
        mtu: u16,
        offload: DeviceOffload,
    ) -> Result<Self, DeviceError> {
        let failed = |(doing, source)| DeviceError::Packet {
            name: name.to_owned(),
            doing,
            source,
        };
        let (answer, made) = oneshot::channel();
        let wanted = name.to_owned();
        // A thread of its own, because it leaves for another network namespace and never comes back.
        thread::Builder::new()
            .name(format!("{name}-setup"))
            .spawn(move || answer.send(make(&wanted, mtu, offload)))
            .map_err(|e| failed(("starting a thread", e)))?;
        let Made {
            socket,
            visible,
            index,
        } = match made.await {
            Ok(made) => made.map_err(failed)?,
            Err(e) => return Err(failed(("waiting for a thread", io::Error::other(e)))),
        };
        let whole = offload == DeviceOffload::Auto;
        let offloads = Offloads {
            tcp: whole,
            udp: whole,
        };
        Ok(Self {
            socket,
            offloads,
            visible,
            index,
        })
    }

    pub(super) fn offloads(&self) -> Offloads {
        self.offloads
    }

    pub(super) fn read(&self, frames: &mut [Frame]) -> io::Result<usize> {
        let filled = sys::receive_many(&self.socket, frames)?;
        for frame in &mut frames[..filled] {
            frame.start = PREFIX;
            let header = packet_header(frame.slot.message());
            frame.header = header.unwrap_or_default();
            if header.is_none() {
                frame.slot.set_len(0);
            }
        }
        Ok(filled)
    }
}

/// The description of the IP packet in a frame.
fn packet_header(frame: &[u8]) -> Option<VirtioHeader> {
    let ethertype = frame.get(PREFIX - 2..PREFIX)?;
    let ethertype = u16::from_be_bytes([ethertype[0], ethertype[1]]);
    matches!(ethertype, IPV4 | IPV6).then_some(())?;
    VirtioHeader::decode(frame)?.without(ETHERNET)
}

/// Makes the pair and the socket. Leaves this thread in the hidden namespace.
fn make(name: &str, mtu: u16, offload: DeviceOffload) -> Result<Made, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(doing("starting a runtime"))?;
    runtime.block_on(async {
        let visible = Netns::current().map_err(doing("opening this namespace"))?;
        let netlink = Connection::<Route>::new().map_err(doing("opening netlink"))?;
        let control = Socket::new(Domain::IPV4, Type::DGRAM, None)
            .map_err(doing("opening a control socket"))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(doing("leaving for a namespace of its own"))?;
        let hidden = Netns::current().map_err(doing("opening that namespace"))?;
        let hidden_netlink = Connection::<Route>::new().map_err(doing("opening netlink there"))?;

        let pair = VethLink::new(name, HIDDEN_NAME)
            .mtu(mtu.into())
            .address(VISIBLE)
            .peer_address(HIDDEN)
            .peer_netns_fd(&hidden);
        netlink
            .add_link(pair)
            .await
            .map_err(doing("making the pair"))?;
        // From here on the pair is gone when nobody holds the hidden namespace.
        let index = netlink
            .resolve_interface(&name.into())
            .await
            .map_err(doing("finding its visible end"))?;
        sys::set_noarp(&control, name).map_err(doing("turning ARP off"))?;
        if offload == DeviceOffload::Off {
            // The kernel cuts what has more segments than this before it comes to us.
            netlink
                .set_link_gso_max_segs_by_index(index, 1)
                .await
                .map_err(doing("turning offload off"))?;
        }

        let peer = if_nametoindex(HIDDEN_NAME).map_err(doing("finding its hidden end"))?;
        // Best effort: a kernel without IPv6 has no such setting, and nothing to silence.
        let _ = hidden_netlink
            .set_addr_gen_mode_by_index(peer, AddrGenMode::None)
            .await;
        hidden_netlink
            .set_link_up_by_index(peer)
            .await
            .map_err(doing("bringing its hidden end up"))?;
        // Only now: a packet socket on an interface that is down reports just that.
        let socket = sys::packet_socket(peer).map_err(doing("opening a packet socket"))?;
        sys::set_kernel_buffers(&socket, KERNEL_BUFFER).map_err(doing("sizing its buffers"))?;
        Ok(Made {
            socket,
            visible,
            index,
        })
    })
}

fn doing<E>(what: &'static str) -> impl FnOnce(E) -> Failure
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    move |error| (what, io::Error::other(error))
}

impl Drop for PacketDevice {
    /// The kernel would take the pair away by itself, but some milliseconds after it is free to: whoever
    /// makes an interface of the same name next must not find this one.
    fn drop(&mut self) {
        let index = self.index;
        let delete = || {
            let netlink = nlink::blocking::Connection::<Route>::new()?;
            netlink.run(move |netlink| Box::pin(netlink.del_link_by_index(index)))
        };
        if let Err(error) | Ok(Err(error)) = self.visible.run(delete) {
            tracing::debug!(%error, "the interface was gone before its tunnel");
        }
    }
}

impl Sink for PacketDevice {
    fn prefix_len(&self) -> usize {
        PREFIX
    }

    fn write_prefix(&self, header: &VirtioHeader, packet: &[u8], prefix: &mut [u8]) {
        let (virtio, ethernet) = prefix.split_at_mut(VirtioHeader::LEN);
        let ethertype = if packet.first().is_some_and(|byte| byte >> 4 == 6) {
            IPV6
        } else {
            IPV4
        };
        virtio.copy_from_slice(&header.behind(ETHERNET).encode());
        ethernet[..6].copy_from_slice(&VISIBLE);
        ethernet[6..12].copy_from_slice(&HIDDEN);
        ethernet[12..].copy_from_slice(&ethertype.to_be_bytes());
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            parts,
            &[],
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        Ok(())
    }
}

impl AsFd for PacketDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ip_frames_pass() {
        let frame = |ethertype: u16| {
            let mut frame = vec![0; PREFIX];
            frame[PREFIX - 2..].copy_from_slice(&ethertype.to_be_bytes());
            frame
        };
        assert_eq!(packet_header(&frame(IPV4)), Some(VirtioHeader::default()));
        assert_eq!(packet_header(&frame(IPV6)), Some(VirtioHeader::default()));
        assert_eq!(packet_header(&frame(0x0806)), None, "ARP");
        assert_eq!(packet_header(&frame(IPV4)[1..]), None, "too short");
    }
}
