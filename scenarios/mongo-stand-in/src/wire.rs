//! Messages of the MongoDB wire protocol, bytes in and messages out, without any I/O.
//!
//! `OP_MSG` both ways, and of the opcodes before it `OP_QUERY` and `OP_REPLY`, which old clients use for their
//! first `isMaster`. `OP_COMPRESSED` is refused: no compressor is ever agreed on. Source: the MongoDB wire
//! protocol specification, and `OP_MSG` of the driver specifications.

mod checksum;
mod well_formed;

use bson::{Document, RawDocument};

use checksum::crc32c;
use well_formed::{Malformed, check};

/// The longest message that is read or written, in bytes: room for what `hello` announces, with what replication adds.
pub const MAX_MESSAGE: usize = 32_000_000;

/// The largest document, in bytes (`maxBsonObjectSize`).
pub const MAX_DOCUMENT: usize = 16 << 20;

/// The length of a message's header, in bytes.
pub const HEADER: usize = 16;

/// The last bytes of the message are their CRC-32C.
const CHECKSUM_PRESENT: u32 = 1;

/// No answer follows a request so flagged; another answer follows an answer.
const MORE_TO_COME: u32 = 1 << 1;

/// The client takes several answers to this request.
const EXHAUST_ALLOWED: u32 = 1 << 16;

/// Bits that a receiver must know, or must refuse the message.
const REQUIRED_BITS: u32 = 0xffff;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_COMPRESSED: i32 = 2012;
const OP_MSG: i32 = 2013;

/// The most documents of one command, MongoDB's own (`maxWriteBatchSize`). In memory the smallest document takes many
/// times the bytes that it has on the wire.
pub const MOST_DOCUMENTS: usize = 100_000;

/// Bytes that are no message of this protocol. The connection they came by cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message says that it is shorter than a header, or longer than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes")]
    Length(i32),
    /// The message ends within something.
    #[error("the message ends within {0}")]
    Truncated(&'static str),
    /// The opcode is none that is understood.
    #[error("opcode {0} is not understood")]
    OpCode(i32),
    /// `OP_COMPRESSED`, although no compressor was agreed on.
    #[error("a compressed message, although no compressor was agreed on")]
    Compressed,
    /// Flags that must be known are set and unknown.
    #[error("unknown flags {0:#x}")]
    Flags(u32),
    /// The checksum is of other bytes.
    #[error("the checksum is wrong")]
    Checksum,
    /// The sections are not one body and sequences with names of their own.
    #[error("the sections are wrong: {0}")]
    Sections(&'static str),
    /// A document is not BSON.
    #[error(transparent)]
    Document(#[from] Malformed),
    /// A text in a document is not UTF-8, or the like.
    #[error("a document cannot be read: {0}")]
    Bson(String),
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The sender's number of this message.
    pub id: i32,
    /// The number of the message that this one answers.
    pub answers: i32,
    /// What it carries.
    pub body: Body,
}

/// What a message carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// `OP_MSG`.
    Msg {
        /// The command or the answer; sequences are in it as arrays under their names.
        document: Document,
        /// No answer follows this request, or another answer follows this one.
        more_to_come: bool,
        /// Several answers may follow.
        exhaust_allowed: bool,
    },
    /// `OP_QUERY`.
    Query {
        /// The collection, such as `admin.$cmd`.
        namespace: String,
        /// The query, or the command.
        document: Document,
    },
    /// `OP_REPLY`, its first document.
    Reply {
        /// The document.
        document: Document,
    },
}

/// The length of the message that begins with these bytes.
///
/// # Errors
/// [`WireError::Length`] where no message can have that length.
pub fn length(header: [u8; 4]) -> Result<usize, WireError> {
    let length = i32::from_le_bytes(header);
    usize::try_from(length)
        .ok()
        .filter(|length| (HEADER..=MAX_MESSAGE).contains(length))
        .ok_or(WireError::Length(length))
}

/// Reads one whole message.
///
/// # Errors
/// See [`WireError`]; the caller closes the connection.
pub fn read(bytes: &[u8]) -> Result<Message, WireError> {
    let mut reader = Reader(bytes);
    let declared = reader.i32("its length")?;
    if usize::try_from(declared) != Ok(bytes.len()) || bytes.len() > MAX_MESSAGE {
        return Err(WireError::Length(declared));
    }
    let id = reader.i32("its header")?;
    let answers = reader.i32("its header")?;
    let body = match reader.i32("its header")? {
        OP_MSG => read_msg(bytes, reader)?,
        OP_QUERY => {
            reader.u32("flags")?;
            let namespace = reader.text("the collection's name")?;
            reader.u32("numbers")?;
            reader.u32("numbers")?;
            let document = reader.document()?;
            if !reader.0.is_empty() {
                // A second document selects fields of the answer; commands have none to select.
                reader.document()?;
            }
            reader.end()?;
            Body::Query {
                namespace,
                document,
            }
        }
        OP_REPLY => {
            reader.take(20, "numbers")?;
            let document = reader.document()?;
            reader.end()?;
            Body::Reply { document }
        }
        OP_COMPRESSED => return Err(WireError::Compressed),
        other => return Err(WireError::OpCode(other)),
    };
    Ok(Message { id, answers, body })
}

fn read_msg(whole: &[u8], mut reader: Reader<'_>) -> Result<Body, WireError> {
    let flags = reader.u32("flags")?;
    let unknown = flags & REQUIRED_BITS & !(CHECKSUM_PRESENT | MORE_TO_COME);
    if unknown != 0 {
        return Err(WireError::Flags(unknown));
    }
    if flags & CHECKSUM_PRESENT != 0 {
        let (sections, sum) = reader
            .0
            .split_last_chunk::<4>()
            .ok_or(WireError::Truncated("its checksum"))
            .map(|(sections, sum)| (sections, u32::from_le_bytes(*sum)))?;
        if crc32c(&whole[..whole.len() - 4]) != sum {
            return Err(WireError::Checksum);
        }
        reader = Reader(sections);
    }
    let mut body = None;
    let mut sequences = Vec::new();
    while !reader.0.is_empty() {
        match reader.take(1, "a section")?[0] {
            0 if body.is_some() => return Err(WireError::Sections("two bodies")),
            0 => body = Some(reader.document()?),
            1 => sequences.push(reader.sequence()?),
            _ => return Err(WireError::Sections("an unknown kind")),
        }
    }
    let mut document = body.ok_or(WireError::Sections("no body"))?;
    for (name, documents) in sequences {
        if document.contains_key(&name) {
            return Err(WireError::Sections("two of one name"));
        }
        document.insert(name, documents);
    }
    Ok(Body::Msg {
        document,
        more_to_come: flags & MORE_TO_COME != 0,
        exhaust_allowed: flags & EXHAUST_ALLOWED != 0,
    })
}

/// A message of `OP_MSG` that carries `document` as its body.
///
/// # Errors
/// Where the document cannot be encoded, or makes the message longer than [`MAX_MESSAGE`].
pub fn write(
    id: i32,
    answers: i32,
    document: &Document,
    more_to_come: bool,
) -> Result<Vec<u8>, WireError> {
    let flags = if more_to_come { MORE_TO_COME } else { 0 };
    let mut bytes = header(id, answers, OP_MSG);
    bytes.extend(flags.to_le_bytes());
    bytes.push(0);
    finish(bytes, document)
}

/// An `OP_REPLY` that carries `document` alone.
///
/// # Errors
/// As [`write()`].
pub fn write_reply(id: i32, answers: i32, document: &Document) -> Result<Vec<u8>, WireError> {
    /// The server knows `awaitData`, as all servers have since version 1.6.
    const AWAIT_CAPABLE: i32 = 8;
    let mut bytes = header(id, answers, OP_REPLY);
    bytes.extend(AWAIT_CAPABLE.to_le_bytes());
    bytes.extend(0i64.to_le_bytes());
    bytes.extend(0i32.to_le_bytes());
    bytes.extend(1i32.to_le_bytes());
    finish(bytes, document)
}

/// An `OP_QUERY` for the command `document`, as clients before `OP_MSG` sent it.
///
/// # Errors
/// As [`write()`].
pub fn write_query(id: i32, namespace: &str, document: &Document) -> Result<Vec<u8>, WireError> {
    let mut bytes = header(id, 0, OP_QUERY);
    bytes.extend(0i32.to_le_bytes());
    bytes.extend(namespace.bytes().filter(|byte| *byte != 0));
    bytes.push(0);
    bytes.extend(0i32.to_le_bytes());
    bytes.extend((-1i32).to_le_bytes());
    finish(bytes, document)
}

/// A header whose length is still to be filled in.
fn header(id: i32, answers: i32, op_code: i32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for number in [id, answers, op_code] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

fn finish(mut bytes: Vec<u8>, document: &Document) -> Result<Vec<u8>, WireError> {
    document
        .to_writer(&mut bytes)
        .map_err(|error| WireError::Bson(error.to_string()))?;
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::Length(length));
    }
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// What is left to read of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(WireError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.u32(what).map(u32::cast_signed)
    }

    /// A text that ends with a zero byte.
    fn text(&mut self, what: &'static str) -> Result<String, WireError> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let bytes = self.take(end.ok_or(WireError::Truncated(what))?, what)?;
        self.take(1, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|error| WireError::Bson(error.to_string()))
    }

    fn document(&mut self) -> Result<Document, WireError> {
        let length = Reader(self.0).u32("a document")?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = self.take(length, "a document")?;
        check(bytes)?;
        let read = |error: bson::error::Error| WireError::Bson(error.to_string());
        let raw = RawDocument::from_bytes(bytes).map_err(read)?;
        Document::try_from(raw).map_err(read)
    }

    /// A section of kind 1: a name, and documents up to its end.
    fn sequence(&mut self) -> Result<(String, Vec<bson::Bson>), WireError> {
        const WHAT: &str = "a sequence of documents";
        let size = usize::try_from(self.u32(WHAT)?).unwrap_or(usize::MAX);
        let rest = size.checked_sub(4).ok_or(WireError::Truncated(WHAT))?;
        let mut section = Reader(self.take(rest, WHAT)?);
        let name = section.text(WHAT)?;
        let mut documents = Vec::new();
        while !section.0.is_empty() {
            if documents.len() == MOST_DOCUMENTS {
                return Err(WireError::Sections("more documents than a command takes"));
            }
            documents.push(section.document()?.into());
        }
        Ok((name, documents))
    }

    fn end(&self) -> Result<(), WireError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(WireError::Sections("something behind the last document"))
        }
    }
}

#[cfg(test)]
mod tests;
