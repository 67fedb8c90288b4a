//! Putting consecutive packets of a flow together, so that the kernel takes them as one super-packet.
//!
//! The rules are those of the kernel's own GRO (and of its self-test, `tools/testing/selftests/net/gro.c`):
//! two packets join only if whatever cuts the result again yields the same two packets. They may stay
//! where they are in memory: a super-packet is its first packet whole and then the payloads of the others.
//! Joined within one batch only; the packets of a flow keep their order.

mod join;

use std::ops::Range;

use super::VirtioHeader;
use super::checksum::{pseudo_header, set_ipv4_header_checksum};
use super::layout::{IPV4_HEADER, Layout, PSH, Protocol, TCP_FLAGS, Version, put16};
use join::{Join, same_flow};

/// How many of the last super-packets may still be joined: it bounds the search, not correctness.
const WINDOW: usize = 32;

/// What the device takes whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// TCP super-packets.
    pub tcp: bool,
    /// UDP super-packets.
    pub udp: bool,
}

/// A batch of packets on its way to the device.
#[derive(Debug)]
pub struct Coalescer {
    offloads: Offloads,
    frames: Vec<Frame>,
    /// The payloads behind each frame's first packet, as lists linked by index.
    pieces: Vec<Piece>,
}

/// A super-packet in the making, or a packet of its own.
#[derive(Debug)]
pub struct Frame {
    head: Range<usize>,
    tail: Option<(usize, usize)>,
    join: Option<Join>,
}

#[derive(Debug)]
struct Piece {
    range: Range<usize>,
    next: Option<usize>,
}

impl Coalescer {
    /// An empty batch for a device.
    #[must_use]
    pub fn new(offloads: Offloads) -> Self {
        Self {
            offloads,
            frames: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Adds the packet at `range` of `memory`, which stays there until [`clear`](Self::clear).
    pub fn push(&mut self, memory: &[u8], range: Range<usize>) {
        let packet = &memory[range.clone()];
        let join = self
            .layout(packet)
            .map(|layout| Join::first(packet, layout));
        if let Some(join) = &join
            && self.join(memory, &range, join)
        {
            return;
        }
        self.frames.push(Frame {
            head: range,
            tail: None,
            join,
        });
    }

    /// Writes the headers of what was joined and hands out the batch, in order of first packets.
    pub fn finish<'c>(
        &'c self,
        memory: &mut [u8],
    ) -> impl Iterator<Item = (VirtioHeader, &'c Frame)> + use<'c> {
        for frame in &self.frames {
            frame.write_headers(memory);
        }
        self.frames
            .iter()
            .map(|frame| (frame.virtio_header(), frame))
    }

    /// The batch, in order of first packets.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The payloads behind `frame`'s first packet.
    pub fn pieces<'c>(&'c self, frame: &Frame) -> impl Iterator<Item = Range<usize>> + use<'c> {
        let first = frame.tail.map(|(first, _)| first);
        let list = std::iter::successors(first, |at| self.pieces[*at].next);
        list.map(|at| self.pieces[at].range.clone())
    }

    /// Forgets the batch.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.pieces.clear();
    }

    /// The shape of a packet of a kind that the device takes whole.
    fn layout(&self, packet: &[u8]) -> Option<Layout> {
        let wanted = |protocol| match protocol {
            Protocol::Tcp => self.offloads.tcp,
            Protocol::Udp => self.offloads.udp,
        };
        Layout::plain(packet).filter(|layout| wanted(layout.protocol))
    }

    /// Joins the packet at `range` to its flow's last frame, or says that it cannot be.
    fn join(&mut self, memory: &[u8], range: &Range<usize>, new: &Join) -> bool {
        let packet = &memory[range.clone()];
        let newest = self.frames.iter_mut().rev().take(WINDOW);
        let flow = newest.filter_map(|frame| {
            let join = frame.join.as_mut()?;
            let head = &memory[frame.head.clone()];
            same_flow(head, &join.layout, packet, &new.layout).then_some((
                head,
                join,
                &mut frame.tail,
            ))
        });
        let Some((head, join, tail)) = flow.into_iter().next() else {
            return false;
        };
        if !join.takes(head, packet, new) {
            return false;
        }
        join.extend(new);
        let at = self.pieces.len();
        self.pieces.push(Piece {
            range: range.start + new.layout.payload..range.end,
            next: None,
        });
        match tail {
            Some((_, last)) => {
                self.pieces[*last].next = Some(at);
                *last = at;
            }
            None => *tail = Some((at, at)),
        }
        true
    }
}

impl Frame {
    /// The first packet, headers and all.
    pub fn head(&self) -> Range<usize> {
        self.head.clone()
    }

    /// How many packets it stands for.
    pub fn count(&self) -> usize {
        self.join.as_ref().map_or(1, |join| join.count)
    }

    fn joined(&self) -> Option<&Join> {
        self.join.as_ref().filter(|join| join.count > 1)
    }

    fn virtio_header(&self) -> VirtioHeader {
        let Some(join) = self.joined() else {
            return VirtioHeader::default();
        };
        let Layout {
            version,
            protocol,
            transport,
            payload,
        } = join.layout;
        let field = |n: usize| u16::try_from(n).expect("offsets in a packet fit its length field");
        VirtioHeader {
            flags: VirtioHeader::NEEDS_CHECKSUM,
            gso_type: match (protocol, version) {
                (Protocol::Tcp, Version::V4) => VirtioHeader::TCP_V4,
                (Protocol::Tcp, Version::V6) => VirtioHeader::TCP_V6,
                (Protocol::Udp, _) => VirtioHeader::UDP,
            },
            header_len: field(payload),
            gso_size: field(join.size),
            checksum_start: field(transport),
            checksum_offset: field(protocol.checksum_offset()),
        }
    }

    /// Makes the first packet's headers those of the whole, its checksum left to whoever cuts it.
    fn write_headers(&self, memory: &mut [u8]) {
        let Some(join) = self.joined() else {
            return;
        };
        let head = &mut memory[self.head.clone()];
        let Layout {
            version,
            protocol,
            transport,
            ..
        } = join.layout;
        join.layout.set_lengths(head, join.len);
        if version == Version::V4 {
            set_ipv4_header_checksum(head, IPV4_HEADER);
        }
        if join.push {
            head[transport + TCP_FLAGS] |= PSH;
        }
        let len =
            u16::try_from(join.len - transport).expect("a super-packet has at most 65535 bytes");
        let partial = pseudo_header(head, version, protocol.number()).add_word(len);
        put16(
            head,
            transport + protocol.checksum_offset(),
            partial.folded(),
        );
    }
}

#[cfg(test)]
mod tests;
