//! The paths that are no resources: version, health, metrics and discovery.

use bytes::Bytes;
use http::{
    HeaderMap, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};

use crate::apiserver::{
    discovery, openapi,
    respond::{self, Body, Format},
    server::Server,
    status::Status,
};
use inroads_harness::metrics::{self, Metrics};

const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

pub(super) fn answer(
    server: &Server,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, Status> {
    let trimmed = path.trim_matches('/');
    let segments: Vec<_> = trimmed.split('/').collect();
    let value = match segments.as_slice() {
        ["version"] => version(&server.version),
        ["healthz" | "livez" | "readyz", ..] => {
            return Ok(respond::text(StatusCode::OK, "ok"));
        }
        ["metrics"] => {
            let text = metrics(server.rest.store.version());
            return Ok(respond::bytes(
                StatusCode::OK,
                metrics::MEDIA_TYPE,
                text.into(),
            ));
        }
        ["openapi", "v2"] => return Ok(openapi_v2(server, headers)),
        ["openapi", "v3"] => openapi::index(&server.version),
        ["openapi", "v3", "api", version] => found(openapi::document("", version))?,
        ["openapi", "v3", "apis", group, version] => found(openapi::document(group, version))?,
        ["api" | "apis"] => return Ok(roots(server, trimmed == "api", headers)),
        ["api", version] => found(discovery::resources("", version))?,
        ["apis", group] => found(discovery::group(group))?,
        ["apis", group, version] => found(discovery::resources(group, version))?,
        [""] => json!({"paths": PATHS}),
        _ => return Err(Status::no_such_path()),
    };
    Ok(respond::value(
        StatusCode::OK,
        &value,
        Format::of_plain(headers)?,
    ))
}

const PATHS: [&str; 9] = [
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v3",
    "/readyz",
    "/version",
];

fn metrics(store_version: u64) -> String {
    let mut metrics = Metrics::of_this_process();
    let about = "The number of changes made to objects.";
    metrics.add(
        "inroads_apiserver_resource_version",
        "counter",
        about,
        store_version,
    );
    metrics.into_text()
}

fn found(value: Option<Value>) -> Result<Value, Status> {
    value.ok_or_else(Status::no_such_path)
}

/// `/api` and `/apis`, with everything below them if the client can read that.
fn roots(server: &Server, core: bool, headers: &HeaderMap) -> Response<Body> {
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let aggregated = ["v2", "v2beta1"].into_iter().find(|version| {
        let wanted = format!("g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        accept.replace(' ', "").contains(&wanted)
    });
    let Some(version) = aggregated else {
        let value = if core {
            discovery::core_versions(&server.advertise.to_string())
        } else {
            discovery::groups()
        };
        return respond::value(StatusCode::OK, &value, Format::Json);
    };
    let value = discovery::aggregated(version, core);
    let mut response = respond::value(StatusCode::OK, &value, Format::Json);
    let media_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    if let Ok(media_type) = HeaderValue::from_str(&media_type) {
        response.headers_mut().insert(CONTENT_TYPE, media_type);
    }
    response
}

fn openapi_v2(server: &Server, headers: &HeaderMap) -> Response<Body> {
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    if accept.contains("protobuf") {
        let document = openapi::version_2_protobuf(&server.version);
        return respond::bytes(StatusCode::OK, OPENAPI_V2_PROTOBUF, Bytes::from(document));
    }
    respond::value(
        StatusCode::OK,
        &openapi::version_2(&server.version),
        Format::Json,
    )
}

fn version(git_version: &str) -> Value {
    let mut numbers = git_version.trim_start_matches('v').split(['.', '-']);
    let mut number = || numbers.next().unwrap_or_default();
    let (major, minor) = (number(), number());
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": git_version,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}
