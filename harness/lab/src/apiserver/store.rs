//! The objects, in memory, and the bounded history of their changes.
//!
//! One counter numbers all changes. A write never waits for a reader: whoever follows the changes holds
//! only a number, reads on from there in the history, and learns that it is too late if the history no
//! longer reaches back so far. What may be written is not decided here.

mod feed;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::watch;

use super::{
    object::{Key, Object},
    registry::{self, Resource},
};

pub(crate) use feed::{Expired, Feed};

/// How many changes of one resource can be read again.
const HISTORY: usize = 2048;

/// A change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    /// The object after the change; for a deletion, the last one with the deletion's version.
    pub(crate) object: Arc<Object>,
    pub(crate) previous: Option<Arc<Object>>,
    pub(crate) deleted: bool,
}

impl Change {
    pub(crate) fn version(&self) -> u64 {
        self.object.version()
    }
}

/// The objects of a resource at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    pub(crate) objects: Vec<Arc<Object>>,
}

/// Another write was faster: the object is not (or no longer) what the caller took it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object was changed by another write")]
pub(crate) struct Raced;

pub(crate) struct Store {
    state: Mutex<State>,
    /// The version of the last change of anything.
    latest: watch::Sender<u64>,
}

struct State {
    version: u64,
    tables: HashMap<&'static str, Table>,
}

struct Table {
    objects: BTreeMap<Key, Arc<Object>>,
    history: VecDeque<Arc<Change>>,
    /// The version of the last change that the history has dropped.
    forgotten: u64,
    latest: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let table = |resource: &&'static Resource| (resource.plural, Table::new());
        let tables = registry::ALL.iter().map(table).collect();
        Self {
            state: Mutex::new(State { version: 1, tables }),
            latest: watch::Sender::new(1),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    pub(crate) fn find(&self, resource: &Resource, key: &Key) -> Option<Arc<Object>> {
        self.lock().table(resource).objects.get(key).cloned()
    }

    /// All objects of `resource`, or those of one namespace, in the order of their keys.
    pub(crate) fn list(&self, resource: &Resource, namespace: Option<&str>) -> Snapshot {
        let mut state = self.lock();
        let version = state.version;
        let objects = &state.table(resource).objects;
        let objects = match namespace {
            None => objects.values().cloned().collect(),
            Some(namespace) => objects
                .range(Key::new(namespace, "")..)
                .take_while(|(key, _)| key.namespace == namespace)
                .map(|(_, object)| Arc::clone(object))
                .collect(),
        };
        Snapshot { version, objects }
    }

    /// Adds an object, if there is none of that name.
    pub(crate) fn insert(
        &self,
        resource: &'static Resource,
        key: Key,
        value: Value,
    ) -> Result<Arc<Object>, Raced> {
        self.swap(resource, key, None, Some(value))
    }

    /// Puts `value` in the place of `current`, if that is still there.
    pub(crate) fn replace(&self, current: &Object, value: Value) -> Result<Arc<Object>, Raced> {
        self.swap(
            current.resource(),
            current.key(),
            Some(current.version()),
            Some(value),
        )
    }

    /// Takes `current` away, if it is still there; gives it back with the deletion's version.
    pub(crate) fn remove(&self, current: &Object) -> Result<Arc<Object>, Raced> {
        self.swap(
            current.resource(),
            current.key(),
            Some(current.version()),
            None,
        )
    }

    fn swap(
        &self,
        resource: &'static Resource,
        key: Key,
        expected: Option<u64>,
        value: Option<Value>,
    ) -> Result<Arc<Object>, Raced> {
        let mut state = self.lock();
        let next = state.version + 1;
        let table = state.table(resource);
        let previous = table.objects.get(&key).cloned();
        if previous.as_ref().map(|previous| previous.version()) != expected {
            return Err(Raced);
        }
        let (object, deleted) = match (value, &previous) {
            (Some(value), _) => (Arc::new(Object::new(resource, value, next)), false),
            (None, Some(last)) => (
                Arc::new(Object::new(resource, last.value().clone(), next)),
                true,
            ),
            (None, None) => return Err(Raced),
        };
        if deleted {
            table.objects.remove(&key);
        } else {
            table.objects.insert(key, Arc::clone(&object));
        }
        table.remember(Change {
            object: Arc::clone(&object),
            previous,
            deleted,
        });
        state.version = next;
        self.latest.send_replace(next);
        Ok(object)
    }

    /// Tells of every change of any resource, but not which it was.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Follows the changes of `resource` that are newer than `since`.
    pub(crate) fn follow(&self, resource: &'static Resource, since: u64) -> Feed {
        Feed::new(
            resource,
            since,
            self.lock().table(resource).latest.subscribe(),
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every write under the lock is complete when it returns or panics before its first change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn table(&mut self, resource: &Resource) -> &mut Table {
        self.tables
            .get_mut(resource.plural)
            .expect("the store has a table for every resource")
    }
}

impl Table {
    fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            forgotten: 0,
            latest: watch::Sender::new(0),
        }
    }

    fn remember(&mut self, change: Change) {
        if self.history.len() == HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.version();
        }
        self.latest.send_replace(change.version());
        self.history.push_back(Arc::new(change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::registry::CONFIG_MAPS;
    use serde_json::json;

    fn config_map(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "default"}})
    }

    fn insert(store: &Store, name: &str) -> Arc<Object> {
        store
            .insert(&CONFIG_MAPS, Key::new("default", name), config_map(name))
            .unwrap()
    }

    #[test]
    fn each_write_gets_the_next_version_and_stale_ones_are_refused() {
        let store = Store::new();
        let first = insert(&store, "a");
        store
            .insert(&CONFIG_MAPS, Key::new("default", "a"), config_map("a"))
            .unwrap_err();
        let second = store.replace(&first, config_map("a")).unwrap();
        assert_eq!(second.version(), first.version() + 1);
        assert_eq!(
            second.value()["metadata"]["resourceVersion"],
            second.version().to_string()
        );
        store.replace(&first, config_map("a")).unwrap_err();
        store.remove(&first).unwrap_err();
        assert_eq!(store.remove(&second).unwrap().version(), store.version());
        assert!(
            store
                .find(&CONFIG_MAPS, &Key::new("default", "a"))
                .is_none()
        );
    }

    #[test]
    fn a_list_is_of_one_namespace_and_in_order() {
        let store = Store::new();
        for (namespace, name) in [("b", "x"), ("a", "z"), ("a", "y"), ("ab", "x")] {
            let value = json!({"metadata": {"name": name, "namespace": namespace}});
            store
                .insert(&CONFIG_MAPS, Key::new(namespace, name), value)
                .unwrap();
        }
        let listed = store.list(&CONFIG_MAPS, Some("a"));
        let names: Vec<_> = listed.objects.iter().map(|object| object.name()).collect();
        assert_eq!(names, ["y", "z"]);
        assert_eq!(store.list(&CONFIG_MAPS, None).objects.len(), 4);
    }

    #[test]
    fn changes_can_be_read_again_until_they_are_forgotten() {
        let store = Store::new();
        let start = store.version();
        let object = insert(&store, "a");
        let mut feed = store.follow(&CONFIG_MAPS, start);
        let changes = store.read(&mut feed).unwrap();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].previous.is_none());
        assert!(store.read(&mut feed).unwrap().is_empty());

        let mut late = store.follow(&CONFIG_MAPS, start);
        let mut object = object;
        for _ in 0..HISTORY {
            object = store.replace(&object, config_map("a")).unwrap();
        }
        assert_eq!(store.read(&mut late).unwrap_err().asked, start);
        let mut all = 0;
        loop {
            match store.read(&mut feed).unwrap().len() {
                0 => break,
                some => all += some,
            }
        }
        assert_eq!(all, HISTORY);
    }
}
