//! Header blocks: names and values, compressed.

use bytes::{Buf as _, BufMut as _};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::SpdyError;

/// What both sides know before the first block (SPDY draft 3.1, section 2.6.10.1).
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");

/// How far back a compressed block may point, in bytes (RFC 1951 §2).
const WINDOW: usize = 32 << 10;

/// The head of a zlib stream with a dictionary: two bytes, and the dictionary's checksum (RFC 1950 §2.2).
const ZLIB_HEAD: usize = 6;

/// The flag in its second byte that says that there is a dictionary.
const HAS_DICTIONARY: u8 = 0x20;

/// The largest block that is taken, inflated, in bytes.
const LARGEST: usize = 64 << 10;

/// Reads the blocks of one direction, in their order.
pub(super) struct Inflater {
    state: Box<DecompressorOxide>,
    /// The last bytes that came out, as a ring.
    window: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        let mut window = vec![0; WINDOW].into_boxed_slice();
        window[..DICTIONARY.len()].copy_from_slice(DICTIONARY);
        Self {
            state: Box::default(),
            window,
            at: DICTIONARY.len(),
            begun: false,
        }
    }
}

impl Inflater {
    /// The names and values of the next block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        if !self.begun {
            let head = block.split_off(..ZLIB_HEAD);
            let head = head.filter(|head| head[1] & HAS_DICTIONARY != 0);
            head.ok_or(SpdyError::Headers("it does not begin with the dictionary"))?;
            self.begun = true;
        }
        let mut whole = Vec::new();
        loop {
            let (status, read, written) = decompress(
                &mut self.state,
                block,
                &mut self.window,
                self.at,
                inflate_flags::TINFL_FLAG_HAS_MORE_INPUT,
            );
            whole.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW;
            block = &block[read..];
            if whole.len() > LARGEST {
                return Err(SpdyError::Headers("it is too long"));
            }
            match status {
                TINFLStatus::NeedsMoreInput => return Ok(whole),
                TINFLStatus::HasMoreOutput => {}
                _ => return Err(SpdyError::Headers("it cannot be inflated")),
            }
        }
    }
}

/// Writes the blocks of one direction, in their order.
#[derive(Default)]
pub(super) struct Deflater {
    begun: bool,
}

impl Deflater {
    /// A block of these names and values.
    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        put_length(headers.len(), &mut plain);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            put_length(text.len(), &mut plain);
            plain.put_slice(text.as_bytes());
        }
        let mut block = Vec::new();
        if !self.begun {
            // Without a dictionary, which stored bytes do not need.
            block.put_slice(&[0x78, 0x01]);
            self.begun = true;
        }
        put_stored(&plain, &mut block);
        // An empty one makes the reader give out what it holds.
        put_stored(&[], &mut block);
        block
    }
}

/// A stored block that is not the last (RFC 1951 §3.2.4); `plain` is short.
fn put_stored(plain: &[u8], into: &mut Vec<u8>) {
    let length = u16::try_from(plain.len()).unwrap_or(u16::MAX);
    into.put_u8(0);
    into.put_u16_le(length);
    into.put_u16_le(!length);
    into.put_slice(plain);
}

fn put_length(length: usize, into: &mut Vec<u8>) {
    into.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn parse(mut plain: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
    let count = number(&mut plain)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((text(&mut plain)?, text(&mut plain)?));
    }
    Ok(headers)
}

fn number(plain: &mut &[u8]) -> Result<u32, SpdyError> {
    plain
        .try_get_u32()
        .map_err(|_short| SpdyError::Headers("it is cut off"))
}

fn text(plain: &mut &[u8]) -> Result<String, SpdyError> {
    let length = usize::try_from(number(plain)?).unwrap_or(usize::MAX);
    let bytes = plain.split_off(..length);
    let bytes = bytes.ok_or(SpdyError::Headers("it is cut off"))?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of zlib, with the dictionary, flushed after each block.
    const FIRST: &[u8] = b"\x78\xf9\xe3\xc6\xa7\xc2\x02\x25\x3a\x70\x3a\x2b\x29\x4a\x4d\xcc\x85\x16\x25\xac\xa9\xa0\x80\x86\x14\xcb\x45\xe0\x1c\x60\x61\x60\x61\x00\xa4\x39\x8b\x20\xd1\x98\x09\x4a\xde\x8c\x06\x00\x00\x00\x00\xff\xff";

    /// The block after it.
    const SECOND: &[u8] = b"\xc2\xaa\x19\x54\x0e\x25\x12\xd6\x0b\x00\x00\x00\xff\xff";

    #[test]
    fn the_dictionary_is_the_one_that_clients_have() {
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in DICTIONARY {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!((b << 16) | a, 0xe3c6_a7c2, "its Adler-32");
    }

    #[test]
    fn blocks_are_read_one_after_the_other() {
        let blocks = [FIRST, SECOND];
        let mut inflater = Inflater::default();
        let read = blocks.map(|block| inflater.read(block).unwrap());
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read[0],
            [
                header("streamtype", "error"),
                header("port", "8080"),
                header("requestid", "0")
            ]
        );
        assert_eq!(read[1][0], header("streamtype", "data"));
    }

    #[test]
    fn a_stream_without_the_dictionary_is_refused() {
        let block = Deflater::default().write(&[("port", "80")]);
        let read = Inflater::default().read(&block);
        assert!(matches!(read, Err(SpdyError::Headers(_))));
    }

    #[test]
    fn what_is_stored_is_read_by_any_inflater() {
        let mut deflater = Deflater::default();
        let mut all = deflater.write(&[("port", "80")]);
        all.extend(deflater.write(&[]));
        // The end of the stream, which never comes on the wire.
        all.extend([0x01, 0, 0, 0xff, 0xff]);
        let plain = miniz_oxide::inflate::decompress_to_vec(&all[2..]).unwrap();
        assert_eq!(parse(&plain).unwrap(), [("port".into(), "80".into())]);
        assert_eq!(plain[plain.len() - 4..], [0; 4], "and then none");
    }
}
