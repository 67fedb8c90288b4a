//! Validity of `metadata`, which all kinds share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::apiserver::{
    field::{Path, Problems},
    syntax,
};

const ANNOTATIONS_LIMIT: usize = 256 * 1024;

pub(super) fn validate(
    metadata: &ObjectMeta,
    grammar: fn(&str) -> syntax::Checked,
    problems: &mut Problems,
) {
    let path = Path::new("metadata");
    match metadata.name.as_deref().unwrap_or_default() {
        "" => problems.required(&path.field("name"), "name or generateName is required"),
        name => {
            if let Err(why) = grammar(name) {
                problems.invalid(&path.field("name"), name, why);
            }
        }
    }
    validate_labels(metadata.labels.as_ref(), &path.field("labels"), problems);
    validate_annotations(
        metadata.annotations.as_ref(),
        &path.field("annotations"),
        problems,
    );
    for (index, finalizer) in metadata.finalizers.iter().flatten().enumerate() {
        if let Err(why) = syntax::qualified_name(finalizer) {
            problems.invalid(&path.field("finalizers").index(index), finalizer, why);
        }
    }
    let owners = path.field("ownerReferences");
    for (index, owner) in metadata.owner_references.iter().flatten().enumerate() {
        let owner_path = owners.index(index);
        let fields = [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
        ];
        for (field, value) in fields {
            if value.is_empty() {
                problems.invalid(&owner_path.field(field), value, "must not be empty");
            }
        }
    }
}

pub(super) fn validate_update(new: &ObjectMeta, old: &ObjectMeta, problems: &mut Problems) {
    let path = Path::new("metadata");
    if new.name != old.name {
        problems.invalid(&path.field("name"), &new.name, IMMUTABLE);
    }
    let added = |finalizer: &&String| !old.finalizers.iter().flatten().any(|it| it == *finalizer);
    if old.deletion_timestamp.is_some()
        && let Some(finalizer) = new.finalizers.iter().flatten().find(added)
    {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{{{finalizer:?}}}"
        );
        problems.forbidden(&path.field("finalizers"), why);
    }
}

pub(super) fn validate_labels(
    labels: Option<&BTreeMap<String, String>>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    for (key, value) in labels.into_iter().flatten() {
        if let Err(why) = syntax::qualified_name(key) {
            problems.invalid(path, key, why);
        }
        if let Err(why) = syntax::label_value(value) {
            problems.invalid(path, value, why);
        }
    }
}

pub(super) const IMMUTABLE: &str = "field is immutable";

fn validate_annotations(
    annotations: Option<&BTreeMap<String, String>>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        if let Err(why) = syntax::qualified_name(&key.to_lowercase()) {
            problems.invalid(path, key, why);
        }
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_LIMIT {
        problems.too_long(path, ANNOTATIONS_LIMIT);
    }
}
