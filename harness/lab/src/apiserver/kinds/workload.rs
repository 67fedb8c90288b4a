//! What the kinds share that keep pods by a selector and a template.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::{apis::meta::v1 as meta, util::intstr::IntOrString},
};

use super::{metadata::IMMUTABLE, pod_template};
use crate::apiserver::{
    field::{Json, Path, Problems},
    selector::LabelSelector,
};

/// Checks selector and template together, for pods that always run.
pub(super) fn validate(
    kind: &str,
    selector: &meta::LabelSelector,
    template: &PodTemplateSpec,
    problems: &mut Problems,
) {
    let path = Path::new("spec");
    let selector_path = path.field("selector");
    let selector = match LabelSelector::try_from(selector) {
        Ok(parsed) if parsed.is_empty() => {
            let why = format!("empty selector is invalid for {kind}");
            return problems.invalid(&selector_path, Json(selector), why);
        }
        Ok(parsed) => parsed,
        Err(error) => return problems.invalid(&selector_path, Json(selector), error),
    };
    let template_path = path.field("template");
    pod_template::validate(template, &selector, &template_path, problems);
    let restart = template
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    if let Some(restart) = restart.filter(|restart| *restart != "Always") {
        let path = template_path.field("spec");
        problems.not_supported(&path.field("restartPolicy"), restart, &["Always"]);
    }
}

pub(super) fn validate_unchanged_selector(
    new: &meta::LabelSelector,
    old: &meta::LabelSelector,
    problems: &mut Problems,
) {
    if new != old {
        problems.invalid(&Path::new("spec").field("selector"), Json(new), IMMUTABLE);
    }
}

pub(super) fn validate_count(count: Option<i32>, path: &Path<'_>, problems: &mut Problems) {
    if let Some(count) = count.filter(|count| *count < 0) {
        problems.invalid(path, count, "must be greater than or equal to 0");
    }
}

/// A count or a percentage: `3`, `25%`.
pub(super) fn validate_share(share: &IntOrString, path: &Path<'_>, problems: &mut Problems) {
    match share {
        IntOrString::Int(count) => validate_count(Some(*count), path, problems),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|number| number.parse::<u32>().ok());
            if percent.is_none() {
                let why = "a valid percent string must be a numeric string followed by an ending \
                           '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                problems.invalid(path, text, why);
            }
        }
    }
}

pub(super) fn is_zero(share: &IntOrString) -> bool {
    match share {
        IntOrString::Int(count) => *count == 0,
        IntOrString::String(text) => text.trim_end_matches('%').parse() == Ok(0),
    }
}

/// The names and the images of a template's containers, as the wide columns show them.
pub(super) fn container_cells(template: Option<&PodTemplateSpec>) -> (String, String) {
    let spec = template.and_then(|template| template.spec.as_ref());
    let containers = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let names: Vec<_> = containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    let images: Vec<_> = containers
        .iter()
        .map(|container| container.image.as_deref().unwrap_or_default())
        .collect();
    (names.join(","), images.join(","))
}

/// A selector as the wide columns show it.
pub(super) fn selector_cell(selector: &meta::LabelSelector) -> String {
    match LabelSelector::try_from(selector) {
        Ok(selector) if selector.is_empty() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}
