//! What a client asks first: `hello` and the like (driver specifications, handshake, and server discovery and
//! monitoring).

use std::time::Duration;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};

use super::Request;
use crate::error::{Code, Outcome};
use crate::member::{Event, Member, Standing, State};
use crate::value::integer;
use crate::wire::{MAX_DOCUMENT, MOST_DOCUMENTS};

/// The version of MongoDB that drivers may take this for: the one whose wire protocol it speaks.
const AS_VERSION: &str = "7.0.0";

/// The wire protocol's version that goes with it.
const WIRE_VERSION: i32 = 21;

/// The longest message that clients may send, in bytes. Replication needs room beyond it.
const LONGEST_MESSAGE: i32 = 20_000_000;

/// How long sessions live, in minutes, MongoDB's own.
const SESSION_MINUTES: i32 = 30;

/// The longest time that a `hello` waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The answer to a `hello` that came at once.
pub(super) fn first_hello(request: &Request<'_>) -> Document {
    let legacy = request.name != "hello";
    let mut answer = hello(request.member, request.connection, legacy);
    if request.flag("helloOk") {
        answer.insert("helloOk", true);
    }
    answer
}

/// What this member is, now. The old `isMaster` has another word for it.
pub(crate) fn hello(member: &Member, connection: i64, legacy: bool) -> Document {
    member.with(|state| {
        let consensus = &state.consensus;
        let primary = if legacy {
            "ismaster"
        } else {
            "isWritablePrimary"
        };
        let mut answer = doc! {
            "topologyVersion": member.topology_version(state),
            primary: consensus.standing == Standing::Primary,
            "secondary": consensus.standing == Standing::Secondary,
        };
        if consensus.standing == Standing::Startup {
            answer.insert("isreplicaset", true);
            answer.insert("info", "Does not have a valid replica set config");
        } else {
            answer.extend(set(member, state));
        }
        answer.extend(doc! {
            "maxBsonObjectSize": i32::try_from(MAX_DOCUMENT).unwrap_or(i32::MAX),
            "maxMessageSizeBytes": LONGEST_MESSAGE,
            "maxWriteBatchSize": i32::try_from(MOST_DOCUMENTS).unwrap_or(i32::MAX),
            "localTime": bson::DateTime::now(),
            "logicalSessionTimeoutMinutes": SESSION_MINUTES,
            "connectionId": connection,
            "minWireVersion": 0,
            "maxWireVersion": WIRE_VERSION,
            "readOnly": false,
        });
        answer
    })
}

/// The set, as a member sees it that has found it.
fn set(member: &Member, state: &State) -> Document {
    let config = &member.config;
    let mut answer = doc! {
        "setName": &config.set,
        "setVersion": 1,
        "hosts": config.members.clone(),
        "me": config.address(),
    };
    if let Some(primary) = state.consensus.primary {
        answer.insert("primary", &config.members[primary]);
    }
    if state.consensus.standing == Standing::Primary {
        answer.insert("electionId", election_id(state.consensus.term));
    }
    let date = |seconds: u32| bson::DateTime::from_millis(i64::from(seconds) * 1000);
    let (last, committed) = (state.oplog.last(), state.committed);
    answer.insert(
        "lastWrite",
        doc! {
            "opTime": last.to_document(),
            "lastWriteDate": date(last.time.0),
            "majorityOpTime": committed.to_document(),
            "majorityWriteDate": date(committed.time.0),
        },
    );
    answer
}

/// An election's id as MongoDB makes it: greater for a later term.
fn election_id(term: i64) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    bytes[4..].copy_from_slice(&term.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// Waits until `hello` would be answered otherwise than at the `topologyVersion` of the command, or until its
/// `maxAwaitTimeMS` is over. Where the command has neither it does not wait.
pub(crate) async fn await_change(member: &Member, command: &Document) {
    let known = command.get_document("topologyVersion").ok();
    let wait = command.get("maxAwaitTimeMS").and_then(integer);
    let (Some(known), Some(wait)) = (known, wait.and_then(|wait| u64::try_from(wait).ok())) else {
        return;
    };
    // Another process's versions say nothing here.
    if known.get_object_id("processId").ok() != Some(member.process) {
        return;
    }
    let counter = known.get_i64("counter").unwrap_or(-1);
    let wait = Duration::from_millis(wait).min(LONGEST_WAIT);
    let changed = member.until(Event::Topology, wait, |state| {
        (state.topology != counter).then_some(())
    });
    // Either way the answer is due.
    changed.await;
}

pub(super) fn build_info() -> Document {
    let numbers = AS_VERSION.split('.').chain(["0"]);
    let numbers: Vec<i32> = numbers.filter_map(|number| number.parse().ok()).collect();
    doc! {
        "version": AS_VERSION,
        "versionArray": numbers,
        "gitVersion": "none: this is the stand-in of inroads, no MongoDB",
        "modules": ["inroads-stand-in"],
        "bits": 64,
        "debug": false,
        "maxBsonObjectSize": i32::try_from(MAX_DOCUMENT).unwrap_or(i32::MAX),
        "storageEngines": ["memory"],
    }
}

pub(super) fn parameters(request: &Request<'_>) -> Outcome {
    let version = doc! { "version": "7.0" };
    if request.command.contains_key("featureCompatibilityVersion") {
        return Ok(doc! { "featureCompatibilityVersion": version });
    }
    Err(Code::InvalidOptions.because("no option found to get"))
}

pub(super) fn server_status(request: &Request<'_>) -> Document {
    let member = request.member;
    let uptime = member.started.elapsed().as_secs_f64();
    let mut set = doc! {};
    member.with(|state| set.extend(self::set(member, state)));
    doc! {
        "host": member.config.address(),
        "version": AS_VERSION,
        "process": "inroads-mongo-stand-in",
        "pid": i64::from(std::process::id()),
        "uptime": uptime,
        "storageEngine": { "name": "memory" },
        "repl": set,
    }
}

pub(super) fn start_session() -> Document {
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: rand::random::<[u8; 16]>().to_vec(),
    };
    doc! { "id": { "id": id }, "timeoutMinutes": SESSION_MINUTES }
}
