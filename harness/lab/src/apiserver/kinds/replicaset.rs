//! ReplicaSets.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::Value;

use super::{Kind, pod_template, workload};
use crate::apiserver::{
    field::{Path, Problems},
    registry::{REPLICA_SETS, Resource},
    table::{AGE, Column, NAME, age},
};

impl Kind for ReplicaSet {
    const RESOURCE: &'static Resource = &REPLICA_SETS;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::number("Desired"),
        Column::number("Current"),
        Column::number("Ready"),
        AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ];

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        spec.template
            .iter_mut()
            .for_each(pod_template::set_defaults);
    }

    fn prepare_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn validate(&self, problems: &mut Problems) {
        let (path, spec) = (Path::new("spec"), &self.spec);
        match &spec.template {
            Some(template) => {
                workload::validate("replicaset", &spec.selector, template, problems);
            }
            None => problems.required(&path.field("template"), ""),
        }
        workload::validate_count(spec.replicas, &path.field("replicas"), problems);
        let settle = spec.min_ready_seconds;
        workload::validate_count(settle, &path.field("minReadySeconds"), problems);
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        let (new, old) = (&self.spec.selector, &old.spec.selector);
        workload::validate_unchanged_selector(new, old, problems);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = workload::container_cells(spec.template.as_ref());
        vec![
            self.name().into(),
            spec.replicas.unwrap_or(0).into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or(0).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            workload::selector_cell(&spec.selector).into(),
        ]
    }
}
