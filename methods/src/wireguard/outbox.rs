//! Encrypted datagrams on their way out, kept as the runs that one system call can send.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::udp::{MAX_DATAGRAM, MAX_SEGMENTS, Sent};

/// What one more datagram may need, whatever the interface's MTU: the longest IP packet, its padding and
/// WireGuard's own 32 bytes.
const ROOM: usize = 65_535 + 15 + 32;

/// Bytes of datagrams that wait at most. It holds all that boringtun queues for one peer during a
/// handshake (256 packets of an ordinary MTU).
const CAPACITY: usize = 512 << 10;

/// Datagrams in the order they were written.
#[derive(Debug)]
pub(super) struct Outbox {
    memory: Box<[u8]>,
    used: usize,
    runs: VecDeque<Run>,
}

/// Datagrams of equal length to one endpoint, back to back; only the last may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) to: SocketAddr,
    pub(super) segment: usize,
    pub(super) count: usize,
    start: usize,
    len: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            memory: vec![0; CAPACITY].into_boxed_slice(),
            used: 0,
            runs: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether there is no room for one more datagram of any length.
    pub(super) fn is_full(&self) -> bool {
        self.memory.len() - self.used < ROOM
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Where to write the next datagram. Ask [`is_full`](Self::is_full) first.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.used..]
    }

    /// Makes the first `len` bytes of [`space`](Self::space) a datagram to `to`.
    pub(super) fn commit(&mut self, to: SocketAddr, len: usize) {
        let start = self.used;
        self.used += len;
        if let Some(run) = self.runs.back_mut()
            && run.takes(to, len)
        {
            run.len += len;
            run.count += 1;
            return;
        }
        self.runs.push_back(Run {
            to,
            segment: len,
            count: 1,
            start,
            len,
        });
    }

    /// Adds `datagram`, if there is room: like any network, this one may lose it.
    pub(super) fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        if let Some(space) = self.space().get_mut(..datagram.len()) {
            space.copy_from_slice(datagram);
            self.commit(to, datagram.len());
        }
    }

    /// Gives every run to `send`, oldest first, until it would block. Returns how many datagrams were
    /// refused.
    pub(super) fn flush(&mut self, mut send: impl FnMut(&Run, &[u8]) -> io::Result<Sent>) -> usize {
        let mut refused = 0;
        while let Some(run) = self.runs.front_mut() {
            let bytes = &self.memory[run.start..run.start + run.len];
            let Ok(sent) = send(run, bytes) else {
                return refused;
            };
            refused += sent.refused;
            if sent.bytes < run.len {
                run.count -= sent.bytes / run.segment;
                run.start += sent.bytes;
                run.len -= sent.bytes;
                return refused;
            }
            self.runs.pop_front();
        }
        self.used = 0;
        refused
    }
}

impl Run {
    fn takes(&self, to: SocketAddr, len: usize) -> bool {
        let open = self.len == self.segment * self.count;
        open && len <= self.segment
            && len > 0
            && to == self.to
            && self.count < MAX_SEGMENTS
            && self.len + len <= MAX_DATAGRAM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_datagrams_to_one_endpoint_make_one_run() {
        let mut outbox = Outbox::new();
        write(
            &mut outbox,
            &[(A, 100), (A, 100), (A, 40), (A, 40), (B, 40), (A, 100)],
        );
        assert_eq!(
            flushed(&mut outbox),
            [(A, 100, 3), (A, 40, 1), (B, 40, 1), (A, 100, 1)]
        );
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_run_stays_within_what_one_send_takes() {
        let mut outbox = Outbox::new();
        write(&mut outbox, &[(A, 1452); 47]);
        assert_eq!(flushed(&mut outbox), [(A, 1452, 45), (A, 1452, 2)]);
        write(&mut outbox, &[(A, 32); 100]);
        assert_eq!(flushed(&mut outbox), [(A, 32, 64), (A, 32, 36)]);
    }

    #[test]
    fn what_would_block_is_kept_and_sent_later() {
        let mut outbox = Outbox::new();
        write(&mut outbox, &[(A, 10), (A, 10), (A, 5), (B, 7)]);
        let mut calls = 0;
        outbox.flush(|_, _| {
            calls += 1;
            match calls {
                1 => Ok(Sent {
                    bytes: 10,
                    refused: 0,
                }),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        assert_eq!(calls, 1, "a run sent in part means that the kernel is full");
        assert_eq!(flushed(&mut outbox), [(A, 10, 2), (B, 7, 1)]);
    }

    #[test]
    fn it_is_full_before_a_datagram_might_not_fit() {
        let mut outbox = Outbox::new();
        let mut datagrams = 0;
        while !outbox.is_full() {
            outbox.commit(A, 65_507);
            datagrams += 1;
        }
        assert!(datagrams >= 6 && outbox.space().len() < ROOM);
    }

    const A: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
    const B: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);

    fn write(outbox: &mut Outbox, datagrams: &[(SocketAddr, usize)]) {
        for (to, len) in datagrams {
            outbox.commit(*to, *len);
        }
    }

    fn flushed(outbox: &mut Outbox) -> Vec<(SocketAddr, usize, usize)> {
        let mut runs = Vec::new();
        outbox.flush(|run, bytes| {
            runs.push((run.to, run.segment, run.count));
            Ok(Sent {
                bytes: bytes.len(),
                refused: 0,
            })
        });
        runs
    }
}
