//! Cutting a super-packet into the packets it stands for, and completing what offload left undone.

use std::ops::Range;

use thiserror::Error;

use super::checksum::{Sum, pseudo_header, set_ipv4_header_checksum};
use super::layout::{
    CWR, FIN, Layout, PSH, Protocol, TCP_FLAGS, TCP_SEQUENCE, Version, get16, get32, put16, put32,
};
use super::{MAX_PACKET, TAIL_ROOM, VirtioHeader};

/// Packets are padded to a multiple of this (paper §5.4.6), but, as the kernel's WireGuard does it, never
/// beyond the MTU. The other end takes the padding off by the length in the IP header.
const PADDING: usize = 16;

/// Bytes of headers that are kept to be put before each piece: IPv6, some extensions, a full TCP header.
const MAX_HEADERS: usize = 256;

/// A packet that contradicts its own description.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a packet from the interface contradicts its offload header")]
pub struct Malformed;

/// The packets of one super-packet, cut one at a time *in place*: each piece's headers are written over
/// the end of the piece before it, which must be done with by then. So no payload is ever copied.
///
/// A plain packet is a super-packet of one.
#[derive(Debug)]
pub struct Segments<'a> {
    buffer: &'a mut [u8],
    /// Bytes of `buffer` that are the packet.
    end: usize,
    mtu: usize,
    cut: Option<Cut>,
    /// Where the next piece's payload (or the plain packet) starts.
    next: usize,
    /// What padding overwrote, and where.
    saved: [u8; TAIL_ROOM],
    padded: Range<usize>,
}

/// One packet.
#[derive(Debug)]
pub struct Segment<'a> {
    /// The packet and the zeros that pad it.
    pub padded: &'a [u8],
    /// Its length without them, bytes.
    pub len: usize,
}

/// How to cut.
#[derive(Debug)]
struct Cut {
    layout: Layout,
    size: u16,
    headers: [u8; MAX_HEADERS],
    pseudo_header: Sum,
    index: u16,
}

impl<'a> Segments<'a> {
    /// Takes the packet in the first `len` bytes of `buffer`, described by `header`. Pieces are padded
    /// into the bytes behind them, as far as `buffer` and `mtu` reach.
    ///
    /// # Errors
    /// [`Malformed`]; nothing was cut then.
    pub fn new(
        header: &VirtioHeader,
        buffer: &'a mut [u8],
        len: usize,
        mtu: usize,
    ) -> Result<Self, Malformed> {
        let packet = buffer.get_mut(..len).ok_or(Malformed)?;
        let version = Version::of(packet).ok_or(Malformed)?;
        if len < version.header_len() || len > MAX_PACKET {
            return Err(Malformed);
        }
        let cut = match header.gso_type {
            0 => {
                if header.flags & VirtioHeader::NEEDS_CHECKSUM != 0 {
                    complete_checksum(packet, header)?;
                }
                None
            }
            _ => Some(Cut::plan(header, version, packet)?),
        };
        let next = cut.as_ref().map_or(0, |cut| cut.layout.payload);
        Ok(Self {
            buffer,
            end: len,
            mtu,
            cut,
            next,
            saved: [0; TAIL_ROOM],
            padded: 0..0,
        })
    }

    /// The next packet, until there is none.
    pub fn next_packet(&mut self) -> Option<Segment<'_>> {
        let saved = &self.saved[..self.padded.len()];
        self.buffer[self.padded.clone()].copy_from_slice(saved);
        self.padded = 0..0;
        if self.next >= self.end {
            return None;
        }
        let (start, end) = match &mut self.cut {
            None => (0, self.end),
            Some(cut) => {
                let end = self.end.min(self.next + usize::from(cut.size));
                let start = self.next - cut.layout.payload;
                let last = end == self.end;
                cut.write_headers(&mut self.buffer[start..end], last);
                (start, end)
            }
        };
        self.next = end;
        let len = end - start;
        let room = self.buffer.len() - start;
        self.pad(end..start + padded_len(len, self.mtu).min(room));
        Some(Segment {
            padded: &self.buffer[start..self.padded.end],
            len,
        })
    }

    fn pad(&mut self, padding: Range<usize>) {
        self.saved[..padding.len()].copy_from_slice(&self.buffer[padding.clone()]);
        self.buffer[padding.clone()].fill(0);
        self.padded = padding;
    }
}

impl Cut {
    fn plan(header: &VirtioHeader, version: Version, packet: &[u8]) -> Result<Self, Malformed> {
        let protocol = match (header.gso_type & !VirtioHeader::ECN, version) {
            (VirtioHeader::TCP_V4, Version::V4) | (VirtioHeader::TCP_V6, Version::V6) => {
                Protocol::Tcp
            }
            (VirtioHeader::UDP, _) => Protocol::Udp,
            _ => return Err(Malformed),
        };
        let described = header.flags & VirtioHeader::NEEDS_CHECKSUM != 0
            && usize::from(header.checksum_offset) == protocol.checksum_offset();
        let layout = Layout::at(packet, protocol, header.checksum_start.into()).ok_or(Malformed)?;
        let header_fits = version == Version::V6
            || (version.header_len()..=layout.transport).contains(&ipv4_header_len(packet));
        if !described || !header_fits || header.gso_size == 0 || layout.payload > MAX_HEADERS {
            return Err(Malformed);
        }
        let mut headers = [0; MAX_HEADERS];
        headers[..layout.payload].copy_from_slice(&packet[..layout.payload]);
        Ok(Self {
            layout,
            size: header.gso_size,
            headers,
            pseudo_header: pseudo_header(packet, version, protocol.number()),
            index: 0,
        })
    }

    /// Makes `packet`, whose payload is in place, a packet of its own.
    fn write_headers(&mut self, packet: &mut [u8], last: bool) {
        let Layout {
            version,
            protocol,
            transport,
            payload,
        } = self.layout;
        let index = self.index;
        packet[..payload].copy_from_slice(&self.headers[..payload]);
        // Never false: a piece is no longer than the super-packet it came in.
        self.layout.set_lengths(packet, packet.len());
        if version == Version::V4 {
            let id = get16(packet, 4).wrapping_add(index);
            put16(packet, 4, id);
            set_ipv4_header_checksum(packet, ipv4_header_len(packet));
        }
        if protocol == Protocol::Tcp {
            let sent = u32::from(index).wrapping_mul(self.size.into());
            let sequence = get32(packet, transport + TCP_SEQUENCE).wrapping_add(sent);
            put32(packet, transport + TCP_SEQUENCE, sequence);
            // PSH and FIN (RFC 9293 §3.1) speak of the end, CWR (RFC 3168 §6.1.2) of the start.
            let flags = &mut packet[transport + TCP_FLAGS];
            *flags &= if last { !0 } else { !(PSH | FIN) };
            *flags &= if index == 0 { !0 } else { !CWR };
        }
        let field = transport + protocol.checksum_offset();
        put16(packet, field, 0);
        let len = u16::try_from(packet.len() - transport).expect("MAX_PACKET is the limit");
        let checksum = self
            .pseudo_header
            .add_word(len)
            .add(&packet[transport..])
            .checksum(protocol.checksum_offset());
        put16(packet, field, checksum);
        self.index = index.wrapping_add(1);
    }
}

/// Sums what the kernel left to the hardware. The field holds the pseudo-header's sum already.
fn complete_checksum(packet: &mut [u8], header: &VirtioHeader) -> Result<(), Malformed> {
    let start = usize::from(header.checksum_start);
    let offset = usize::from(header.checksum_offset);
    let field = start + offset;
    if start >= packet.len() || field + 2 > packet.len() {
        return Err(Malformed);
    }
    let checksum = Sum::default().add(&packet[start..]).checksum(offset);
    put16(packet, field, checksum);
    Ok(())
}

fn ipv4_header_len(packet: &[u8]) -> usize {
    usize::from(packet[0] & 0x0f) * 4
}

fn padded_len(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING).min(mtu).max(len)
}

#[cfg(test)]
pub(super) mod tests;
