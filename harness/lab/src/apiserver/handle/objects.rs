//! Requests for objects and lists of them.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as SentOptions;
use serde_json::{Value, json};

use super::{Call, subresources};
use crate::apiserver::{
    managed::OnConflict,
    object::{Key, Object},
    receive::{self, Patching},
    registry::{self, Resource},
    respond::{self, Body, Format},
    rest::{DeleteOptions, Deleted, Filter, Part, Target, WriteOptions, Written},
    reviews,
    route::ResourcePath,
    status::{self, Status},
    store::Snapshot,
    table::{self, Include},
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
    show_written(call, &written, &parts)
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
    show(call, StatusCode::OK, &object, parts)
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
    show_list(call, resource, &snapshot, parts)
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
    let shape = (Format::negotiate(&parts.headers)?, include(call)?);
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
    show_written(call, &written, parts)
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
        return show_list(call, resource, &snapshot, parts);
    }
    match rest.delete(resource, &key(path), &options)? {
        Deleted::Now(object) if resource.kind != "Pod" => {
            let success = status::success(resource, object.name(), object.uid());
            Ok(respond::value(StatusCode::OK, &success, plain(parts)?))
        }
        Deleted::Now(object) | Deleted::Later(object) => show(call, StatusCode::OK, &object, parts),
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
    Ok(respond::value(StatusCode::CREATED, &answer, plain(&parts)?))
}

fn show_written(call: &Call, written: &Written, parts: &Parts) -> Result<Response<Body>, Status> {
    let code = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = show(call, code, &written.object, parts)?;
    respond::warn(&mut response, &written.warnings);
    Ok(response)
}

fn show(
    call: &Call,
    code: StatusCode,
    object: &Object,
    parts: &Parts,
) -> Result<Response<Body>, Status> {
    let format = Format::negotiate(&parts.headers)?;
    Ok(match format {
        Format::Json => respond::json(code, object.json()),
        Format::Yaml => respond::value(code, object.value(), format),
        Format::Metadata => respond::value(code, &table::metadata_only(object.value()), format),
        Format::Table => {
            let version = json!({"resourceVersion": object.version().to_string()});
            let (resource, now) = (object.resource(), Timestamp::now());
            let table = table::render(resource, [object], version, include(call)?, now);
            respond::value(code, &table, format)
        }
    })
}

fn show_list(
    call: &Call,
    resource: &'static Resource,
    snapshot: &Snapshot,
    parts: &Parts,
) -> Result<Response<Body>, Status> {
    let metadata = json!({"resourceVersion": snapshot.version.to_string()});
    let format = Format::negotiate(&parts.headers)?;
    let objects = || snapshot.objects.iter();
    Ok(match format {
        Format::Json => respond::json(StatusCode::OK, list_json(resource, snapshot)),
        Format::Yaml => {
            let items: Value = objects().map(|object| object.value().clone()).collect();
            let list = json!({
                "kind": resource.list_kind(),
                "apiVersion": resource.api_version(),
                "metadata": metadata,
                "items": items,
            });
            respond::value(StatusCode::OK, &list, format)
        }
        Format::Metadata => {
            let items: Value = objects()
                .map(|object| table::metadata_only(object.value()))
                .collect();
            let list = json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items,
            });
            respond::value(StatusCode::OK, &list, format)
        }
        Format::Table => {
            let rows = objects().map(|object| &**object);
            let now = Timestamp::now();
            let table = table::render(resource, rows, metadata, include(call)?, now);
            respond::value(StatusCode::OK, &table, format)
        }
    })
}

/// A list put together from objects that are already written out.
fn list_json(resource: &Resource, snapshot: &Snapshot) -> Bytes {
    let head = json!({
        "kind": resource.list_kind(),
        "apiVersion": resource.api_version(),
        "metadata": {"resourceVersion": snapshot.version.to_string()},
    });
    let mut list = BytesMut::from(head.to_string().trim_end_matches('}').as_bytes());
    // The metadata's own brace went with the last one.
    list.put_slice(b"},\"items\":[");
    for (index, object) in snapshot.objects.iter().enumerate() {
        if index > 0 {
            list.put_u8(b',');
        }
        list.put_slice(&object.json());
    }
    list.put_slice(b"]}\n");
    list.freeze()
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

fn include(call: &Call) -> Result<Include, Status> {
    respond::include(call.query.get("includeObject"))
}

fn plain(parts: &Parts) -> Result<Format, Status> {
    Format::negotiate(&parts.headers).map(|format| match format {
        Format::Yaml => Format::Yaml,
        _ => Format::Json,
    })
}

fn invalid_patch(why: &str) -> Status {
    Status::unprocessable(format!("PatchOptions.meta.k8s.io \"\" is invalid: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::registry::CONFIG_MAPS;

    #[test]
    fn a_list_of_written_objects_is_valid_json() {
        for count in 0..3 {
            let object = |name| {
                let value = json!({"metadata": {"name": name}});
                Arc::new(Object::new(&CONFIG_MAPS, value, 7))
            };
            let snapshot = Snapshot {
                version: 9,
                objects: (0..count).map(object).collect(),
            };
            let list: Value = serde_json::from_slice(&list_json(&CONFIG_MAPS, &snapshot)).unwrap();
            assert_eq!(list["metadata"]["resourceVersion"], "9");
            assert_eq!(list["kind"], "ConfigMapList");
            assert_eq!(list["items"].as_array().unwrap().len(), count);
        }
    }
}
