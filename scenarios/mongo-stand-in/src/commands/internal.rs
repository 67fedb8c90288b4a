//! What members ask each other. Who may reach a member may ask too: as in a MongoDB set without a key file.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use tokio::time::{Instant, timeout};

use super::Request;
use crate::error::{Code, CommandError, Outcome};
use crate::member::{Candidacy, Event, Member, Pulse, State};
use crate::oplog::{Change, Entry, OpTime, changes_to_array};

/// About how much goes into one answer, in bytes.
const PIECE: usize = 4 << 20;

/// How long news of what is committed waits for operations to go with.
const TOGETHER: Duration = Duration::from_millis(5);

/// The longest that a member may wait for operations.
const LONGEST_WAIT: i64 = 1_000;

/// A copy of all data on its way to another member.
#[derive(Default)]
pub(crate) struct Copy {
    changes: std::vec::IntoIter<Change>,
    at: Option<OpTime>,
}

pub(super) fn heartbeat(request: &Request<'_>) -> Outcome {
    let pulse = pulse(request)?;
    Ok(request.member.with(|state| {
        state.consensus.hear(pulse, Instant::now());
        own_pulse(state)
    }))
}

pub(super) fn vote(request: &Request<'_>) -> Outcome {
    must_be_of_the_set(request)?;
    let candidacy = Candidacy::of(&request.command)
        .ok_or_else(|| Code::FailedToParse.because("no candidacy that can be read"))?;
    Ok(request.member.with(|state| {
        let last = state.oplog.last();
        let granted = state.consensus.vote(candidacy, last, Instant::now());
        doc! { "term": state.consensus.term, "voteGranted": granted }
    }))
}

/// Operations for a member that has all up to the one it names, and so acknowledges that it does.
pub(super) async fn pull(request: &Request<'_>) -> Outcome {
    let member = request.member;
    let pulse = pulse(request)?;
    let wait = request.command.get_i64("waitMillis").unwrap_or(0);
    let wait = u64::try_from(wait.min(LONGEST_WAIT)).unwrap_or(0);
    let committed = member.with(|state| {
        let now = Instant::now();
        state.consensus.hear(pulse, now);
        state
            .consensus
            .acknowledge(pulse.from, pulse.applied, pulse.term, now);
        must_have_data(state)?;
        Ok(state.committed)
    })?;
    let due = member.until(Event::Appended, Duration::from_millis(wait), |state| {
        let waits = state.is_primary() && state.oplog.last() == pulse.applied;
        (!waits).then_some(())
    });
    let news = async {
        let more = |state: &mut State| (state.committed != committed).then_some(());
        let told = member.until(Event::Progress, Duration::from_millis(wait), more);
        if told.await.is_some() {
            // An operation that follows takes it along.
            let mut appended = member.watch(Event::Appended);
            drop(timeout(TOGETHER, appended.changed()).await);
        }
    };
    tokio::select! {
        _ = due => {}
        () = news => {}
    }
    Ok(member.with(|state| {
        let mut answer = own_pulse(state);
        answer.insert("committed", state.committed.to_document());
        match state.oplog.after(pulse.applied, PIECE) {
            Some(entries) => {
                let entries = entries.iter().map(entry_of);
                answer.insert("entries", entries.collect::<Vec<Bson>>());
            }
            None => {
                answer.insert("diverged", true);
            }
        }
        answer
    }))
}

fn entry_of(entry: &Arc<Entry>) -> Bson {
    entry.to_document().into()
}

/// Everything, piece by piece, as it was when the copy began.
pub(super) fn copy(request: &mut Request<'_>) -> Outcome {
    must_be_of_the_set(request)?;
    let member = request.member;
    let mut sessions = Vec::new();
    if !request.flag("continue") {
        let (store, at) = member.with(|state| {
            must_have_data(state)?;
            Ok((state.store.clone(), state.oplog.last()))
        })?;
        let (changes, writes) = store.contents();
        sessions = writes;
        *request.copy = Copy {
            changes: changes.into_iter(),
            at: Some(at),
        };
    }
    let copy = &mut *request.copy;
    let at = copy
        .at
        .ok_or_else(|| Code::IllegalOperation.because("no copy was begun by this connection"))?;
    let mut piece = Vec::new();
    let mut bytes = 0;
    while bytes < PIECE
        && let Some(change) = copy.changes.next()
    {
        bytes += change.size();
        piece.push(change);
    }
    let more = !copy.changes.as_slice().is_empty();
    if !more {
        *copy = Copy::default();
    }
    let sessions = sessions.iter().map(|session| session.to_document().into());
    let sessions: Vec<Bson> = sessions.collect();
    Ok(member.with(|state| {
        let mut answer = own_pulse(state);
        answer.extend(doc! {
            "at": at.to_document(),
            "committed": state.committed.to_document(),
            "changes": changes_to_array(&piece),
            "sessions": sessions,
            "more": more,
        });
        answer
    }))
}

fn own_pulse(state: &State) -> Document {
    let mut answer = state.consensus.pulse(state.oplog.last()).to_document();
    answer.insert("set", true);
    answer
}

/// What the member that asks says of itself.
fn pulse(request: &Request<'_>) -> Result<Pulse, CommandError> {
    must_be_of_the_set(request)?;
    let config = &request.member.config;
    Pulse::of(&request.command)
        .filter(|pulse| pulse.from < config.members.len() && pulse.from != config.me)
        .ok_or_else(|| Code::BadValue.because("no other member of this set"))
}

fn must_be_of_the_set(request: &Request<'_>) -> Result<(), CommandError> {
    let Member { config, .. } = request.member.as_ref();
    match request.command.get_str(&request.name) {
        Ok(set) if set == config.set => Ok(()),
        _ => Err(Code::BadValue.because(format!("this is a member of the set `{}`", config.set))),
    }
}

fn must_have_data(state: &State) -> Result<(), CommandError> {
    if state.consensus.standing.has_data() {
        Ok(())
    } else {
        Err(Code::NotYetInitialized.because("this member has no data of its set yet"))
    }
}
