//! Deployments.

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, RollingUpdateDeployment},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::Value;

use super::{Kind, container::validate_choice, pod_template, workload};
use crate::apiserver::{
    field::{Path, Problems},
    registry::{DEPLOYMENTS, Resource},
    table::{AGE, Column, NAME, age},
};

impl Kind for Deployment {
    const RESOURCE: &'static Resource = &DEPLOYMENTS;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::text("Ready"),
        Column::number("Up-to-date"),
        Column::number("Available"),
        AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ];

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        let ty = strategy
            .type_
            .get_or_insert_with(|| "RollingUpdate".to_owned());
        if ty == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            let quarter = || IntOrString::String("25%".to_owned());
            rolling.max_surge.get_or_insert_with(quarter);
            rolling.max_unavailable.get_or_insert_with(quarter);
        }
        pod_template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn validate(&self, problems: &mut Problems) {
        let (path, spec) = (Path::new("spec"), &self.spec);
        workload::validate("deployment", &spec.selector, &spec.template, problems);
        let counts = [
            ("replicas", spec.replicas),
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
            ("progressDeadlineSeconds", spec.progress_deadline_seconds),
        ];
        for (field, count) in counts {
            workload::validate_count(count, &path.field(field), problems);
        }
        if spec.progress_deadline_seconds <= spec.min_ready_seconds.or(Some(0)) {
            let path = path.field("progressDeadlineSeconds");
            let why = "must be greater than minReadySeconds";
            problems.invalid(
                &path,
                spec.progress_deadline_seconds.unwrap_or_default(),
                why,
            );
        }
        if let Some(strategy) = &spec.strategy {
            let path = path.field("strategy");
            let ty = strategy.type_.as_deref();
            validate_choice(
                ty,
                &["Recreate", "RollingUpdate"],
                &path.field("type"),
                problems,
            );
            let path = path.field("rollingUpdate");
            match &strategy.rolling_update {
                Some(_) if ty == Some("Recreate") => {
                    let why = "may not be specified when strategy `type` is 'Recreate'";
                    problems.forbidden(&path, why);
                }
                Some(rolling) => validate_rolling(rolling, &path, problems),
                None => {}
            }
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
        let (ready, wanted) = (
            status.ready_replicas.unwrap_or(0),
            spec.replicas.unwrap_or(0),
        );
        vec![
            self.name().into(),
            format!("{ready}/{wanted}").into(),
            status.updated_replicas.unwrap_or(0).into(),
            status.available_replicas.unwrap_or(0).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            workload::selector_cell(&spec.selector).into(),
        ]
    }
}

fn validate_rolling(rolling: &RollingUpdateDeployment, path: &Path<'_>, problems: &mut Problems) {
    let shares = [
        ("maxSurge", &rolling.max_surge),
        ("maxUnavailable", &rolling.max_unavailable),
    ];
    for (field, share) in shares {
        if let Some(share) = share {
            workload::validate_share(share, &path.field(field), problems);
        }
    }
    let zero = |share: &Option<IntOrString>| share.as_ref().is_some_and(workload::is_zero);
    if zero(&rolling.max_surge) && zero(&rolling.max_unavailable) {
        let why = "may not be 0 when `maxSurge` is 0";
        problems.invalid(&path.field("maxUnavailable"), 0, why);
    }
}
