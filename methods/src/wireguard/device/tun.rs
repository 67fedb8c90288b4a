//! A TUN interface: the kernel's own device for exactly this.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::Path;

use nix::sys::uio::writev;
use nix::unistd::read;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{Frame, Link};
use crate::wireguard::gso::{Offload, Offloads, VirtioHeader};
use crate::wireguard::inbox::Sink;

/// Packets read before the others get their turn: each takes a system call of its own.
const MAX_READS: usize = 8;

pub(super) struct TunDevice {
    device: SyncDevice,
    offloads: Offloads,
}

impl TunDevice {
    pub(super) fn open(name: &str, mtu: u16, offload: Offload) -> io::Result<Self> {
        // tun-rs would make a missing node, and leave it there.
        if !Path::new("/dev/net/tun").exists() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "there is no /dev/net/tun",
            ));
        }
        let device = DeviceBuilder::new()
            .name(name)
            .mtu(mtu)
            .offload(offload == Offload::Auto)
            .enable(false)
            .build_sync()?;
        device.set_nonblocking(true)?;
        let offloads = Offloads {
            tcp: device.tcp_gso(),
            udp: device.udp_gso(),
        };
        Ok(Self { device, offloads })
    }
}

impl Link for TunDevice {
    fn driver(&self) -> &'static str {
        if self.offloads.tcp { "tun+gso" } else { "tun" }
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn read(&self, frames: &mut [Frame]) -> io::Result<usize> {
        for (done, frame) in frames.iter_mut().take(MAX_READS).enumerate() {
            let (buffer, _) = frame.slot.buffer_mut();
            let len = match read(&self.device, buffer) {
                Ok(len) => len,
                Err(_nothing_more) if done > 0 => return Ok(done),
                Err(e) => return Err(e.into()),
            };
            frame.slot.set_len(len);
            frame.start = self.prefix_len();
            frame.header = VirtioHeader::default();
            if self.offloads.tcp {
                frame.header = VirtioHeader::decode(frame.slot.message()).unwrap_or_default();
            }
        }
        Ok(MAX_READS.min(frames.len()))
    }
}

impl Sink for TunDevice {
    fn prefix_len(&self) -> usize {
        if self.offloads.tcp {
            VirtioHeader::LEN
        } else {
            0
        }
    }

    fn write_prefix(&self, header: &VirtioHeader, _packet: &[u8], prefix: &mut [u8]) {
        if self.offloads.tcp {
            prefix.copy_from_slice(&header.encode());
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        writev(&self.device, parts)?;
        Ok(())
    }
}

impl AsFd for TunDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl std::fmt::Debug for TunDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fd = self.device.as_raw_fd();
        f.debug_struct("TunDevice")
            .field("fd", &fd)
            .field("offloads", &self.offloads)
            .finish()
    }
}
