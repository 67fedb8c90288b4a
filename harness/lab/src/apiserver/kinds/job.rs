//! Jobs.

use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{Job, JobSpec, JobStatus},
    apimachinery::pkg::apis::meta::v1 as meta,
};
use serde_json::Value;

use super::{Kind, container::validate_choice, metadata::IMMUTABLE, pod_template, workload};
use crate::apiserver::{
    duration,
    field::{Json, Path, Problems},
    registry::{JOBS, Resource},
    selector::LabelSelector,
    table::{AGE, Column, NAME, age},
};

pub(super) const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

impl Kind for Job {
    const RESOURCE: &'static Resource = &JOBS;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::text("Status"),
        Column::text("Completions"),
        Column::text("Duration"),
        AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ];

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        spec.backoff_limit.get_or_insert(6);
        spec.completion_mode
            .get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        spec.pod_replacement_policy
            .get_or_insert_with(|| "TerminatingOrFailed".to_owned());
        pod_template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(JobStatus::default());
        let (name, uid) = (self.name().to_owned(), self.uid().to_owned());
        if let Some(spec) = &mut self.spec
            && spec.manual_selector != Some(true)
        {
            select_own_pods(spec, &name, &uid);
        }
    }

    /// The selector is generated once; who applies the same manifest again leaves it out.
    fn prepare_update(&mut self, old: &Self) {
        let (Some(new), Some(old)) = (&mut self.spec, &old.spec) else {
            return;
        };
        if new.selector.is_none() {
            new.selector.clone_from(&old.selector);
        }
    }

    fn validate(&self, problems: &mut Problems) {
        let path = Path::new("spec");
        let Some(spec) = &self.spec else {
            return problems.required(&path, "");
        };
        let counts = [
            ("parallelism", spec.parallelism),
            ("completions", spec.completions),
            ("backoffLimit", spec.backoff_limit),
            ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished),
        ];
        for (field, count) in counts {
            workload::validate_count(count, &path.field(field), problems);
        }
        let mode = spec.completion_mode.as_deref();
        let mode_path = path.field("completionMode");
        validate_choice(mode, &["Indexed", "NonIndexed"], &mode_path, problems);
        if mode == Some("Indexed") && spec.completions.is_none() {
            let why = "when completion mode is Indexed";
            problems.required(&path.field("completions"), why);
        }
        let template_path = path.field("template");
        match spec.selector.as_ref().map(LabelSelector::try_from) {
            Some(Ok(selector)) => {
                pod_template::validate(&spec.template, &selector, &template_path, problems);
            }
            Some(Err(error)) => {
                problems.invalid(&path.field("selector"), Json(&spec.selector), error);
            }
            None => problems.required(&path.field("selector"), ""),
        }
        let restart = spec
            .template
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        let spec_path = template_path.field("spec");
        let restart_path = spec_path.field("restartPolicy");
        validate_choice(restart, &["OnFailure", "Never"], &restart_path, problems);
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        let path = Path::new("spec");
        if new.template != old.template && old.suspend != Some(true) {
            problems.invalid(&path.field("template"), Json(&new.template), IMMUTABLE);
        }
        if new.selector != old.selector {
            problems.invalid(&path.field("selector"), Json(&new.selector), IMMUTABLE);
        }
        if new.completions != old.completions {
            problems.invalid(
                &path.field("completions"),
                Json(&new.completions),
                IMMUTABLE,
            );
        }
        if new.completion_mode != old.completion_mode {
            problems.invalid(
                &path.field("completionMode"),
                Json(&new.completion_mode),
                IMMUTABLE,
            );
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = workload::container_cells(Some(&spec.template));
        let succeeded = status.succeeded.unwrap_or(0);
        let completions = match (spec.completions, spec.parallelism) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, Some(several)) if several > 1 => format!("{succeeded}/1 of {several}"),
            _ => format!("{succeeded}/1"),
        };
        vec![
            self.name().into(),
            summary(self, &spec, &status).into(),
            completions.into(),
            run_time(&status, now).into(),
            age(&self.metadata, now),
            names.into(),
            images.into(),
            spec.selector
                .as_ref()
                .map(workload::selector_cell)
                .unwrap_or_default()
                .into(),
        ]
    }
}

fn summary(job: &Job, spec: &JobSpec, status: &JobStatus) -> &'static str {
    let has = |ty: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == ty && condition.status == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if job.is_terminating() {
        "Terminating"
    } else if spec.suspend == Some(true) {
        "Suspended"
    } else {
        "Running"
    }
}

fn run_time(status: &JobStatus, now: Timestamp) -> String {
    let Some(meta::Time(start)) = status.start_time else {
        return String::new();
    };
    let end = status
        .completion_time
        .as_ref()
        .map_or(now, |meta::Time(end)| *end);
    duration::human(end.duration_since(start))
}

/// Marks the template's pods as this job's, by labels that no other job's pods have.
fn select_own_pods(spec: &mut JobSpec, name: &str, uid: &str) {
    let own = [
        (CONTROLLER_UID, uid),
        ("controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
        ("job-name", name),
    ];
    let metadata = spec.template.metadata.get_or_insert_default();
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    spec.selector = Some(meta::LabelSelector {
        match_labels: Some([(CONTROLLER_UID.to_owned(), uid.to_owned())].into()),
        match_expressions: None,
    });
}
