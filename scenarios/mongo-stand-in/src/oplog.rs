//! The log of operations that members copy from each other, and the times that order it.

use std::collections::VecDeque;
use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, Timestamp, doc};

/// The most that a log keeps, in bytes. Who is further behind copies everything anew.
const MOST_BYTES: usize = 32 << 20;

/// When an operation was logged: in which term, and at which time. Later operations of one log are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OpTime {
    /// The term of the primary that logged it.
    pub(crate) term: i64,
    /// Seconds since 1970, and a number within the second.
    pub(crate) time: (u32, u32),
}

impl OpTime {
    /// Before all operations.
    pub(crate) const NONE: Self = Self {
        term: 0,
        time: (0, 0),
    };

    /// The next time after this one, on the clock or one step further.
    pub(crate) fn next(self, term: i64, wall: bson::DateTime) -> Self {
        let seconds = u32::try_from(wall.timestamp_millis() / 1000).unwrap_or(u32::MAX);
        let time = if seconds > self.time.0 {
            (seconds, 1)
        } else {
            (self.time.0, self.time.1.saturating_add(1))
        };
        Self { term, time }
    }

    /// As answers have it: `ts` and `t`.
    pub(crate) fn to_document(self) -> Document {
        doc! { "ts": self.timestamp(), "t": self.term }
    }

    /// Reads what [`to_document`](Self::to_document) wrote.
    pub(crate) fn of(document: &Document) -> Option<Self> {
        let Timestamp { time, increment } = document.get_timestamp("ts").ok()?;
        Some(Self {
            term: document.get_i64("t").ok()?,
            time: (time, increment),
        })
    }

    /// Its time alone.
    pub(crate) fn timestamp(self) -> Timestamp {
        Timestamp {
            time: self.time.0,
            increment: self.time.1,
        }
    }
}

/// One command's changes, which take effect together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// When.
    pub(crate) at: OpTime,
    /// What; nothing where a new primary begins its term.
    pub(crate) changes: Vec<Change>,
    /// The retryable write that did it.
    pub(crate) session: Option<SessionWrite>,
}

/// A change that has the same effect when it is made again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// The collection is there.
    Create(String),
    /// The document is in the collection, in the place of the one with its `_id`.
    Put(String, Arc<Vec<u8>>),
    /// The collection has no document of this `_id`.
    Delete(String, Bson),
    /// The collection is gone.
    Drop(String),
    /// The database is gone.
    DropDatabase(String),
}

/// The last retryable write of a session, so that it is not done twice (driver specifications, retryable writes).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionWrite {
    /// The session, its `lsid` encoded.
    pub(crate) session: Vec<u8>,
    /// Its `txnNumber`.
    pub(crate) number: i64,
    /// What was answered.
    pub(crate) answer: Document,
}

impl Change {
    /// About how much it takes, in bytes, in memory and in a message.
    pub(crate) fn size(&self) -> usize {
        /// Lengths, names and types of the fields around it.
        const AROUND: usize = 64;
        AROUND
            + match self {
                Self::Put(namespace, bytes) => namespace.len() + bytes.len(),
                Self::Create(name)
                | Self::Drop(name)
                | Self::DropDatabase(name)
                | Self::Delete(name, _) => name.len(),
            }
    }

    fn to_document(&self) -> Document {
        match self {
            Self::Create(namespace) => doc! { "o": "create", "ns": namespace },
            Self::Put(namespace, bytes) => {
                // As bytes: it may be as deep as documents get, and need not be read on the way.
                let document = binary(bytes.to_vec());
                doc! { "o": "put", "ns": namespace, "document": document }
            }
            Self::Delete(namespace, id) => {
                doc! { "o": "delete", "ns": namespace, "id": id.clone() }
            }
            Self::Drop(namespace) => doc! { "o": "drop", "ns": namespace },
            Self::DropDatabase(name) => doc! { "o": "dropDatabase", "ns": name },
        }
    }

    fn of(document: &Document) -> Option<Self> {
        let namespace = document.get_str("ns").ok()?.to_owned();
        Some(match document.get_str("o").ok()? {
            "create" => Self::Create(namespace),
            "put" => {
                let bytes = document.get_binary_generic("document").ok()?;
                Self::Put(namespace, Arc::new(bytes.clone()))
            }
            "delete" => Self::Delete(namespace, document.get("id")?.clone()),
            "drop" => Self::Drop(namespace),
            "dropDatabase" => Self::DropDatabase(namespace),
            _ => return None,
        })
    }
}

impl SessionWrite {
    pub(crate) fn to_document(&self) -> Document {
        let session = binary(self.session.clone());
        doc! { "lsid": session, "txnNumber": self.number, "answer": self.answer.clone() }
    }

    pub(crate) fn of(document: &Document) -> Option<Self> {
        Some(Self {
            session: document.get_binary_generic("lsid").ok()?.clone(),
            number: document.get_i64("txnNumber").ok()?,
            answer: document.get_document("answer").ok()?.clone(),
        })
    }
}

impl Entry {
    /// As members send it to each other.
    pub(crate) fn to_document(&self) -> Document {
        let changes: Vec<Bson> = changes_to_array(&self.changes);
        let mut document = self.at.to_document();
        document.insert("changes", changes);
        if let Some(session) = &self.session {
            document.insert("session", session.to_document());
        }
        document
    }

    /// Reads what [`to_document`](Self::to_document) wrote.
    pub(crate) fn of(document: &Document) -> Option<Self> {
        let session = match document.get_document("session") {
            Ok(session) => Some(SessionWrite::of(session)?),
            Err(_) => None,
        };
        Some(Self {
            at: OpTime::of(document)?,
            changes: changes_of(document.get_array("changes").ok()?)?,
            session,
        })
    }

    pub(crate) fn size(&self) -> usize {
        /// The entry itself, and about what the answer of a session's write takes.
        const AROUND: usize = 256;
        AROUND + self.changes.iter().map(Change::size).sum::<usize>()
    }
}

/// Changes as members send them.
pub(crate) fn changes_to_array(changes: &[Change]) -> Vec<Bson> {
    let changes = changes.iter().map(Change::to_document);
    changes.map(Bson::Document).collect()
}

/// Reads what [`changes_to_array`] wrote.
pub(crate) fn changes_of(array: &[Bson]) -> Option<Vec<Change>> {
    let changes = array.iter().map(|change| Change::of(change.as_document()?));
    changes.collect()
}

fn binary(bytes: Vec<u8>) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes,
    }
}

/// The latest operations.
#[derive(Debug)]
pub(crate) struct Oplog {
    entries: VecDeque<Arc<Entry>>,
    /// The operation before the first that is kept.
    base: OpTime,
    bytes: usize,
}

impl Oplog {
    /// A log of nothing, of a member whose data is as of `base`.
    pub(crate) fn after_copy(base: OpTime) -> Self {
        Self {
            entries: VecDeque::new(),
            base,
            bytes: 0,
        }
    }

    /// The last operation.
    pub(crate) fn last(&self) -> OpTime {
        self.entries.back().map_or(self.base, |entry| entry.at)
    }

    /// Adds an operation, and drops the oldest where there are too many.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += entry.size();
        self.entries.push_back(Arc::new(entry));
        while self.bytes > MOST_BYTES && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.size();
                self.base = oldest.at;
            }
        }
    }

    /// The operations after `at`, about `limit` bytes of them but at least one where there are any; `None`
    /// where the log does not have `at`, so that who asks has another past, or is too far behind.
    pub(crate) fn after(&self, at: OpTime, limit: usize) -> Option<Vec<Arc<Entry>>> {
        let from = if at == self.base {
            0
        } else {
            let found = self.entries.binary_search_by_key(&at, |entry| entry.at);
            found.ok()? + 1
        };
        let mut bytes = 0;
        let within = self.entries.iter().skip(from).take_while(|entry| {
            let first = bytes == 0;
            bytes += entry.size();
            first || bytes <= limit
        });
        Some(within.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: i64, second: u32) -> OpTime {
        OpTime {
            term,
            time: (second, 1),
        }
    }

    fn entry(at: OpTime, bytes: usize) -> Entry {
        Entry {
            at,
            changes: vec![Change::Put("db.c".into(), Arc::new(vec![0; bytes]))],
            session: Some(SessionWrite {
                session: vec![1],
                number: 7,
                answer: doc! { "n": 1 },
            }),
        }
    }

    #[test]
    fn an_entry_survives_the_way_to_another_member() {
        let mut original = entry(at(3, 9), 10);
        original.changes.extend([
            Change::Create("a.b".into()),
            Change::Delete("a.b".into(), Bson::Int32(4)),
            Change::Drop("a.b".into()),
            Change::DropDatabase("a".into()),
        ]);
        assert_eq!(Entry::of(&original.to_document()), Some(original));
        assert_eq!(Entry::of(&doc! { "changes": [] }), None);
    }

    #[test]
    fn only_who_has_the_same_past_gets_what_follows() {
        let mut log = Oplog::after_copy(at(1, 1));
        log.push(entry(at(1, 2), 10));
        log.push(entry(at(2, 3), 10));
        let times = |after| {
            let entries = log.after(after, 1 << 20)?;
            Some(entries.iter().map(|entry| entry.at).collect::<Vec<_>>())
        };
        assert_eq!(times(at(1, 1)), Some(vec![at(1, 2), at(2, 3)]));
        assert_eq!(times(at(1, 2)), Some(vec![at(2, 3)]));
        assert_eq!(times(at(2, 3)), Some(vec![]));
        // Logged by a primary that the others did not follow.
        assert_eq!(times(at(1, 3)), None);
        assert_eq!(log.after(at(1, 1), 1).unwrap().len(), 1, "at least one");
    }

    #[test]
    fn the_log_is_bounded_and_knows_where_it_begins() {
        let mut log = Oplog::after_copy(OpTime::NONE);
        for second in 1..=5 {
            log.push(entry(at(1, second), 10 << 20));
        }
        assert!(log.bytes <= MOST_BYTES);
        assert_eq!(log.after(OpTime::NONE, 1), None);
        assert_eq!(log.last(), at(1, 5));
        assert_eq!(
            log.after(log.base, usize::MAX).unwrap().len(),
            log.entries.len()
        );
    }

    #[test]
    fn times_only_grow() {
        let first = OpTime::NONE.next(1, bson::DateTime::from_millis(5_000));
        assert_eq!(first.time, (5, 1));
        // The clock went back.
        let second = first.next(2, bson::DateTime::from_millis(1_000));
        assert_eq!(second.time, (5, 2));
        assert!(second > first);
    }
}
