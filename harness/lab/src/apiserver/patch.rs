//! Changing an object by a patch: JSON Patch (RFC 6902), merge patch (RFC 7386) and strategic merge
//! patch. Pure: values in, values out. Server-side apply is not a patch in this sense: see `managed`.

mod strategic;

use serde_json::Value;

use super::{schema::Struct, status::Status};

/// A patch that was read, and what is needed to apply it.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// The object after the patch.
    pub(crate) fn apply(&self, mut object: Value, shape: &'static Struct) -> Result<Value, Status> {
        match self {
            Self::Json(patch) => {
                json_patch::patch(&mut object, patch).map_err(|error| rejected(&error))?;
            }
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Strategic(patch) => {
                strategic::merge(&mut object, patch.clone(), shape)
                    .map_err(|error| rejected(&error))?;
            }
        }
        Ok(object)
    }
}

/// The patch is well formed, but this object cannot be changed so.
fn rejected(error: &dyn std::error::Error) -> Status {
    let message =
        format!("the server rejected our request due to an error in our request: {error}");
    Status::unprocessable(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::schema;
    use serde_json::json;

    #[test]
    fn merge_patch_keeps_to_the_vectors_of_rfc_7386() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!([1, 2]),
                json!({"a": "b", "c": null}),
                json!({"a": "b"}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ];
        for (object, patch, expected) in cases {
            let patched = Patch::Merge(patch.clone())
                .apply(object, schema::named("Pod"))
                .unwrap();
            assert_eq!(patched, expected, "{patch}");
        }
    }

    #[test]
    fn json_patch_keeps_to_the_examples_of_rfc_6902() {
        let cases = [
            (
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": "qux"}]),
                json!({"baz": "qux", "foo": "bar"}),
            ),
            (
                json!({"foo": ["bar", "baz"]}),
                json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
                json!({"foo": ["bar", "qux", "baz"]}),
            ),
            (
                json!({"baz": "qux", "foo": "bar"}),
                json!([{"op": "remove", "path": "/baz"}]),
                json!({"foo": "bar"}),
            ),
            (
                json!({"foo": ["bar", "qux", "baz"]}),
                json!([{"op": "remove", "path": "/foo/1"}]),
                json!({"foo": ["bar", "baz"]}),
            ),
            (
                json!({"baz": "qux"}),
                json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
                json!({"baz": "boo"}),
            ),
            (
                json!({"foo": {"bar": "baz"}, "qux": {}}),
                json!([{"op": "move", "from": "/foo/bar", "path": "/qux/thud"}]),
                json!({"foo": {}, "qux": {"thud": "baz"}}),
            ),
            (
                json!({"foo": ["a", "b", "c"]}),
                json!([{"op": "move", "from": "/foo/0", "path": "/foo/2"}]),
                json!({"foo": ["b", "c", "a"]}),
            ),
            (
                json!({"/": 9, "~1": 10}),
                json!([{"op": "test", "path": "/~01", "value": 10}]),
                json!({"/": 9, "~1": 10}),
            ),
            (
                json!({"foo": ["bar"]}),
                json!([{"op": "add", "path": "/foo/-", "value": ["x"]}]),
                json!({"foo": ["bar", ["x"]]}),
            ),
        ];
        for (object, patch, expected) in cases {
            let patch = Patch::Json(serde_json::from_value(patch).unwrap());
            assert_eq!(patch.apply(object, schema::named("Pod")).unwrap(), expected);
        }
    }

    #[test]
    fn a_json_patch_whose_test_fails_is_unprocessable() {
        let patch = json!([{"op": "test", "path": "/baz", "value": "bar"}]);
        let patch = Patch::Json(serde_json::from_value(patch).unwrap());
        let status = patch
            .apply(json!({"baz": "qux"}), schema::named("Pod"))
            .unwrap_err();
        assert_eq!(status.code, http::StatusCode::UNPROCESSABLE_ENTITY);
    }
}
