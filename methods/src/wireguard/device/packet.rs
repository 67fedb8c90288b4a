//! An interface without `/dev/net/tun`: one end of a veth pair whose other end only we can see.
//!
//! The other end lives in a fresh network namespace that nobody else holds, and a packet socket there
//! reads and writes its frames, with a `virtio_net_hdr` before each, so super-packets pass whole and
//! checksums stay undone in both directions. The namespace lasts as long as the socket: when the process
//! dies the kernel takes both ends away, as it would a TUN interface.
//!
//! Frames come by `recvmmsg` and go by `sendmsg` with their parts gathered. A mapped ring would save little:
//! receiving takes a twentieth of the thread's time, nearly all of it the copy that a ring makes as well.
//!
//! The visible end resolves no addresses (`NOARP`): every frame is sent to the interface's own address, so
//! at the other end it is for somebody else, and that namespace's own stack drops it unseen.

mod pair;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::thread;

use nix::sys::socket::{MsgFlags, sendmsg};
use nlink::Route;
use nlink::netlink::namespace::Netns;
use socket2::Socket;
use tokio::sync::oneshot;

use super::{DeviceError, Frame, Link};
use crate::wireguard::gso::{Offload, Offloads, VirtioHeader};
use crate::wireguard::inbox::Sink;
use crate::wireguard::sys;
use pair::{HIDDEN, Made, VISIBLE};

const ETHERNET: u16 = 14;
const PREFIX: usize = VirtioHeader::LEN + ETHERNET as usize;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

#[derive(Debug)]
pub(super) struct PacketDevice {
    socket: Socket,
    offloads: Offloads,
    /// Where the visible end is, and which it is there.
    visible: Netns,
    index: u32,
}

impl PacketDevice {
    pub(super) async fn open(name: &str, mtu: u16, offload: Offload) -> Result<Self, DeviceError> {
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
            .spawn(move || {
                // Where nobody waits for it any more, it is gone again.
                let _ = answer.send(pair::make(&wanted, mtu, offload));
            })
            .map_err(|e| failed(("starting a thread", e.into())))?;
        let Made {
            socket,
            visible,
            index,
        } = match made.await {
            Ok(made) => made.map_err(failed)?,
            Err(e) => return Err(failed(("waiting for a thread", e.into()))),
        };
        let whole = offload == Offload::Auto;
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
}

impl Link for PacketDevice {
    fn driver(&self) -> &'static str {
        if self.offloads.tcp {
            "packet+gso"
        } else {
            "packet"
        }
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn read(&self, frames: &mut [Frame]) -> io::Result<usize> {
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
