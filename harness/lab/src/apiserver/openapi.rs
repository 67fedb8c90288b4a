//! The OpenAPI documents, made from the table of types.
//!
//! They tell clients how lists are merged and that the server validates strictly: a `kubectl` that
//! knows version 3 then leaves validation to the server. Descriptions are left out.

use serde_json::{Map, Value, json};

use super::{
    registry::{self, Resource},
    reviews,
    schema::{self, Field, Scalar, Struct, Topology, Type},
};

/// `/openapi/v3`: where the document of each group and version is.
pub(crate) fn index(version: &str) -> Value {
    let mut paths = Map::new();
    let stored = registry::ALL.iter().map(|resource| resource.group);
    for group in stored.chain(reviews::ALL.iter().map(|review| review.group)) {
        let path = if group.is_empty() {
            "api/v1".to_owned()
        } else {
            format!("apis/{group}/v1")
        };
        // The types are part of the program: a document changes only with its version.
        let url = format!("/openapi/v3/{path}?hash={version}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`
pub(crate) fn document(group: &str, version: &str) -> Option<Value> {
    let resources = registry::ALL
        .iter()
        .filter(|it| (it.group, it.version) == (group, version));
    let paths: Map<_, _> = resources.flat_map(|resource| paths_of(resource)).collect();
    let posted = reviews::ALL
        .iter()
        .any(|it| (it.group, it.version) == (group, version));
    (posted || !paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "unversioned"},
            "paths": paths,
            "components": {"schemas": schemas()},
        })
    })
}

/// `/openapi/v2`: without definitions, which makes a `kubectl` older than 1.27 leave validation to the
/// server, too.
pub(crate) fn version_2(version: &str) -> Value {
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": {},
        "definitions": {},
    })
}

/// The same in protocol buffers (`openapi.v2.Document`), the only form in which `kubectl` reads it.
pub(crate) fn version_2_protobuf(version: &str) -> Vec<u8> {
    fn field(number: u8, content: &[u8], out: &mut Vec<u8>) {
        const LENGTH_DELIMITED: u8 = 2;
        out.push(number << 3 | LENGTH_DELIMITED);
        out.push(u8::try_from(content.len()).expect("the texts here are shorter than 128 bytes"));
        out.extend_from_slice(content);
    }
    let (mut info, mut document) = (Vec::new(), Vec::new());
    field(1, b"Kubernetes", &mut info);
    field(2, version.as_bytes(), &mut info);
    field(1, b"2.0", &mut document);
    field(2, &info, &mut document);
    document
}

fn paths_of(resource: &Resource) -> impl Iterator<Item = (String, Value)> {
    let prefix = match resource.group {
        "" => "/api/v1".to_owned(),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let place = if resource.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{prefix}{place}/{}", resource.plural);
    let object = format!("{collection}/{{name}}");
    let kind = json!({
        "group": resource.group, "version": resource.version, "kind": resource.kind,
    });
    let reference = json!({"$ref": format!("#/components/schemas/{}", resource.schema)});
    let content = json!({"application/json": {"schema": reference}});
    let operation = |action: &str| {
        let text = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        json!({
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
            "parameters": [text("dryRun"), text("fieldManager"), text("fieldValidation")],
            "responses": {"200": {"description": "OK", "content": content}},
        })
    };
    let one = json!({
        "get": operation("get"),
        "put": operation("put"),
        "patch": operation("patch"),
        "delete": operation("delete"),
    });
    let all = json!({"get": operation("list"), "post": operation("post")});
    [(collection, all), (object, one)].into_iter()
}

fn schemas() -> Map<String, Value> {
    schema::all()
        .map(|shape| (shape.name.to_owned(), schema_of(shape)))
        .collect()
}

fn schema_of(shape: &Struct) -> Value {
    let properties: Map<_, _> = shape
        .fields
        .iter()
        .map(|(name, field)| ((*name).to_owned(), property(field)))
        .collect();
    let required: Vec<_> = shape
        .fields
        .iter()
        .filter(|(_, field)| field.required)
        .map(|(name, _)| name)
        .collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if shape.atomic {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    let own = registry::ALL
        .iter()
        .filter(|resource| resource.schema == shape.name);
    let kinds: Vec<_> = own
        .map(|it| json!({"group": it.group, "version": it.version, "kind": it.kind}))
        .collect();
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = json!(kinds);
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut property = type_of(&field.ty);
    let is_list = matches!(field.ty, Type::List(_));
    match &field.topology {
        Topology::Atomic if !is_list => property["x-kubernetes-map-type"] = "atomic".into(),
        Topology::Atomic => property["x-kubernetes-list-type"] = "atomic".into(),
        Topology::Default if is_list => property["x-kubernetes-list-type"] = "atomic".into(),
        Topology::Default => {}
        Topology::Set => property["x-kubernetes-list-type"] = "set".into(),
        Topology::Map(keys) => {
            property["x-kubernetes-list-type"] = "map".into();
            let keys: Vec<_> = keys.iter().map(|(key, _)| key).collect();
            property["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    let merges = field.merge_key.is_some() || field.merge_set;
    let strategy = match (merges, field.retain_keys) {
        (true, true) => Some("merge,retainKeys"),
        (true, false) => Some("merge"),
        (false, true) => Some("retainKeys"),
        (false, false) => None,
    };
    if let Some(strategy) = strategy {
        property["x-kubernetes-patch-strategy"] = strategy.into();
    }
    if let Some(key) = field.merge_key {
        property["x-kubernetes-patch-merge-key"] = key.into();
    }
    property
}

fn type_of(ty: &Type) -> Value {
    match ty {
        Type::Scalar(scalar) => match scalar {
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::String => json!({"type": "string"}),
            Scalar::Bytes => json!({"type": "string", "format": "byte"}),
            Scalar::Time | Scalar::MicroTime => json!({"type": "string", "format": "date-time"}),
            Scalar::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Scalar::IntOrString => json!({
                "oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string",
            }),
            Scalar::Any => json!({"type": "object"}),
        },
        // A reference stands in `allOf`, because beside `$ref` other keys would be ignored.
        Type::Struct(name) => json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]}),
        Type::List(item) => json!({"type": "array", "items": type_of(item)}),
        Type::Map(entry) => json!({"type": "object", "additionalProperties": type_of(entry)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_tells_how_lists_are_merged_and_that_the_server_validates() {
        let document = document("apps", "v1").unwrap();
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
        assert_eq!(
            patch["patch"]["x-kubernetes-group-version-kind"]["kind"],
            "Deployment"
        );
        let parameters = patch["patch"]["parameters"].as_array().unwrap();
        assert!(
            parameters
                .iter()
                .any(|parameter| parameter["name"] == "fieldValidation")
        );
        let pod = &document["components"]["schemas"]["PodSpec"]["properties"];
        assert_eq!(pod["containers"]["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(
            pod["volumes"]["x-kubernetes-patch-strategy"],
            "merge,retainKeys"
        );
        assert_eq!(pod["tolerations"]["x-kubernetes-list-type"], "atomic");
    }

    #[test]
    fn every_indexed_document_is_there() {
        let index = index("v1");
        let paths = index["paths"].as_object().unwrap();
        assert!(paths.len() > 5);
        for path in paths.keys() {
            let group = path
                .strip_prefix("apis/")
                .map_or("", |path| path.trim_end_matches("/v1"));
            assert!(document(group, "v1").is_some(), "{path}");
        }
    }
}
