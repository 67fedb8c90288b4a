//! `insert`, `update`, `delete` and `findAndModify`: on the primary only, once each, and logged.

mod work;

use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};

use super::Request;
use super::write_concern::WriteConcern;
use crate::error::{Code, CommandError, Outcome};
use crate::member::{Event, State};
use crate::oplog::{Change, SessionWrite};
use crate::projection::Projection;
use crate::store::{Store, read};
use crate::update::Update;
use crate::wire::MAX_DOCUMENT;

use work::{Statement, UpdateStatement, Work, session};

/// The most that one command may change, in bytes: its entry in the log must fit into a message.
const MOST_CHANGED: usize = 24 << 20;

/// Longest time that a write waits for a primary that is about to step down.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Changes of one command while they are made.
struct Changes<'a> {
    store: &'a mut Store,
    made: Vec<Change>,
    bytes: usize,
}

/// Carries a write out and waits for its write concern.
pub(super) async fn write(request: &mut Request<'_>) -> Outcome {
    let concern = WriteConcern::of(request)?;
    let namespace = request.namespace()?;
    let work = Work::of(request)?;
    let session = session(&request.command)?;
    let stays = |state: &mut State| (!state.draining).then_some(());
    let member = request.member.clone();
    member.until(Event::Progress, DRAIN_LIMIT, stays).await;
    let (mut answer, at) = member.with(|state| {
        state.must_be_primary()?;
        if state.draining {
            return Err(Code::NotWritablePrimary.because("this member is about to step down"));
        }
        if let Some((id, number)) = &session
            && let Some(last) = state.store.session(id)
        {
            if *number == last.number {
                // It is the same write again, whose answer was lost.
                return Ok((last.answer.clone(), state.oplog.last()));
            }
            if *number < last.number {
                let message = "a later transaction number of this session was used already";
                return Err(Code::TransactionTooOld.because(message));
            }
        }
        let mut changes = Changes {
            store: &mut state.store,
            made: Vec::new(),
            bytes: 0,
        };
        let answer = work.carry_out(&namespace, &mut changes)?;
        let made = changes.made;
        if made.is_empty() {
            return Ok((answer, state.oplog.last()));
        }
        let write = session.map(|(session, number)| SessionWrite {
            session,
            number,
            answer: answer.clone(),
        });
        if let Some(write) = &write {
            state.store.remember(write.clone());
        }
        Ok((answer, state.log(made, write)))
    })?;
    if let Some(error) = concern.wait(request, at).await? {
        answer.insert("writeConcernError", error);
    }
    Ok(answer)
}

impl Work {
    fn carry_out(self, namespace: &str, changes: &mut Changes<'_>) -> Outcome {
        match self {
            Self::Statements {
                statements,
                ordered,
                updates,
            } => Ok(all(statements, ordered, updates, namespace, changes)),
            Self::FindAndModify {
                statement,
                sort,
                new,
                projection,
            } => find_and_modify(&statement, &sort, new, &projection, namespace, changes),
        }
    }
}

impl UpdateStatement {
    /// The document that an upsert makes where there is none.
    fn made(&self) -> Result<Document, CommandError> {
        let mut base = Document::new();
        for (path, value) in self.filter.equalities() {
            if path == "_id" || !self.update.is_replacement() {
                base = Update::Modifiers(vec![(crate::update::Modifier::Set, path, value)])
                    .apply(&base, true)?;
            }
        }
        Ok(identified(self.update.apply(&base, true)?))
    }
}

/// Does one statement after the other. What fails is told in the answer; where they are ordered it is the last.
fn all(
    statements: Vec<Statement>,
    ordered: bool,
    updates: bool,
    namespace: &str,
    changes: &mut Changes<'_>,
) -> Document {
    let (mut n, mut modified) = (0, 0);
    let (mut upserted, mut errors) = (Vec::new(), Vec::new());
    for (index, statement) in statements.into_iter().enumerate() {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        match one(statement, namespace, changes) {
            Ok(done) => {
                n += done.n;
                modified += done.modified;
                if let Some(id) = done.upserted {
                    upserted.push(Bson::Document(doc! { "index": index, "_id": id }));
                }
            }
            Err(error) => {
                let (code, _) = error.code.parts();
                let message = error.message;
                let told = doc! { "index": index, "code": code, "errmsg": message };
                errors.push(Bson::Document(told));
                if ordered {
                    break;
                }
            }
        }
    }
    let mut answer = doc! { "n": n };
    if updates {
        answer.insert("nModified", modified);
    }
    if !upserted.is_empty() {
        answer.insert("upserted", upserted);
    }
    if !errors.is_empty() {
        answer.insert("writeErrors", errors);
    }
    answer
}

/// What a statement did.
#[derive(Default)]
struct Done {
    n: i32,
    modified: i32,
    upserted: Option<Bson>,
}

fn one(
    statement: Statement,
    namespace: &str,
    changes: &mut Changes<'_>,
) -> Result<Done, CommandError> {
    let mut done = Done::default();
    match statement {
        Statement::Insert(document) => {
            changes.insert(namespace, identified(document))?;
            done.n = 1;
        }
        Statement::Delete { filter, many } => {
            for stored in changes.store.select(namespace, &filter, limit(many)) {
                changes.delete(namespace, id_of(&read(&stored)))?;
                done.n += 1;
            }
        }
        Statement::Update(statement) => {
            let selected =
                changes
                    .store
                    .select(namespace, &statement.filter, limit(statement.many));
            if selected.is_empty() && statement.upsert {
                let document = statement.made()?;
                done.upserted = Some(id_of(&document));
                changes.insert(namespace, document)?;
                done.n = 1;
            }
            for stored in selected {
                let before = read(&stored);
                let after = statement.update.apply(&before, false)?;
                done.n += 1;
                if after != before {
                    changes.put(namespace, &after)?;
                    done.modified += 1;
                }
            }
        }
    }
    Ok(done)
}

fn find_and_modify(
    statement: &Statement,
    sort: &Document,
    new: bool,
    projection: &Projection,
    namespace: &str,
    changes: &mut Changes<'_>,
) -> Outcome {
    let (Statement::Delete { filter, .. } | Statement::Update(UpdateStatement { filter, .. })) =
        statement
    else {
        return Err(Code::FailedToParse.because("nothing to modify"));
    };
    let selected = changes.store.select(namespace, filter, usize::MAX);
    let selected = super::reads::sorted(selected, sort)?.into_iter().next();
    let before = selected.map(|stored| read(&stored));
    let shown = |document: Option<Document>| match document {
        Some(document) => Bson::Document(projection.apply(document)),
        None => Bson::Null,
    };
    match (statement, before) {
        (Statement::Update(update), None) if update.upsert => {
            let document = update.made()?;
            let id = id_of(&document);
            changes.insert(namespace, document.clone())?;
            let last = doc! { "n": 1, "updatedExisting": false, "upserted": id };
            let value = shown(new.then_some(document));
            Ok(doc! { "lastErrorObject": last, "value": value })
        }
        (Statement::Update(update), Some(before)) => {
            let after = update.update.apply(&before, false)?;
            if after != before {
                changes.put(namespace, &after)?;
            }
            let last = doc! { "n": 1, "updatedExisting": true };
            let value = shown(Some(if new { after } else { before }));
            Ok(doc! { "lastErrorObject": last, "value": value })
        }
        (_, Some(before)) => {
            changes.delete(namespace, id_of(&before))?;
            Ok(doc! { "lastErrorObject": { "n": 1 }, "value": shown(Some(before)) })
        }
        (Statement::Update(_), None) => {
            let last = doc! { "n": 0, "updatedExisting": false };
            Ok(doc! { "lastErrorObject": last, "value": Bson::Null })
        }
        (_, None) => Ok(doc! { "lastErrorObject": { "n": 0 }, "value": Bson::Null }),
    }
}

impl Changes<'_> {
    /// Adds a document whose `_id` must be new.
    fn insert(&mut self, namespace: &str, document: Document) -> Result<(), CommandError> {
        let id = id_of(&document);
        if let Bson::Array(_) | Bson::RegularExpression(_) | Bson::Undefined = id {
            let message = "the '_id' value cannot be an array, an expression or undefined";
            return Err(Code::BadValue.because(message));
        }
        if self.store.has(namespace, &id) {
            let message = format!(
                "E11000 duplicate key error collection: {namespace} index: _id_ dup key: {{ _id: {id} }}"
            );
            return Err(Code::DuplicateKey.because(message));
        }
        self.put(namespace, &document)
    }

    fn put(&mut self, namespace: &str, document: &Document) -> Result<(), CommandError> {
        let bytes = document.to_vec();
        let bytes = bytes.map_err(|error| Code::BadValue.because(error.to_string()))?;
        if bytes.len() > MAX_DOCUMENT {
            let message = format!("the document is larger than {MAX_DOCUMENT} bytes");
            return Err(Code::BsonObjectTooLarge.because(message));
        }
        self.make(Change::Put(namespace.to_owned(), Arc::new(bytes)))
    }

    fn delete(&mut self, namespace: &str, id: Bson) -> Result<(), CommandError> {
        self.make(Change::Delete(namespace.to_owned(), id))
    }

    fn make(&mut self, change: Change) -> Result<(), CommandError> {
        self.store.room_for(&change)?;
        self.bytes += change.size();
        if self.bytes > MOST_CHANGED {
            let message = format!("one command may change at most {MOST_CHANGED} bytes");
            return Err(Code::ExceededMemoryLimit.because(message));
        }
        self.store.apply(&change);
        self.made.push(change);
        Ok(())
    }
}

fn limit(many: bool) -> usize {
    if many { usize::MAX } else { 1 }
}

/// The document with an `_id`, in front.
fn identified(document: Document) -> Document {
    if document.contains_key("_id") {
        return document;
    }
    let id = ("_id".to_owned(), Bson::ObjectId(ObjectId::new()));
    std::iter::once(id).chain(document).collect()
}

fn id_of(document: &Document) -> Bson {
    document.get("_id").cloned().unwrap_or_default()
}
