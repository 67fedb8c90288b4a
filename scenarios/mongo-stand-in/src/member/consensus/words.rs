//! What members are to their set, and what they say of themselves.

use std::time::Duration;

use crate::oplog::OpTime;

/// What a member is to its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not found its set yet, and has no data.
    Startup,
    /// It copies all data of another member.
    Copying,
    /// It follows a primary, or waits for one.
    Secondary,
    /// It takes writes.
    Primary,
}

impl Standing {
    /// The number that `replSetGetStatus` has for it, and the name (MongoDB manual, "Replica Set Member States").
    pub(crate) fn state(self) -> (i32, &'static str) {
        match self {
            Self::Startup => (0, "STARTUP"),
            Self::Copying => (5, "STARTUP2"),
            Self::Secondary => (2, "SECONDARY"),
            Self::Primary => (1, "PRIMARY"),
        }
    }

    pub(crate) fn of(state: i32) -> Option<Self> {
        let all = [Self::Startup, Self::Copying, Self::Secondary, Self::Primary];
        all.into_iter().find(|standing| standing.state().0 == state)
    }

    /// Whether it has the set's data, all but the latest.
    pub(crate) fn has_data(self) -> bool {
        matches!(self, Self::Secondary | Self::Primary)
    }
}

/// How long members wait: settings of the set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Between two heartbeats.
    pub(crate) heartbeat: Duration,
    /// Without a primary until an election, and without a majority until a primary steps down.
    pub(crate) election: Duration,
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Which member.
    pub(crate) from: usize,
    pub(crate) standing: Standing,
    pub(crate) term: i64,
    /// The last operation it has.
    pub(crate) applied: OpTime,
}

/// What a candidate asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidacy {
    pub(crate) from: usize,
    /// The term it would lead.
    pub(crate) term: i64,
    /// The last operation it has.
    pub(crate) applied: OpTime,
    /// Whether it only asks how the vote would go.
    pub(crate) dry_run: bool,
}
