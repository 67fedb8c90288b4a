//! The thread that moves packets between the interface and the socket.
//!
//! One thread drives both directions of a tunnel and holds all its peers, so nothing is locked, and an
//! answer that the kernel has at once, such as TCP's acknowledgement, costs no second wake-up. It sleeps in
//! `poll` until something is there, and moves it in batches: one super-packet read becomes one `UDP_SEGMENT`
//! send, one `UDP_GRO` receive becomes one write. The cipher takes two fifths of its time and the kernel, which
//! does TCP's work inside these calls, most of the rest: a tunnel carries what one core can do of both.

mod orders;

use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::sync::{mpsc, oneshot};

use super::device::{Device, Frame};
use super::engine::{Engine, PeerId};
use super::gso::Segments;
use super::inbox::{Inbox, Written};
use super::outbox::Outbox;
use super::sys::Slot;
use super::tunnel::TunnelError;
use super::udp::OuterSocket;
pub(super) use orders::Order;

/// How often the protocol's timers are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Messages taken from the socket before the interface gets its turn.
const RECEIVES: usize = 16;

/// The longest message: datagrams that `UDP_GRO` joined.
const MESSAGE: usize = 65_535;

/// Encrypted bytes that are sent without waiting for the rest of the batch.
const EAGER: usize = 16 << 10;

/// Failures of one descriptor in a row, none of them "nothing there", before it counts as gone.
const PATIENCE: u32 = 64;

/// What a deleted interface says: a TUN the first, a packet socket the second.
const DELETED: [i32; 2] = [libc::EBADFD, libc::ENETDOWN];

pub(super) struct Worker {
    engine: Engine,
    device: Device,
    out: Out,
    orders: mpsc::Receiver<Order>,
    /// A byte says that there are orders; its end, that it is time to go.
    bell: PipeReader,
    timer: TimerFd,
    frames: Vec<Frame>,
    messages: Vec<Slot>,
    inbox: Inbox,
    connecting: Vec<(PeerId, oneshot::Sender<Result<(), TunnelError>>)>,
    wakeups: u64,
    frames_read: u64,
    messages_received: u64,
    written: Written,
    contradictory: u64,
    device_failures: u32,
    socket_failures: u32,
}

/// The socket and what waits for it.
struct Out {
    socket: OuterSocket,
    outbox: Outbox,
    messages: u64,
    refused: u64,
}

/// What is ready.
#[derive(Debug, Clone, Copy)]
struct Ready {
    bell: bool,
    timer: bool,
    socket: bool,
    device: bool,
}

impl Worker {
    pub(super) fn new(
        engine: Engine,
        device: Device,
        socket: OuterSocket,
        orders: mpsc::Receiver<Order>,
        bell: PipeReader,
    ) -> io::Result<Self> {
        let timer = TimerFd::new(
            ClockId::CLOCK_BOOTTIME,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        timer.set(
            Expiration::Interval(TimeSpec::from_duration(TICK)),
            TimerSetTimeFlags::empty(),
        )?;
        Ok(Self {
            inbox: Inbox::new(device.link().offloads()),
            engine,
            device,
            out: Out {
                socket,
                outbox: Outbox::new(),
                messages: 0,
                refused: 0,
            },
            orders,
            bell,
            timer,
            frames: Frame::batch(),
            messages: (0..RECEIVES).map(|_| Slot::new(MESSAGE)).collect(),
            connecting: Vec::new(),
            wakeups: 0,
            frames_read: 0,
            messages_received: 0,
            written: Written::default(),
            contradictory: 0,
            device_failures: 0,
            socket_failures: 0,
        })
    }

    /// Runs until the bell is dropped, or the interface or the socket is gone.
    pub(super) fn run(mut self) -> Result<(), TunnelError> {
        self.tick();
        self.out.send();
        loop {
            let ready = self.sleep()?;
            if ready.bell && !self.obey() {
                return Ok(());
            }
            if ready.timer {
                // How often it rang while we were busy does not matter.
                let _ = self.timer.wait();
                self.tick();
            }
            if ready.socket {
                self.receive()?;
            }
            // What was written to the interface is often answered before the write returns.
            if ready.device || ready.socket && self.out.outbox.is_empty() {
                self.read()?;
            }
            self.out.send();
            self.tell_connected();
        }
    }

    /// Does what is due.
    fn tick(&mut self) {
        if self.engine.tick(&mut self.out.outbox) {
            self.out.socket.renew();
        }
    }

    /// Waits until there is something to do.
    fn sleep(&mut self) -> Result<Ready, TunnelError> {
        let blocked = !self.out.outbox.is_empty();
        let socket = if blocked {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        };
        // What cannot be sent yet should wait in the kernel, where it is bounded: then the interface can
        // only report that it is gone.
        let device = if blocked {
            PollFlags::empty()
        } else {
            PollFlags::POLLIN
        };
        let mut fds = [
            PollFd::new(self.bell.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.out.socket.as_fd(), socket),
            PollFd::new(self.device.link().as_fd(), device),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(TunnelError::Poll(e.into())),
        }
        self.wakeups += 1;
        let [bell, timer, socket, device] = fds.map(|fd| fd.any().unwrap_or(true));
        Ok(Ready {
            bell,
            timer,
            socket,
            device,
        })
    }

    /// From the socket to the interface.
    fn receive(&mut self) -> Result<(), TunnelError> {
        let filled = match self.out.socket.receive(&mut self.messages) {
            Ok(filled) => filled,
            Err(e) => return bear(e, &mut self.socket_failures, &[]).map_err(TunnelError::Socket),
        };
        self.socket_failures = 0;
        self.messages_received += filled as u64;
        for at in 0..filled {
            let message = &self.messages[at];
            let Some(from) = message.from() else {
                continue;
            };
            let bytes = message.message();
            for datagram in bytes.chunks(message.segment().unwrap_or(MESSAGE)) {
                if self.inbox.is_full() {
                    self.written += self.inbox.flush(self.device.link());
                }
                self.engine
                    .open(from, datagram, &mut self.inbox, &mut self.out.outbox);
            }
        }
        self.written += self.inbox.flush(self.device.link());
        Ok(())
    }

    /// From the interface to the socket.
    fn read(&mut self) -> Result<(), TunnelError> {
        let filled = match self.device.link().read(&mut self.frames) {
            Ok(filled) => filled,
            Err(e) => {
                return bear(e, &mut self.device_failures, &DELETED).map_err(TunnelError::Device);
            }
        };
        self.device_failures = 0;
        self.frames_read += filled as u64;
        for at in 0..filled {
            self.seal(at);
            if self.out.outbox.len() > EAGER {
                self.out.send();
            }
        }
        Ok(())
    }

    /// Encrypts the packets of one frame.
    fn seal(&mut self, at: usize) {
        let mtu = self.device.mtu().into();
        let (header, buffer, len) = self.frames[at].packet();
        if len == 0 {
            return;
        }
        let Some(id) = self.engine.route(&buffer[..len]) else {
            return;
        };
        let Ok(mut segments) = Segments::new(header, buffer, len, mtu) else {
            self.contradictory += 1;
            return;
        };
        while let Some(packet) = segments.next_packet() {
            if self.out.outbox.is_full() {
                self.out.send();
            }
            if self.out.outbox.is_full() {
                self.out.refused += 1;
                continue;
            }
            self.engine.seal(id, &packet, &mut self.out.outbox);
        }
    }
}

impl Out {
    /// Sends what waits, as far as the kernel takes it.
    fn send(&mut self) {
        let Self {
            socket,
            outbox,
            messages,
            refused,
        } = self;
        let lost = outbox.flush(|run, bytes| {
            *messages += 1;
            socket.send(run, bytes)
        });
        *refused += lost as u64;
    }
}

/// Passes over what a descriptor may say now and then, but not for ever; `gone` it says only once.
fn bear(error: io::Error, failures: &mut u32, gone: &[i32]) -> io::Result<()> {
    if matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) {
        *failures = 0;
        return Ok(());
    }
    *failures += 1;
    let is_gone = error
        .raw_os_error()
        .is_some_and(|code| gone.contains(&code));
    if is_gone || *failures >= PATIENCE {
        return Err(error);
    }
    Ok(())
}
