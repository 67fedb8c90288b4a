//! Commands: who answers which, and what every answer has in common.

mod aggregate;
mod catalog;
mod handshake;
mod internal;
mod reads;
mod replica_set;
mod write_concern;
mod writes;

use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};

use crate::error::{Code, CommandError, Outcome};
use crate::member::Member;

pub(crate) use handshake::{await_change, hello};
pub(crate) use internal::Copy;

/// A command with what belongs to it.
pub(crate) struct Request<'a> {
    pub(crate) member: &'a Arc<Member>,
    /// Its name, as the client wrote it.
    pub(crate) name: String,
    /// The database it is for.
    pub(crate) database: String,
    pub(crate) command: Document,
    /// The connection's number.
    pub(crate) connection: i64,
    /// What this connection copies to another member.
    pub(crate) copy: &'a mut Copy,
}

/// Carries a command out. There is always an answer.
pub(crate) async fn answer(request: Request<'_>) -> Document {
    let member = request.member.clone();
    let retryable = request.command.contains_key("txnNumber");
    let outcome = dispatch(request).await;
    let error = outcome.as_ref().err().map(|error| error.code);
    let mut answer = match outcome {
        Ok(mut answer) => {
            answer.insert("ok", 1.0);
            answer
        }
        Err(error) => error.answer(),
    };
    member.with(|state| {
        if error.is_some_and(Code::is_state_change) {
            answer.insert("topologyVersion", member.topology_version(state));
            if retryable {
                answer.insert("errorLabels", vec!["RetryableWriteError"]);
            }
        }
        let last = state.oplog.last();
        if last.time.0 > 0 {
            // Drivers pass it on between members. There are no keys, so nothing signs it.
            let nobody = Binary {
                subtype: BinarySubtype::Generic,
                bytes: vec![0; 20],
            };
            let signature = doc! { "hash": nobody, "keyId": 0i64 };
            let time = doc! { "clusterTime": last.timestamp(), "signature": signature };
            answer.insert("$clusterTime", time);
            answer.insert("operationTime", last.timestamp());
        }
    });
    answer
}

async fn dispatch(mut request: Request<'_>) -> Outcome {
    refuse_transactions(&request.command)?;
    match request.name.as_str() {
        "hello" | "isMaster" | "ismaster" => Ok(handshake::first_hello(&request)),
        "ping" => Ok(Document::new()),
        "buildInfo" | "buildinfo" => Ok(handshake::build_info()),
        "getParameter" => handshake::parameters(&request),
        "hostInfo" => Ok(doc! { "system": { "hostname": request.member.config.address() } }),
        "serverStatus" => Ok(handshake::server_status(&request)),
        "connectionStatus" => {
            let nobody: Vec<Bson> = Vec::new();
            let info =
                doc! { "authenticatedUsers": nobody.clone(), "authenticatedUserRoles": nobody };
            Ok(doc! { "authInfo": info })
        }
        "find" => reads::find(&request).await,
        "getMore" => reads::get_more(&request),
        "killCursors" => reads::kill_cursors(&request),
        "count" => reads::count(&request).await,
        "distinct" => reads::distinct(&request).await,
        "aggregate" => aggregate::aggregate(&request).await,
        "insert" | "update" | "delete" | "findAndModify" | "findandmodify" => {
            writes::write(&mut request).await
        }
        "create" | "createIndexes" | "drop" | "dropDatabase" => catalog::change(&request).await,
        "listIndexes" => catalog::list_indexes(&request),
        "listCollections" => catalog::list_collections(&request),
        "listDatabases" => catalog::list_databases(&request),
        "startSession" => Ok(handshake::start_session()),
        // Sessions hold nothing here but their last write, which times out by itself.
        "endSessions" | "refreshSessions" => Ok(Document::new()),
        "replSetGetStatus" => Ok(replica_set::status(&request)),
        "replSetGetConfig" => Ok(replica_set::config(&request)),
        "replSetStepDown" => replica_set::step_down(&request).await,
        "replSetStepUp" => replica_set::step_up(&request).await,
        "replSetFreeze" => replica_set::freeze(&request),
        "replSetHeartbeat" => internal::heartbeat(&request),
        "replSetRequestVotes" => internal::vote(&request),
        "standInPull" => internal::pull(&request).await,
        "standInCopy" => internal::copy(&mut request),
        "commitTransaction" | "abortTransaction" => {
            Err(Code::NoSuchTransaction.because("this stand-in has no transactions"))
        }
        name => Err(Code::CommandNotFound.because(format!("no such command: '{name}'"))),
    }
}

/// Transactions of several statements are refused, so that nobody takes them for atomic.
fn refuse_transactions(command: &Document) -> Result<(), CommandError> {
    if command.contains_key("startTransaction") || command.contains_key("autocommit") {
        return Err(Code::IllegalOperation.because("this stand-in has no transactions"));
    }
    Ok(())
}

impl Request<'_> {
    /// The namespace of the collection that the command names first.
    pub(crate) fn namespace(&self) -> Result<String, CommandError> {
        self.namespace_in(&self.name)
    }

    /// The namespace of the collection that the field `field` names.
    pub(crate) fn namespace_in(&self, field: &str) -> Result<String, CommandError> {
        let wrong = |name: &str| {
            let message = format!("invalid namespace specified '{}.{name}'", self.database);
            Code::InvalidNamespace.because(message)
        };
        let name = self.command.get_str(field).or(Err(wrong("")))?;
        if name.is_empty() || name.contains(['$', '\0']) {
            return Err(wrong(name));
        }
        let database = &self.database;
        if database.is_empty() || database.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
            return Err(wrong(name));
        }
        Ok(format!("{database}.{name}"))
    }

    /// The document in the field `name`, where there is one.
    pub(crate) fn document(&self, name: &str) -> Result<Option<&Document>, CommandError> {
        match self.command.get(name) {
            None | Some(Bson::Null) => Ok(None),
            Some(Bson::Document(document)) => Ok(Some(document)),
            Some(_) => Err(wrong_type(name, "a document")),
        }
    }

    /// The number in the field `name`, where there is one; a negative one is refused.
    pub(crate) fn count(&self, name: &str) -> Result<Option<usize>, CommandError> {
        match self.command.get(name) {
            None | Some(Bson::Null) => Ok(None),
            Some(value) => {
                let count = crate::value::integer(value).map(usize::try_from);
                match count {
                    Some(Ok(count)) => Ok(Some(count)),
                    _ => Err(wrong_type(name, "a whole number that is not negative")),
                }
            }
        }
    }

    /// Whether the field `name` is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.command.get(name).is_some_and(crate::filter::truth)
    }
}

/// The field `name` is not `what` it should be.
pub(crate) fn wrong_type(name: &str, what: &str) -> CommandError {
    Code::TypeMismatch.because(format!("the field '{name}' must be {what}"))
}
