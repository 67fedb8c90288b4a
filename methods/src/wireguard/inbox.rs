//! Decrypted packets on their way to the interface, joined where they follow each other.

use std::io::{self, IoSlice};
use std::ops::AddAssign;

use super::gso::{Coalescer, Offloads, VirtioHeader};

/// What a device may want to write before a packet: a virtio header and an Ethernet header.
pub(super) const HEADROOM: usize = VirtioHeader::LEN + 14;

/// What one more datagram may need: the longest there is, and room for a handshake's answer.
const ROOM: usize = HEADROOM + 65_535 + 148;

/// Flushed when this much is there: one `UDP_GRO` receive.
const BATCH: usize = 64 << 10;

/// A place to write packets to.
pub(super) trait Sink {
    /// Bytes that must precede every packet, [`HEADROOM`] at most.
    fn prefix_len(&self) -> usize;

    /// Writes them.
    fn write_prefix(&self, header: &VirtioHeader, packet: &[u8], prefix: &mut [u8]);

    /// Hands over one packet, its prefix included, in `parts`.
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()>;
}

/// Packets in the order they came.
#[derive(Debug)]
pub(super) struct Inbox {
    memory: Box<[u8]>,
    used: usize,
    packets: Coalescer,
}

/// What became of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Super-packets the device took.
    pub(super) frames: u64,
    /// Packets in those that it did not take.
    pub(super) refused: u64,
}

impl AddAssign for Written {
    fn add_assign(&mut self, more: Self) {
        self.frames += more.frames;
        self.refused += more.refused;
    }
}

impl Inbox {
    pub(super) fn new(offloads: Offloads) -> Self {
        Self {
            memory: vec![0; BATCH + ROOM].into_boxed_slice(),
            used: 0,
            packets: Coalescer::new(offloads),
        }
    }

    /// Whether it is time to [`flush`](Self::flush): there may be no room for another datagram.
    pub(super) fn is_full(&self) -> bool {
        self.memory.len() - self.used < ROOM
    }

    /// Where to write the next packet. Ask [`is_full`](Self::is_full) first.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.used + HEADROOM..]
    }

    /// Makes the first `len` bytes of [`space`](Self::space) a packet.
    pub(super) fn commit(&mut self, len: usize) {
        let start = self.used + HEADROOM;
        self.used = start + len;
        self.packets.push(&self.memory, start..self.used);
    }

    /// Gives everything to `sink`.
    pub(super) fn flush(&mut self, sink: &(impl Sink + ?Sized)) -> Written {
        let mut written = Written::default();
        if self.used == 0 {
            return written;
        }
        let prefix_len = sink.prefix_len();
        for (header, frame) in self.packets.finish(&mut self.memory) {
            let head = frame.head();
            let (before, packet) = self.memory.split_at_mut(head.start);
            let prefix = before.len() - prefix_len;
            sink.write_prefix(&header, &packet[..head.len()], &mut before[prefix..]);
        }
        let mut parts = Vec::new();
        for frame in self.packets.frames() {
            let head = frame.head();
            parts.clear();
            parts.push(IoSlice::new(
                &self.memory[head.start - prefix_len..head.end],
            ));
            parts.extend(
                self.packets
                    .pieces(frame)
                    .map(|piece| IoSlice::new(&self.memory[piece])),
            );
            match sink.write(&parts) {
                Ok(()) => written.frames += 1,
                Err(_refused) => written.refused += frame.count() as u64,
            }
        }
        self.packets.clear();
        self.used = 0;
        written
    }
}
