//! Open cursors: what of a query's answer has not been fetched yet.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::projection::Projection;
use crate::store::Stored;

/// How long a cursor stays that nobody asks for: MongoDB's own time.
const IDLE_LIMIT: Duration = Duration::from_secs(600);

/// The most cursors; the one that was idle longest makes room.
const MOST: usize = 1_000;

/// All open cursors of a member.
#[derive(Default)]
pub(crate) struct Cursors {
    open: HashMap<i64, Cursor>,
    last: i64,
}

/// What is left of an answer.
pub(crate) struct Cursor {
    pub(crate) namespace: String,
    pub(crate) rest: std::vec::IntoIter<Stored>,
    pub(crate) projection: Projection,
    used: Instant,
}

impl Cursor {
    pub(crate) fn new(
        namespace: String,
        rest: std::vec::IntoIter<Stored>,
        projection: Projection,
        now: Instant,
    ) -> Self {
        Self {
            namespace,
            rest,
            projection,
            used: now,
        }
    }
}

impl Cursors {
    /// Keeps a cursor and gives its number, which is never 0.
    pub(crate) fn keep(&mut self, cursor: Cursor) -> i64 {
        let now = cursor.used;
        self.open
            .retain(|_, cursor| now.duration_since(cursor.used) < IDLE_LIMIT);
        if self.open.len() >= MOST {
            let oldest = self.open.iter().min_by_key(|(_, cursor)| cursor.used);
            if let Some(number) = oldest.map(|(number, _)| *number) {
                self.open.remove(&number);
            }
        }
        self.last += 1;
        self.open.insert(self.last, cursor);
        self.last
    }

    /// Takes the cursor `number` of `namespace` to read from it.
    pub(crate) fn take(&mut self, number: i64, namespace: &str, now: Instant) -> Option<Cursor> {
        let found = self.open.get(&number)?;
        if found.namespace != namespace || now.duration_since(found.used) >= IDLE_LIMIT {
            return None;
        }
        let mut cursor = self.open.remove(&number)?;
        cursor.used = now;
        Some(cursor)
    }

    /// Puts a cursor back that was taken.
    pub(crate) fn put_back(&mut self, number: i64, cursor: Cursor) {
        self.open.insert(number, cursor);
    }

    /// Closes a cursor and says whether there was one.
    pub(crate) fn close(&mut self, number: i64) -> bool {
        self.open.remove(&number).is_some()
    }

    /// Closes all: the data is another now.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(used: Instant) -> Cursor {
        Cursor::new(
            "db.c".into(),
            Vec::new().into_iter(),
            Projection::default(),
            used,
        )
    }

    #[test]
    fn cursors_are_bounded_in_number_and_time() {
        let now = Instant::now();
        let mut cursors = Cursors::default();
        let first = cursors.keep(cursor(now));
        for _ in 0..MOST {
            cursors.keep(cursor(now + Duration::from_secs(1)));
        }
        assert_eq!(cursors.open.len(), MOST);
        assert!(!cursors.close(first), "it was idle longest");
        let last = cursors.last;
        assert!(cursors.take(last, "db.other", now).is_none());
        assert!(cursors.take(last, "db.c", now + IDLE_LIMIT * 2).is_none());
        assert!(cursors.take(last, "db.c", now).is_some());
    }
}
