//! Requests for objects and lists of them.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as SentOptions;

use super::{Call, show, subresources};
use crate::apiserver::{
    managed::OnConflict,
    object::Key,
    receive::{self, Patching},
    registry::{self, Resource},
    respond::{self, Body, Format},
    rest::{DeleteOptions, Deleted, Filter, Part, Target, WriteOptions},
    reviews,
    route::ResourcePath,
    status::{self, Status},
    store::Snapshot,
    watch::{self, WatchRequest},
};

pub(super) async fn answer(
    call: Call,
    path: &ResourcePath,
    request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    if let Some(review) = reviews::find(&path.group, &path.version, &path.resource)
        && path.name.is_none()
    {
        return answer_review(&call, review, request).await;
    }
    let resource = registry::find(&path.group, &path.version, &path.resource)
        .ok_or_else(Status::no_such_path)?;
    // All namespaces can be listed together; an object is in one.
    let misplaced = match &path.namespace {
        Some(_) => !resource.namespaced,
        None => resource.namespaced && path.name.is_some(),
    };
    if misplaced {
        return Err(Status::no_such_path());
    }
    if let Some(subresource) = &path.subresource {
        if !resource.has(subresource) {
            return Err(Status::no_such_path());
        }
        return subresources::answer(call, resource, path, subresource, request).await;
    }
    let (parts, body) = request.into_parts();
    let verb = path.verb(&parts.method, &call.query);
    match verb {
        "get" => get(&call, resource, path, &parts),
        "list" => list(&call, resource, path, &parts),
        "watch" => watch(&call, resource, path, &parts),
        "delete" | "deletecollection" => {
            let body = receive::read(body).await?;
            delete(&call, resource, path, &parts, &body)
        }
        "create" if path.name.is_none() => {
            let body = receive::read(body).await?;
            create(&call, resource, path, &parts, &body)
        }
        "update" | "patch" if path.name.is_some() => {
            let target = target(resource, path, Part::Main);
            change(&call, &target, parts, body).await
        }
        _ => Err(Status::method_not_allowed(resource, verb)),
    }
}

/// PUT and PATCH, of an object or of its status.
pub(super) async fn change(
    call: &Call,
    target: &Target,
    parts: Parts,
    body: Incoming,
) -> Result<Response<Body>, Status> {
    let body = receive::read(body).await?;
    let manager = call.manager(&parts);
    let options = write_options(call, &manager)?;
    let rest = &call.server.rest;
    let written = if parts.method == http::Method::PUT {
        let value = receive::object(&parts.headers, &body)?;
        rest.update(target, value, &options)?
    } else {
        match receive::patch(&parts.headers, &body)? {
            Patching::Patch(_) if call.query.get("force").is_some() => {
                return Err(invalid_patch(
                    "force: Forbidden: may not be specified for non-apply patch",
                ));
            }
            Patching::Patch(patch) => rest.patch(target, &patch, &options)?,
            Patching::Apply(_) if call.query.get("fieldManager").is_none() => {
                return Err(invalid_patch(
                    "fieldManager: Required value: is required for apply patch",
                ));
            }
            Patching::Apply(config) => {
                let force = call.query.is_set("force");
                let on_conflict = if force {
                    OnConflict::TakeOver
                } else {
                    OnConflict::Refuse
                };
                rest.apply(target, config, on_conflict, &options)?
            }
        }
    };
    show::written(call, &written, &parts)
}

pub(super) fn write_options<'a>(call: &Call, manager: &'a str) -> Result<WriteOptions<'a>, Status> {
    let (validation, mode) = (call.query.field_validation()?, call.query.mode()?);
    Ok(WriteOptions {
        manager,
        validation,
        mode,
    })
}

pub(super) fn target(resource: &'static Resource, path: &ResourcePath, part: Part) -> Target {
    Target {
        resource,
        key: key(path),
        part,
    }
}

pub(super) fn key(path: &ResourcePath) -> Key {
    let namespace = path.namespace.clone().unwrap_or_default();
    Key::new(namespace, path.name.clone().unwrap_or_default())
}

pub(super) fn get(
    call: &Call,
    resource: &'static Resource,
    path: &ResourcePath,
    parts: &Parts,
) -> Result<Response<Body>, Status> {
    check_version(call)?;
    let object = call.server.rest.get(resource, &key(path))?;
    show::object(call, StatusCode::OK, &object, parts)
}

fn list(
    call: &Call,
    resource: &'static Resource,
    path: &ResourcePath,
    parts: &Parts,
) -> Result<Response<Body>, Status> {
    check_version(call)?;
    if call.query.get("continue").is_some() {
        return Err(Status::bad_request(
            "continue key is not valid: lists are given whole",
        ));
    }
    let filter = call.query.filter(resource)?;
    let snapshot = call
        .server
        .rest
        .list(resource, path.namespace.as_deref(), &filter);
    show::list(call, resource, &snapshot, parts)
}

fn watch(
    call: &Call,
    resource: &'static Resource,
    path: &ResourcePath,
    parts: &Parts,
) -> Result<Response<Body>, Status> {
    let mut filter = call.query.filter(resource)?;
    if let Some(name) = &path.name {
        let by_name = format!("metadata.name={name}").parse();
        filter.fields = by_name.map_err(|error| Status::bad_request(format!("{error}")))?;
    }
    let shape = (Format::negotiate(&parts.headers)?, show::include(call)?);
    let request = WatchRequest::new(path.namespace.clone(), filter, shape, &call.query)?;
    let (rest, stop) = (Arc::clone(&call.server.rest), call.server.stop.clone());
    Ok(respond::stream(watch::follow(
        rest, resource, request, stop,
    )))
}

fn create(
    call: &Call,
    resource: &'static Resource,
    path: &ResourcePath,
    parts: &Parts,
    body: &Bytes,
) -> Result<Response<Body>, Status> {
    if resource.namespaced && path.namespace.is_none() {
        return Err(Status::method_not_allowed(resource, "create"));
    }
    let value = receive::object(&parts.headers, body)?;
    let manager = call.manager(parts);
    let options = write_options(call, &manager)?;
    let namespace = path.namespace.as_deref().unwrap_or_default();
    let written = call
        .server
        .rest
        .create(resource, namespace, value, &options)?;
    show::written(call, &written, parts)
}

fn delete(
    call: &Call,
    resource: &'static Resource,
    path: &ResourcePath,
    parts: &Parts,
    body: &Bytes,
) -> Result<Response<Body>, Status> {
    let options = delete_options(call, parts, body)?;
    let rest = &call.server.rest;
    if path.name.is_none() {
        let filter: Filter = call.query.filter(resource)?;
        let namespace = path.namespace.as_deref();
        let objects = rest.delete_collection(resource, namespace, &filter, &options)?;
        let snapshot = Snapshot {
            version: rest.store.version(),
            objects,
        };
        return show::list(call, resource, &snapshot, parts);
    }
    match rest.delete(resource, &key(path), &options)? {
        Deleted::Now(object) if resource.kind != "Pod" => {
            let success = status::success(resource, object.name(), object.uid());
            Ok(respond::value(
                StatusCode::OK,
                &success,
                Format::of_plain(&parts.headers)?,
            ))
        }
        Deleted::Now(object) | Deleted::Later(object) => {
            show::object(call, StatusCode::OK, &object, parts)
        }
    }
}

/// The options of a deletion stand in the body, or in the query.
pub(super) fn delete_options(
    call: &Call,
    parts: &Parts,
    body: &Bytes,
) -> Result<DeleteOptions, Status> {
    let sent = receive::optional_object(&parts.headers, body)?;
    let mut sent: SentOptions = serde_json::from_value(sent)
        .map_err(|error| Status::bad_request(format!("decode the delete options: {error}")))?;
    let query = &call.query;
    if let Some(grace) = query.number("gracePeriodSeconds")? {
        sent.grace_period_seconds = Some(grace);
    }
    if let Some(policy) = query.get("propagationPolicy") {
        sent.propagation_policy = Some(policy.to_owned());
    }
    if query.get("orphanDependents").is_some() {
        sent.orphan_dependents = Some(query.is_set("orphanDependents"));
    }
    if query.get("dryRun").is_some() {
        sent.dry_run = Some(query.all("dryRun").map(str::to_owned).collect());
    }
    sent.try_into()
}

async fn answer_review(
    call: &Call,
    review: &reviews::Review,
    request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    if parts.method != http::Method::POST {
        return Err(Status::no_such_path());
    }
    let value = receive::object(&parts.headers, &receive::read(body).await?)?;
    let server = &call.server;
    let answer = review.answer(&server.rest, &server.tokens, &call.user, value)?;
    Ok(respond::value(
        StatusCode::CREATED,
        &answer,
        Format::of_plain(&parts.headers)?,
    ))
}

/// Refuses what cannot be promised: a version from the future, or exactly one from the past.
fn check_version(call: &Call) -> Result<(), Status> {
    let Some(asked) = call
        .query
        .number::<u64>("resourceVersion")?
        .filter(|it| *it != 0)
    else {
        return Ok(());
    };
    let current = call.server.rest.store.version();
    if asked > current {
        return Err(Status::too_large_resource_version(asked, current));
    }
    match call.query.get("resourceVersionMatch") {
        Some("Exact") if asked != current => Err(Status::expired(asked, current)),
        _ => Ok(()),
    }
}

fn invalid_patch(why: &str) -> Status {
    Status::unprocessable(format!("PatchOptions.meta.k8s.io \"\" is invalid: {why}"))
}
