//! Request bodies: JSON, YAML or protocol buffers, of bounded size, with the place of an error in its
//! message.

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::{
    patch::Patch,
    registry,
    respond::BoxError,
    reviews,
    schema::{self, Struct},
    status::Status,
};

const LIMIT: usize = 3 * 1024 * 1024;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";
const PATCHES: [&str; 4] = [JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH];

/// What a PATCH request sends.
pub(crate) enum Patching {
    Patch(Patch),
    Apply(Value),
}

/// Reads the whole body.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, Status> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::too_large(LIMIT)),
        Err(error) => Err(broken(&error)),
    }
}

/// Decodes an object.
pub(crate) fn object(headers: &HeaderMap, body: &Bytes) -> Result<Value, Status> {
    match media_type(headers) {
        "" | JSON => from_json(body),
        YAML | "text/yaml" | "application/x-yaml" => from_yaml(body),
        PROTOBUF => from_protobuf(body),
        other => Err(Status::unsupported_media_type(
            other,
            &[JSON, YAML, PROTOBUF],
        )),
    }
}

/// Decodes an object that may also be absent.
pub(crate) fn optional_object(headers: &HeaderMap, body: &Bytes) -> Result<Value, Status> {
    if body.is_empty() {
        Ok(Value::Object(Default::default()))
    } else {
        object(headers, body)
    }
}

pub(crate) fn patch(headers: &HeaderMap, body: &Bytes) -> Result<Patching, Status> {
    match media_type(headers) {
        JSON_PATCH => {
            let patch = serde_json::from_slice(body).map_err(|error| {
                Status::bad_request(format!("the body is not a JSON patch: {error}"))
            })?;
            Ok(Patching::Patch(Patch::Json(patch)))
        }
        MERGE_PATCH => from_json(body).map(|patch| Patching::Patch(Patch::Merge(patch))),
        STRATEGIC_PATCH => from_json(body).map(|patch| Patching::Patch(Patch::Strategic(patch))),
        APPLY_PATCH => from_yaml(body).map(Patching::Apply),
        other => Err(Status::unsupported_media_type(other, &PATCHES)),
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let header = headers
        .get(CONTENT_TYPE)
        .and_then(|header| header.to_str().ok());
    header
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
}

fn from_json(body: &Bytes) -> Result<Value, Status> {
    serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("the body is not valid JSON: {error}")))
}

/// YAML, of which JSON is a part; JSON is read as such, because that is faster.
fn from_yaml(body: &Bytes) -> Result<Value, Status> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| Status::bad_request(format!("the body is not valid UTF-8: {error}")))?;
    serde_saphyr::from_str(text).map_err(|error| {
        // The first line tells what and where; a drawing of the place follows it.
        let error = error.to_string();
        let first = error
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        Status::bad_request(format!("the body is not valid YAML: {first}"))
    })
}

fn from_protobuf(body: &Bytes) -> Result<Value, Status> {
    schema::decode_protobuf(body, kind_shape).map_err(|error| {
        Status::bad_request(format!("the body is not valid protocol buffers: {error}"))
    })
}

/// The type of an object that may be sent: one that is stored, or one that is only posted.
fn kind_shape(api_version: &str, kind: &str) -> Option<&'static Struct> {
    const POSTED: [(&str, &str); 5] = [
        ("authentication.k8s.io/v1", "TokenRequest"),
        ("autoscaling/v1", "Scale"),
        ("policy/v1", "Eviction"),
        ("v1", "Binding"),
        ("v1", "DeleteOptions"),
    ];
    if let Some(resource) = registry::of_kind(api_version, kind) {
        return Some(schema::named(resource.schema));
    }
    let posted = POSTED
        .iter()
        .find(|known| **known == (api_version, kind))
        .map(|(_, kind)| *kind);
    let review = reviews::ALL
        .iter()
        .find(|it| it.kind == kind)
        .map(|it| it.kind);
    // Options of a deletion are sent under the group of what is deleted.
    let options = (kind == "DeleteOptions").then_some("DeleteOptions");
    posted.or(review).or(options).map(schema::named)
}

fn broken(error: &BoxError) -> Status {
    Status::bad_request(format!(
        "the body of the request could not be read: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use serde_json::json;

    fn headers(media_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))])
    }

    #[test]
    fn json_and_yaml_are_read_alike() {
        let expected = json!({"a": {"b": [1, "x"]}});
        let json = Bytes::from_static(b"{\"a\": {\"b\": [1, \"x\"]}}");
        let yaml = Bytes::from_static(b"a:\n  b:\n  - 1\n  - x\n");
        assert_eq!(
            object(&headers("application/json"), &json).unwrap(),
            expected
        );
        assert_eq!(
            object(&headers("application/yaml"), &yaml).unwrap(),
            expected
        );
        assert_eq!(
            object(&headers("application/yaml"), &json).unwrap(),
            expected
        );
    }

    #[test]
    fn an_error_tells_where_it_is() {
        let json = object(
            &headers("application/json"),
            &Bytes::from_static(b"{\n\"a\": ]"),
        );
        assert!(json.unwrap_err().message.contains("at line 2 column 6"));
        let yaml = object(
            &headers("application/yaml"),
            &Bytes::from_static(b"a: 1\nb: [1\n"),
        );
        let message = yaml.unwrap_err().message;
        assert!(
            message.contains("YAML: line 2 column 4: unclosed bracket"),
            "{message}"
        );
    }

    #[test]
    fn a_foreign_media_type_is_refused_with_what_is_accepted() {
        let status = object(&headers("application/cbor"), &Bytes::new());
        let status = status.unwrap_err();
        assert_eq!(status.code, http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(status.message.contains("application/json"));
        assert!(patch(&headers("application/json"), &Bytes::new()).is_err());
    }
}
