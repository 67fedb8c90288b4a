//! Events and Leases: what components tell, and that they live.

use jiff::Timestamp;
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Event},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::Value;

use super::Kind;
use crate::apiserver::{
    field::{Path, Problems},
    registry::{EVENTS, LEASES, Resource},
    table::{AGE, Column, NAME, age, since},
};

impl Kind for Event {
    const RESOURCE: &'static Resource = &EVENTS;
    const COLUMNS: &'static [Column] = &[
        Column::text("Last Seen"),
        Column::text("Type"),
        Column::text("Reason"),
        Column::text("Object"),
        Column::text("Subobject").wide(),
        Column::text("Source").wide(),
        Column::text("Message"),
        Column::text("First Seen").wide(),
        Column::number("Count").wide(),
        NAME.wide(),
    ];

    fn validate(&self, problems: &mut Problems) {
        let about = self
            .involved_object
            .namespace
            .as_deref()
            .unwrap_or_default();
        let own = self.namespace();
        if about != own && !(about.is_empty() && own == "default") {
            let path = Path::new("involvedObject");
            let why = "does not match event.namespace";
            problems.invalid(&path.field("namespace"), about, why);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let created = self.event_time.as_ref().map(|time| Time(time.0));
        let first = self.first_timestamp.clone().or(created.clone());
        let last = self.last_timestamp.clone().or_else(|| first.clone());
        let about = &self.involved_object;
        let object = format!(
            "{}/{}",
            about.kind.as_deref().unwrap_or_default().to_lowercase(),
            about.name.as_deref().unwrap_or_default()
        );
        let source = self.source.clone().unwrap_or_default();
        let component = source
            .component
            .or_else(|| self.reporting_component.clone());
        let parts = [component, source.host]
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty());
        let text = |text: &Option<String>| Value::from(text.clone().unwrap_or_default());
        vec![
            since(last.as_ref(), now).into(),
            text(&self.type_),
            text(&self.reason),
            object.into(),
            text(&about.field_path),
            parts.collect::<Vec<_>>().join(", ").into(),
            self.message.as_deref().unwrap_or_default().trim().into(),
            since(first.as_ref(), now).into(),
            self.count.unwrap_or(1).into(),
            self.name().into(),
        ]
    }
}

impl Kind for Lease {
    const RESOURCE: &'static Resource = &LEASES;
    const COLUMNS: &'static [Column] = &[NAME, Column::text("Holder"), AGE];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let holder = self
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        vec![
            self.name().into(),
            holder.unwrap_or_default().into(),
            age(&self.metadata, now),
        ]
    }
}
