//! One member of the set: its data, its log and its part in the consensus, behind one lock.

mod consensus;
mod election;
mod heartbeat;
mod replication;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::config::Config;
use crate::cursors::Cursors;
use crate::error::{Code, CommandError};
use crate::framing::MOST_LARGE;
use crate::oplog::{Change, Entry, OpTime, Oplog, SessionWrite};
use crate::store::Store;

pub(crate) use consensus::{Candidacy, Consensus, Pulse, Standing, Timing};
pub(crate) use election::campaign;

/// A member.
pub(crate) struct Member {
    pub(crate) config: Config,
    /// Names this process in `topologyVersion`.
    pub(crate) process: ObjectId,
    pub(crate) started: Instant,
    /// Bounds how many large messages of clients are read at once.
    pub(crate) large: Semaphore,
    state: Mutex<State>,
    /// Tells that something was logged.
    appended: watch::Sender<()>,
    /// Tells that more is committed, that a member has more, or that this one is no primary any more.
    progress: watch::Sender<()>,
    /// Tells that `hello` would be answered otherwise.
    topology: watch::Sender<()>,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) consensus: Consensus,
    pub(crate) store: Store,
    pub(crate) oplog: Oplog,
    /// The last operation that is known to be at a majority.
    pub(crate) committed: OpTime,
    /// The counter of `topologyVersion`.
    pub(crate) topology: i64,
    /// Writes wait: the member is about to step down.
    pub(crate) draining: bool,
    /// Since when it copies all data, and whether it had none before.
    pub(crate) copy: Option<(Instant, bool)>,
    pub(crate) cursors: Cursors,
}

/// What others wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Appended,
    Progress,
    Topology,
}

impl Member {
    /// A member that has just been started, and has nothing yet.
    pub(crate) fn new(config: Config) -> Self {
        let now = Instant::now();
        let consensus = Consensus::new(config.me, config.members.len(), config.timing(), now);
        let state = State {
            consensus,
            store: Store::default(),
            oplog: Oplog::after_copy(OpTime::NONE),
            committed: OpTime::NONE,
            topology: 0,
            draining: false,
            copy: None,
            cursors: Cursors::default(),
        };
        Self {
            config,
            process: ObjectId::new(),
            started: now,
            large: Semaphore::new(MOST_LARGE),
            state: Mutex::new(state),
            appended: watch::Sender::new(()),
            progress: watch::Sender::new(()),
            topology: watch::Sender::new(()),
        }
    }

    /// Works on the state, and then tells those who wait what has changed.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.outline();
        let result = work(&mut state);
        let point = state.consensus.committed(state.oplog.last());
        state.committed = point.map_or(state.committed, |point| point.max(state.committed));
        let after = state.outline();
        if after.topology != before.topology {
            state.topology += 1;
        }
        drop(state);
        if after.last != before.last {
            self.appended.send_replace(());
        }
        if after.topology != before.topology {
            self.topology.send_replace(());
        }
        if after.topology != before.topology || after.progress != before.progress {
            self.progress.send_replace(());
        }
        result
    }

    /// To wait for an event, from now on.
    pub(crate) fn watch(&self, event: Event) -> watch::Receiver<()> {
        match event {
            Event::Appended => self.appended.subscribe(),
            Event::Progress => self.progress.subscribe(),
            Event::Topology => self.topology.subscribe(),
        }
    }

    /// Waits until `condition` gives something; it is asked again after each `event`. `None` once `limit` is over.
    pub(crate) async fn until<T>(
        &self,
        event: Event,
        limit: Duration,
        mut condition: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut events = self.watch(event);
        let waiting = async {
            loop {
                events.mark_unchanged();
                if let Some(found) = self.with(&mut condition) {
                    return Some(found);
                }
                if events.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.ok().flatten()
    }

    /// `topologyVersion` (driver specifications, server discovery and monitoring).
    pub(crate) fn topology_version(&self, state: &State) -> Document {
        doc! { "processId": self.process, "counter": state.topology }
    }
}

/// What of the state others may wait for.
struct Outline {
    topology: (Standing, Option<usize>, i64),
    last: OpTime,
    progress: (OpTime, Vec<OpTime>, bool),
}

impl State {
    fn outline(&self) -> Outline {
        let leads = self.consensus.standing == Standing::Primary;
        let acknowledged = self.consensus.others().map(|(_, peer)| peer.applied);
        Outline {
            topology: (
                self.consensus.standing,
                self.consensus.primary,
                // The term shows in `electionId`, which only a primary has.
                if leads { self.consensus.term } else { 0 },
            ),
            last: self.oplog.last(),
            progress: (self.committed, acknowledged.collect(), self.draining),
        }
    }

    /// Whether this member takes writes.
    pub(crate) fn is_primary(&self) -> bool {
        self.consensus.standing == Standing::Primary
    }

    /// Whether it does, as an error where it does not.
    pub(crate) fn must_be_primary(&self) -> Result<(), CommandError> {
        if self.is_primary() {
            Ok(())
        } else {
            Err(Code::NotWritablePrimary.because("not primary"))
        }
    }

    /// Logs changes that were made, and says when.
    pub(crate) fn log(&mut self, changes: Vec<Change>, session: Option<SessionWrite>) -> OpTime {
        let term = self.consensus.term;
        let at = self.oplog.last().next(term, bson::DateTime::now());
        self.oplog.push(Entry {
            at,
            changes,
            session,
        });
        at
    }
}

/// Runs a member's own work for as long as it is polled: heartbeats, elections, replication.
pub(crate) async fn run(member: Arc<Member>) {
    let others = (0..member.config.members.len()).filter(|number| *number != member.config.me);
    let heartbeats = others.map(|number| heartbeat::beat(&member, number));
    tokio::join!(
        futures_util::future::join_all(heartbeats),
        election::watch_over(&member),
        replication::follow(&member),
    );
}
