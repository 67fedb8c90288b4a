//! Objects and lists of them, in the form that the client asked for.

use bytes::{BufMut, Bytes, BytesMut};
use http::{Response, StatusCode, request::Parts};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use crate::apiserver::{
    object::Object,
    registry::Resource,
    respond::{self, Body, Format},
    rest::Written,
    status::Status,
    store::Snapshot,
    table::{self, Include},
};

pub(super) fn written(
    call: &Call,
    written: &Written,
    parts: &Parts,
) -> Result<Response<Body>, Status> {
    let code = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = object(call, code, &written.object, parts)?;
    respond::warn(&mut response, &written.warnings);
    Ok(response)
}

pub(super) fn object(
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

pub(super) fn list(
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

pub(super) fn include(call: &Call) -> Result<Include, Status> {
    respond::include(call.query.get("includeObject"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
