//! Containers: defaults and validity.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, EnvVar, ResourceRequirements, VolumeMount},
    apimachinery::pkg::api::resource::Quantity,
};

use super::probe;
use crate::apiserver::{
    field::{Path, Problems},
    quantity, syntax,
};

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: [&str; 2] = ["FallbackToLogsOnError", "File"];

pub(super) fn set_defaults(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = if is_latest(image) {
        "Always"
    } else {
        "IfNotPresent"
    };
    container
        .image_pull_policy
        .get_or_insert_with(|| policy.to_owned());
    container
        .termination_message_path
        .get_or_insert_with(|| "/dev/termination-log".to_owned());
    container
        .termination_message_policy
        .get_or_insert_with(|| "File".to_owned());
    container.resources.get_or_insert_default();
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        if host_network {
            port.host_port.get_or_insert(port.container_port);
        }
    }
    for variable in container.env.iter_mut().flatten() {
        if let Some(field) = variable
            .value_from
            .as_mut()
            .and_then(|from| from.field_ref.as_mut())
        {
            field.api_version.get_or_insert_with(|| "v1".to_owned());
        }
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(probe::set_defaults);
    if let Some(lifecycle) = &mut container.lifecycle {
        let handlers = [&mut lifecycle.post_start, &mut lifecycle.pre_stop]
            .into_iter()
            .flatten();
        handlers
            .filter_map(|handler| handler.http_get.as_mut())
            .for_each(probe::set_http_defaults);
    }
}

/// Requests that are not stated are those of the limits. Only on pods, not on templates.
pub(super) fn set_request_defaults(resources: &mut ResourceRequirements) {
    let Some(limits) = &resources.limits else {
        return;
    };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests
            .entry(name.clone())
            .or_insert_with(|| limit.clone());
    }
}

pub(super) fn validate(
    container: &Container,
    volumes: &BTreeSet<&str>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    match container.name.as_str() {
        "" => problems.required(&path.field("name"), ""),
        name => {
            if let Err(why) = syntax::label_1123(name) {
                problems.invalid(&path.field("name"), name, why);
            }
        }
    }
    match container.image.as_deref().unwrap_or_default() {
        "" => problems.required(&path.field("image"), ""),
        image if image.trim() != image => {
            let why = "must not have leading or trailing whitespace";
            problems.invalid(&path.field("image"), image, why);
        }
        _ => {}
    }
    let pull = container.image_pull_policy.as_deref();
    validate_choice(
        pull,
        &PULL_POLICIES,
        &path.field("imagePullPolicy"),
        problems,
    );
    let message = container.termination_message_policy.as_deref();
    let message_path = path.field("terminationMessagePolicy");
    validate_choice(message, &MESSAGE_POLICIES, &message_path, problems);
    validate_ports(
        container.ports.iter().flatten(),
        &path.field("ports"),
        problems,
    );
    validate_environment(container.env.iter().flatten(), &path.field("env"), problems);
    let mounts = container.volume_mounts.iter().flatten();
    validate_mounts(mounts, volumes, &path.field("volumeMounts"), problems);
    if let Some(resources) = &container.resources {
        validate_resources(resources, &path.field("resources"), problems);
    }
    let probes = [
        (
            "livenessProbe",
            &container.liveness_probe,
            probe::Success::Once,
        ),
        (
            "readinessProbe",
            &container.readiness_probe,
            probe::Success::Several,
        ),
        (
            "startupProbe",
            &container.startup_probe,
            probe::Success::Once,
        ),
    ];
    for (name, probe, success) in probes {
        if let Some(probe) = probe {
            probe::validate(probe, success, &path.field(name), problems);
        }
    }
}

/// Checks a field whose values are listed.
pub(super) fn validate_choice(
    value: Option<&str>,
    choices: &[&str],
    path: &Path<'_>,
    problems: &mut Problems,
) {
    if let Some(value) = value
        && !choices.contains(&value)
    {
        problems.not_supported(path, value, choices);
    }
}

fn validate_ports<'a>(
    ports: impl Iterator<Item = &'a ContainerPort>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.enumerate() {
        let path = path.index(index);
        if let Err(why) = syntax::port_number(port.container_port) {
            problems.invalid(&path.field("containerPort"), port.container_port, why);
        }
        if let Some(host_port) = port.host_port.filter(|port| *port != 0)
            && let Err(why) = syntax::port_number(host_port)
        {
            problems.invalid(&path.field("hostPort"), host_port, why);
        }
        let protocol = port.protocol.as_deref();
        validate_choice(protocol, &PROTOCOLS, &path.field("protocol"), problems);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            if let Err(why) = syntax::port_name(name) {
                problems.invalid(&path.field("name"), name, why);
            } else if !names.insert(name) {
                problems.duplicate(&path.field("name"), name);
            }
        }
    }
}

fn validate_environment<'a>(
    variables: impl Iterator<Item = &'a EnvVar>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    for (index, variable) in variables.enumerate() {
        let path = path.index(index);
        match variable.name.as_str() {
            "" => problems.required(&path.field("name"), ""),
            name => {
                if let Err(why) = syntax::environment_name(name) {
                    problems.invalid(&path.field("name"), name, why);
                }
            }
        }
        let Some(from) = &variable.value_from else {
            continue;
        };
        let from_path = path.field("valueFrom");
        let sources = [
            from.config_map_key_ref.is_some(),
            from.field_ref.is_some(),
            from.resource_field_ref.is_some(),
            from.secret_key_ref.is_some(),
        ];
        if variable
            .value
            .as_ref()
            .is_some_and(|value| !value.is_empty())
        {
            let why = "may not be specified when `value` is not empty";
            problems.invalid(&from_path, "", why);
        }
        match sources.iter().filter(|set| **set).count() {
            0 => problems.invalid(&from_path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"),
            1 => {}
            _ => {
                let why = "may not have more than one field specified at a time";
                problems.invalid(&from_path, "", why);
            }
        }
    }
}

fn validate_mounts<'a>(
    mounts: impl Iterator<Item = &'a VolumeMount>,
    volumes: &BTreeSet<&str>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    let mut places = BTreeSet::new();
    for (index, mount) in mounts.enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            problems.required(&path.field("name"), "");
        } else if !volumes.contains(mount.name.as_str()) {
            problems.not_found(&path.field("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            problems.required(&path.field("mountPath"), "");
        } else if !places.insert(&mount.mount_path) {
            problems.invalid(
                &path.field("mountPath"),
                &mount.mount_path,
                "must be unique",
            );
        }
        if let Some(inner) = &mount.sub_path {
            let sub_path = path.field("subPath");
            if inner.starts_with('/') {
                problems.invalid(&sub_path, inner, "must be a relative path");
            } else if inner.split('/').any(|step| step == "..") {
                problems.invalid(&sub_path, inner, "must not contain '..'");
            }
        }
    }
}

fn validate_resources(resources: &ResourceRequirements, path: &Path<'_>, problems: &mut Problems) {
    let amount = |Quantity(text): &Quantity| quantity::parse(text).unwrap_or_default();
    let (limits_path, requests_path) = (path.field("limits"), path.field("requests"));
    for (part, path) in [
        (&resources.limits, &limits_path),
        (&resources.requests, &requests_path),
    ] {
        for (name, quantity) in part.iter().flatten() {
            if amount(quantity) < 0.0 {
                let why = "must be greater than or equal to 0";
                problems.invalid(&path.key(name), &quantity.0, why);
            }
        }
    }
    for (name, request) in resources.requests.iter().flatten() {
        let limit = resources
            .limits
            .as_ref()
            .and_then(|limits| limits.get(name));
        if let Some(limit) = limit
            && amount(request) > amount(limit)
        {
            let why = format!("must be less than or equal to {name} limit of {}", limit.0);
            problems.invalid(&requests_path, &request.0, why);
        }
    }
}

/// An image without a tag, or with the tag `latest`, may change under its name.
fn is_latest(image: &str) -> bool {
    let last = image.rsplit_once('/').map_or(image, |(_, last)| last);
    !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}
