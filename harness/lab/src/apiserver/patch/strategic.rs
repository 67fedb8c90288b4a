//! Strategic merge patch: a merge patch that knows which lists are merged by a key, and obeys the
//! directives `$patch`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…`.

use serde_json::{Map, Value};

use crate::apiserver::schema::{Field, Struct, Type, named};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Why a strategic merge patch cannot be applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey { key: &'static str, item: Value },
    #[error("unrecognized {PATCH} directive: {directive}")]
    Directive { directive: Value },
    #[error("the value of {directive} must be a list")]
    NotAList { directive: String },
    #[error("the patch must be an object")]
    NotAnObject,
}

/// Merges `patch` into `object`, which has the type `shape`.
pub(crate) fn merge(object: &mut Value, patch: Value, shape: &'static Struct) -> Result<(), Error> {
    let Value::Object(patch) = patch else {
        return Err(Error::NotAnObject);
    };
    merge_fields(entries(object), patch, Fields::Of(shape), false)
}

/// What is known about the fields of an object.
#[derive(Clone, Copy)]
enum Fields {
    Of(&'static Struct),
    /// A map, or anything else without named fields.
    Any,
}

impl Fields {
    fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Of(shape) => shape.fields.get(name),
            Self::Any => None,
        }
    }

    fn of(ty: &Type) -> Self {
        match ty {
            Type::Struct(name) => Self::Of(named(name)),
            Type::List(item) => Self::of(item),
            Type::Scalar(_) | Type::Map(_) => Self::Any,
        }
    }
}

fn merge_fields(
    object: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    fields: Fields,
    retains: bool,
) -> Result<(), Error> {
    match directive(&mut patch)? {
        Directive::Merge => {}
        Directive::Replace => object.clear(),
        Directive::Delete => {
            object.clear();
            return Ok(());
        }
    }
    if let Some(retained) = patch.remove(RETAIN)
        && retains
    {
        let retained = list(RETAIN, retained)?;
        object.retain(|key, _| retained.iter().any(|name| name == key));
    }
    let (directives, values): (Map<_, _>, Map<_, _>) = patch
        .into_iter()
        .partition(|(key, _)| key.starts_with(ORDER) || key.starts_with(DELETE));
    for (key, unwanted) in &directives {
        if let Some(name) = key.strip_prefix(DELETE)
            && let Some(Value::Array(present)) = object.get_mut(name)
        {
            let unwanted = list(key, unwanted.clone())?;
            present.retain(|value| !unwanted.contains(value));
        }
    }
    for (key, value) in values {
        merge_entry(object, key, value, fields)?;
    }
    for (key, order) in directives {
        if let Some(name) = key.strip_prefix(ORDER)
            && let Some(Value::Array(present)) = object.get_mut(name)
        {
            let merge_key = fields.field(name).and_then(|field| field.merge_key);
            reorder(present, &list(&key, order)?, merge_key);
        }
    }
    Ok(())
}

fn merge_entry(
    object: &mut Map<String, Value>,
    key: String,
    value: Value,
    fields: Fields,
) -> Result<(), Error> {
    if value.is_null() {
        object.remove(&key);
        return Ok(());
    }
    let field = fields.field(&key);
    let inner = field.map_or(Fields::Any, |field| Fields::of(&field.ty));
    let retains = field.is_some_and(|field| field.retain_keys);
    match (object.get_mut(&key), value) {
        (Some(Value::Object(present)), Value::Object(patch)) => {
            merge_fields(present, patch, inner, retains)
        }
        (_, Value::Object(patch)) => {
            let mut fresh = Map::new();
            merge_fields(&mut fresh, patch, inner, false)?;
            object.insert(key, Value::Object(fresh));
            Ok(())
        }
        (present, Value::Array(patch)) => {
            let before = match present {
                Some(Value::Array(present)) => std::mem::take(present),
                _ => Vec::new(),
            };
            object.insert(
                key,
                Value::Array(merge_list(before, patch, field, inner, retains)?),
            );
            Ok(())
        }
        (_, scalar) => {
            object.insert(key, scalar);
            Ok(())
        }
    }
}

fn merge_list(
    mut present: Vec<Value>,
    mut patch: Vec<Value>,
    field: Option<&Field>,
    inner: Fields,
    retains: bool,
) -> Result<Vec<Value>, Error> {
    match field {
        Some(Field {
            merge_key: Some(key),
            ..
        }) => {
            let replaces = |item: &Value| item.get(PATCH).is_some_and(|patch| patch == "replace");
            if patch.iter().any(replaces) {
                present.clear();
                patch.retain(|item| !replaces(item));
            }
            for item in patch {
                merge_item(&mut present, item, key, inner, retains)?;
            }
            Ok(present)
        }
        Some(Field {
            merge_set: true, ..
        }) => {
            for value in patch {
                if !present.contains(&value) {
                    present.push(value);
                }
            }
            Ok(present)
        }
        _ => Ok(patch),
    }
}

fn merge_item(
    present: &mut Vec<Value>,
    mut item: Value,
    key: &'static str,
    inner: Fields,
    retains: bool,
) -> Result<(), Error> {
    let Some(id) = item.get(key).cloned() else {
        return Err(Error::NoMergeKey { key, item });
    };
    let patch = entries(&mut item);
    let position = present
        .iter()
        .position(|candidate| candidate.get(key) == Some(&id));
    if patch.get(PATCH).is_some_and(|patch| patch == "delete") {
        present.retain(|candidate| candidate.get(key) != Some(&id));
        return Ok(());
    }
    let patch = std::mem::take(patch);
    match position {
        Some(position) => merge_fields(entries(&mut present[position]), patch, inner, retains),
        None => {
            let mut fresh = Map::new();
            merge_fields(&mut fresh, patch, inner, false)?;
            present.push(Value::Object(fresh));
            Ok(())
        }
    }
}

/// Puts the items that `order` names into that order; the others stay between the neighbours they had.
fn reorder(present: &mut Vec<Value>, order: &[Value], key: Option<&str>) {
    let id = |value: &Value| key.map_or(Some(value), |key| value.get(key)).cloned();
    let rank = |value: &Value| {
        let wanted = id(value);
        order.iter().position(|entry| id(entry) == wanted)
    };
    let items = std::mem::take(present).into_iter().enumerate();
    let (mut named, others): (Vec<_>, Vec<_>) = items.partition(|(_, value)| rank(value).is_some());
    named.sort_by_key(|(_, value)| rank(value));

    let mut others = others.into_iter().peekable();
    for (position, value) in named {
        while let Some((_, other)) = others.next_if(|(before, _)| *before < position) {
            present.push(other);
        }
        present.push(value);
    }
    present.extend(others.map(|(_, other)| other));
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &mut Map<String, Value>) -> Result<Directive, Error> {
    match patch.remove(PATCH) {
        None => Ok(Directive::Merge),
        Some(Value::String(text)) if text == "merge" => Ok(Directive::Merge),
        Some(Value::String(text)) if text == "replace" => Ok(Directive::Replace),
        Some(Value::String(text)) if text == "delete" => Ok(Directive::Delete),
        Some(directive) => Err(Error::Directive { directive }),
    }
}

fn list(directive: &str, value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(Error::NotAList {
            directive: directive.to_owned(),
        }),
    }
}

/// The fields of `value`, which becomes an empty object if it is anything else.
fn entries(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value
        .as_object_mut()
        .expect("it was made an object just above")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(mut object: Value, patch: Value) -> Value {
        merge(&mut object, patch, named("Pod")).unwrap();
        object
    }

    fn pod(containers: Value) -> Value {
        json!({"spec": {"containers": containers}})
    }

    #[test]
    fn containers_are_merged_by_name_and_their_environment_too() {
        let before = pod(json!([
            {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "image": "1"},
        ]));
        let patch = pod(json!([
            {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]},
            {"name": "c", "image": "3"},
        ]));
        let after = pod(json!([
            {"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
            {"name": "b", "image": "1"},
            {"name": "c", "image": "3"},
        ]));
        assert_eq!(patched(before, patch), after);
    }

    #[test]
    fn a_list_without_a_key_is_replaced_and_null_deletes() {
        let before = json!({"spec": {"tolerations": [{"key": "a"}], "nodeName": "x"}});
        let patch = json!({"spec": {"tolerations": [{"key": "b"}], "nodeName": null}});
        assert_eq!(
            patched(before, patch),
            json!({"spec": {"tolerations": [{"key": "b"}]}})
        );
    }

    #[test]
    fn directives_delete_and_replace() {
        let before = || pod(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
        let patch = pod(json!([{"name": "a", "$patch": "delete"}]));
        assert_eq!(
            patched(before(), patch),
            pod(json!([{"name": "b", "image": "1"}]))
        );
        let patch = pod(json!([{"$patch": "replace"}, {"name": "c"}]));
        assert_eq!(patched(before(), patch), pod(json!([{"name": "c"}])));
        let patch = json!({"spec": {"$patch": "replace", "nodeName": "x"}});
        assert_eq!(patched(before(), patch), json!({"spec": {"nodeName": "x"}}));
        let patch = json!({"spec": {"securityContext": {"$patch": "delete"}}});
        assert_eq!(
            patched(json!({}), patch),
            json!({"spec": {"securityContext": {}}})
        );
    }

    #[test]
    fn retained_keys_drop_the_others_of_a_union() {
        let before = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        let patch = json!({"spec": {"volumes": [
            {"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]},
        ]}});
        let after = json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}});
        assert_eq!(patched(before, patch), after);
    }

    #[test]
    fn primitive_lists_are_joined_deleted_from_and_ordered() {
        let before = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
        let patch = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["b"],
            "$setElementOrder/finalizers": ["d", "a", "c"],
            "finalizers": ["d"],
        }});
        assert_eq!(
            patched(before, patch),
            json!({"metadata": {"finalizers": ["d", "a", "c"]}})
        );
    }

    #[test]
    fn ordered_items_keep_the_others_between_their_neighbours() {
        let named = |names: &[&str]| {
            names
                .iter()
                .map(|name| json!({"name": name}))
                .collect::<Value>()
        };
        let patch = json!({"spec": {"$setElementOrder/containers": named(&["c", "a"])}});
        let after = patched(pod(named(&["a", "server", "c"])), patch);
        assert_eq!(after, pod(named(&["server", "c", "a"])));
    }

    #[test]
    fn an_item_without_its_key_is_refused() {
        let mut object = json!({});
        let error = merge(&mut object, pod(json!([{"image": "1"}])), named("Pod")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "map: {\"image\":\"1\"} does not contain declared merge key: name"
        );
    }

    proptest! {
        #[test]
        fn merging_twice_is_merging_once(before in any_pod(), patch in any_pod()) {
            let once = patched(before, patch.clone());
            prop_assert_eq!(patched(once.clone(), patch), once);
        }

        #[test]
        fn what_the_patch_says_is_what_the_object_has(before in any_pod(), patch in any_pod()) {
            let after = patched(before, patch.clone());
            for wanted in patch["spec"]["containers"].as_array().unwrap() {
                let containers = after["spec"]["containers"].as_array().unwrap();
                let found = containers.iter().filter(|it| it["name"] == wanted["name"]);
                prop_assert_eq!(found.map(|it| &it["image"]).collect::<Vec<_>>(), [&wanted["image"]]);
            }
        }
    }

    fn any_pod() -> impl Strategy<Value = Value> {
        let env = proptest::collection::btree_map("[A-C]", "[0-9]", 0..3).prop_map(|env| {
            env.iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect::<Value>()
        });
        let labels = proptest::collection::btree_map("[a-c]", "[0-9]", 0..3);
        let containers = proptest::collection::btree_map("[a-d]", ("[0-9]", env), 0..4);
        (labels, containers).prop_map(|(labels, containers)| {
            let containers: Value = containers
                .iter()
                .map(|(name, (image, env))| json!({"name": name, "image": image, "env": env}))
                .collect();
            json!({"metadata": {"labels": labels}, "spec": {"containers": containers}})
        })
    }
}
