//! What pods and the templates of pods share: defaults and validity of a pod's spec.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Toleration};

use super::{
    container::{self, validate_choice},
    metadata, volume,
};
use crate::apiserver::{
    field::{Path, Problems},
    selector::LabelSelector,
    syntax,
};

const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const TAINT_EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "PreferNoSchedule"];

pub(super) fn set_defaults(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        set_spec_defaults(spec);
    }
}

pub(super) fn set_spec_defaults(spec: &mut PodSpec) {
    spec.restart_policy
        .get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy
        .get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.scheduler_name
        .get_or_insert_with(|| "default-scheduler".to_owned());
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    // The older name of the same field: whichever is set is told by both.
    if spec.service_account_name.is_none() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
    let host_network = spec.host_network == Some(true);
    let containers = spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers);
    containers.for_each(|container| container::set_defaults(container, host_network));
    spec.volumes
        .iter_mut()
        .flatten()
        .for_each(volume::set_defaults);
}

/// The template of a workload whose pods are selected by `selector`.
pub(super) fn validate(
    template: &PodTemplateSpec,
    selector: &LabelSelector,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    let metadata_path = path.field("metadata");
    let labels_path = metadata_path.field("labels");
    let labels = template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.as_ref());
    metadata::validate_labels(labels, &labels_path, problems);
    if !selector.matches(&labels) {
        let labels = crate::apiserver::field::Json(&labels);
        problems.invalid(
            &labels_path,
            labels,
            "`selector` does not match template `labels`",
        );
    }
    match &template.spec {
        Some(spec) => validate_spec(spec, &path.field("spec"), problems),
        None => problems.required(&path.field("spec").field("containers"), ""),
    }
}

pub(super) fn validate_spec(spec: &PodSpec, path: &Path<'_>, problems: &mut Problems) {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    volume::validate(volumes, &path.field("volumes"), problems);
    validate_containers(spec, path, problems);

    let restart = spec.restart_policy.as_deref();
    validate_choice(
        restart,
        &RESTART_POLICIES,
        &path.field("restartPolicy"),
        problems,
    );
    let dns = spec.dns_policy.as_deref();
    validate_choice(dns, &DNS_POLICIES, &path.field("dnsPolicy"), problems);
    let node_selector = spec.node_selector.as_ref();
    metadata::validate_labels(node_selector, &path.field("nodeSelector"), problems);
    validate_tolerations(
        spec.tolerations.iter().flatten(),
        &path.field("tolerations"),
        problems,
    );

    let names = [
        (
            "serviceAccountName",
            &spec.service_account_name,
            syntax::subdomain_1123 as fn(&str) -> _,
        ),
        ("nodeName", &spec.node_name, syntax::subdomain_1123),
        ("hostname", &spec.hostname, syntax::label_1123),
        ("subdomain", &spec.subdomain, syntax::label_1123),
    ];
    for (field, name, grammar) in names {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty())
            && let Err(why) = grammar(name)
        {
            problems.invalid(&path.field(field), name, why);
        }
    }
    if let Some(grace) = spec
        .termination_grace_period_seconds
        .filter(|grace| *grace < 0)
    {
        let why = "must be greater than or equal to 0";
        problems.invalid(&path.field("terminationGracePeriodSeconds"), grace, why);
    }
    if let Some(deadline) = spec
        .active_deadline_seconds
        .filter(|deadline| *deadline < 1)
    {
        let why = "must be between 1 and 2147483647, inclusive";
        problems.invalid(&path.field("activeDeadlineSeconds"), deadline, why);
    }
}

fn validate_containers(spec: &PodSpec, path: &Path<'_>, problems: &mut Problems) {
    let volumes: BTreeSet<_> = spec
        .volumes
        .iter()
        .flatten()
        .map(|volume| volume.name.as_str())
        .collect();
    let mut names = BTreeSet::new();
    let mut all = |containers: &[Container], path: &Path<'_>, problems: &mut Problems| {
        for (index, container) in containers.iter().enumerate() {
            let path = path.index(index);
            container::validate(container, &volumes, &path, problems);
            if !container.name.is_empty() && !names.insert(container.name.clone()) {
                problems.duplicate(&path.field("name"), &container.name);
            }
        }
    };
    if spec.containers.is_empty() {
        problems.required(&path.field("containers"), "");
    }
    all(&spec.containers, &path.field("containers"), problems);
    let first = spec.init_containers.as_deref().unwrap_or_default();
    all(first, &path.field("initContainers"), problems);
}

fn validate_tolerations<'a>(
    tolerations: impl Iterator<Item = &'a Toleration>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    for (index, toleration) in tolerations.enumerate() {
        let path = path.index(index);
        let operator = toleration.operator.as_deref();
        validate_choice(
            operator,
            &["Equal", "Exists"],
            &path.field("operator"),
            problems,
        );
        let effect = toleration
            .effect
            .as_deref()
            .filter(|effect| !effect.is_empty());
        validate_choice(effect, &TAINT_EFFECTS, &path.field("effect"), problems);
        let has_key = toleration.key.as_ref().is_some_and(|key| !key.is_empty());
        let has_value = toleration
            .value
            .as_ref()
            .is_some_and(|value| !value.is_empty());
        if !has_key && operator != Some("Exists") {
            let why = "operator must be Exists when `key` is empty, which means \"match all values \
                       and all keys\"";
            problems.invalid(&path.field("operator"), operator.unwrap_or_default(), why);
        }
        if has_value && operator == Some("Exists") {
            let why = "value must be empty when `operator` is 'Exists'";
            problems.invalid(&path.field("operator"), operator.unwrap_or_default(), why);
        }
    }
}
