//! Who is primary, and what is committed: terms, votes and majorities, without any I/O. Time is an argument.
//!
//! The protocol is Raft with members that pull, as MongoDB's is (S. Zhou and S. Mu, "Fault-Tolerant Replication
//! with Pull-Based Consensus in MongoDB", NSDI 2021). A majority elects one primary a term, among those whose
//! log is not behind that of any who vote for it; an operation is committed once a majority has it that knows of
//! no later term. As data is in memory here, a member that was started again has forgotten its votes: it copies
//! the data of another before anything else, and abstains for one election timeout.

mod words;

use std::time::Duration;

use tokio::time::Instant;

use crate::oplog::OpTime;

pub(crate) use words::{Candidacy, Pulse, Standing, Timing};

/// How late an election may be at random, as a share of its timeout: MongoDB's own.
const SPREAD: f64 = 0.15;

/// What is known of another member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// When it was last heard of.
    pub(crate) heard: Option<Instant>,
    pub(crate) standing: Standing,
    pub(crate) term: i64,
    pub(crate) applied: OpTime,
    /// The last operation that it said to have in the term that this member leads.
    acknowledged: OpTime,
}

/// What a member that looks for its place has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has one, or must look on.
    Found,
    /// It copies the data of others now.
    Copies,
}

/// One member's part.
#[derive(Debug)]
pub(crate) struct Consensus {
    pub(crate) me: usize,
    pub(crate) standing: Standing,
    pub(crate) term: i64,
    pub(crate) primary: Option<usize>,
    /// By number; the one at `me` is not used.
    pub(crate) peers: Vec<Peer>,
    timing: Timing,
    /// The last term in which it voted.
    voted_in: i64,
    election_due: Instant,
    frozen_until: Instant,
    abstains_until: Instant,
    led_since: Instant,
}

impl Consensus {
    /// A member that was just started.
    pub(crate) fn new(me: usize, members: usize, timing: Timing, now: Instant) -> Self {
        let unknown = Peer {
            heard: None,
            standing: Standing::Startup,
            term: 0,
            applied: OpTime::NONE,
            acknowledged: OpTime::NONE,
        };
        Self {
            me,
            standing: Standing::Startup,
            term: 0,
            primary: None,
            peers: vec![unknown; members],
            timing,
            voted_in: 0,
            election_due: now,
            frozen_until: now,
            abstains_until: now,
            led_since: now,
        }
    }

    /// What this member says of itself.
    pub(crate) fn pulse(&self, applied: OpTime) -> Pulse {
        Pulse {
            from: self.me,
            standing: self.standing,
            term: self.term,
            applied,
        }
    }

    /// Takes in what another member says of itself.
    pub(crate) fn hear(&mut self, pulse: Pulse, now: Instant) {
        let Some(peer) = self.peers.get_mut(pulse.from) else {
            return;
        };
        peer.heard = Some(now);
        peer.standing = pulse.standing;
        peer.term = pulse.term;
        peer.applied = pulse.applied;
        self.learn_term(pulse.term, now);
        if pulse.standing == Standing::Primary && pulse.term == self.term {
            self.primary = Some(pulse.from);
            self.postpone(now);
        } else if self.primary == Some(pulse.from) {
            self.primary = None;
        }
    }

    /// Takes in that there is a term: whoever leads an earlier one does no longer.
    pub(crate) fn learn_term(&mut self, term: i64, now: Instant) {
        if term > self.term {
            self.term = term;
            if self.standing == Standing::Primary {
                self.stand_down(Duration::ZERO, now);
            }
            self.primary = None;
        }
    }

    /// Takes in which operation another member has, as it says in its `term`.
    pub(crate) fn acknowledge(&mut self, from: usize, at: OpTime, term: i64, now: Instant) {
        self.learn_term(term, now);
        // Who knows of a later term may have voted in it: what it has is not for this primary to count.
        if self.standing == Standing::Primary
            && term == self.term
            && let Some(peer) = self.peers.get_mut(from)
        {
            peer.heard = Some(now);
            peer.applied = at;
            peer.acknowledged = at;
        }
    }

    /// The last operation that a majority has, where this member, whose own last one is `applied`, leads and
    /// can tell: one of its own term.
    pub(crate) fn committed(&self, applied: OpTime) -> Option<OpTime> {
        let mut have: Vec<OpTime> = self.others().map(|(_, peer)| peer.acknowledged).collect();
        have.push(applied);
        have.sort_unstable_by(|a, b| b.cmp(a));
        let by_majority = have.get(self.majority() - 1).copied()?;
        let leads = self.standing == Standing::Primary;
        (leads && by_majority.term == self.term).then_some(by_majority)
    }

    /// How many members, itself counted, have the operation `at`, whose primary this member is.
    pub(crate) fn holders(&self, at: OpTime) -> usize {
        1 + self
            .others()
            .filter(|(_, peer)| peer.acknowledged >= at)
            .count()
    }

    /// Whether this member, whose last operation is `applied`, votes for a candidate; and remembers that it did.
    pub(crate) fn vote(&mut self, candidacy: Candidacy, applied: OpTime, now: Instant) -> bool {
        let Candidacy { from, term, .. } = candidacy;
        if !self.standing.has_data() || from == self.me || from >= self.peers.len() {
            return false;
        }
        if !candidacy.dry_run {
            self.learn_term(term, now);
        }
        let may = term >= self.term
            && term > self.voted_in
            && candidacy.applied >= applied
            && now >= self.abstains_until;
        if candidacy.dry_run {
            // Who hears of a primary sees no need for another.
            return may && term > self.term && !self.follows(now);
        }
        if may {
            self.voted_in = term;
            self.postpone(now);
        }
        may
    }

    /// Whether it is time for this member to ask for votes.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.may_stand(now) && now >= self.election_due
    }

    /// Whether this member may ask for votes.
    pub(crate) fn may_stand(&self, now: Instant) -> bool {
        self.standing == Standing::Secondary
            && now >= self.frozen_until
            && now >= self.abstains_until
    }

    /// Puts the next election off: after a primary was heard, or a vote was asked for.
    pub(crate) fn postpone(&mut self, now: Instant) {
        let late = self.timing.election.mul_f64(SPREAD * rand::random::<f64>());
        self.election_due = now + self.timing.election + late;
    }

    /// Begins a new term as its candidate, with its own vote, and says which term it is.
    pub(crate) fn stand(&mut self, now: Instant) -> i64 {
        self.term += 1;
        self.voted_in = self.term;
        self.primary = None;
        self.postpone(now);
        self.term
    }

    /// Takes in that a majority voted for this member in `term`; says whether that still counts.
    pub(crate) fn win(&mut self, term: i64, now: Instant) -> bool {
        if self.standing != Standing::Secondary || self.term != term {
            return false;
        }
        self.standing = Standing::Primary;
        self.primary = Some(self.me);
        self.led_since = now;
        for peer in &mut self.peers {
            peer.acknowledged = OpTime::NONE;
        }
        true
    }

    /// A primary steps down, and asks for no votes for a while.
    pub(crate) fn stand_down(&mut self, frozen: Duration, now: Instant) {
        self.standing = Standing::Secondary;
        self.primary = None;
        self.frozen_until = now + frozen;
        self.postpone(now);
    }

    /// Asks for no votes for a while; zero ends that.
    pub(crate) fn freeze(&mut self, time: Duration, now: Instant) {
        self.frozen_until = now + time;
        if time.is_zero() {
            self.election_due = self.election_due.min(now + self.timing.heartbeat);
        }
    }

    /// A member that was just started looks for its place. Where all are new the set begins, with no data: the
    /// first member says so, the others follow it. Where any has data, that is copied.
    pub(crate) fn find_place(&mut self, now: Instant) -> Place {
        if self.standing != Standing::Startup {
            return Place::Found;
        }
        let begins = |peer: &Peer| {
            let new = peer.standing == Standing::Startup
                || (peer.standing == Standing::Secondary && peer.term == 0);
            peer.heard.is_some() && new
        };
        let leads = self.me == 0 || self.others().any(|(_, peer)| peer.standing.has_data());
        if self.others().all(|(_, peer)| begins(peer)) {
            if leads {
                self.initiate(now);
            }
            return Place::Found;
        }
        let in_use = |peer: &Peer| peer.standing.has_data() && peer.term > 0;
        if self.others().any(|(_, peer)| in_use(peer)) {
            self.begin_copy();
            return Place::Copies;
        }
        Place::Found
    }

    /// The set begins: this member has its data, which is nothing.
    fn initiate(&mut self, now: Instant) {
        self.standing = Standing::Secondary;
        self.postpone(now);
    }

    /// Whether this member is the one to lead a set that has just begun, without waiting for a timeout.
    pub(crate) fn leads_the_beginning(&self) -> bool {
        let ready = |peer: &Peer| peer.standing == Standing::Secondary && peer.term == 0;
        let begins = self.standing == Standing::Secondary && self.term == 0 && self.me == 0;
        begins && self.others().all(|(_, peer)| ready(peer))
    }

    /// Whether members should hear of each other often: the set has not begun.
    pub(crate) fn is_new(&self) -> bool {
        self.standing == Standing::Startup || self.term == 0
    }

    /// Begins to copy the data of another.
    pub(crate) fn begin_copy(&mut self) {
        self.standing = Standing::Copying;
        self.primary = self.primary.filter(|primary| *primary != self.me);
    }

    /// Has copied the data of another; `anew` where it had none, and so has forgotten how it voted.
    pub(crate) fn end_copy(&mut self, anew: bool, now: Instant) {
        self.standing = Standing::Secondary;
        self.postpone(now);
        if anew {
            self.abstains_until = now + self.timing.election;
        }
    }

    /// A primary that has not heard of a majority for an election timeout steps down; a secondary that has not
    /// heard of its primary for that long has none. Says whether anything changed.
    pub(crate) fn look(&mut self, now: Instant) {
        match self.standing {
            Standing::Primary => {
                let long_ago = |at: Instant| now.duration_since(at) > self.timing.election;
                let heard = self.others().filter(|(_, peer)| {
                    let heard = peer.heard.unwrap_or(self.led_since).max(self.led_since);
                    !long_ago(heard)
                });
                if heard.count() + 1 < self.majority() {
                    self.stand_down(Duration::ZERO, now);
                }
            }
            _ if self.primary.is_some() && !self.follows(now) => self.primary = None,
            _ => {}
        }
    }

    /// How many members are more than half.
    pub(crate) fn majority(&self) -> usize {
        self.peers.len() / 2 + 1
    }

    /// The other members, by number.
    pub(crate) fn others(&self) -> impl Iterator<Item = (usize, &Peer)> {
        let peers = self.peers.iter().enumerate();
        peers.filter(|(number, _)| *number != self.me)
    }

    /// Whether a primary was heard within an election timeout.
    fn follows(&self, now: Instant) -> bool {
        let heard = self.primary.map(|primary| {
            primary == self.me
                || self.peers[primary]
                    .heard
                    .is_some_and(|at| now.duration_since(at) <= self.timing.election)
        });
        heard == Some(true)
    }
}

#[cfg(test)]
mod tests;
