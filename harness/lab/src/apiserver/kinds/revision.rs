//! ControllerRevisions: the templates that a StatefulSet or DaemonSet had.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use super::{Kind, metadata::IMMUTABLE};
use crate::apiserver::{
    field::{Json, Path, Problems},
    registry::{CONTROLLER_REVISIONS, Resource},
    table::{AGE, Column, NAME, age},
};

impl Kind for ControllerRevision {
    const RESOURCE: &'static Resource = &CONTROLLER_REVISIONS;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::text("Controller"),
        Column::number("Revision"),
        AGE,
    ];

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        if self.data != old.data {
            problems.invalid(&Path::new("data"), Json(&self.data), IMMUTABLE);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let mut owners = self.metadata.owner_references.iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        let controller = controller.map(|owner| {
            let group = owner
                .api_version
                .split_once('/')
                .map_or("", |(group, _)| group);
            format!("{}.{group}/{}", owner.kind.to_lowercase(), owner.name)
        });
        vec![
            self.name().into(),
            controller.unwrap_or_else(|| "<none>".to_owned()).into(),
            self.revision.unwrap_or(0).into(),
            age(&self.metadata, now),
        ]
    }
}
