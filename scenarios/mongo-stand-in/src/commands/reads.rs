//! `find` and its cursors, `count` and `distinct`; and what all reads ask first.

use std::cmp::Ordering;
use std::time::Duration;

use bson::{Bson, Document, doc};
use tokio::time::Instant;

use super::{Request, wrong_type};
use crate::cursors::Cursor;
use crate::error::{Code, CommandError, Outcome};
use crate::filter::{Filter, values_at};
use crate::member::{Event, State};
use crate::projection::Projection;
use crate::store::{Stored, read};
use crate::value::{compare, equal, integer};

/// Documents in a first answer, where nothing is said: MongoDB's own number.
const FIRST_BATCH: usize = 101;

/// The most that one answer holds, in bytes.
const MOST_BYTES: usize = 16 << 20;

/// Longest time that a read waits for what it wants to see.
const CONCERN_LIMIT: Duration = Duration::from_secs(10);

/// Whether a read is only done once the data that it sees is at a majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concern {
    Local,
    Majority,
    Linearizable,
}

/// Reads under the lock as the command's read preference and read concern allow.
///
/// `majority` is kept by waiting: what was read is given only once all that this member had by then is
/// committed. `linearizable` logs an operation that does nothing and waits for that.
pub(super) async fn consistent<T>(
    request: &Request<'_>,
    work: impl FnOnce(&mut State) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let member = request.member;
    let wanted = request
        .document("readConcern")?
        .cloned()
        .unwrap_or_default();
    let concern = match wanted.get_str("level") {
        Ok("majority") => Concern::Majority,
        Ok("linearizable") => Concern::Linearizable,
        Ok("snapshot") => {
            let message = "this stand-in has no snapshots to read from";
            return Err(Code::InvalidOptions.because(message));
        }
        _ => Concern::Local,
    };
    if let Ok(after) = wanted.get_timestamp("afterClusterTime") {
        let there = |state: &mut State| {
            let (time, step) = state.oplog.last().time;
            ((time, step) >= (after.time, after.increment)).then_some(())
        };
        let appended = member.until(Event::Appended, CONCERN_LIMIT, there);
        let late = || Code::ExceededTimeLimit.because("the time to read after did not come");
        appended.await.ok_or_else(late)?;
    }
    let (result, seen) = member.with(|state| {
        may_read(request, state, concern)?;
        let result = work(state)?;
        let seen = match concern {
            Concern::Linearizable => state.log(Vec::new(), None),
            _ => state.oplog.last(),
        };
        Ok((result, seen))
    })?;
    if concern != Concern::Local {
        let committed = |state: &mut State| (state.committed >= seen).then_some(());
        let waited = member.until(Event::Progress, CONCERN_LIMIT, committed);
        let late = || Code::ExceededTimeLimit.because("what was read was not committed in time");
        waited.await.ok_or_else(late)?;
    }
    Ok(result)
}

/// A secondary answers who says that it may (driver specifications, server selection).
fn may_read(request: &Request<'_>, state: &State, concern: Concern) -> Result<(), CommandError> {
    if state.is_primary() {
        return Ok(());
    }
    if !state.consensus.standing.has_data() {
        let message = "node is not in primary or recovering state";
        return Err(Code::NotPrimaryOrSecondary.because(message));
    }
    if concern == Concern::Linearizable {
        return state.must_be_primary();
    }
    let preference = request.document("$readPreference")?;
    let mode = preference.map(|preference| preference.get_str("mode").unwrap_or("primary"));
    match mode {
        None | Some("primary") => {
            Err(Code::NotPrimaryNoSecondaryOk.because("not primary and secondaryOk=false"))
        }
        Some(_) => Ok(()),
    }
}

pub(super) async fn find(request: &Request<'_>) -> Outcome {
    let namespace = request.namespace()?;
    let filter = filter(request, "filter")?;
    let sort = request.document("sort")?.cloned().unwrap_or_default();
    let projection = Projection::parse(request.document("projection")?)?;
    let skip = request.count("skip")?.unwrap_or(0);
    let limit = request.count("limit")?.filter(|limit| *limit > 0);
    let limit = limit.unwrap_or(usize::MAX);
    let batch = request.count("batchSize")?.unwrap_or(FIRST_BATCH);
    let single = request.flag("singleBatch");
    for option in ["tailable", "awaitData"] {
        if request.flag(option) {
            let message = format!("this stand-in does not know '{option}'");
            return Err(Code::InvalidOptions.because(message));
        }
    }
    consistent(request, |state| {
        let enough = if sort.is_empty() {
            skip.saturating_add(limit)
        } else {
            usize::MAX
        };
        let selected = state.store.select(&namespace, &filter, enough);
        let mut selected = sorted(selected, &sort)?.into_iter();
        if skip > 0 {
            selected.nth(skip - 1);
        }
        let rest: Vec<Stored> = selected.take(limit).collect();
        let mut cursor = Cursor::new(namespace, rest.into_iter(), projection, Instant::now());
        let first = next_batch(&mut cursor, batch);
        let namespace = cursor.namespace.clone();
        let id = if cursor.rest.as_slice().is_empty() || single {
            0
        } else {
            state.cursors.keep(cursor)
        };
        Ok(doc! { "cursor": { "firstBatch": first, "id": id, "ns": namespace } })
    })
    .await
}

/// Takes the next documents: at most `count`, and no more than fit into an answer.
fn next_batch(cursor: &mut Cursor, count: usize) -> Vec<Bson> {
    let mut bytes = 0;
    let mut batch = Vec::new();
    while batch.len() < count
        && let Some(next) = cursor.rest.as_slice().first()
    {
        bytes += next.len();
        if bytes > MOST_BYTES && !batch.is_empty() {
            break;
        }
        batch.push(Bson::Document(cursor.projection.apply(read(next))));
        cursor.rest.next();
    }
    batch
}

pub(super) fn get_more(request: &Request<'_>) -> Outcome {
    let namespace = request.namespace_in("collection")?;
    let number = request.command.get("getMore").and_then(integer);
    let number = number.ok_or_else(|| wrong_type("getMore", "a cursor's number"))?;
    let batch = request.count("batchSize")?.filter(|count| *count > 0);
    request.member.with(|state| {
        let cursor = state.cursors.take(number, &namespace, Instant::now());
        let mut cursor = cursor
            .ok_or_else(|| Code::CursorNotFound.because(format!("cursor id {number} not found")))?;
        let next = next_batch(&mut cursor, batch.unwrap_or(usize::MAX));
        let mut id = 0;
        if !cursor.rest.as_slice().is_empty() {
            state.cursors.put_back(number, cursor);
            id = number;
        }
        Ok(doc! { "cursor": { "nextBatch": next, "id": id, "ns": namespace } })
    })
}

pub(super) fn kill_cursors(request: &Request<'_>) -> Outcome {
    let cursors = request.command.get_array("cursors");
    let cursors = cursors.or(Err(wrong_type("cursors", "an array")))?;
    let (mut killed, mut missing) = (Vec::new(), Vec::new());
    request.member.with(|state| {
        for cursor in cursors {
            let number = integer(cursor).unwrap_or(0);
            let list = if state.cursors.close(number) {
                &mut killed
            } else {
                &mut missing
            };
            list.push(Bson::Int64(number));
        }
    });
    let none: Vec<Bson> = Vec::new();
    Ok(doc! {
        "cursorsKilled": killed,
        "cursorsNotFound": missing,
        "cursorsAlive": none.clone(),
        "cursorsUnknown": none,
    })
}

pub(super) async fn count(request: &Request<'_>) -> Outcome {
    let namespace = request.namespace()?;
    let filter = filter(request, "query")?;
    let skip = request.count("skip")?.unwrap_or(0);
    let limit = request.count("limit")?.filter(|limit| *limit > 0);
    consistent(request, |state| {
        let all = if filter.is_empty() {
            state.store.count(&namespace)
        } else {
            state.store.select(&namespace, &filter, usize::MAX).len()
        };
        let n = all.saturating_sub(skip).min(limit.unwrap_or(usize::MAX));
        Ok(doc! { "n": i64::try_from(n).unwrap_or(i64::MAX) })
    })
    .await
}

pub(super) async fn distinct(request: &Request<'_>) -> Outcome {
    let namespace = request.namespace()?;
    let filter = filter(request, "query")?;
    let key = request
        .command
        .get_str("key")
        .or(Err(wrong_type("key", "a text")))?;
    consistent(request, |state| {
        let mut values: Vec<Bson> = Vec::new();
        for stored in state.store.select(&namespace, &filter, usize::MAX) {
            for value in values_at(&read(&stored), key) {
                match value {
                    Bson::Array(items) => values.extend(items.iter().cloned()),
                    value => values.push(value.clone()),
                }
            }
        }
        values.sort_by(compare);
        values.dedup_by(|a, b| equal(a, b));
        Ok(doc! { "values": values })
    })
    .await
}

fn filter(request: &Request<'_>, name: &str) -> Result<Filter, CommandError> {
    match request.document(name)? {
        Some(query) => Filter::parse(query),
        None => Ok(Filter::default()),
    }
}

/// The documents in the order that `sort` asks for: fields, each up (1) or down (-1).
pub(super) fn sorted(documents: Vec<Stored>, sort: &Document) -> Result<Vec<Stored>, CommandError> {
    let mut keys = Vec::new();
    for (field, direction) in sort {
        match integer(direction) {
            Some(1) => keys.push((field, false)),
            Some(-1) => keys.push((field, true)),
            _ => return Err(Code::BadValue.because("a sort direction is 1 or -1")),
        }
    }
    match keys.as_slice() {
        [] => return Ok(documents),
        [(field, false)] if *field == "$natural" => return Ok(documents),
        [(field, true)] if *field == "$natural" => {
            return Ok(documents.into_iter().rev().collect());
        }
        _ => {}
    }
    let mut decoded: Vec<(Document, Stored)> = documents
        .into_iter()
        .map(|stored| (read(&stored), stored))
        .collect();
    let by_keys = |(a, _): &(Document, Stored), (b, _): &(Document, Stored)| {
        let orders = keys.iter().map(|(path, down)| {
            let order = compare(&first_at(a, path), &first_at(b, path));
            if *down { order.reverse() } else { order }
        });
        orders.fold(Ordering::Equal, Ordering::then)
    };
    decoded.sort_by(by_keys);
    Ok(decoded.into_iter().map(|(_, stored)| stored).collect())
}

fn first_at(document: &Document, path: &str) -> Bson {
    let first = values_at(document, path).first().copied().cloned();
    first.unwrap_or_default()
}
