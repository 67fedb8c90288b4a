//! The layer-3 interface that a tunnel reads packets from and writes them to.
//!
//! Two implementations with one behaviour: `tun` through `/dev/net/tun`, and `packet` for where that
//! cannot be opened, such as a user namespace of an ordinary user or a pod that was not given the
//! device. Either vanishes with the process that holds it. Addresses come through [`link`](super::link);
//! routes are the business of whoever asked for the interface.

mod packet;
mod tun;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::os::fd::AsFd;

use thiserror::Error;

use super::gso::{Offload, Offloads, TAIL_ROOM, VirtioHeader};
use super::inbox::{HEADROOM, Sink};
use super::sys::{MAX_BATCH, Slot};
use packet::PacketDevice;
use tun::TunDevice;

/// How the interface is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// `tun` where it can be had, else `packet`.
    #[default]
    Auto,
    /// `/dev/net/tun` or nothing.
    Tun,
    /// A veth pair and a packet socket, or nothing.
    Packet,
}

/// The interface could not be had. Nothing is left of the attempt.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// No TUN device.
    #[error("cannot make a TUN interface `{name}`")]
    Tun {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No veth pair, or no socket at its other end.
    #[error("cannot make the interface `{name}` from a veth pair: {doing}")]
    Packet {
        /// Its name.
        name: String,
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Neither.
    #[error(
        "cannot make the interface `{name}`: not by /dev/net/tun ({tun}), nor by a veth pair\n\
         (hint: it takes CAP_NET_ADMIN, and either /dev/net/tun or CAP_SYS_ADMIN and CAP_NET_RAW)"
    )]
    Neither {
        /// Its name.
        name: String,
        /// Why no TUN.
        tun: io::Error,
        /// Why no veth pair either.
        #[source]
        packet: Box<DeviceError>,
    },
}

/// An open interface. It belongs to the network namespace it was opened in and is gone when this is
/// dropped.
///
/// A `packet` interface is no point-to-point one: the kernel keeps a neighbour entry for every next hop,
/// so a route for many addresses is better given one (`via`) than none.
#[derive(Debug)]
pub struct Device {
    name: String,
    mtu: u16,
    link: Box<dyn Link>,
    why_not_tun: Option<String>,
}

/// One way to make an interface, made.
pub(super) trait Link: Sink + AsFd + fmt::Debug + Send {
    /// Its name for a report, with or without offload.
    fn driver(&self) -> &'static str;

    /// What it takes whole.
    fn offloads(&self) -> Offloads;

    /// Reads what is there, without waiting. Returns how many of `frames` were filled, one at least.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there; else what the kernel says of the interface.
    fn read(&self, frames: &mut [Frame]) -> io::Result<usize>;
}

impl Device {
    /// Makes the interface `name`, down and without addresses, in this thread's network namespace.
    ///
    /// # Errors
    /// [`DeviceError`], for every way that `driver` allows.
    pub async fn open(
        name: &str,
        mtu: u16,
        driver: Driver,
        offload: Offload,
    ) -> Result<Self, DeviceError> {
        let tun = || TunDevice::open(name, mtu, offload);
        let packet = || PacketDevice::open(name, mtu, offload);
        let opened = |link, why_not_tun| Self {
            name: name.to_owned(),
            mtu,
            link,
            why_not_tun,
        };
        match driver {
            Driver::Tun => match tun() {
                Ok(tun) => Ok(opened(Box::new(tun), None)),
                Err(source) => Err(DeviceError::Tun {
                    name: name.to_owned(),
                    source,
                }),
            },
            Driver::Packet => Ok(opened(Box::new(packet().await?), None)),
            Driver::Auto => match tun() {
                Ok(tun) => Ok(opened(Box::new(tun), None)),
                Err(tun) => match packet().await {
                    Ok(packet) => Ok(opened(Box::new(packet), Some(tun.to_string()))),
                    Err(packet) => {
                        let packet = Box::new(packet);
                        Err(DeviceError::Neither {
                            name: name.to_owned(),
                            tun,
                            packet,
                        })
                    }
                },
            },
        }
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The longest packet it takes, bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Its name for a report: `tun+gso`, `tun`, `packet+gso` or `packet`.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.link.driver()
    }

    /// Why `packet` was taken where `tun` was to be tried first.
    #[must_use]
    pub fn why_not_tun(&self) -> Option<&str> {
        self.why_not_tun.as_deref()
    }

    pub(super) fn link(&self) -> &dyn Link {
        &*self.link
    }
}

/// Room for one packet read from a device, with room to pad it.
pub(super) struct Frame {
    slot: Slot,
    header: VirtioHeader,
    /// Where the packet starts.
    start: usize,
}

impl AsMut<Slot> for Frame {
    fn as_mut(&mut self) -> &mut Slot {
        &mut self.slot
    }
}

impl Frame {
    fn new() -> Self {
        Self {
            slot: Slot::new(HEADROOM + 65_535 + TAIL_ROOM),
            header: VirtioHeader::default(),
            start: 0,
        }
    }

    /// As many as one read fills.
    pub(super) fn batch() -> Vec<Self> {
        (0..MAX_BATCH).map(|_| Self::new()).collect()
    }

    /// The packet's description, the buffer that starts with it, and its length: 0 where what was read is
    /// no IP packet.
    pub(super) fn packet(&mut self) -> (&VirtioHeader, &mut [u8], usize) {
        let (buffer, len) = self.slot.buffer_mut();
        (
            &self.header,
            &mut buffer[self.start..],
            len.saturating_sub(self.start),
        )
    }
}
