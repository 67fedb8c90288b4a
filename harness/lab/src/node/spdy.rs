//! The frames of SPDY/3.1, as far as `kubectl port-forward` uses them: bytes in, frames out.
//!
//! Header blocks are compressed with one zlib stream for each direction. The client's is inflated; ours is
//! made of stored blocks, which every inflater reads. Flow control is left out: the clients of Kubernetes
//! (`moby/spdystream`) neither do it nor expect it.
//! Source: SPDY Protocol, draft 3.1, sections 2.2, 2.6.

mod headers;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use headers::{Deflater, Inflater};

/// The version in control frames: that of 3.1 is 3.
const VERSION: u16 = 3;

/// The first bit of a control frame.
const CONTROL: u16 = 0x8000;

/// The flag of the last frame of a stream's direction.
const FIN: u8 = 0x01;

/// The length of every frame's head, in bytes.
const HEAD: usize = 8;

/// The largest frame that is taken, in bytes: far above what clients send at once.
const LARGEST: usize = 1 << 20;

/// The most data of one frame that is sent, in bytes: lengths have 24 bits.
const LARGEST_DATA: usize = 1 << 20;

/// A frame of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// `SYN_STREAM`: a new stream.
    Open {
        stream: u32,
        headers: Vec<(String, String)>,
    },
    /// Data, or the end of the client's side.
    Data { stream: u32, data: Bytes, fin: bool },
    /// `RST_STREAM`: both sides end at once.
    Reset { stream: u32 },
    /// `PING`, which is answered with the same number.
    Ping { id: u32 },
    /// `GOAWAY`: no new streams follow.
    GoAway,
    /// What needs no answer.
    Other,
}

/// What comes in is not SPDY/3.1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpdyError {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a control frame of version {0}")]
    Version(u16),
    #[error("a frame is too short for what it is")]
    Short,
    #[error("a header block cannot be read: {0}")]
    Headers(&'static str),
}

/// Reads frames.
#[derive(Default)]
pub(crate) struct Decoder {
    inflater: Inflater,
}

impl Decoder {
    /// The first frame of `from`, taken out of it; `None` where it is not whole.
    pub(crate) fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        let Some(mut head) = from.get(..HEAD) else {
            return Ok(None);
        };
        let first = head.get_u32();
        let last = head.get_u32();
        let flags = last.to_be_bytes()[0];
        let length = usize::try_from(last & 0x00ff_ffff).unwrap_or(usize::MAX);
        if length > LARGEST {
            return Err(SpdyError::TooLong(length));
        }
        if from.len() < HEAD + length {
            return Ok(None);
        }
        from.advance(HEAD);
        let payload = from.split_to(length).freeze();
        let [high, low] =
            [first >> 16, first & 0xffff].map(|half| u16::try_from(half).unwrap_or(0));
        if high & CONTROL == 0 {
            return Ok(Some(Frame::Data {
                stream: first,
                data: payload,
                fin: flags & FIN != 0,
            }));
        }
        if high != CONTROL | VERSION {
            return Err(SpdyError::Version(high & !CONTROL));
        }
        self.control(low, payload).map(Some)
    }

    fn control(&mut self, kind: u16, mut payload: Bytes) -> Result<Frame, SpdyError> {
        let mut number = || payload.try_get_u32().map_err(|_short| SpdyError::Short);
        Ok(match kind {
            1 => {
                let stream = number()? & !(1 << 31);
                // The stream that it belongs to, its priority, and a slot for credentials.
                if payload.len() < 6 {
                    return Err(SpdyError::Short);
                }
                payload.advance(6);
                let headers = self.inflater.read(&payload)?;
                Frame::Open { stream, headers }
            }
            3 => Frame::Reset {
                stream: number()? & !(1 << 31),
            },
            6 => Frame::Ping { id: number()? },
            7 => Frame::GoAway,
            8 => {
                number()?;
                // What it says is of no use here, but the next block builds on it.
                self.inflater.read(&payload)?;
                Frame::Other
            }
            _ => Frame::Other,
        })
    }
}

/// Writes frames.
#[derive(Default)]
pub(crate) struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    /// `SYN_REPLY`, with no headers: the stream is accepted.
    pub(crate) fn reply(&mut self, stream: u32, into: &mut BytesMut) {
        let block = self.deflater.write(&[]);
        control(2, 4 + block.len(), into);
        into.put_u32(stream);
        into.put_slice(&block);
    }

    /// `PING`
    pub(crate) fn ping(id: u32, into: &mut BytesMut) {
        control(6, 4, into);
        into.put_u32(id);
    }

    /// Data, and with `fin` the end of this side.
    pub(crate) fn data(stream: u32, mut data: &[u8], fin: bool, into: &mut BytesMut) {
        loop {
            let (piece, rest) = data.split_at(data.len().min(LARGEST_DATA));
            let last = rest.is_empty();
            into.put_u32(stream);
            into.put_u8(if fin && last { FIN } else { 0 });
            put_length(piece.len(), into);
            into.put_slice(piece);
            if last {
                return;
            }
            data = rest;
        }
    }
}

/// The head of a control frame without flags.
fn control(kind: u16, length: usize, into: &mut BytesMut) {
    into.put_u16(CONTROL | VERSION);
    into.put_u16(kind);
    into.put_u8(0);
    put_length(length, into);
}

fn put_length(length: usize, into: &mut BytesMut) {
    into.put_uint(u64::try_from(length).unwrap_or(u64::MAX) & 0x00ff_ffff, 3);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two streams as kubectl 1.32 opens them: `streamType: error`, then `streamType: data`.
    fn opened(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Frame> {
        let mut from = BytesMut::from(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.decode(&mut from).unwrap() {
            frames.push(frame);
        }
        assert!(from.is_empty());
        frames
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut bytes = BytesMut::new();
        Encoder::data(5, b"hello", false, &mut bytes);
        Encoder::data(5, b"", true, &mut bytes);
        Encoder::ping(7, &mut bytes);
        let data = |data: &'static [u8], fin| Frame::Data {
            stream: 5,
            data: Bytes::from_static(data),
            fin,
        };
        let frames = opened(&mut Decoder::default(), &bytes);
        assert_eq!(
            frames,
            [
                data(b"hello", false),
                data(b"", true),
                Frame::Ping { id: 7 }
            ]
        );
    }

    #[test]
    fn a_frame_that_is_not_whole_waits_for_the_rest() {
        let mut bytes = BytesMut::new();
        Encoder::data(1, b"hello", false, &mut bytes);
        for end in 0..bytes.len() {
            let mut part = BytesMut::from(&bytes[..end]);
            assert_eq!(Decoder::default().decode(&mut part), Ok(None), "{end}");
            assert_eq!(part.len(), end, "nothing is lost");
        }
    }

    #[test]
    fn what_is_not_spdy_is_refused() {
        let decode = |bytes: &[u8]| Decoder::default().decode(&mut BytesMut::from(bytes));
        assert_eq!(
            decode(b"\x80\x02\x00\x06\x00\x00\x00\x00"),
            Err(SpdyError::Version(2))
        );
        assert_eq!(
            decode(b"\x80\x03\x00\x06\x00\x00\x00\x00"),
            Err(SpdyError::Short)
        );
        assert!(matches!(
            decode(b"\x00\x00\x00\x01\x00\xff\xff\xff"),
            Err(SpdyError::TooLong(_))
        ));
        let broken =
            b"\x80\x03\x00\x01\x00\x00\x00\x0e\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00gzip";
        assert!(matches!(decode(broken), Err(SpdyError::Headers(_))));
    }
}
