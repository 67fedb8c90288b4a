//! What administrators ask of a set (MongoDB manual, "Replication Commands").

use std::time::Duration;

use bson::{Bson, Document, doc};
use tokio::time::Instant;

use super::Request;
use crate::error::{Code, CommandError, Outcome};
use crate::link::Link;
use crate::member::{Event, Member, State, campaign};
use crate::value::integer;

/// How long secondaries have to catch up before a primary steps down, MongoDB's own.
const CATCH_UP: Duration = Duration::from_secs(10);

/// How long a member has that is asked to stand.
const HANDOFF_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn status(request: &Request<'_>) -> Document {
    let member = request.member;
    member.with(|state| {
        let now = Instant::now();
        let consensus = &state.consensus;
        let last = state.oplog.last();
        let members = member.config.members.iter().enumerate();
        let members = members.map(|(number, name)| {
            let own = number == consensus.me;
            let peer = &consensus.peers[number];
            let silent = peer.heard.map(|at| now.duration_since(at));
            let up = own || silent.is_some_and(|silent| silent <= member.config.election);
            let (standing, applied) = if own {
                (consensus.standing, last)
            } else {
                (peer.standing, peer.applied)
            };
            let (code, text) = match up {
                true => standing.state(),
                false => (8, "(not reachable/healthy)"),
            };
            let mut status = doc! {
                "_id": i32::try_from(number).unwrap_or(i32::MAX),
                "name": name,
                "health": if up { 1.0 } else { 0.0 },
                "state": code,
                "stateStr": text,
                "optime": applied.to_document(),
            };
            if own {
                status.insert("self", true);
            }
            Bson::Document(status)
        });
        let members: Vec<Bson> = members.collect();
        doc! {
            "set": &member.config.set,
            "date": bson::DateTime::now(),
            "myState": consensus.standing.state().0,
            "term": consensus.term,
            "heartbeatIntervalMillis": millis(member.config.heartbeat),
            "majorityVoteCount": i32::try_from(consensus.majority()).unwrap_or(i32::MAX),
            "optimes": {
                "lastCommittedOpTime": state.committed.to_document(),
                "appliedOpTime": last.to_document(),
            },
            "members": members,
        }
    })
}

pub(super) fn config(request: &Request<'_>) -> Document {
    let config = &request.member.config;
    let members = config.members.iter().enumerate().map(|(number, host)| {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        Bson::Document(doc! { "_id": number, "host": host, "priority": 1.0, "votes": 1 })
    });
    doc! {
        "config": {
            "_id": &config.set,
            "version": 1,
            "protocolVersion": 1i64,
            "members": members.collect::<Vec<_>>(),
            "settings": {
                "heartbeatIntervalMillis": millis(config.heartbeat),
                "electionTimeoutMillis": millis(config.election),
            },
        }
    }
}

/// Steps down once another member has all operations, hands over to it, and stands for no election for a while.
pub(super) async fn step_down(request: &Request<'_>) -> Outcome {
    let member = request.member;
    let frozen = seconds(request, &request.name)?
        .ok_or_else(|| Code::BadValue.because("it needs a number of seconds"))?;
    let catch_up = seconds(request, "secondaryCatchUpPeriodSecs")?.unwrap_or(CATCH_UP);
    let force = request.flag("force");
    member.with(|state| {
        state.must_be_primary()?;
        if state.draining {
            return Err(Code::IllegalOperation.because("it steps down already"));
        }
        // Writes wait from here on, so that another can catch up at all.
        state.draining = true;
        Ok(())
    })?;
    let draining = Draining(member);
    let caught_up = |state: &mut State| {
        let ready = heirs(state);
        (!ready.is_empty() || !state.is_primary()).then_some(ready)
    };
    let heirs = member.until(Event::Progress, catch_up, caught_up).await;
    let stepped = member.with(|state| {
        if heirs.is_none() && !force && state.is_primary() {
            return Err(Code::ExceededTimeLimit.because(
                "no electable secondaries caught up within the time that they were given",
            ));
        }
        if state.is_primary() {
            state.consensus.stand_down(frozen, Instant::now());
        }
        Ok(())
    });
    drop(draining);
    stepped?;
    let addresses = heirs.into_iter().flatten();
    let addresses: Vec<String> = addresses
        .map(|number| member.config.members[number].clone())
        .collect();
    tokio::spawn(hand_over(addresses));
    Ok(Document::new())
}

/// The members that have all that this one has.
fn heirs(state: &State) -> Vec<usize> {
    let last = state.oplog.last();
    let others = state.consensus.others();
    let ready = others.filter(|(_, peer)| peer.standing.has_data() && peer.applied == last);
    ready.map(|(number, _)| number).collect()
}

/// MongoDB's election handoff: one after the other is asked to stand, so that nobody waits for a timeout.
async fn hand_over(addresses: Vec<String>) {
    for address in addresses {
        let asked = doc! { "replSetStepUp": 1 };
        let answer = Link::to(&address).call(asked, HANDOFF_LIMIT).await;
        let won = answer
            .as_ref()
            .ok()
            .and_then(|answer| answer.get_f64("ok").ok());
        tracing::info!(address, ?answer, "handing over");
        if won == Some(1.0) {
            return;
        }
    }
}

/// Lets writes go on, however the attempt to step down ends.
struct Draining<'a>(&'a Member);

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.draining = false);
    }
}

/// Stands for election at once.
pub(super) async fn step_up(request: &Request<'_>) -> Outcome {
    let member = request.member;
    if member.with(|state| state.is_primary()) || campaign(member).await {
        return Ok(Document::new());
    }
    Err(Code::IllegalOperation.because("the election was not won"))
}

pub(super) fn freeze(request: &Request<'_>) -> Outcome {
    let time = seconds(request, &request.name)?.unwrap_or_default();
    request.member.with(|state| {
        if state.is_primary() {
            let message = "cannot freeze node when primary or running for election";
            return Err(Code::IllegalOperation.because(message));
        }
        state.consensus.freeze(time, Instant::now());
        Ok(Document::new())
    })
}

/// The seconds in the field `name`: at most a year, so that they can be added to any time.
fn seconds(request: &Request<'_>, name: &str) -> Result<Option<Duration>, CommandError> {
    const YEAR: u64 = 365 * 86_400;
    let Some(value) = request.command.get(name) else {
        return Ok(None);
    };
    let seconds = integer(value).and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.filter(|seconds| *seconds <= YEAR);
    match seconds {
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
        None => Err(Code::BadValue.because(format!("'{name}' must be 0 to {YEAR} seconds"))),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
