//! Events: what the controllers tell people, in `kubectl describe` and `kubectl get events`.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use tracing::debug;

use super::{Context, Controller, Item, after};
use crate::apiserver::{
    kinds::Kind,
    registry::{EVENTS, Resource},
    status::Status,
    store::Change,
};

/// How long an event is kept after it last happened.
const KEPT_SECONDS: i64 = 3600;
/// How many events are kept at all; the oldest go first.
const KEPT: usize = 2000;

impl Context<'_> {
    /// Tells that something went as it should.
    pub(super) fn tell<K: Kind>(&self, about: &K, reason: &str, message: &str) {
        self.record(about, "Normal", reason, message);
    }

    /// Tells that something did not.
    pub(super) fn warn<K: Kind>(&self, about: &K, reason: &str, message: &str) {
        self.record(about, "Warning", reason, message);
    }

    /// The same event again only counts. An event that cannot be recorded is no reason to stop.
    fn record<K: Kind>(&self, about: &K, ty: &str, reason: &str, message: &str) {
        let source = self.client.manager();
        let mut hasher = DefaultHasher::new();
        (about.uid(), ty, reason, message, source).hash(&mut hasher);
        let name = format!("{}.{:016x}", about.name(), hasher.finish());
        // Events about what is in no namespace are kept in the default one.
        let namespace = if about.namespace().is_empty() {
            "default"
        } else {
            about.namespace()
        };
        let now = Some(Time(self.now));
        let recorded = match self.client.find::<Event>(namespace, &name) {
            Some(before) => {
                let mut event = Event::clone(&before);
                event.count = Some(event.count.unwrap_or(1).saturating_add(1));
                event.last_timestamp = now;
                self.client.update(&event)
            }
            None => self.client.create(&Event {
                metadata: ObjectMeta {
                    name: Some(name),
                    namespace: Some(namespace.to_owned()),
                    ..ObjectMeta::default()
                },
                involved_object: reference(about),
                type_: Some(ty.to_owned()),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                source: Some(EventSource {
                    component: Some(source.to_owned()),
                    host: None,
                }),
                reporting_component: Some(source.to_owned()),
                first_timestamp: now.clone(),
                last_timestamp: now,
                count: Some(1),
                ..Event::default()
            }),
        };
        if let Err(status) = recorded {
            debug!(reason, message, "an event was not recorded: {status}");
        }
    }
}

fn reference<K: Kind>(about: &K) -> ObjectReference {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    ObjectReference {
        api_version: Some(K::RESOURCE.api_version()),
        kind: Some(K::RESOURCE.kind.to_owned()),
        name: some(about.name()),
        namespace: some(about.namespace()),
        uid: some(about.uid()),
        resource_version: about.metadata().resource_version.clone(),
        field_path: None,
    }
}

/// Deletes events that are old, and the oldest where there are too many.
pub(super) struct Forgetting;

impl Controller for Forgetting {
    fn name(&self) -> &'static str {
        "event-forgetting"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&EVENTS]
    }

    fn concerned(&self, _context: &Context<'_>, change: &Change) -> Vec<Item> {
        vec![Item::of(change)]
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let client = &context.client;
        let all = client.list::<Event>(None);
        if all.len() > KEPT
            && let Some(oldest) = all.iter().min_by_key(|event| last_seen(event))
        {
            client.delete(&**oldest)?;
        }
        let Some(event) = client.find::<Event>(&item.key.namespace, &item.key.name) else {
            return Ok(None);
        };
        let end = after(last_seen(&event), KEPT_SECONDS);
        if end <= context.now {
            return client.delete(&*event).map(|()| None);
        }
        Ok(Some(end))
    }
}

fn last_seen(event: &Event) -> Timestamp {
    let micro = event.event_time.as_ref().map(|time| time.0);
    let created = event
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or(micro).or(created).unwrap_or(Timestamp::MIN)
}
