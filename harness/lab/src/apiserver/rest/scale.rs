//! The `scale` subresource: an object's replicas in a form that is the same for every kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{FieldValidation, Part, Rest, Target, WriteOptions, create::Ownership, shape};
use crate::apiserver::{
    object::Object, patch::Patch, schema, selector::LabelSelector, status::Status,
};

impl Rest {
    pub(crate) fn scale(&self, target: &Target) -> Result<Value, Status> {
        self.get(target.resource, &target.key)
            .map(|object| scale_of(&object))
    }

    pub(crate) fn update_scale(
        &self,
        target: &Target,
        scale: &Value,
        options: &WriteOptions<'_>,
    ) -> Result<Value, Status> {
        self.change_scale(target, options, |_current| Ok(scale.clone()))
    }

    pub(crate) fn patch_scale(
        &self,
        target: &Target,
        patch: &Patch,
        options: &WriteOptions<'_>,
    ) -> Result<Value, Status> {
        self.change_scale(target, options, |current| {
            patch.apply(current, schema::named("Scale"))
        })
    }

    fn change_scale(
        &self,
        target: &Target,
        options: &WriteOptions<'_>,
        change: impl FnOnce(Value) -> Result<Value, Status>,
    ) -> Result<Value, Status> {
        let _writing = self.write_lock();
        let current = self.get(target.resource, &target.key)?;
        let scale = change(scale_of(&current))?;
        let version = scale["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if !version.is_empty() && version != current.version().to_string() {
            return Err(Status::stale(target.resource, current.name()));
        }
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => 0.into(),
            Value::Number(number) if number.as_i64().is_some_and(|it| it >= 0) => number.clone(),
            other => {
                return Err(Status::unprocessable(format!(
                    "Scale.autoscaling \"{}\" is invalid: spec.replicas: Invalid value: {other}: \
                     must be greater than or equal to 0",
                    current.name()
                )));
            }
        };
        let mut value = current.value().clone();
        value["spec"]["replicas"] = replicas.into();
        let shaped = shape(target.resource, value, FieldValidation::Ignore)?;
        let target = Target {
            part: Part::Scale,
            ..target.clone()
        };
        let written = self.update_locked(&target, &current, shaped, options, Ownership::Record)?;
        Ok(scale_of(&written.object))
    }
}

fn scale_of(object: &Object) -> Value {
    let value = object.value();
    let selector = meta::LabelSelector::deserialize(&value["spec"]["selector"]).ok();
    let selector = selector.and_then(|selector| LabelSelector::try_from(&selector).ok());
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object.name(),
            "namespace": object.namespace(),
            "uid": object.uid(),
            "resourceVersion": object.version().to_string(),
            "creationTimestamp": value["metadata"]["creationTimestamp"],
        },
        "spec": {"replicas": value["spec"]["replicas"].as_u64().unwrap_or(0)},
        "status": {
            "replicas": value["status"]["replicas"].as_u64().unwrap_or(0),
            "selector": selector.unwrap_or_default().to_string(),
        },
    })
}
