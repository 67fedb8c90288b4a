//! From any JSON to an object of a known type: unknown fields are taken out and reported, numbers
//! become quantities where those are meant, and what has the wrong type is refused with its path.
//!
//! The sentences are those of the real API server's decoder, which is Go's.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{Field, Scalar, Struct, Type, named};
use crate::apiserver::{
    field::{Path, Problems},
    quantity,
};

/// What was noticed about an object that could be decoded.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decoded {
    /// Sentences such as `unknown field "spec.foo"`: errors under strict validation, else warnings.
    pub(crate) unknown: Vec<String>,
    /// Required fields that are missing.
    pub(crate) missing: Problems,
}

/// A value that does not fit the type of its field.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Misfit {
    pub(crate) field: String,
    pub(crate) message: String,
}

/// Brings `object` into the shape of `shape`.
pub(crate) fn decode(object: &mut Value, shape: &Struct) -> Result<Decoded, Misfit> {
    let mut walk = Walk {
        decoded: Decoded::default(),
        owner: shape.name,
        in_status: false,
    };
    walk.structure(object, shape, &Path::ROOT)?;
    Ok(walk.decoded)
}

struct Walk {
    decoded: Decoded,
    /// The type whose field is being read, as errors name it.
    owner: &'static str,
    /// The server's own clients write statuses, and they may be partial.
    in_status: bool,
}

impl Walk {
    fn structure(
        &mut self,
        value: &mut Value,
        shape: &Struct,
        path: &Path<'_>,
    ) -> Result<(), Misfit> {
        let found = describe(value);
        let Value::Object(fields) = value else {
            return Err(self.misfit(path, &found, &go_struct(shape.name)));
        };
        self.drop_unknown(fields, shape, path);
        for (name, field) in &shape.fields {
            let path = path.field(name);
            match fields.get_mut(*name) {
                Some(value) => self.field(value, field, shape.name, &path)?,
                None if field.required && !self.in_status => {
                    self.decoded.missing.required(&path, "");
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Nulls go silently: they mean that the field is not set.
    fn drop_unknown(&mut self, fields: &mut Map<String, Value>, shape: &Struct, path: &Path<'_>) {
        fields.retain(|name, value| {
            let known = shape.fields.contains_key(name.as_str());
            if !known {
                self.decoded
                    .unknown
                    .push(format!("unknown field \"{}\"", path.field(name)));
            }
            known && !value.is_null()
        });
    }

    fn field(
        &mut self,
        value: &mut Value,
        field: &Field,
        owner: &'static str,
        path: &Path<'_>,
    ) -> Result<(), Misfit> {
        let outside = (self.owner, self.in_status);
        self.owner = owner;
        self.in_status |= path.is_status();
        let result = self.value(value, &field.ty, path);
        (self.owner, self.in_status) = outside;
        result
    }

    fn value(&mut self, value: &mut Value, ty: &Type, path: &Path<'_>) -> Result<(), Misfit> {
        let found = describe(value);
        match (ty, value) {
            (Type::Scalar(scalar), value) => self.scalar(value, *scalar, path),
            (Type::Struct(name), value) => self.structure(value, named(name), path),
            (Type::List(item), Value::Array(items)) => {
                let mut items = items.iter_mut().enumerate();
                items.try_for_each(|(index, value)| self.value(value, item, &path.index(index)))
            }
            (Type::Map(item), Value::Object(entries)) => {
                entries.retain(|_, value| !value.is_null());
                let mut entries = entries.iter_mut();
                entries.try_for_each(|(key, value)| self.value(value, item, &path.field(key)))
            }
            (Type::List(_) | Type::Map(_), _) => Err(self.misfit(path, &found, &go_type(ty))),
        }
    }

    fn scalar(&self, value: &mut Value, scalar: Scalar, path: &Path<'_>) -> Result<(), Misfit> {
        if let (Scalar::Quantity, Value::Number(number)) = (scalar, &*value) {
            *value = Value::String(number.to_string());
        }
        let fits = match (scalar, &*value) {
            (Scalar::Any, _) | (Scalar::Bool, Value::Bool(_)) => true,
            (Scalar::Int32 | Scalar::IntOrString, Value::Number(number)) => number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            (Scalar::Int64, Value::Number(number)) => number.is_i64(),
            (Scalar::Double, Value::Number(_)) => true,
            (Scalar::String | Scalar::IntOrString, Value::String(_)) => true,
            (Scalar::Bytes, Value::String(text)) => {
                STANDARD.decode(text).map_err(|error| Misfit {
                    field: path.to_string(),
                    message: format!("illegal base64 data in field {path}: {error}"),
                })?;
                true
            }
            (Scalar::Time | Scalar::MicroTime, Value::String(text)) => {
                text.parse::<jiff::Timestamp>().map_err(|error| Misfit {
                    field: path.to_string(),
                    message: format!("parsing time {text:?} in field {path}: {error}"),
                })?;
                true
            }
            (Scalar::Quantity, Value::String(text)) => {
                quantity::parse(text).map_err(|error| Misfit {
                    field: path.to_string(),
                    message: format!("{error} (field {path}, value {text:?})"),
                })?;
                true
            }
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(self.misfit(path, &describe(value), go_scalar(scalar)))
        }
    }

    fn misfit(&self, path: &Path<'_>, found: &str, expected: &str) -> Misfit {
        let (field, owner) = (path.to_string(), go_struct(self.owner));
        let owner = owner.trim_start_matches("v1.");
        let place = match field.as_str() {
            "" => "Go value".to_owned(),
            field => format!("Go struct field {owner}.{field}"),
        };
        let message = format!("json: cannot unmarshal {found} into {place} of type {expected}");
        Misfit { field, message }
    }
}

/// A value as Go's decoder names it when it does not fit.
fn describe(value: &Value) -> Cow<'static, str> {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(number) => format!("number {number}").into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

fn go_type(ty: &Type) -> String {
    match ty {
        Type::Scalar(scalar) => go_scalar(*scalar).to_owned(),
        Type::Struct(name) => go_struct(name),
        Type::List(item) => format!("[]{}", go_type(item)),
        Type::Map(item) => format!("map[string]{}", go_type(item)),
    }
}

fn go_struct(name: &str) -> String {
    let name = name.rsplit_once('.').map_or(name, |(_, name)| name);
    format!("v1.{name}")
}

fn go_scalar(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Bool => "bool",
        Scalar::Int32 => "int32",
        Scalar::Int64 => "int64",
        Scalar::Double => "float64",
        Scalar::String => "string",
        Scalar::Bytes => "[]uint8",
        Scalar::Time => "v1.Time",
        Scalar::MicroTime => "v1.MicroTime",
        Scalar::Quantity => "resource.Quantity",
        Scalar::IntOrString => "intstr.IntOrString",
        Scalar::Any => "runtime.RawExtension",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decoded(shape: &str, mut object: Value) -> (Value, Decoded) {
        let decoded = decode(&mut object, named(shape)).unwrap();
        (object, decoded)
    }

    fn refused(shape: &str, mut object: Value) -> Misfit {
        decode(&mut object, named(shape)).unwrap_err()
    }

    #[test]
    fn unknown_fields_are_taken_out_and_named_with_their_path() {
        let pod = json!({"spec": {"containers": [{"name": "a", "imagee": "x"}], "nope": null}});
        let (pod, decoded) = decoded("Pod", pod);
        assert_eq!(pod, json!({"spec": {"containers": [{"name": "a"}]}}));
        assert_eq!(
            decoded.unknown,
            [
                "unknown field \"spec.nope\"",
                "unknown field \"spec.containers[0].imagee\""
            ]
        );
    }

    #[test]
    fn a_wrong_type_is_refused_as_go_would() {
        let misfit = refused("Deployment", json!({"spec": {"replicas": "three"}}));
        assert_eq!(misfit.field, "spec.replicas");
        assert_eq!(
            misfit.message,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of \
             type int32"
        );
        let misfit = refused("Pod", json!({"metadata": {"labels": {"a": 1}}}));
        assert_eq!(
            misfit.message,
            "json: cannot unmarshal number 1 into Go struct field ObjectMeta.metadata.labels.a of \
             type string"
        );
        let misfit = refused("Pod", json!({"spec": {"containers": {"name": "a"}}}));
        assert!(
            misfit.message.ends_with("of type []v1.Container"),
            "{misfit}"
        );
        assert_eq!(
            refused("Pod", json!(7)).message,
            "json: cannot unmarshal number 7 into Go value of type v1.Pod"
        );
    }

    #[test]
    fn numbers_become_quantities_and_bad_ones_are_refused() {
        let limits = |cpu: Value| json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": cpu}}}]}});
        let (pod, _) = decoded("Pod", limits(json!(2)));
        assert_eq!(pod, limits(json!("2")));
        assert!(
            refused("Pod", limits(json!("2 cores")))
                .message
                .contains("quantities must match")
        );
    }

    #[test]
    fn scalars_with_a_syntax_are_checked() {
        assert!(
            refused("Secret", json!({"data": {"a": "!"}}))
                .message
                .contains("base64")
        );
        let meta = json!({"metadata": {"creationTimestamp": "yesterday"}});
        assert!(refused("Pod", meta).message.contains("parsing time"));
        assert!(
            refused("Pod", json!({"spec": {"priority": 1_i64 << 40}}))
                .message
                .contains("int32")
        );
    }

    #[test]
    fn required_fields_are_missed_in_a_spec_but_not_in_a_status() {
        let (_, decoded) = decoded(
            "Pod",
            json!({"spec": {"containers": [{}]}, "status": {"conditions": [{"type": "Ready"}]}}),
        );
        let missing: Vec<_> = decoded.missing.iter().map(ToString::to_string).collect();
        assert_eq!(missing, ["spec.containers[0].name: Required value"]);
    }
}
