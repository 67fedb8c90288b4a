//! Collections and databases: making, dropping and listing them. There is one index each, on `_id`.

use bson::{Bson, Document, doc};

use super::write_concern::WriteConcern;
use super::{Request, wrong_type};
use crate::error::{Code, CommandError, Outcome};
use crate::filter::Filter;
use crate::member::State;
use crate::oplog::Change;
use crate::value::integer;

/// Carries out what changes the catalogue, and waits for its write concern.
pub(super) async fn change(request: &Request<'_>) -> Outcome {
    let concern = WriteConcern::of(request)?;
    let (mut answer, at) = request.member.with(|state| {
        state.must_be_primary()?;
        let (change, answer) = changed(request, state)?;
        state.store.room_for(&change)?;
        state.store.apply(&change);
        Ok((answer, state.log(vec![change], None)))
    })?;
    if let Some(error) = concern.wait(request, at).await? {
        answer.insert("writeConcernError", error);
    }
    Ok(answer)
}

fn changed(request: &Request<'_>, state: &State) -> Result<(Change, Document), CommandError> {
    if request.name == "dropDatabase" {
        let name = request.database.clone();
        let answer = doc! { "dropped": &name };
        return Ok((Change::DropDatabase(name), answer));
    }
    let namespace = request.namespace()?;
    let there = state.store.has_collection(&namespace);
    match request.name.as_str() {
        "drop" if there => {
            let answer = doc! { "ns": &namespace, "nIndexesWas": 1 };
            Ok((Change::Drop(namespace), answer))
        }
        "drop" => Err(Code::NamespaceNotFound.because("ns not found")),
        "create" => {
            for option in ["capped", "timeseries", "viewOn", "validator"] {
                if request.command.contains_key(option) {
                    let message = format!("this stand-in does not know '{option}'");
                    return Err(Code::InvalidOptions.because(message));
                }
            }
            Ok((Change::Create(namespace), Document::new()))
        }
        _ => {
            only_plain_indexes(request)?;
            let answer = doc! {
                "createdCollectionAutomatically": !there,
                "numIndexesBefore": 1,
                "numIndexesAfter": 1,
                "note": "this stand-in finds without indexes, but for _id: none was made",
            };
            Ok((Change::Create(namespace), answer))
        }
    }
}

/// An index that only makes finding faster may be left out. One that forbids something may not.
fn only_plain_indexes(request: &Request<'_>) -> Result<(), CommandError> {
    let indexes = request.command.get_array("indexes");
    for index in indexes.or(Err(wrong_type("indexes", "an array")))? {
        let index = index.as_document();
        let index = index.ok_or_else(|| wrong_type("indexes", "an array of documents"))?;
        let plain = index
            .get_document("key")
            .is_ok_and(|key| key.values().all(|way| matches!(integer(way), Some(1 | -1))));
        let on_id = index
            .get_document("key")
            .is_ok_and(|key| key.len() == 1 && key.contains_key("_id"));
        let unique = index.get("unique").is_some_and(crate::filter::truth);
        if !plain || (unique && !on_id) || index.contains_key("expireAfterSeconds") {
            let message = "this stand-in has no unique, expiring or special indexes";
            return Err(Code::InvalidOptions.because(message));
        }
    }
    Ok(())
}

pub(super) fn list_indexes(request: &Request<'_>) -> Outcome {
    let namespace = request.namespace()?;
    let there = request
        .member
        .with(|state| state.store.has_collection(&namespace));
    if !there {
        let message = format!("ns does not exist: {namespace}");
        return Err(Code::NamespaceNotFound.because(message));
    }
    let index = Bson::Document(doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" });
    Ok(list(&namespace, vec![index]))
}

pub(super) fn list_collections(request: &Request<'_>) -> Outcome {
    let filter = Filter::parse(request.document("filter")?.unwrap_or(&Document::new()))?;
    let prefix = format!("{}.", request.database);
    let collections = request.member.with(|state| {
        let names = state.store.namespaces();
        let names = names.filter_map(|(namespace, _)| namespace.strip_prefix(&prefix));
        let described = names.map(|name| {
            let index = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
            doc! {
                "name": name,
                "type": "collection",
                "options": {},
                "info": { "readOnly": false },
                "idIndex": index,
            }
        });
        let selected = described.filter(|described| filter.matches(described));
        selected.map(Bson::Document).collect()
    });
    Ok(list(&format!("{prefix}$cmd.listCollections"), collections))
}

pub(super) fn list_databases(request: &Request<'_>) -> Outcome {
    let filter = Filter::parse(request.document("filter")?.unwrap_or(&Document::new()))?;
    let mut sizes: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    request.member.with(|state| {
        for (namespace, bytes) in state.store.namespaces() {
            let name = namespace.split('.').next().unwrap_or(namespace);
            *sizes.entry(name.to_owned()).or_default() += bytes;
        }
    });
    let size = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    let total: usize = sizes.values().sum();
    let databases = sizes.iter().map(|(name, bytes)| {
        let empty = *bytes == 0;
        doc! { "name": name, "sizeOnDisk": size(*bytes), "empty": empty }
    });
    let selected = databases.filter(|database| filter.matches(database));
    let selected: Vec<Bson> = selected.map(Bson::Document).collect();
    Ok(doc! { "databases": selected, "totalSize": size(total) })
}

fn list(namespace: &str, batch: Vec<Bson>) -> Document {
    doc! { "cursor": { "firstBatch": batch, "id": 0i64, "ns": namespace } }
}
