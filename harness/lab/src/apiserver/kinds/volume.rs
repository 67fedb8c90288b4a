//! Volumes: defaults and validity.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Volume;

use crate::apiserver::{
    field::{Path, Problems},
    syntax,
};

/// `rw-r--r--`
const DEFAULT_MODE: i32 = 0o644;

pub(super) fn set_defaults(volume: &mut Volume) {
    if source_count(volume) == 0 {
        volume.empty_dir.get_or_insert_default();
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(DEFAULT_MODE);
        for token in source.sources.iter_mut().flatten() {
            if let Some(token) = &mut token.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
        }
    }
}

pub(super) fn validate(volumes: &[Volume], path: &Path<'_>, problems: &mut Problems) {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        match volume.name.as_str() {
            "" => problems.required(&path.field("name"), ""),
            name => {
                if let Err(why) = syntax::label_1123(name) {
                    problems.invalid(&path.field("name"), name, why);
                } else if !names.insert(name) {
                    problems.duplicate(&path.field("name"), name);
                }
            }
        }
        if source_count(volume) > 1 {
            problems.forbidden(&path, "may not specify more than 1 volume type");
        }
        validate_source(volume, &path, problems);
    }
}

fn validate_source(volume: &Volume, path: &Path<'_>, problems: &mut Problems) {
    if let Some(source) = &volume.config_map
        && source.name.is_empty()
    {
        problems.required(&path.field("configMap").field("name"), "");
    }
    if let Some(source) = &volume.secret
        && source.secret_name.as_deref().unwrap_or_default().is_empty()
    {
        problems.required(&path.field("secret").field("secretName"), "");
    }
    if let Some(source) = &volume.host_path
        && source.path.is_empty()
    {
        problems.required(&path.field("hostPath").field("path"), "");
    }
    if volume.persistent_volume_claim.is_some() {
        let why = "the lab has no persistent volumes; use an emptyDir";
        problems.forbidden(&path.field("persistentVolumeClaim"), why);
    }
}

/// How many sources a volume names. It is read from the encoded form because there are thirty of them.
fn source_count(volume: &Volume) -> usize {
    let encoded = serde_json::to_value(volume).unwrap_or_default();
    let fields = encoded.as_object().map_or(0, serde_json::Map::len);
    fields.saturating_sub(1)
}
