//! The data: databases, collections and documents, in memory and bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bson::{Bson, Document, RawDocument};

use crate::error::{Code, CommandError};
use crate::filter::Filter;
use crate::oplog::{Change, SessionWrite};
use crate::value::id_key;

/// The most that all documents together may take, in bytes.
const MOST_BYTES: usize = 128 << 20;

/// The most collections.
const MOST_COLLECTIONS: usize = 1_000;

/// The most sessions whose last write is remembered.
const MOST_SESSIONS: usize = 100_000;

/// What a document takes beside its own bytes, about, in bytes.
const AROUND: usize = 128;

/// All data of a member. A clone shares the documents.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    /// Collections by namespace, `database.collection`.
    collections: BTreeMap<String, Collection>,
    sessions: HashMap<Vec<u8>, SessionWrite>,
    bytes: usize,
}

/// A document, encoded.
pub(crate) type Stored = Arc<Vec<u8>>;

/// Documents in the order in which they came, and where each `_id` is.
#[derive(Debug, Clone, Default)]
struct Collection {
    documents: BTreeMap<u64, Stored>,
    by_id: HashMap<Vec<u8>, u64>,
    next: u64,
}

impl Store {
    /// The documents of `namespace` that `filter` selects, in the order in which they came, at most `limit`.
    pub(crate) fn select(&self, namespace: &str, filter: &Filter, limit: usize) -> Vec<Stored> {
        let Some(collection) = self.collections.get(namespace) else {
            return Vec::new();
        };
        let selected = |bytes: &&Stored| filter.is_empty() || filter.matches(&read(bytes));
        if let Some(id) = filter.id() {
            let place = collection.by_id.get(&id_key(id));
            let found = place.and_then(|place| collection.documents.get(place));
            return found
                .into_iter()
                .filter(selected)
                .take(limit)
                .cloned()
                .collect();
        }
        let documents = collection.documents.values();
        documents.filter(selected).take(limit).cloned().collect()
    }

    /// How many documents are in `namespace`.
    pub(crate) fn count(&self, namespace: &str) -> usize {
        let collection = self.collections.get(namespace);
        collection.map_or(0, |collection| collection.documents.len())
    }

    /// Whether `namespace` has a document of this `_id`.
    pub(crate) fn has(&self, namespace: &str, id: &Bson) -> bool {
        let collection = self.collections.get(namespace);
        collection.is_some_and(|collection| collection.by_id.contains_key(&id_key(id)))
    }

    /// Whether there is such a collection.
    pub(crate) fn has_collection(&self, namespace: &str) -> bool {
        self.collections.contains_key(namespace)
    }

    /// The namespaces, sorted, with the bytes of their documents.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&str, usize)> {
        self.collections.iter().map(|(namespace, collection)| {
            let bytes = collection.documents.values().map(|bytes| bytes.len());
            (namespace.as_str(), bytes.sum())
        })
    }

    /// The last retryable write of a session.
    pub(crate) fn session(&self, session: &[u8]) -> Option<&SessionWrite> {
        self.sessions.get(session)
    }

    /// Whether there is room for a change. A change that removes something always finds room.
    pub(crate) fn room_for(&self, change: &Change) -> Result<(), CommandError> {
        let new = match change {
            Change::Put(namespace, bytes) => {
                if self.bytes + bytes.len() + AROUND > MOST_BYTES {
                    let message = format!("this stand-in keeps at most {MOST_BYTES} bytes");
                    return Err(Code::OutOfDiskSpace.because(message));
                }
                namespace
            }
            Change::Create(namespace) => namespace,
            _ => return Ok(()),
        };
        if !self.has_collection(new) && self.collections.len() >= MOST_COLLECTIONS {
            let message = format!("this stand-in keeps at most {MOST_COLLECTIONS} collections");
            return Err(Code::OutOfDiskSpace.because(message));
        }
        Ok(())
    }

    /// Makes a change.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(namespace) => {
                self.collections.entry(namespace.clone()).or_default();
            }
            Change::Put(namespace, bytes) => {
                let id = read_id(bytes);
                let collection = self.collections.entry(namespace.clone()).or_default();
                let place = *collection.by_id.entry(id_key(&id)).or_insert_with(|| {
                    collection.next += 1;
                    collection.next
                });
                self.bytes += bytes.len() + AROUND;
                if let Some(before) = collection.documents.insert(place, bytes.clone()) {
                    self.bytes -= before.len() + AROUND;
                }
            }
            Change::Delete(namespace, id) => {
                if let Some(collection) = self.collections.get_mut(namespace)
                    && let Some(place) = collection.by_id.remove(&id_key(id))
                    && let Some(bytes) = collection.documents.remove(&place)
                {
                    self.bytes -= bytes.len() + AROUND;
                }
            }
            Change::Drop(namespace) => {
                if let Some(collection) = self.collections.remove(namespace) {
                    self.bytes -= collection.size();
                }
            }
            Change::DropDatabase(name) => {
                let prefix = format!("{name}.");
                self.collections.retain(|namespace, collection| {
                    let stays = !namespace.starts_with(&prefix);
                    if !stays {
                        self.bytes -= collection.size();
                    }
                    stays
                });
            }
        }
    }

    /// Remembers a session's last write.
    ///
    /// Where too many are remembered all are forgotten: a write that is retried just then is done again. The
    /// number is far above what clients that pool their sessions use.
    pub(crate) fn remember(&mut self, write: SessionWrite) {
        if self.sessions.len() >= MOST_SESSIONS && !self.sessions.contains_key(&write.session) {
            self.sessions.clear();
        }
        self.sessions.insert(write.session.clone(), write);
    }

    /// Everything, as changes that make it of nothing, and the sessions.
    pub(crate) fn contents(self) -> (Vec<Change>, Vec<SessionWrite>) {
        let mut changes = Vec::new();
        for (namespace, collection) in self.collections {
            let documents = collection.documents.into_values();
            changes.push(Change::Create(namespace.clone()));
            changes.extend(documents.map(|bytes| Change::Put(namespace.clone(), bytes)));
        }
        (changes, self.sessions.into_values().collect())
    }
}

impl Collection {
    fn size(&self) -> usize {
        let documents = self.documents.values();
        documents.map(|bytes| bytes.len() + AROUND).sum()
    }
}

/// Reads a stored document. All that are stored were encoded here, by this member or another.
pub(crate) fn read(bytes: &[u8]) -> Document {
    let raw = RawDocument::from_bytes(bytes).ok();
    raw.and_then(|raw| Document::try_from(raw).ok())
        .unwrap_or_default()
}

fn read_id(bytes: &[u8]) -> Bson {
    let raw = RawDocument::from_bytes(bytes).ok();
    let id = raw.and_then(|raw| raw.get("_id").ok().flatten());
    id.and_then(|id| Bson::try_from(id).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn put(document: &Document) -> Change {
        Change::Put("db.c".into(), Arc::new(document.to_vec().unwrap()))
    }

    fn all(store: &Store) -> Vec<Document> {
        let stored = store.select("db.c", &Filter::default(), usize::MAX);
        stored.iter().map(|bytes| read(bytes)).collect()
    }

    #[test]
    fn a_change_made_again_changes_nothing() {
        let changes = [
            put(&doc! { "_id": 2, "a": 1 }),
            put(&doc! { "_id": 1 }),
            put(&doc! { "_id": 2, "a": 2 }),
            Change::Delete("db.c".into(), Bson::Int64(1)),
        ];
        let mut store = Store::default();
        for _ in 0..2 {
            changes.iter().for_each(|change| store.apply(change));
            assert_eq!(all(&store), [doc! { "_id": 2, "a": 2 }]);
        }
        let bytes = store.bytes;
        assert_eq!(
            bytes,
            doc! { "_id": 2, "a": 2 }.to_vec().unwrap().len() + AROUND
        );
        store.apply(&Change::DropDatabase("d".into()));
        assert_eq!(
            store.bytes, bytes,
            "another database, whose name is shorter"
        );
        store.apply(&Change::DropDatabase("db".into()));
        assert_eq!((store.bytes, store.has_collection("db.c")), (0, false));
    }

    #[test]
    fn what_is_copied_is_the_same() {
        let mut store = Store::default();
        for id in [3, 1, 2] {
            store.apply(&put(&doc! { "_id": id }));
        }
        store.apply(&Change::Create("db.empty".into()));
        let (changes, _) = store.clone().contents();
        let mut copy = Store::default();
        changes.iter().for_each(|change| copy.apply(change));
        assert_eq!(all(&copy), all(&store));
        assert!(copy.has_collection("db.empty"));
        assert_eq!(copy.bytes, store.bytes);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut store = Store::default();
        let large = Change::Put("db.c".into(), Arc::new(vec![0; MOST_BYTES]));
        assert_eq!(
            store.room_for(&large).unwrap_err().code,
            Code::OutOfDiskSpace
        );
        for number in 0..MOST_COLLECTIONS {
            store.apply(&Change::Create(format!("db.{number}")));
        }
        assert!(store.room_for(&put(&doc! { "_id": 1 })).is_err());
        assert!(store.room_for(&Change::Create("db.1".into())).is_ok());
    }
}
