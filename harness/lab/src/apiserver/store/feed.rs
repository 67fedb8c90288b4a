//! A reader's place in the history of a resource.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Change, Store};
use crate::apiserver::registry::Resource;

/// How many changes are handed out at once: a slow reader must not hold many in memory.
const BATCH: usize = 256;

/// A place in the history. It holds no changes, so any number of readers of any slowness cost nothing.
pub(crate) struct Feed {
    resource: &'static Resource,
    seen: u64,
    latest: watch::Receiver<u64>,
}

/// The history no longer reaches back to where the reader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the changes after version {asked} are forgotten up to {forgotten}")]
pub(crate) struct Expired {
    pub(crate) asked: u64,
    pub(crate) forgotten: u64,
}

impl Feed {
    pub(super) fn new(
        resource: &'static Resource,
        since: u64,
        mut latest: watch::Receiver<u64>,
    ) -> Self {
        latest.mark_changed();
        Self {
            resource,
            seen: since,
            latest,
        }
    }

    pub(crate) fn resource(&self) -> &'static Resource {
        self.resource
    }

    /// The version up to which everything was read.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns once there may be something to read.
    ///
    /// Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.latest.changed().await.is_err() {
            // The store is gone, and with it the process's reason to be: nothing will ever change.
            std::future::pending::<()>().await;
        }
    }
}

impl Store {
    /// The next changes that `feed` has not seen; none if it has seen all.
    pub(crate) fn read(&self, feed: &mut Feed) -> Result<Vec<Arc<Change>>, Expired> {
        let mut state = self.lock();
        let current = state.version;
        let table = state.table(feed.resource);
        if feed.seen < table.forgotten {
            return Err(Expired {
                asked: feed.seen,
                forgotten: table.forgotten,
            });
        }
        let start = table
            .history
            .partition_point(|change| change.version() <= feed.seen);
        let changes: Vec<_> = table.history.range(start..).take(BATCH).cloned().collect();
        let rest = table.history.len() - start > changes.len();
        feed.seen = match changes.last() {
            Some(last) if rest => last.version(),
            _ => current.max(feed.seen),
        };
        if rest {
            feed.latest.mark_changed();
        }
        Ok(changes)
    }

    /// Forgets what `feed` has missed: it goes on from now.
    pub(crate) fn skip(&self, feed: &mut Feed) {
        feed.seen = self.lock().version;
    }
}
