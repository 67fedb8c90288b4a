//! Pods.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
        ObjectFieldSelector, Pod, PodSpec, PodStatus, ProjectedVolumeSource, ResourceRequirements,
        ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::Value;

use super::{
    Kind, container, pod_columns,
    pod_template::{self, set_spec_defaults},
};
use crate::apiserver::{
    admission::Surroundings,
    field::{Path, Problems},
    quantity,
    registry::{PODS, Resource},
    status::Status,
    table::Column,
    words,
};

/// Where containers find the credentials of their service account.
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The tokens of pods live for an hour and a bit, so that kubelets renew them hourly.
const TOKEN_SECONDS: i64 = 3607;

impl Kind for Pod {
    const RESOURCE: &'static Resource = &PODS;
    const COLUMNS: &'static [Column] = pod_columns::COLUMNS;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set_spec_defaults(spec);
        spec.enable_service_links.get_or_insert(true);
        spec.preemption_policy
            .get_or_insert_with(|| "PreemptLowerPriority".to_owned());
        spec.priority.get_or_insert(0);
        let containers = spec
            .init_containers
            .iter_mut()
            .flatten()
            .chain(&mut spec.containers);
        containers
            .filter_map(|container| container.resources.as_mut())
            .for_each(container::set_request_defaults);
    }

    fn prepare_create(&mut self) {
        let qos = self
            .spec
            .as_ref()
            .map(quality_of_service)
            .map(str::to_owned);
        let phase = Some("Pending".to_owned());
        self.status = Some(PodStatus {
            phase,
            qos_class: qos,
            ..PodStatus::default()
        });
    }

    fn admit(&mut self, old: Option<&Self>, around: &Surroundings<'_>) -> Result<(), Status> {
        if old.is_some() {
            return Ok(());
        }
        let (name, namespace) = (self.name().to_owned(), self.namespace().to_owned());
        let spec = self.spec.get_or_insert_default();
        let account = spec
            .service_account_name
            .clone()
            .filter(|account| !account.is_empty());
        let account = account.unwrap_or_else(|| "default".to_owned());
        if !around.has_service_account(&namespace, &account) {
            let why = format!(
                "error looking up service account {namespace}/{account}: serviceaccount \
                 \"{account}\" not found"
            );
            return Err(Status::forbidden(&PODS, &name, why));
        }
        spec.service_account = Some(account.clone());
        if around.mount_tokens && wants_token(spec, around.automounts(&namespace, &account)) {
            mount_token(spec);
        }
        spec.service_account_name = Some(account);
        Ok(())
    }

    fn validate(&self, problems: &mut Problems) {
        if let Some(spec) = &self.spec {
            pod_template::validate_spec(spec, &Path::new("spec"), problems);
        }
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        if changeable_blanked(new, old) != *old {
            let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                       `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                       `spec.tolerations` (only additions to existing tolerations),\
                       `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                       previously negative)";
            problems.forbidden(&Path::new("spec"), why);
        }
        let kept = |toleration| new.tolerations.iter().flatten().any(|it| it == toleration);
        if !old.tolerations.iter().flatten().all(kept) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            problems.forbidden(&Path::new("spec").field("tolerations"), why);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        pod_columns::cells(self, now)
    }
}

/// `new` with the fields that an update may change set back to what they are in `old`.
fn changeable_blanked(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut blanked = new.clone();
    blanked.active_deadline_seconds = old.active_deadline_seconds;
    blanked.tolerations.clone_from(&old.tolerations);
    for (new, old) in blanked.containers.iter_mut().zip(&old.containers) {
        new.image.clone_from(&old.image);
    }
    let (new_init, old_init) = (&mut blanked.init_containers, &old.init_containers);
    for (new, old) in new_init.iter_mut().flatten().zip(old_init.iter().flatten()) {
        new.image.clone_from(&old.image);
    }
    blanked
}

/// `Guaranteed` if every container's limits are its requests, `BestEffort` if there are none.
fn quality_of_service(spec: &PodSpec) -> &'static str {
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let resources = containers.map(|container| container.resources.clone().unwrap_or_default());
    let resources: Vec<_> = resources.collect();
    let none = |resources: &ResourceRequirements| {
        resources.limits.iter().flatten().next().is_none()
            && resources.requests.iter().flatten().next().is_none()
    };
    if resources.iter().all(none) {
        return "BestEffort";
    }
    let amount = |Quantity(text): &Quantity| quantity::parse(text).ok();
    let guaranteed = |resources: &ResourceRequirements| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = resources
                .limits
                .as_ref()
                .and_then(|limits| limits.get(*name));
            let request = resources
                .requests
                .as_ref()
                .and_then(|requests| requests.get(*name));
            limit.is_some() && limit.and_then(amount) == request.and_then(amount)
        })
    };
    if resources.iter().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn wants_token(spec: &PodSpec, account: bool) -> bool {
    spec.automount_service_account_token.unwrap_or(account)
}

/// Adds the volume with the account's token, the cluster's certificate and the namespace's name to
/// every container that has nothing there yet.
fn mount_token(spec: &mut PodSpec) {
    let name = format!("kube-api-access-{}", words::random(5));
    let containers = spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers);
    let mut mounted = false;
    for container in containers {
        let mounts = container.volume_mounts.get_or_insert_default();
        if mounts.iter().any(|mount| mount.mount_path == TOKEN_MOUNT) {
            continue;
        }
        mounted = true;
        mounts.push(VolumeMount {
            name: name.clone(),
            mount_path: TOKEN_MOUNT.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    if mounted {
        spec.volumes
            .get_or_insert_default()
            .push(token_volume(name));
    }
}

fn token_volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(TOKEN_SECONDS),
        ..ServiceAccountTokenProjection::default()
    };
    let certificate = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![KeyToPath {
            key: "ca.crt".to_owned(),
            path: "ca.crt".to_owned(),
            ..KeyToPath::default()
        }]),
        ..ConfigMapProjection::default()
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: "metadata.namespace".to_owned(),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection {
            service_account_token: Some(token),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            config_map: Some(certificate),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection {
                items: Some(vec![namespace]),
            }),
            ..VolumeProjection::default()
        },
    ];
    Volume {
        name,
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o644),
            sources: Some(sources),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}
