//! Heartbeats: members tell each other what they are.

use std::time::Duration;

use bson::{Document, doc};
use tokio::time::{Instant, timeout};

use super::{Event, Member, Pulse, Standing};
use crate::link::Link;
use crate::oplog::OpTime;

/// Time between heartbeats while the set has not begun, and after a failure then.
const EAGER: Duration = Duration::from_millis(100);

impl Pulse {
    /// As members send it.
    pub(crate) fn to_document(self) -> Document {
        doc! {
            "from": i64::try_from(self.from).unwrap_or(i64::MAX),
            "state": self.standing.state().0,
            "term": self.term,
            "applied": self.applied.to_document(),
        }
    }

    /// Reads what [`to_document`](Self::to_document) wrote, from a document that may have more.
    pub(crate) fn of(document: &Document) -> Option<Self> {
        Some(Self {
            from: usize::try_from(document.get_i64("from").ok()?).ok()?,
            standing: Standing::of(document.get_i32("state").ok()?)?,
            term: document.get_i64("term").ok()?,
            applied: OpTime::of(document.get_document("applied").ok()?)?,
        })
    }
}

/// Tells the member `number` again and again what this one is, and hears what that one is. At once where
/// something has changed: others learn of a new primary by it.
pub(super) async fn beat(member: &Member, number: usize) {
    let mut link = Link::to(&member.config.members[number]);
    let mut changes = member.watch(Event::Topology);
    loop {
        changes.mark_unchanged();
        let (pulse, new) = member.with(|state| {
            let pulse = state.consensus.pulse(state.oplog.last());
            (pulse, state.consensus.is_new())
        });
        let mut command = doc! { "replSetHeartbeat": &member.config.set };
        command.extend(pulse.to_document());
        match link.call(command, member.config.election).await {
            Ok(answer) => {
                let heard = Pulse::of(&answer).filter(|heard| heard.from == number);
                if let Some(heard) = heard {
                    member.with(|state| state.consensus.hear(heard, Instant::now()));
                }
            }
            Err(error) => tracing::debug!(%error, number, "a heartbeat"),
        }
        let pause = if new { EAGER } else { member.config.heartbeat };
        // Either way it is time for the next.
        drop(timeout(pause.min(member.config.heartbeat), changes.changed()).await);
    }
}
