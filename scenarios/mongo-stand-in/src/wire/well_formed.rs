//! Whether bytes are one BSON document, told without recursion and without allocating what they announce.
//!
//! The BSON library decodes by recursion, so a document of a million arrays within each other would use up
//! the stack. Here depth is bounded first, as MongoDB's own server bounds it. Source: bsonspec.org, version 1.1.

/// How deep documents may be within each other; MongoDB's limit for stored documents is the same.
const DEEPEST: usize = 100;

/// The shortest document: its length and its end.
const SHORTEST: usize = 5;

/// The bytes are not BSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length leads out of what surrounds it, or is less than what it counts.
    #[error("a document has a length that cannot be, at byte {0}")]
    Length(usize),
    /// A document or a text has no zero byte where it ends.
    #[error("a document does not end where it says, at byte {0}")]
    End(usize),
    /// A type that BSON does not have.
    #[error("a document has an element of unknown type {0:#04x}")]
    Type(u8),
    /// Documents within each other, too deep.
    #[error("a document is nested deeper than {DEEPEST} levels")]
    Depth,
}

/// Checks that `bytes` are one document and nothing else.
pub(super) fn check(bytes: &[u8]) -> Result<(), Malformed> {
    let mut walk = Walk {
        bytes,
        at: 0,
        ends: Vec::new(),
    };
    walk.open(bytes.len())?;
    if walk.ends[0] != bytes.len() {
        return Err(Malformed::Length(0));
    }
    while let Some(end) = walk.ends.last().copied() {
        // The byte before the end is the document's zero.
        if walk.at + 1 == end {
            walk.ends.pop();
            walk.at = end;
        } else {
            walk.element(end - 1)?;
        }
    }
    Ok(())
}

/// A walk over a document: where it is, and where the documents end that it is in.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    ends: Vec<usize>,
}

impl Walk<'_> {
    /// Steps over one element, or into it; nothing of it may lie beyond `limit`.
    fn element(&mut self, limit: usize) -> Result<(), Malformed> {
        let kind = *self.bytes.get(self.at).ok_or(Malformed::End(self.at))?;
        self.skip(1, limit)?;
        self.text(limit)?;
        match kind {
            0x01 | 0x09 | 0x11 | 0x12 => self.skip(8, limit),
            0x02 | 0x0d | 0x0e => self.string(limit),
            0x03 | 0x04 => self.open(limit),
            0x05 => {
                let length = self.count(limit)?;
                self.skip(4, limit)?;
                self.skip(1, limit)?;
                self.skip(length, limit)
            }
            0x06 | 0x0a | 0x7f | 0xff => Ok(()),
            0x07 => self.skip(12, limit),
            0x08 => self.skip(1, limit),
            0x0b => {
                self.text(limit)?;
                self.text(limit)
            }
            0x0c => {
                self.string(limit)?;
                self.skip(12, limit)
            }
            0x0f => {
                let start = self.at;
                let whole = self.count(limit)?;
                self.skip(4, limit)?;
                self.string(limit)?;
                self.open(limit)?;
                let end = self.ends.last().copied();
                if end == start.checked_add(whole) {
                    Ok(())
                } else {
                    Err(Malformed::Length(start))
                }
            }
            0x10 => self.skip(4, limit),
            0x13 => self.skip(16, limit),
            other => Err(Malformed::Type(other)),
        }
    }

    /// Steps into a document.
    fn open(&mut self, limit: usize) -> Result<(), Malformed> {
        let length = self.count(limit)?;
        let end = self.at.checked_add(length).filter(|end| *end <= limit);
        let end = end
            .filter(|_| length >= SHORTEST)
            .ok_or(Malformed::Length(self.at))?;
        if self.bytes[end - 1] != 0 {
            return Err(Malformed::End(self.at));
        }
        if self.ends.len() == DEEPEST {
            return Err(Malformed::Depth);
        }
        self.ends.push(end);
        self.at += 4;
        Ok(())
    }

    /// Steps over a text with its length in front, which counts the zero byte at its end.
    fn string(&mut self, limit: usize) -> Result<(), Malformed> {
        let start = self.at;
        let length = self.count(limit)?;
        self.skip(4, limit)?;
        self.skip(length, limit)?;
        if length == 0 || self.bytes[self.at - 1] != 0 {
            return Err(Malformed::End(start));
        }
        Ok(())
    }

    /// Steps over a text that ends with its first zero byte.
    fn text(&mut self, limit: usize) -> Result<(), Malformed> {
        let rest = self.bytes.get(self.at..limit).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0);
        self.at += end.ok_or(Malformed::End(self.at))? + 1;
        Ok(())
    }

    /// The length that stands here, without stepping over it.
    fn count(&self, limit: usize) -> Result<usize, Malformed> {
        let wrong = Malformed::Length(self.at);
        let bytes = self.bytes.get(self.at..limit).ok_or(wrong)?;
        let bytes = bytes.first_chunk::<4>().ok_or(wrong)?;
        usize::try_from(i32::from_le_bytes(*bytes)).or(Err(wrong))
    }

    fn skip(&mut self, count: usize, limit: usize) -> Result<(), Malformed> {
        let at = self.at.checked_add(count).filter(|at| *at <= limit);
        self.at = at.ok_or(Malformed::Length(self.at))?;
        Ok(())
    }
}
