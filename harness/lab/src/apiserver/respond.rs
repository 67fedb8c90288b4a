//! Answers: bodies, and the form in which the client wants to have them.

use bytes::Bytes;
use futures_util::Stream;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::Value;

use super::{status::Status, table::Include};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// How the client wants objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    /// Rows and columns, as `kubectl get` prints them.
    Table,
    /// The metadata alone.
    Metadata,
}

impl Format {
    /// The first form of the `Accept` header that the server has.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Self, Status> {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let accept = accept
            .filter(|accept| !accept.trim().is_empty())
            .unwrap_or("*/*");
        let known = accept.split(',').find_map(Self::of_media_type);
        known.ok_or_else(|| Status::not_acceptable(&[JSON, YAML]))
    }

    /// The same for what is no object of a resource, and has no table.
    pub(crate) fn of_plain(headers: &HeaderMap) -> Result<Self, Status> {
        Self::negotiate(headers).map(|format| match format {
            Self::Yaml => Self::Yaml,
            Self::Json | Self::Table | Self::Metadata => Self::Json,
        })
    }

    fn of_media_type(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next()?;
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        let meta = parameter("g") == Some("meta.k8s.io") && parameter("v") == Some("v1");
        match (media_type, parameter("as")) {
            (JSON, Some("Table")) if meta => Some(Self::Table),
            (JSON, Some("PartialObjectMetadata" | "PartialObjectMetadataList")) if meta => {
                Some(Self::Metadata)
            }
            (_, Some(_)) => None,
            (JSON | "*/*" | "application/*", None) => Some(Self::Json),
            (YAML, None) => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Which part of each object a table is to carry.
pub(crate) fn include(parameter: Option<&str>) -> Result<Include, Status> {
    match parameter {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(Status::bad_request(format!(
            "unrecognized includeObject value: \"{other}\""
        ))),
    }
}

pub(crate) fn value(code: StatusCode, value: &Value, format: Format) -> Response<Body> {
    match format {
        Format::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => bytes(code, YAML, Bytes::from(text)),
            Err(error) => status(&Status::internal(error.to_string())),
        },
        Format::Json | Format::Table | Format::Metadata => {
            let mut text = value.to_string();
            text.push('\n');
            bytes(code, JSON, Bytes::from(text))
        }
    }
}

/// JSON that is already written.
pub(crate) fn json(code: StatusCode, json: Bytes) -> Response<Body> {
    bytes(code, JSON, json)
}

pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", text.into())
}

/// Anything, under its media type.
pub(crate) fn bytes(code: StatusCode, media_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

pub(crate) fn status(status: &Status) -> Response<Body> {
    value(status.code, &status.to_json(), Format::Json)
}

/// Chunks as they come, each sent at once.
pub(crate) fn stream(
    chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Response<Body> {
    use futures_util::StreamExt as _;
    let frames = chunks.map(|chunk| chunk.map(Frame::data));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

pub(crate) fn full(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Tells the client something that is no error, as `kubectl` prints it: `Warning: …`.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append("warning", header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(accept: &str) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        Format::negotiate(&headers).ok()
    }

    #[test]
    fn the_first_known_form_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(negotiated(kubectl), Some(Format::Table));
        let typed = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(negotiated(typed), Some(Format::Json));
        assert_eq!(negotiated("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(negotiated("*/*"), Some(Format::Json));
        assert_eq!(negotiated("application/yaml"), Some(Format::Yaml));
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(negotiated(metadata), Some(Format::Metadata));
        assert_eq!(Format::negotiate(&HeaderMap::new()).unwrap(), Format::Json);
    }
}
