//! The controllers: what keeps the cluster as its objects say it should be.
//!
//! Each looks at one object at a time and makes the next step towards what it asks for; all follow the
//! store's changes, so they act within milliseconds and never poll. They run one after another on one
//! task, which makes every run of them repeatable in a test: [`Controllers::settle`] needs no clock and
//! no runtime. Nothing here starts a process: that is the kubelets' work.

mod daemonset;
mod deployment;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod events;
mod garbage;
mod job;
mod namespace;
mod ownership;
mod pods;
mod replicaset;
mod revisions;
mod rollout;
mod scheduler;
mod statefulset;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::apiserver::{
    object::Key,
    registry::Resource,
    rest::{Client, Rest},
    status::Status,
    store::{Change, Feed},
};

/// Runs all controllers until `stop` is cancelled.
pub(crate) async fn run(rest: Arc<Rest>, certificate: String, stop: CancellationToken) {
    let mut changes = rest.store.changes();
    let mut controllers = Controllers::new(Arc::clone(&rest), certificate);
    loop {
        changes.mark_unchanged();
        while controllers.step(Timestamp::now()) {
            tokio::task::yield_now().await;
            if stop.is_cancelled() {
                return;
            }
        }
        let wake = controllers
            .next_wake()
            .map(|at| until(at, Timestamp::now()));
        let wake = tokio::time::sleep(wake.unwrap_or(Duration::MAX));
        tokio::select! {
            _changed = changes.changed() => {}
            () = wake => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A controller, seen from what runs it.
trait Controller: Send {
    /// Its name: the manager of the fields it writes, and the source of its events.
    fn name(&self) -> &'static str;

    /// The resources whose changes it follows.
    fn follows(&self) -> Vec<&'static Resource>;

    /// The objects to look at after a change. Called once for every object when it starts, and when it
    /// has missed changes.
    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item>;

    /// Makes the next step for one object, and says when to look at it again if nothing changes.
    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status>;
}

/// An object to look at; it may be gone by then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    /// Only told apart by those who follow several resources as their own.
    plural: &'static str,
    key: Key,
}

impl Item {
    fn new(resource: &Resource, key: Key) -> Self {
        Self {
            plural: resource.plural,
            key,
        }
    }

    /// The changed object itself.
    fn of(change: &Change) -> Self {
        Self::new(change.object.resource(), change.object.key())
    }
}

/// What a controller acts on.
struct Context<'a> {
    client: Client<'a>,
    now: Timestamp,
}

/// All controllers, and what they have yet to do.
pub(crate) struct Controllers {
    rest: Arc<Rest>,
    runners: Vec<Runner>,
}

impl Controllers {
    pub(crate) fn new(rest: Arc<Rest>, certificate: String) -> Self {
        let controllers: Vec<Box<dyn Controller>> = vec![
            Box::new(namespace::Furnishing { certificate }),
            Box::new(namespace::Emptying),
            Box::new(deployment::Deployments),
            Box::new(replicaset::ReplicaSets),
            Box::new(statefulset::StatefulSets),
            Box::new(daemonset::DaemonSets),
            Box::new(job::Jobs),
            Box::new(scheduler::Scheduler),
            Box::new(endpoints::EndpointsOfServices),
            Box::new(endpointslice::EndpointSlices),
            Box::new(endpointslice_mirroring::Mirroring),
            Box::new(garbage::Collector),
            Box::new(garbage::LostPods::default()),
            Box::new(events::Forgetting),
        ];
        let runners = controllers
            .into_iter()
            .map(|it| Runner::new(&rest, it))
            .collect();
        Self { rest, runners }
    }

    /// Does one thing, if there is one to do.
    pub(crate) fn step(&mut self, now: Timestamp) -> bool {
        self.runners
            .iter_mut()
            .any(|runner| runner.step(&self.rest, now))
    }

    /// When the first object is to be looked at again.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.runners.iter().filter_map(Runner::next_wake).min()
    }

    /// Does all there is to do at one moment.
    #[cfg(test)]
    pub(crate) fn settle(&mut self, now: Timestamp) {
        const TOO_MANY: usize = 100_000;
        for _ in 0..TOO_MANY {
            if !self.step(now) {
                return;
            }
        }
        panic!("the controllers never come to rest");
    }
}

/// One controller with its queue.
struct Runner {
    controller: Box<dyn Controller>,
    feeds: Vec<Feed>,
    queue: BTreeSet<Item>,
    timers: Timers,
    failures: BTreeMap<Item, u32>,
}

impl Runner {
    fn new(rest: &Rest, controller: Box<dyn Controller>) -> Self {
        let feeds = controller
            .follows()
            .into_iter()
            .map(|it| rest.store.follow(it, 0))
            .collect();
        Self {
            controller,
            feeds,
            queue: BTreeSet::new(),
            timers: Timers::default(),
            failures: BTreeMap::new(),
        }
    }

    fn step(&mut self, rest: &Rest, now: Timestamp) -> bool {
        let context = Context {
            client: rest.client(self.controller.name()),
            now,
        };
        let heard = self.listen(rest, &context);
        self.queue.extend(self.timers.take_due(now));
        let Some(item) = self.queue.pop_first() else {
            return heard;
        };
        match self.controller.reconcile(&context, &item) {
            Ok(again) => {
                self.failures.remove(&item);
                self.timers.set(item, again);
            }
            Err(status) => self.try_again(item, &status, now),
        }
        true
    }

    /// Takes the changes in; whether there were any.
    fn listen(&mut self, rest: &Rest, context: &Context<'_>) -> bool {
        let mut heard = false;
        for feed in &mut self.feeds {
            loop {
                let changes = match rest.store.read(feed) {
                    Ok(changes) => changes,
                    Err(expired) => {
                        debug!(controller = self.controller.name(), %expired, "looks at everything");
                        rest.store.skip(feed);
                        everything(rest, feed.resource())
                    }
                };
                if changes.is_empty() {
                    break;
                }
                heard = true;
                for change in changes {
                    self.queue
                        .extend(self.controller.concerned(context, &change));
                }
            }
        }
        heard
    }

    /// A conflict is tried again at once, everything else after a while that doubles.
    fn try_again(&mut self, item: Item, status: &Status, now: Timestamp) {
        const AT_ONCE: u32 = 10;
        const LONGEST_SHIFT: u32 = 6;
        let failures = self.failures.entry(item.clone()).or_default();
        *failures += 1;
        if status.is_conflict() && *failures < AT_ONCE {
            self.queue.insert(item);
            return;
        }
        let seconds = 1_i64 << (*failures).min(LONGEST_SHIFT);
        let controller = self.controller.name();
        if status.is_terminating_namespace() {
            debug!(controller, ?item, "{status}");
        } else {
            warn!(controller, ?item, "{status} (tries again in {seconds} s)");
        }
        self.timers.set(item, Some(after(now, seconds)));
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.timers.first()
    }
}

/// When to look at objects again, at most one time for each.
#[derive(Default)]
struct Timers {
    by_time: BTreeSet<(Timestamp, Item)>,
    by_item: BTreeMap<Item, Timestamp>,
}

impl Timers {
    fn set(&mut self, item: Item, at: Option<Timestamp>) {
        if let Some(before) = self.by_item.remove(&item) {
            self.by_time.remove(&(before, item.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, item.clone()));
            self.by_item.insert(item, at);
        }
    }

    fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: Timestamp) -> Vec<Item> {
        let mut due = Vec::new();
        while self.first().is_some_and(|at| at <= now) {
            if let Some((_, item)) = self.by_time.pop_first() {
                self.by_item.remove(&item);
                due.push(item);
            }
        }
        due
    }
}

/// The present objects, as if each had just been added.
fn everything(rest: &Rest, resource: &'static Resource) -> Vec<Arc<Change>> {
    let objects = rest.store.list(resource, None).objects;
    let added = |object| {
        Arc::new(Change {
            object,
            previous: None,
            deleted: false,
        })
    };
    objects.into_iter().map(added).collect()
}

fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    at.duration_since(now).try_into().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
