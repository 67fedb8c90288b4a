//! StatefulSets.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetStatus,
};
use serde_json::Value;

use super::{Kind, container::validate_choice, pod_template, workload};
use crate::apiserver::{
    field::{Path, Problems},
    registry::{Resource, STATEFUL_SETS},
    table::{AGE, Column, NAME, age},
};

impl Kind for StatefulSet {
    const RESOURCE: &'static Resource = &STATEFUL_SETS;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::text("Ready"),
        AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
    ];

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.service_name.get_or_insert_default();
        spec.pod_management_policy
            .get_or_insert_with(|| "OrderedReady".to_owned());
        let strategy = spec.update_strategy.get_or_insert_default();
        let ty = strategy
            .type_
            .get_or_insert_with(|| "RollingUpdate".to_owned());
        if ty == "RollingUpdate" {
            strategy
                .rolling_update
                .get_or_insert_default()
                .partition
                .get_or_insert(0);
        }
        let keep = || StatefulSetPersistentVolumeClaimRetentionPolicy {
            when_deleted: Some("Retain".to_owned()),
            when_scaled: Some("Retain".to_owned()),
        };
        spec.persistent_volume_claim_retention_policy
            .get_or_insert_with(keep);
        pod_template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(StatefulSetStatus {
            available_replicas: Some(0),
            ..StatefulSetStatus::default()
        });
    }

    fn validate(&self, problems: &mut Problems) {
        let (path, spec) = (Path::new("spec"), &self.spec);
        workload::validate("statefulset", &spec.selector, &spec.template, problems);
        workload::validate_count(spec.replicas, &path.field("replicas"), problems);
        let settle = spec.min_ready_seconds;
        workload::validate_count(settle, &path.field("minReadySeconds"), problems);
        let management = spec.pod_management_policy.as_deref();
        let management_path = path.field("podManagementPolicy");
        validate_choice(
            management,
            &["OrderedReady", "Parallel"],
            &management_path,
            problems,
        );
        let update = spec
            .update_strategy
            .as_ref()
            .and_then(|update| update.type_.as_deref());
        let update_path = path.field("updateStrategy");
        let choices = ["OnDelete", "RollingUpdate"];
        validate_choice(update, &choices, &update_path.field("type"), problems);
        if spec
            .volume_claim_templates
            .iter()
            .flatten()
            .next()
            .is_some()
        {
            let why = "the lab has no persistent volumes; use an emptyDir";
            problems.forbidden(&path.field("volumeClaimTemplates"), why);
        }
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        let (new, old) = (&self.spec, &old.spec);
        let mut allowed = new.clone();
        allowed.replicas = old.replicas;
        allowed.ordinals.clone_from(&old.ordinals);
        allowed.template.clone_from(&old.template);
        allowed.update_strategy.clone_from(&old.update_strategy);
        allowed.revision_history_limit = old.revision_history_limit;
        allowed.min_ready_seconds = old.min_ready_seconds;
        allowed
            .persistent_volume_claim_retention_policy
            .clone_from(&old.persistent_volume_claim_retention_policy);
        if allowed != *old {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                       'template', 'updateStrategy', 'revisionHistoryLimit', \
                       'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
            problems.forbidden(&Path::new("spec"), why);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = workload::container_cells(Some(&spec.template));
        let (ready, wanted) = (
            status.ready_replicas.unwrap_or(0),
            spec.replicas.unwrap_or(0),
        );
        vec![
            self.name().into(),
            format!("{ready}/{wanted}").into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
        ]
    }
}
