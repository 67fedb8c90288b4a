//! DaemonSets.

use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::DaemonSet, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::Value;

use super::{Kind, container::validate_choice, pod_template, workload};
use crate::apiserver::{
    field::{Path, Problems},
    registry::{DAEMON_SETS, Resource},
    selector::LabelSelector,
    table::{AGE, Column, NAME, age},
};

impl Kind for DaemonSet {
    const RESOURCE: &'static Resource = &DAEMON_SETS;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::number("Desired"),
        Column::number("Current"),
        Column::number("Ready"),
        Column::number("Up-to-date"),
        Column::number("Available"),
        Column::text("Node Selector"),
        AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ];

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.revision_history_limit.get_or_insert(10);
        let strategy = spec.update_strategy.get_or_insert_default();
        let ty = strategy
            .type_
            .get_or_insert_with(|| "RollingUpdate".to_owned());
        if ty == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        pod_template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn validate(&self, problems: &mut Problems) {
        let (path, spec) = (Path::new("spec"), &self.spec);
        workload::validate("daemonset", &spec.selector, &spec.template, problems);
        let settle = spec.min_ready_seconds;
        workload::validate_count(settle, &path.field("minReadySeconds"), problems);
        let Some(strategy) = &spec.update_strategy else {
            return;
        };
        let path = path.field("updateStrategy");
        let ty = strategy.type_.as_deref();
        validate_choice(
            ty,
            &["OnDelete", "RollingUpdate"],
            &path.field("type"),
            problems,
        );
        let rolling = strategy.rolling_update.as_ref();
        if let Some(share) = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
            let path = path.field("rollingUpdate");
            workload::validate_share(share, &path.field("maxUnavailable"), problems);
        }
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        let (new, old) = (&self.spec.selector, &old.spec.selector);
        workload::validate_unchanged_selector(new, old, problems);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = workload::container_cells(Some(&spec.template));
        let node_selector = spec
            .template
            .spec
            .as_ref()
            .and_then(|spec| spec.node_selector.as_ref());
        let node_selector = node_selector.map(|labels| LabelSelector::equal(labels).to_string());
        vec![
            self.name().into(),
            status.desired_number_scheduled.into(),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or(0).into(),
            status.number_available.unwrap_or(0).into(),
            node_selector
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| "<none>".into())
                .into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            workload::selector_cell(&spec.selector).into(),
        ]
    }
}
