//! What a job does next. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{backoff, ranges};

/// What a job asks for, and what was counted of it before.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// None: it is complete when one pod succeeded and none is left.
    pub(super) completions: Option<usize>,
    pub(super) parallelism: usize,
    pub(super) backoff_limit: usize,
    pub(super) indexed: bool,
    pub(super) suspended: bool,
    pub(super) deadline: Option<Timestamp>,
    /// Pods that succeeded and failed, by the last count: some of them may be deleted by now.
    pub(super) counted: (usize, usize),
    pub(super) now: Timestamp,
}

/// A pod of the job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Member {
    pub(super) succeeded: bool,
    pub(super) failed: bool,
    pub(super) ends: bool,
    pub(super) index: Option<usize>,
    /// How often its containers were started again.
    pub(super) restarts: usize,
    pub(super) ended: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Running,
    Complete,
    TooManyFailures,
    TooLate,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) outcome: Outcome,
    pub(super) succeeded: usize,
    pub(super) failed: usize,
    pub(super) completed_indexes: Option<String>,
    /// The pods to delete, by their place in the list.
    pub(super) delete: Vec<usize>,
    /// The pods to make, with their numbers in an indexed job.
    pub(super) create: Vec<Option<usize>>,
    /// When to look again if nothing changes.
    pub(super) again: Option<Timestamp>,
}

impl Member {
    pub(super) fn is_active(&self) -> bool {
        !self.succeeded && !self.failed && !self.ends
    }
}

pub(super) fn next(wanted: &Wanted, members: &[Member]) -> Plan {
    let done: BTreeSet<_> = members
        .iter()
        .filter(|it| it.succeeded)
        .filter_map(|it| it.index)
        .collect();
    let succeeded = if wanted.indexed {
        done.len()
    } else {
        members.iter().filter(|member| member.succeeded).count()
    };
    let succeeded = succeeded.max(wanted.counted.0);
    let failed = members
        .iter()
        .filter(|member| member.failed)
        .count()
        .max(wanted.counted.1);
    let active: Vec<_> = (0..members.len())
        .filter(|index| members[*index].is_active())
        .collect();
    let mut plan = Plan {
        outcome: outcome(wanted, members, succeeded, failed, active.len()),
        succeeded,
        failed,
        completed_indexes: wanted
            .indexed
            .then(|| ranges(&done))
            .filter(|text| !text.is_empty()),
        delete: Vec::new(),
        create: Vec::new(),
        again: wanted.deadline,
    };
    if plan.outcome != Outcome::Running || wanted.suspended {
        plan.again = None;
        plan.delete = active;
        return plan;
    }
    let room = room(wanted, succeeded, active.len());
    plan.delete = active
        .iter()
        .rev()
        .take(active.len().saturating_sub(room))
        .copied()
        .collect();
    let missing = room.saturating_sub(active.len());
    if missing == 0 {
        return plan;
    }
    if let Some(at) = pause(wanted, members, failed) {
        plan.again = Some(plan.again.map_or(at, |again| again.min(at)));
        return plan;
    }
    plan.create = if wanted.indexed {
        let taken: BTreeSet<_> = active
            .iter()
            .filter_map(|index| members[*index].index)
            .collect();
        let all = 0..wanted.completions.unwrap_or(0);
        let free = all.filter(|index| !done.contains(index) && !taken.contains(index));
        free.take(missing).map(Some).collect()
    } else {
        vec![None; missing]
    };
    plan
}

fn outcome(
    wanted: &Wanted,
    members: &[Member],
    succeeded: usize,
    failed: usize,
    active: usize,
) -> Outcome {
    let restarts: usize = members
        .iter()
        .filter(|it| it.is_active())
        .map(|it| it.restarts)
        .sum();
    if failed > wanted.backoff_limit || (restarts > 0 && restarts > wanted.backoff_limit) {
        return Outcome::TooManyFailures;
    }
    if wanted
        .deadline
        .is_some_and(|deadline| deadline <= wanted.now)
    {
        return Outcome::TooLate;
    }
    let complete = match wanted.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && active == 0,
    };
    if complete {
        Outcome::Complete
    } else {
        Outcome::Running
    }
}

/// How many pods may be active at once.
fn room(wanted: &Wanted, succeeded: usize, active: usize) -> usize {
    match wanted.completions {
        Some(completions) => wanted
            .parallelism
            .min(completions.saturating_sub(succeeded)),
        // Once one succeeded the others only finish.
        None if succeeded > 0 => active.min(wanted.parallelism),
        None => wanted.parallelism,
    }
}

/// After a failure, the time before which no other pod is made.
fn pause(wanted: &Wanted, members: &[Member], failed: usize) -> Option<Timestamp> {
    let last = members
        .iter()
        .filter(|it| it.failed)
        .filter_map(|it| it.ended)
        .max()?;
    let until = last
        .saturating_add(backoff(failed))
        .unwrap_or(Timestamp::MAX);
    (until > wanted.now).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    const ACTIVE: Member = Member {
        succeeded: false,
        failed: false,
        ends: false,
        index: None,
        restarts: 0,
        ended: None,
    };
    const SUCCEEDED: Member = Member {
        succeeded: true,
        ..ACTIVE
    };
    const FAILED: Member = Member {
        failed: true,
        ..ACTIVE
    };

    fn wanted() -> Wanted {
        Wanted {
            completions: Some(3),
            parallelism: 2,
            backoff_limit: 1,
            indexed: false,
            suspended: false,
            deadline: None,
            counted: (0, 0),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn pods_are_made_until_enough_have_succeeded() {
        assert_eq!(next(&wanted(), &[]).create.len(), 2);
        assert_eq!(next(&wanted(), &[ACTIVE, SUCCEEDED]).create.len(), 1);
        let last = next(&wanted(), &[SUCCEEDED, SUCCEEDED, ACTIVE]);
        assert_eq!((last.create.len(), last.outcome), (0, Outcome::Running));
        let all = next(&wanted(), &[SUCCEEDED, SUCCEEDED, SUCCEEDED]);
        assert_eq!(all.outcome, Outcome::Complete);
    }

    #[test]
    fn counted_pods_count_even_if_they_were_deleted() {
        let wanted = Wanted {
            counted: (3, 0),
            ..wanted()
        };
        assert_eq!(next(&wanted, &[]).outcome, Outcome::Complete);
    }

    #[test]
    fn failures_are_tried_again_after_a_while_and_not_for_ever() {
        let failed = Member {
            ended: Some(Timestamp::UNIX_EPOCH),
            ..FAILED
        };
        let plan = next(&wanted(), &[failed]);
        assert_eq!((plan.create.len(), plan.outcome), (0, Outcome::Running));
        let again = plan.again.unwrap();
        assert_eq!(again, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(10));
        let later = Wanted {
            now: again,
            ..wanted()
        };
        assert_eq!(next(&later, &[failed]).create.len(), 2);
        let plan = next(&wanted(), &[failed, failed, ACTIVE]);
        assert_eq!(
            (plan.outcome, plan.delete),
            (Outcome::TooManyFailures, vec![2])
        );
    }

    #[test]
    fn an_indexed_job_completes_each_number_once() {
        let wanted = Wanted {
            indexed: true,
            ..wanted()
        };
        let first = Member {
            index: Some(0),
            ..SUCCEEDED
        };
        let again = Member {
            index: Some(0),
            ..SUCCEEDED
        };
        let third = Member {
            index: Some(2),
            ..ACTIVE
        };
        let plan = next(&wanted, &[first, again, third]);
        assert_eq!(plan.create, [Some(1)]);
        assert_eq!(
            (plan.succeeded, plan.completed_indexes.as_deref()),
            (1, Some("0"))
        );
    }

    #[test]
    fn a_suspended_or_late_job_has_no_active_pods() {
        let suspended = Wanted {
            suspended: true,
            ..wanted()
        };
        assert_eq!(next(&suspended, &[ACTIVE]).delete, [0]);
        let late = Wanted {
            deadline: Some(Timestamp::UNIX_EPOCH),
            ..wanted()
        };
        let plan = next(&late, &[ACTIVE]);
        assert_eq!((plan.outcome, plan.delete), (Outcome::TooLate, vec![0]));
    }

    #[test]
    fn numbers_are_shown_as_ranges() {
        assert_eq!(ranges(&[0, 2, 3, 4, 7, 8].into()), "0,2-4,7,8");
    }

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        let seconds: Vec<_> = [1, 2, 3, 20]
            .map(|failures| backoff(failures).as_secs())
            .into();
        assert_eq!(seconds, [10, 20, 40, 600]);
    }
}
