//! Requests for the parts of objects, and for what stands behind them.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::Binding, policy::v1::Eviction};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Call,
    objects::{self, change, delete_options, key, target, write_options},
};
use crate::apiserver::{
    proxy::{kubelet::Stream, reverse},
    receive::{self, Patching},
    registry::{PODS, Resource},
    respond::{self, Body, Format},
    rest::{DeleteOptions, Part, Target},
    route::ResourcePath,
    schema,
    status::Status,
};

pub(super) async fn answer(
    call: Call,
    resource: &'static Resource,
    path: &ResourcePath,
    subresource: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    let method = request.method().clone();
    let reads = method == Method::GET || method == Method::HEAD;
    let changes = method == Method::PUT || method == Method::PATCH;
    let (kubelets, rest) = (&call.server.kubelets, &call.server.rest);
    match subresource {
        "proxy" => {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            reverse::forward(kubelets, rest, path, request).await
        }
        "log" if reads => kubelets.log(rest, &key(path), &call.query).await,
        "exec" | "attach" | "portforward" if reads || method == Method::POST => {
            let stream = match subresource {
                "exec" => Stream::Exec,
                "attach" => Stream::Attach,
                _ => Stream::PortForward,
            };
            kubelets
                .stream(rest, &key(path), stream, &call.query, request)
                .await
        }
        "status" if reads => {
            let (parts, _body) = request.into_parts();
            objects::get(&call, resource, path, &parts)
        }
        "status" if changes => {
            let (parts, body) = request.into_parts();
            change(&call, &target(resource, path, Part::Status), parts, body).await
        }
        "finalize" if method == Method::PUT => {
            let (parts, body) = request.into_parts();
            change(&call, &target(resource, path, Part::Finalize), parts, body).await
        }
        "scale" if reads || changes => {
            let (parts, body) = request.into_parts();
            let body = receive::read(body).await?;
            scale(&call, &target(resource, path, Part::Scale), &parts, &body)
        }
        "binding" | "eviction" | "token" if method == Method::POST => {
            let (parts, body) = request.into_parts();
            let body = receive::read(body).await?;
            match subresource {
                "binding" => bind(&call, path, &parts, &body),
                "eviction" => evict(&call, path, &parts, &body),
                _ => issue_token(&call, path, &parts, &body),
            }
        }
        _ => Err(Status::method_not_allowed(resource, method.as_str())),
    }
}

fn scale(
    call: &Call,
    target: &Target,
    parts: &Parts,
    body: &Bytes,
) -> Result<Response<Body>, Status> {
    let rest = &call.server.rest;
    let manager = call.manager(parts);
    let options = write_options(call, &manager)?;
    let scale = match parts.method {
        Method::PUT => {
            rest.update_scale(target, &receive::object(&parts.headers, body)?, &options)?
        }
        Method::PATCH => match receive::patch(&parts.headers, body)? {
            Patching::Patch(patch) => rest.patch_scale(target, &patch, &options)?,
            Patching::Apply(_) => {
                let message =
                    "server-side apply is not supported for scale: apply the object itself";
                return Err(Status::bad_request(message));
            }
        },
        _ => rest.scale(target)?,
    };
    Ok(respond::value(StatusCode::OK, &scale, Format::Json))
}

fn bind(
    call: &Call,
    path: &ResourcePath,
    parts: &Parts,
    body: &Bytes,
) -> Result<Response<Body>, Status> {
    let binding: Binding = decode("Binding", parts, body)?;
    let node = binding.target.name.unwrap_or_default();
    if node.is_empty() {
        return Err(Status::unprocessable(
            "Binding \"\" is invalid: target.name: Required value",
        ));
    }
    call.server.rest.bind(&key(path), &node)?;
    Ok(created())
}

/// There are no disruption budgets in the lab: an eviction is a deletion.
fn evict(
    call: &Call,
    path: &ResourcePath,
    parts: &Parts,
    body: &Bytes,
) -> Result<Response<Body>, Status> {
    let eviction: Eviction = decode("Eviction", parts, body)?;
    let options = match eviction.delete_options {
        Some(sent) => DeleteOptions::try_from(sent)?,
        None => delete_options(call, parts, &Bytes::new())?,
    };
    call.server.rest.delete(&PODS, &key(path), &options)?;
    Ok(created())
}

fn issue_token(
    call: &Call,
    path: &ResourcePath,
    parts: &Parts,
    body: &Bytes,
) -> Result<Response<Body>, Status> {
    let request: TokenRequest = decode("TokenRequest", parts, body)?;
    let server = &call.server;
    let issued = server
        .tokens
        .issue(&server.rest, &key(path), request, Timestamp::now())?;
    let value =
        serde_json::to_value(issued).map_err(|error| Status::internal(error.to_string()))?;
    Ok(respond::value(StatusCode::CREATED, &value, Format::Json))
}

fn decode<T: DeserializeOwned>(kind: &str, parts: &Parts, body: &Bytes) -> Result<T, Status> {
    let refuse = |why: &dyn std::fmt::Display| {
        Status::bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: {why}"
        ))
    };
    let mut value = receive::object(&parts.headers, body)?;
    schema::decode(&mut value, schema::named(kind)).map_err(|misfit| refuse(&misfit))?;
    serde_json::from_value(value).map_err(|error| refuse(&error))
}

fn created() -> Response<Body> {
    let status: Value = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::value(StatusCode::CREATED, &status, Format::Json)
}
