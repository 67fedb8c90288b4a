//! The thread that moves packets between the interface and the socket.
//!
//! One thread drives both directions of a tunnel and holds all its peers, so nothing is locked, and an
//! answer that the kernel has at once, such as TCP's acknowledgement, costs no second wake-up. It sleeps in
//! `poll` until something is there, and moves it in batches: one super-packet read becomes one `UDP_SEGMENT`
//! send, one `UDP_GRO` receive becomes one write. More than half of its time goes to the cipher, so what a
//! tunnel carries is what one core can encrypt and decrypt.

use std::io::{self, PipeReader, Read as _};
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
use super::keys::PublicKey;
use super::outbox::Outbox;
use super::stats::{Calls, TunnelStats};
use super::sys::Slot;
use super::tunnel::{PeerConfig, TunnelError};
use super::udp::OuterSocket;

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

/// What a [`Tunnel`](super::Tunnel) asks of its thread.
pub(super) enum Order {
    AddPeer(Box<PeerConfig>, oneshot::Sender<Result<(), TunnelError>>),
    RemovePeer(PublicKey, oneshot::Sender<Result<(), TunnelError>>),
    Stats(oneshot::Sender<TunnelStats>),
    /// Answered when there is a session.
    Connect(PublicKey, oneshot::Sender<Result<(), TunnelError>>),
}

pub(super) struct Worker {
    engine: Engine,
    device: Device,
    socket: OuterSocket,
    orders: mpsc::Receiver<Order>,
    /// A byte says that there are orders; its end, that it is time to go.
    bell: PipeReader,
    timer: TimerFd,
    frames: Vec<Frame>,
    messages: Vec<Slot>,
    inbox: Inbox,
    outbox: Outbox,
    connecting: Vec<(PeerId, oneshot::Sender<Result<(), TunnelError>>)>,
    calls: Calls,
    device_failures: u32,
    socket_failures: u32,
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
            inbox: Inbox::new(device.offloads()),
            engine,
            device,
            socket,
            orders,
            bell,
            timer,
            frames: Frame::batch(),
            messages: (0..RECEIVES).map(|_| Slot::new(MESSAGE)).collect(),
            outbox: Outbox::new(),
            connecting: Vec::new(),
            calls: Calls::default(),
            device_failures: 0,
            socket_failures: 0,
        })
    }

    /// Runs until the bell is dropped, or the interface or the socket is gone.
    pub(super) fn run(mut self) -> Result<(), TunnelError> {
        self.engine.tick(&mut self.outbox);
        self.send();
        loop {
            let ready = self.sleep()?;
            if ready.bell && !self.obey() {
                return Ok(());
            }
            if ready.timer {
                // How often it rang while we were busy does not matter.
                let _ = self.timer.wait();
                self.engine.tick(&mut self.outbox);
            }
            if ready.socket {
                self.receive()?;
            }
            // What was written to the interface is often answered before the write returns.
            if ready.device || ready.socket && self.outbox.is_empty() {
                self.read()?;
            }
            self.send();
            self.tell_connected();
        }
    }

    /// Waits until there is something to do.
    fn sleep(&mut self) -> Result<Ready, TunnelError> {
        let blocked = !self.outbox.is_empty();
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
            PollFd::new(self.socket.as_fd(), socket),
            PollFd::new(self.device.as_fd(), device),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(TunnelError::Poll(e.into())),
        }
        self.calls.wakeups += 1;
        let [bell, timer, socket, device] = fds.map(|fd| fd.any().unwrap_or(true));
        Ok(Ready {
            bell,
            timer,
            socket,
            device,
        })
    }

    /// Carries out what was asked. `false` when it is time to go.
    fn obey(&mut self) -> bool {
        match self.bell.read(&mut [0; 64]) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        // An asker who is gone needs no answer.
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::AddPeer(config, answer) => {
                    let added = self.engine.add_peer(*config).map(|_| ());
                    self.engine.tick(&mut self.outbox);
                    let _ = answer.send(added);
                }
                Order::RemovePeer(key, answer) => {
                    let removed = self.engine.remove_peer(&key);
                    // Whoever waits for it waits in vain: dropping the sender says so.
                    self.connecting.retain(|(id, _)| Some(*id) != removed);
                    let _ = answer.send(removed.map(|_| ()).ok_or(TunnelError::UnknownPeer(key)));
                }
                Order::Stats(answer) => {
                    let _ = answer.send(self.stats());
                }
                Order::Connect(key, answer) => match self.engine.id(&key) {
                    Some(id) => {
                        self.engine.connect(id, &mut self.outbox);
                        self.connecting.push((id, answer));
                    }
                    None => {
                        let _ = answer.send(Err(TunnelError::UnknownPeer(key)));
                    }
                },
            }
        }
        true
    }

    fn tell_connected(&mut self) {
        let ready = |(id, answer): &mut (PeerId, oneshot::Sender<_>)| {
            answer.is_closed() || self.engine.is_connected(*id)
        };
        for (_, answer) in self.connecting.extract_if(.., ready) {
            let _ = answer.send(Ok(()));
        }
    }

    /// From the socket to the interface.
    fn receive(&mut self) -> Result<(), TunnelError> {
        let filled = match self.socket.receive(&mut self.messages) {
            Ok(filled) => filled,
            Err(e) => return bear(e, &mut self.socket_failures).map_err(TunnelError::Socket),
        };
        self.socket_failures = 0;
        self.calls.udp_messages_in += filled as u64;
        for at in 0..filled {
            let message = &self.messages[at];
            let Some(from) = message.from() else {
                continue;
            };
            let bytes = message.message();
            for datagram in bytes.chunks(message.segment().unwrap_or(MESSAGE)) {
                if self.inbox.is_full() {
                    let written = self.inbox.flush(&self.device);
                    note(written, &mut self.calls, &mut self.engine);
                }
                self.engine
                    .open(from, datagram, &mut self.inbox, &mut self.outbox);
            }
        }
        let written = self.inbox.flush(&self.device);
        note(written, &mut self.calls, &mut self.engine);
        Ok(())
    }

    /// From the interface to the socket.
    fn read(&mut self) -> Result<(), TunnelError> {
        let filled = match self.device.read(&mut self.frames) {
            Ok(filled) => filled,
            Err(e) => return bear(e, &mut self.device_failures).map_err(TunnelError::Device),
        };
        self.device_failures = 0;
        self.calls.device_frames_in += filled as u64;
        for at in 0..filled {
            self.seal(at);
            if self.outbox.len() > EAGER {
                self.send();
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
            self.engine.drops().contradictory += 1;
            return;
        };
        while let Some(packet) = segments.next_packet() {
            if self.outbox.is_full() {
                send(
                    &mut self.outbox,
                    &mut self.socket,
                    &mut self.calls,
                    &mut self.engine,
                );
            }
            if self.outbox.is_full() {
                self.engine.drops().unsendable += 1;
                continue;
            }
            self.engine.seal(id, &packet, &mut self.outbox);
        }
    }

    fn send(&mut self) {
        send(
            &mut self.outbox,
            &mut self.socket,
            &mut self.calls,
            &mut self.engine,
        );
    }

    fn stats(&mut self) -> TunnelStats {
        TunnelStats {
            driver: format!("{}, {}", self.device.driver(), self.socket.driver()),
            peers: self.engine.peer_stats(),
            drops: *self.engine.drops(),
            calls: self.calls,
        }
    }
}

/// Sends what waits, as far as the kernel takes it.
fn send(outbox: &mut Outbox, socket: &mut OuterSocket, calls: &mut Calls, engine: &mut Engine) {
    if outbox.is_empty() {
        return;
    }
    let refused = outbox.flush(|run, bytes| {
        calls.udp_messages_out += 1;
        socket.send(run, bytes)
    });
    engine.drops().unsendable += refused as u64;
}

fn note(written: Written, calls: &mut Calls, engine: &mut Engine) {
    calls.device_frames_out += written.frames as u64;
    engine.drops().undeliverable += written.refused as u64;
}

/// Passes over what a descriptor may say now and then, but not for ever.
fn bear(error: io::Error, failures: &mut u32) -> io::Result<()> {
    if matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) {
        return Ok(());
    }
    // The interface was deleted: a packet socket says ENETDOWN, a TUN EBADFD, and neither comes back.
    let gone = matches!(
        error.raw_os_error(),
        Some(libc::ENETDOWN | libc::EBADFD | libc::ENODEV)
    );
    *failures += 1;
    if gone || *failures >= PATIENCE {
        return Err(error);
    }
    Ok(())
}
