//! Putting consecutive packets of a flow together, so that the kernel takes them as one super-packet.
//!
//! The rules are those of the kernel's own GRO (and of its self-test, `tools/testing/selftests/net/gro.c`):
//! two packets join only if whatever cuts the result again yields the same two packets. They may stay
//! where they are in memory: a super-packet is its first packet whole and then the payloads of the others.
//! Joined within one batch only; the packets of a flow keep their order.

use std::ops::Range;

use super::VirtioHeader;
use super::checksum::{pseudo_header, set_ipv4_header_checksum};
use super::layout::{
    ACK, IPV4_HEADER, Layout, PSH, Protocol, TCP_FLAGS, TCP_SEQUENCE, UDP_CHECKSUM, Version, get16,
    get32, put16,
};

/// The longest IP packet.
const MAX_PACKET: usize = 65_535;

/// The most datagrams in a UDP super-packet (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_DATAGRAMS: usize = 64;

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

/// What the next packet of a flow is compared with.
#[derive(Debug)]
struct Join {
    layout: Layout,
    /// Payload bytes of each packet but the last.
    size: usize,
    count: usize,
    /// Bytes of the whole.
    len: usize,
    next_sequence: u32,
    /// Of a kind that joins at all: data, and no flags that stand for one packet only.
    joinable: bool,
    /// The last packet has PSH.
    push: bool,
    /// Nothing may follow.
    closed: bool,
    /// The first packet's checksum was checked.
    whole: bool,
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

impl Join {
    fn first(packet: &[u8], layout: Layout) -> Self {
        let transport = layout.transport;
        let size = packet.len() - layout.payload;
        let (plain, push, sequence) = match layout.protocol {
            Protocol::Tcp => {
                let flags = packet[transport + TCP_FLAGS];
                let sequence = get32(packet, transport + TCP_SEQUENCE);
                (flags & !PSH == ACK, flags & PSH != 0, sequence)
            }
            Protocol::Udp => (get16(packet, transport + UDP_CHECKSUM) != 0, false, 0),
        };
        let joinable = plain && size > 0;
        Self {
            layout,
            size,
            count: 1,
            len: packet.len(),
            next_sequence: sequence
                .wrapping_add(u32::try_from(size).expect("a packet fits in memory")),
            joinable,
            push,
            closed: !joinable || push,
            whole: false,
        }
    }

    /// Whether `packet`, of the same flow, may follow the frame that starts with `head`.
    fn takes(&mut self, head: &[u8], packet: &[u8], new: &Self) -> bool {
        let fits = new.size <= self.size && self.len + new.size <= MAX_PACKET;
        if self.closed || !new.joinable || !fits {
            return false;
        }
        let alike = match self.layout.protocol {
            Protocol::Tcp => {
                let sequence = get32(packet, new.layout.transport + TCP_SEQUENCE);
                sequence == self.next_sequence && same_tcp(head, packet, &self.layout)
            }
            Protocol::Udp => self.count < MAX_DATAGRAMS,
        };
        if !alike || !same_ip(head, packet, self.layout.version) {
            return false;
        }
        self.whole = self.whole || is_whole(head, &self.layout);
        self.whole && is_whole(packet, &new.layout)
    }

    fn extend(&mut self, new: &Self) {
        self.count += 1;
        self.len += new.size;
        self.next_sequence = new.next_sequence;
        self.push = new.push;
        self.closed = new.push || new.size < self.size;
    }
}

fn same_flow(a: &[u8], shape_a: &Layout, b: &[u8], shape_b: &Layout) -> bool {
    let ports = shape_a.transport..shape_a.transport + 4;
    let addresses = shape_a.version.addresses();
    shape_a.version == shape_b.version
        && shape_a.protocol == shape_b.protocol
        && a[ports.clone()] == b[ports]
        && a[addresses.clone()] == b[addresses]
}

/// Equal in what every piece inherits: type of service, do-not-fragment, time to live; for IPv6 also the
/// flow label. IPv4 identifications need not follow each other: whoever cuts counts them up anew.
fn same_ip(a: &[u8], b: &[u8], version: Version) -> bool {
    match version {
        Version::V4 => a[1] == b[1] && a[6] == b[6] && a[8] == b[8],
        Version::V6 => a[..4] == b[..4] && a[7] == b[7],
    }
}

/// Equal acknowledgement, header length, flags but PSH, window, urgent pointer and options.
fn same_tcp(a: &[u8], b: &[u8], shape: &Layout) -> bool {
    let (a, b) = (&a[shape.transport..shape.payload], &b[shape.transport..]);
    a[8..TCP_FLAGS] == b[8..TCP_FLAGS]
        && (a[TCP_FLAGS] ^ b[TCP_FLAGS]) & !PSH == 0
        && a[14..16] == b[14..16]
        && b.get(18..a.len()).is_some_and(|rest| a[18..] == *rest)
}

fn is_whole(packet: &[u8], layout: &Layout) -> bool {
    let Some(len) = u16::try_from(packet.len() - layout.transport).ok() else {
        return false;
    };
    pseudo_header(packet, layout.version, layout.protocol.number())
        .add_word(len)
        .add(&packet[layout.transport..])
        .is_whole()
}

#[cfg(test)]
mod tests;
