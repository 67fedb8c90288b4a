//! Following a primary: copying all of its data once, then its operations one after the other.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use tokio::time::{Instant, timeout};

use super::{Event, Member, Pulse, Standing, State};
use crate::link::{Link, LinkError};
use crate::oplog::{Change, Entry, OpTime, Oplog, SessionWrite, changes_of};
use crate::store::Store;

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest time for one answer beyond the time that it may wait for operations.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The longest time that a source lets a member wait for operations.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Where the data comes from.
enum Source {
    /// Operations after the one given, from this member.
    Operations(usize, OpTime),
    /// Everything, from this member.
    Copy(usize),
    /// Nowhere, for now.
    None,
}

/// It did not work.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the source refused: {0}")]
    Refused(String),
    #[error("the source's answer lacks something")]
    Answer,
}

/// Follows whoever is primary for as long as it is polled.
pub(super) async fn follow(member: &Arc<Member>) {
    let mut link: Option<(usize, Link)> = None;
    loop {
        let mut changes = member.watch(Event::Topology);
        let source = member.with(|state| source(state, member.config.election));
        let number = match source {
            Source::Operations(number, _) | Source::Copy(number) => number,
            Source::None => {
                // An election, or the first heartbeat of another, will tell.
                drop(timeout(PAUSE, changes.changed()).await);
                continue;
            }
        };
        let (_, link) = match &mut link {
            Some(kept) if kept.0 == number => kept,
            other => other.insert((number, Link::to(&member.config.members[number]))),
        };
        let done = match source {
            Source::Operations(_, after) => pull(member, link, number, after).await,
            _ => copy(member, link).await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, number, "following");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn source(state: &State, election: Duration) -> Source {
    let consensus = &state.consensus;
    let primary = consensus.primary.filter(|primary| *primary != consensus.me);
    match (consensus.standing, primary, state.copy) {
        (Standing::Secondary, Some(primary), _) => Source::Operations(primary, state.oplog.last()),
        (Standing::Copying, Some(primary), _) => Source::Copy(primary),
        // What the last primary had may be at no other member than those that were started again: a
        // secondary's data is taken only where no primary comes up.
        (Standing::Copying, None, Some((since, true))) if since.elapsed() > election * 2 => {
            let others = consensus.others();
            let secondary = others
                .filter(|(_, peer)| peer.standing == Standing::Secondary)
                .max_by_key(|(_, peer)| peer.applied);
            secondary.map_or(Source::None, |(number, _)| Source::Copy(number))
        }
        _ => Source::None,
    }
}

/// Fetches and applies the operations after `after`; waits where there are none yet.
async fn pull(
    member: &Member,
    link: &mut Link,
    source: usize,
    after: OpTime,
) -> Result<(), FollowError> {
    let pulse = member.with(|state| state.consensus.pulse(after));
    let wait = member.config.heartbeat.min(LONGEST_WAIT);
    let mut command = doc! {
        "standInPull": &member.config.set,
        "waitMillis": i64::try_from(wait.as_millis()).unwrap_or(0),
    };
    command.extend(pulse.to_document());
    let answer = link.call(command, wait + ANSWER_LIMIT).await?;
    let pulse = accepted(&answer)?;
    let diverged = answer.get_bool("diverged").unwrap_or(false);
    let entries: Option<Vec<Entry>> =
        answer
            .get_array("entries")
            .map_or(Some(Vec::new()), |entries| {
                let entries = entries.iter();
                entries
                    .map(|entry| Entry::of(entry.as_document()?))
                    .collect()
            });
    let entries = entries.ok_or(FollowError::Answer)?;
    let committed = committed(&answer)?;
    member.with(|state| {
        let now = Instant::now();
        state.consensus.hear(pulse, now);
        let follows = state.consensus.standing == Standing::Secondary
            && state.consensus.primary == Some(source)
            && state.oplog.last() == after;
        if !follows {
            return;
        }
        if diverged {
            tracing::info!("this member's last operations are not the primary's: all is copied");
            state.consensus.begin_copy();
            state.copy = Some((now, false));
            return;
        }
        for entry in entries.into_iter().filter(|entry| entry.at > after) {
            for change in &entry.changes {
                state.store.apply(change);
            }
            if let Some(session) = &entry.session {
                state.store.remember(session.clone());
            }
            state.oplog.push(entry);
        }
        let known = committed.min(state.oplog.last());
        state.committed = state.committed.max(known);
    });
    Ok(())
}

/// Copies everything.
async fn copy(member: &Member, link: &mut Link) -> Result<(), FollowError> {
    let mut store = Store::default();
    let mut command = doc! { "standInCopy": &member.config.set };
    let (at, committed) = loop {
        let answer = link.call(command.clone(), ANSWER_LIMIT).await?;
        let pulse = accepted(&answer)?;
        member.with(|state| state.consensus.hear(pulse, Instant::now()));
        let changes = answer.get_array("changes").ok();
        let changes: Vec<Change> = changes
            .and_then(|changes| changes_of(changes))
            .ok_or(FollowError::Answer)?;
        changes.iter().for_each(|change| store.apply(change));
        let sessions = answer.get_array("sessions").ok();
        for session in sessions.into_iter().flatten() {
            let session = session.as_document().and_then(SessionWrite::of);
            store.remember(session.ok_or(FollowError::Answer)?);
        }
        if !answer.get_bool("more").unwrap_or(false) {
            let at = answer.get_document("at").ok().and_then(OpTime::of);
            break (at.ok_or(FollowError::Answer)?, committed(&answer)?);
        }
        command.insert("continue", true);
    };
    member.with(|state| {
        if let (Standing::Copying, Some((_, anew))) = (state.consensus.standing, state.copy) {
            state.store = store;
            state.oplog = Oplog::after_copy(at);
            state.committed = committed.min(at);
            state.cursors.clear();
            state.copy = None;
            state.consensus.end_copy(anew, Instant::now());
        }
    });
    Ok(())
}

/// What the source says of itself, where it did not refuse.
fn accepted(answer: &Document) -> Result<Pulse, FollowError> {
    match answer.get("ok").and_then(Bson::as_f64) {
        Some(1.0) => Pulse::of(answer).ok_or(FollowError::Answer),
        _ => {
            let message = answer.get_str("errmsg").unwrap_or("for no reason");
            Err(FollowError::Refused(message.to_owned()))
        }
    }
}

fn committed(answer: &Document) -> Result<OpTime, FollowError> {
    let committed = answer.get_document("committed").ok().and_then(OpTime::of);
    committed.ok_or(FollowError::Answer)
}
