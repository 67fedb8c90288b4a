//! Watches: the changes of a resource as a stream of lines, one JSON object each.
//!
//! A watch holds a place in the store's history and reads on when its client has taken what it was sent.
//! A client that takes too long loses its place, and is told so (410); nobody else notices.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    object::Object,
    registry::Resource,
    respond::{BoxError, Format},
    rest::{Filter, Rest},
    route::Query,
    status::Status,
    store::{Change, Expired, Feed},
    table::{self, Include},
};

/// How often a client that asked for it is told how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts that names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What a watch is about, as its request says.
pub(crate) struct WatchRequest {
    pub(crate) namespace: Option<String>,
    pub(crate) filter: Filter,
    pub(crate) format: Format,
    pub(crate) include: Include,
    start: Start,
    bookmarks: Bookmarks,
    bookmark_every: Duration,
    timeout: Duration,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With what there is, as if it were just added.
    Now,
    After(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bookmarks {
    None,
    Periodic,
    /// One at the end of the initial objects, too.
    WithInitialEnd,
}

impl WatchRequest {
    pub(crate) fn new(
        namespace: Option<String>,
        filter: Filter,
        (format, include): (Format, Include),
        query: &Query,
    ) -> Result<Self, Status> {
        let version = query
            .number::<u64>("resourceVersion")?
            .filter(|version| *version != 0);
        let initial = query
            .get("sendInitialEvents")
            .map(|_| query.is_set("sendInitialEvents"));
        if initial.is_some() && query.get("resourceVersionMatch") != Some("NotOlderThan") {
            return Err(Status::unprocessable(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                 sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        let start = match (initial, version) {
            (Some(true), _) | (None, None) => Start::Now,
            (_, Some(version)) => Start::After(version),
            (Some(false), None) => Start::After(u64::MAX),
        };
        let wanted = query.is_set("allowWatchBookmarks");
        let bookmarks = match (wanted, initial) {
            (false, _) => Bookmarks::None,
            (true, Some(true)) => Bookmarks::WithInitialEnd,
            (true, _) => Bookmarks::Periodic,
        };
        // No time at all is none named, and more than a clock can count is capped.
        let timeout = query.number("timeoutSeconds")?.map(Duration::from_secs);
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT).min(LONGEST_TIMEOUT);
        Ok(Self {
            namespace,
            filter,
            format,
            include,
            start,
            bookmarks,
            bookmark_every: BOOKMARK_EVERY,
            timeout,
        })
    }
}

/// The lines of a watch. It ends after its time, when the server stops, and after an error event.
pub(crate) fn follow(
    rest: Arc<Rest>,
    resource: &'static Resource,
    request: WatchRequest,
    stop: CancellationToken,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
    let watch = Watch::new(rest, resource, request, stop);
    stream::unfold(watch, async |mut watch| {
        watch.next().await.map(|line| (Ok(line), watch))
    })
}

struct Watch {
    rest: Arc<Rest>,
    resource: &'static Resource,
    request: WatchRequest,
    feed: Feed,
    /// Read, but not yet sent.
    pending: VecDeque<Pending>,
    deadline: Instant,
    next_bookmark: Instant,
    stop: CancellationToken,
    ended: bool,
}

enum Pending {
    Initial(Arc<Object>),
    InitialEnd,
    Change(Arc<Change>),
}

impl Watch {
    fn new(
        rest: Arc<Rest>,
        resource: &'static Resource,
        request: WatchRequest,
        stop: CancellationToken,
    ) -> Self {
        let mut pending = VecDeque::new();
        let since = match request.start {
            Start::After(u64::MAX) => rest.store.version(),
            Start::After(version) => version,
            Start::Now => {
                let snapshot = rest.list(resource, request.namespace.as_deref(), &request.filter);
                pending.extend(snapshot.objects.into_iter().map(Pending::Initial));
                if request.bookmarks == Bookmarks::WithInitialEnd {
                    pending.push_back(Pending::InitialEnd);
                }
                snapshot.version
            }
        };
        let feed = rest.store.follow(resource, since);
        let now = Instant::now();
        let (deadline, next_bookmark) = (now + request.timeout, now + request.bookmark_every);
        Self {
            rest,
            resource,
            request,
            feed,
            pending,
            deadline,
            next_bookmark,
            stop,
            ended: false,
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            if let Some(pending) = self.pending.pop_front() {
                match self.line(&pending) {
                    Some(line) => return Some(line),
                    None => continue,
                }
            }
            // Not left to the wait below, which a resource that always changes never comes to.
            if self.stop.is_cancelled() || Instant::now() >= self.deadline {
                return None;
            }
            match self.rest.store.read(&mut self.feed) {
                Ok(changes) if changes.is_empty() => {}
                Ok(changes) => {
                    self.pending
                        .extend(changes.into_iter().map(Pending::Change));
                    continue;
                }
                Err(Expired { asked, forgotten }) => {
                    self.ended = true;
                    let status = Status::expired(asked, forgotten);
                    return Some(event("ERROR", status.to_json().to_string().as_bytes()));
                }
            }
            tokio::select! {
                () = self.feed.changed() => {}
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = tokio::time::sleep_until(self.next_bookmark) => {
                    self.next_bookmark = Instant::now() + self.request.bookmark_every;
                    if self.request.bookmarks != Bookmarks::None {
                        return Some(self.bookmark(false));
                    }
                }
            }
        }
        None
    }

    fn line(&self, pending: &Pending) -> Option<Bytes> {
        match pending {
            Pending::Initial(object) => Some(self.show("ADDED", object)),
            Pending::InitialEnd => Some(self.bookmark(true)),
            Pending::Change(change) => self.show_change(change),
        }
    }

    /// A change as it looks to one who sees only the objects that match: what begins to match is added,
    /// what no longer does is deleted.
    fn show_change(&self, change: &Change) -> Option<Bytes> {
        let namespace = self.request.namespace.as_deref();
        if namespace.is_some_and(|namespace| namespace != change.object.namespace()) {
            return None;
        }
        let matches = |object: &Object| self.request.filter.matches(object);
        let before = change
            .previous
            .as_deref()
            .filter(|previous| matches(previous));
        let after = Some(&*change.object).filter(|object| !change.deleted && matches(object));
        match (before, after) {
            (None, Some(object)) => Some(self.show("ADDED", object)),
            (Some(_), Some(object)) => Some(self.show("MODIFIED", object)),
            (Some(_), None) if change.deleted => Some(self.show("DELETED", &change.object)),
            (Some(before), None) => {
                let last = Object::new(self.resource, before.value().clone(), change.version());
                Some(self.show("DELETED", &last))
            }
            (None, None) => None,
        }
    }

    fn show(&self, ty: &str, object: &Object) -> Bytes {
        match self.request.format {
            Format::Json | Format::Yaml => event(ty, &object.json()),
            Format::Metadata => event(
                ty,
                table::metadata_only(object.value()).to_string().as_bytes(),
            ),
            Format::Table => {
                let version = json!({"resourceVersion": object.version().to_string()});
                let include = self.request.include;
                let now = Timestamp::now();
                let table = table::render(self.resource, [object], version, include, now);
                event(ty, table.to_string().as_bytes())
            }
        }
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let mut metadata = json!({
            "resourceVersion": self.feed.seen().to_string(),
            "creationTimestamp": null,
        });
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object: Value = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        let object = if self.request.format == Format::Table {
            let rows = json!([{"cells": [], "object": table::metadata_only(&object)}]);
            let metadata = json!({"resourceVersion": self.feed.seen().to_string()});
            json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "columnDefinitions": [], "rows": rows,
            })
        } else {
            object
        };
        event("BOOKMARK", object.to_string().as_bytes())
    }
}

fn event(ty: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(ty.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::{
        admission::ServiceNetwork,
        object::Key,
        patch::Patch,
        registry::{CONFIG_MAPS, NAMESPACES},
        rest::{DeleteOptions, Part, Target, WriteOptions},
    };
    use futures_util::StreamExt as _;

    fn rest() -> Arc<Rest> {
        let rest = Rest::new(ServiceNetwork::default(), false);
        for name in ["a", "b"] {
            let value = json!({"metadata": {"name": name}});
            rest.create(&NAMESPACES, "", value, &WriteOptions::trusted("test"))
                .unwrap();
        }
        Arc::new(rest)
    }

    fn create(rest: &Rest, namespace: &str, name: &str, label: &str) {
        let value = json!({"metadata": {"name": name, "labels": {"x": label}}});
        rest.create(
            &CONFIG_MAPS,
            namespace,
            value,
            &WriteOptions::trusted("test"),
        )
        .unwrap();
    }

    fn label(rest: &Rest, name: &str, label: &str) {
        let target = Target {
            resource: &CONFIG_MAPS,
            key: Key::new("a", name),
            part: Part::Main,
        };
        let patch = Patch::Merge(json!({"metadata": {"labels": {"x": label}}}));
        rest.patch(&target, &patch, &WriteOptions::trusted("test"))
            .unwrap();
    }

    fn start(rest: &Arc<Rest>, query: &str) -> impl Stream<Item = Value> + Unpin + use<> {
        let query = Query::parse(query);
        let filter = query.filter(&CONFIG_MAPS).unwrap();
        let shape = (Format::Json, Include::None);
        let mut request = WatchRequest::new(Some("a".to_owned()), filter, shape, &query).unwrap();
        request.bookmark_every = Duration::from_millis(300);
        let lines = follow(
            Arc::clone(rest),
            &CONFIG_MAPS,
            request,
            CancellationToken::new(),
        );
        Box::pin(lines.map(|line| serde_json::from_slice(&line.unwrap()).unwrap()))
    }

    async fn next(watch: &mut (impl Stream<Item = Value> + Unpin)) -> (String, String) {
        let event = watch.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&event["type"]),
            text(&event["object"]["metadata"]["name"]),
        )
    }

    fn said(ty: &str, name: &str) -> (String, String) {
        (ty.to_owned(), name.to_owned())
    }

    #[tokio::test]
    async fn a_watch_begins_with_what_there_is_and_goes_on_with_changes() {
        let rest = rest();
        create(&rest, "a", "one", "1");
        create(&rest, "b", "elsewhere", "1");
        let mut watch = start(&rest, "");
        assert_eq!(next(&mut watch).await, said("ADDED", "one"));
        create(&rest, "b", "elsewhere-too", "1");
        create(&rest, "a", "two", "1");
        assert_eq!(next(&mut watch).await, said("ADDED", "two"));
        label(&rest, "one", "2");
        assert_eq!(next(&mut watch).await, said("MODIFIED", "one"));
        rest.delete(
            &CONFIG_MAPS,
            &Key::new("a", "one"),
            &DeleteOptions::default(),
        )
        .unwrap();
        assert_eq!(next(&mut watch).await, said("DELETED", "one"));
    }

    #[tokio::test]
    async fn a_watch_from_a_version_replays_what_came_after_it() {
        let rest = rest();
        create(&rest, "a", "one", "1");
        let version = rest.store.version();
        create(&rest, "a", "two", "1");
        let mut watch = start(&rest, &format!("resourceVersion={version}"));
        assert_eq!(next(&mut watch).await, said("ADDED", "two"));
    }

    #[tokio::test]
    async fn a_selected_object_is_added_and_deleted_as_it_begins_and_ceases_to_match() {
        let rest = rest();
        create(&rest, "a", "one", "no");
        let mut watch = start(&rest, "labelSelector=x%3Dyes");
        label(&rest, "one", "yes");
        assert_eq!(next(&mut watch).await, said("ADDED", "one"));
        label(&rest, "one", "no");
        let event = watch.next().await.unwrap();
        assert_eq!(event["type"], "DELETED");
        assert_eq!(event["object"]["metadata"]["labels"]["x"], "yes");
        assert_eq!(
            event["object"]["metadata"]["resourceVersion"],
            rest.store.version().to_string()
        );
    }

    #[tokio::test]
    async fn a_forgotten_version_is_answered_with_expired() {
        let rest = rest();
        create(&rest, "a", "one", "0");
        let version = rest.store.version();
        for round in 0..5000 {
            label(&rest, "one", &round.to_string());
        }
        let mut watch = start(&rest, &format!("resourceVersion={version}"));
        let event = watch.next().await.unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["code"]),
            (&json!("ERROR"), &json!(410))
        );
        assert_eq!(event["object"]["reason"], "Expired");
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn the_end_of_the_initial_objects_is_marked_for_those_who_ask() {
        let rest = rest();
        create(&rest, "a", "one", "1");
        let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&\
                     allowWatchBookmarks=true";
        let mut watch = start(&rest, query);
        assert_eq!(next(&mut watch).await, said("ADDED", "one"));
        let bookmark = watch.next().await.unwrap();
        assert_eq!(bookmark["type"], "BOOKMARK");
        let annotations = &bookmark["object"]["metadata"]["annotations"];
        assert_eq!(annotations["k8s.io/initial-events-end"], "true");
        assert!(
            WatchRequest::new(
                None,
                Filter::default(),
                (Format::Json, Include::None),
                &Query::parse("sendInitialEvents=true"),
            )
            .is_err()
        );
    }

    #[tokio::test]
    async fn a_watch_ends_after_its_time_however_much_changes() {
        let rest = rest();
        create(&rest, "a", "one", "0");
        let mut watch = start(&rest, "timeoutSeconds=1");
        let mut seen = 0_u32;
        let reading = async {
            while watch.next().await.is_some() {
                seen += 1;
                label(&rest, "one", &seen.to_string());
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reading)
            .await
            .expect("the watch goes on for ever");
        assert!(seen > 1, "{seen}");
    }

    #[tokio::test]
    async fn a_watch_takes_any_time_that_it_is_asked_for() {
        let rest = rest();
        create(&rest, "a", "one", "1");
        for seconds in ["0", "18446744073709551615"] {
            let mut watch = start(&rest, &format!("timeoutSeconds={seconds}"));
            assert_eq!(next(&mut watch).await, said("ADDED", "one"));
            create(&rest, "a", &format!("more-{seconds}"), "1");
            assert_eq!(next(&mut watch).await.0, "ADDED", "{seconds}");
            let key = Key::new("a", format!("more-{seconds}"));
            rest.delete(&CONFIG_MAPS, &key, &DeleteOptions::default())
                .unwrap();
        }
    }

    #[tokio::test]
    async fn a_watch_ends_after_its_time_and_bookmarks_tell_the_way_there() {
        let rest = rest();
        let mut watch = start(&rest, "allowWatchBookmarks=true&timeoutSeconds=1");
        let mut bookmarks = 0;
        while let Some(event) = watch.next().await {
            assert_eq!(event["type"], "BOOKMARK");
            bookmarks += 1;
        }
        assert!(bookmarks > 0);
    }
}
