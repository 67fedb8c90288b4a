//! The system calls that no crate offers in a safe form, each behind a function that is.
//!
//! Nothing here knows what the bytes mean.

#![expect(
    unsafe_code,
    reason = "recvmmsg, packet sockets and SIOCSIFFLAGS have no safe binding"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "constants and lengths of C structures, all small"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr;

use libc::{c_int, socklen_t};
use nix::sys::socket::{SockaddrLike as _, SockaddrStorage};
use socket2::{Domain, Socket, Type};

/// The most messages that one [`receive_many`] takes.
pub(super) const MAX_BATCH: usize = 32;

/// Room for one received message.
pub(super) struct Slot {
    buffer: Box<[u8]>,
    len: usize,
    segment: Option<usize>,
    address: MaybeUninit<libc::sockaddr_storage>,
    address_len: socklen_t,
    control: [u64; CONTROL_WORDS],
}

/// Room for one `UDP_GRO` control message, aligned as its header must be.
const CONTROL_WORDS: usize = 4;

impl Slot {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            buffer: vec![0; capacity].into_boxed_slice(),
            len: 0,
            segment: None,
            address: MaybeUninit::uninit(),
            address_len: 0,
            control: [0; CONTROL_WORDS],
        }
    }

    /// The message; what did not fit is cut off.
    pub(super) fn message(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// The whole buffer and how much of it is the message.
    pub(super) fn buffer_mut(&mut self) -> (&mut [u8], usize) {
        (&mut self.buffer, self.len)
    }

    /// For who fills the buffer with another call than [`receive_many`].
    pub(super) fn set_len(&mut self, len: usize) {
        self.len = len.min(self.buffer.len());
    }

    /// The length of each datagram but the last, where the kernel joined several (`UDP_GRO`).
    pub(super) fn segment(&self) -> Option<usize> {
        self.segment
    }

    /// Who sent it; `None` where that is no IP socket. IPv4 on an IPv6 socket is IPv4.
    pub(super) fn from(&self) -> Option<SocketAddr> {
        if self.address_len == 0 {
            return None;
        }
        // SAFETY: `address` was filled by recvmmsg, which wrote `address_len` bytes of it and set its family.
        let address = unsafe {
            SockaddrStorage::from_raw(self.address.as_ptr().cast(), Some(self.address_len))
        }?;
        if let Some(v4) = address.as_sockaddr_in() {
            return Some(SocketAddr::V4((*v4).into()));
        }
        let v6 = SocketAddrV6::from(*address.as_sockaddr_in6()?);
        Some(match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => SocketAddr::V6(v6),
        })
    }
}

impl AsMut<Self> for Slot {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// Receives what is there, without waiting: as many messages as there are `slots`, at most
/// [`MAX_BATCH`]. Returns how many, one at least.
///
/// # Errors
/// What `recvmmsg(2)` says; `WouldBlock` where nothing is there.
pub(super) fn receive_many(socket: impl AsFd, slots: &mut [impl AsMut<Slot>]) -> io::Result<usize> {
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_BATCH];
    let mut buffers = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_BATCH];
    let count = slots.len().min(MAX_BATCH);
    let room = slots
        .iter_mut()
        .map(AsMut::as_mut)
        .zip(&mut headers)
        .zip(&mut buffers);
    for ((slot, header), buffer) in room {
        let buffer = buffer.write(libc::iovec {
            iov_base: slot.buffer.as_mut_ptr().cast(),
            iov_len: slot.buffer.len(),
        });
        // SAFETY: all zeros is a valid mmsghdr: null pointers and lengths of zero.
        let header = header.write(unsafe { mem::zeroed() });
        header.msg_hdr.msg_name = slot.address.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = ADDRESS_LEN;
        header.msg_hdr.msg_iov = buffer;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = mem::size_of_val(&slot.control);
    }
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the first `count` headers are initialised and point to buffers, addresses and control room
    // that live, and are borrowed mutably, until the end of this function.
    let received = unsafe {
        libc::recvmmsg(
            fd,
            headers.as_mut_ptr().cast(),
            count as _,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_negative| io::Error::last_os_error())?;
    for (slot, header) in slots
        .iter_mut()
        .map(AsMut::as_mut)
        .zip(&headers)
        .take(received)
    {
        // SAFETY: initialised above, as `received` is at most `count`.
        let header = unsafe { header.assume_init_ref() };
        slot.set_len(header.msg_len as usize);
        slot.address_len = header.msg_hdr.msg_namelen;
        slot.segment = segment(&header.msg_hdr);
    }
    Ok(received)
}

const ADDRESS_LEN: socklen_t = size_of::<libc::sockaddr_storage>() as socklen_t;

/// The segment size in a received message's control data.
fn segment(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: `header` was filled by recvmmsg and its control buffer still lives; the macros stay inside it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: a non-null pointer from these macros points to a whole cmsghdr in that buffer.
    while let Some(control) = unsafe { next.as_ref() } {
        if control.cmsg_level == libc::SOL_UDP && control.cmsg_type == libc::UDP_GRO {
            // SAFETY: the kernel puts an int behind a UDP_GRO header; it need not be aligned.
            let size: c_int = unsafe { ptr::read_unaligned(libc::CMSG_DATA(control).cast()) };
            return usize::try_from(size).ok().filter(|size| *size > 0);
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        next = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    None
}

/// A packet socket on the interface with index `interface`, in the network namespace of this thread. It
/// takes every frame that comes in, with a `virtio_net_hdr` before each in both directions.
///
/// # Errors
/// What the kernel says, `EPERM` without `CAP_NET_RAW` among it.
pub(super) fn packet_socket(interface: u32) -> io::Result<Socket> {
    let every_protocol = u16::to_be(libc::ETH_P_ALL as u16);
    // Protocol 0 takes nothing until it is bound: no frame of another interface slips in.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    for option in [
        libc::PACKET_VNET_HDR,
        libc::PACKET_IGNORE_OUTGOING,
        libc::PACKET_QDISC_BYPASS,
    ] {
        set_option(&socket, libc::SOL_PACKET, option, 1)?;
    }
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as _;
    address.sll_protocol = every_protocol;
    address.sll_ifindex = interface.try_into().map_err(io::Error::other)?;
    // SAFETY: `address` is a sockaddr_ll and its length is given.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as socklen_t,
        )
    };
    check(bound)?;
    Ok(socket)
}

/// Turns address resolution off for the interface called `name`, in the namespace that `socket` was made in.
///
/// # Errors
/// What the kernel says, `ENODEV` and `EPERM` among it.
pub(super) fn set_noarp(socket: impl AsFd, name: &str) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the name ends in a zero, and SIOCGIFFLAGS writes the flags member only.
    check(unsafe { libc::ioctl(fd, libc::SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: the call before set this member of the union.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_NOARP as i16 };
    // SAFETY: as above; SIOCSIFFLAGS only reads.
    check(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) })
}

/// Sets an integer socket option.
///
/// # Errors
/// What `setsockopt(2)` says.
pub(super) fn set_option(
    socket: impl AsFd,
    level: c_int,
    option: c_int,
    value: c_int,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let len = size_of_val(&value) as socklen_t;
    // SAFETY: the option's value is an int that lives through the call.
    check(unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), len) })
}

/// Asks for kernel buffers of `bytes` in both directions. Without the right to go beyond the system's
/// limit, the limit is what one gets.
///
/// # Errors
/// What `setsockopt(2)` says.
pub(super) fn set_kernel_buffers(socket: impl AsFd, bytes: c_int) -> io::Result<()> {
    let socket = socket.as_fd();
    for (option, forced) in [
        (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE),
        (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE),
    ] {
        set_option(socket, libc::SOL_SOCKET, forced, bytes)
            .or_else(|_unprivileged| set_option(socket, libc::SOL_SOCKET, option, bytes))?;
    }
    Ok(())
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
