//! Elections, carried out: when it is time, members are asked for their votes.

use std::time::Duration;

use bson::{Document, doc};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::consensus::Place;
use super::{Candidacy, Member};
use crate::link::Link;
use crate::oplog::OpTime;

/// How often a member looks whether it is time for something.
const LOOK: Duration = Duration::from_millis(20);

impl Candidacy {
    /// As members send it.
    pub(crate) fn to_document(self, set: &str) -> Document {
        doc! {
            "replSetRequestVotes": set,
            "candidateIndex": i64::try_from(self.from).unwrap_or(i64::MAX),
            "term": self.term,
            "lastAppliedOpTime": self.applied.to_document(),
            "dryRun": self.dry_run,
        }
    }

    /// Reads what [`to_document`](Self::to_document) wrote.
    pub(crate) fn of(document: &Document) -> Option<Self> {
        Some(Self {
            from: usize::try_from(document.get_i64("candidateIndex").ok()?).ok()?,
            term: document.get_i64("term").ok()?,
            applied: OpTime::of(document.get_document("lastAppliedOpTime").ok()?)?,
            dry_run: document.get_bool("dryRun").ok()?,
        })
    }
}

/// Looks again and again whether it is time for this member to find its place, to step down or to stand.
pub(super) async fn watch_over(member: &Member) {
    loop {
        let (due, first) = member.with(|state| {
            let now = Instant::now();
            state.consensus.look(now);
            if state.consensus.find_place(now) == Place::Copies {
                state.copy = Some((now, true));
            }
            let first = state.consensus.leads_the_beginning();
            (state.consensus.is_due(now), first)
        });
        if first || (due && would_win(member).await) {
            campaign(member).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a majority would vote for this member: asked first, so that one that was cut off for a while does
/// not end the term of a primary that all others are content with.
async fn would_win(member: &Member) -> bool {
    let candidacy = member.with(|state| {
        state.consensus.postpone(Instant::now());
        Candidacy {
            from: state.consensus.me,
            term: state.consensus.term + 1,
            applied: state.oplog.last(),
            dry_run: true,
        }
    });
    is_elected(member, candidacy).await
}

/// Stands for election in a new term; says whether it was won.
pub(crate) async fn campaign(member: &Member) -> bool {
    let candidacy = member.with(|state| {
        let now = Instant::now();
        state.consensus.may_stand(now).then(|| Candidacy {
            from: state.consensus.me,
            term: state.consensus.stand(now),
            applied: state.oplog.last(),
            dry_run: false,
        })
    });
    let Some(candidacy) = candidacy else {
        return false;
    };
    let elected = is_elected(member, candidacy).await;
    let won = elected
        && member.with(|state| {
            let won = state.consensus.win(candidacy.term, Instant::now());
            if won {
                // Only operations of its own term tell a primary what is committed: here is one.
                state.log(Vec::new(), None);
            }
            won
        });
    tracing::info!(term = candidacy.term, won, "an election");
    won
}

/// Asks all others at once, and is content with a majority.
async fn is_elected(member: &Member, candidacy: Candidacy) -> bool {
    let me = member.config.me;
    let needed = member.with(|state| state.consensus.majority());
    let others = member.config.members.iter().enumerate();
    let mut asked: FuturesUnordered<_> = others
        .filter(|(number, _)| *number != me)
        .map(|(_, address)| async move {
            let command = candidacy.to_document(&member.config.set);
            Link::to(address)
                .call(command, member.config.election)
                .await
        })
        .collect();
    let mut votes = 1;
    while votes < needed {
        let Some(answer) = asked.next().await else {
            return false;
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "asking for a vote");
                continue;
            }
        };
        if let Ok(term) = answer.get_i64("term") {
            member.with(|state| state.consensus.learn_term(term, Instant::now()));
        }
        if answer.get_bool("voteGranted").unwrap_or(false) {
            votes += 1;
        }
    }
    true
}
