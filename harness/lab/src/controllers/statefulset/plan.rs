//! Which pods of a StatefulSet to make or delete next. Pure.
//!
//! One by one, a pod is only made when all before it are healthy, and only deleted when all that stay are.
//! An update replaces pods from the last to the first, each when the one after it is healthy.

use std::{collections::BTreeMap, ops::Range};

/// What a StatefulSet asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) ordinals: Range<i32>,
    pub(super) order: Order,
    /// The first pod that an update replaces; none if the user deletes pods to update them.
    pub(super) update_from: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    OneByOne,
    Parallel,
}

/// A pod that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    /// It is being deleted.
    pub(super) ends: bool,
    /// It has ended by itself, and must be made anew.
    pub(super) failed: bool,
    pub(super) healthy: bool,
    /// It is of the newest revision.
    pub(super) updated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create(i32),
    Delete(i32),
}

/// What to do next; nothing while something must be waited for.
pub(super) fn next(wanted: &Wanted, present: &BTreeMap<i32, Replica>) -> Vec<Action> {
    let one_by_one = wanted.order == Order::OneByOne;
    let mut actions = Vec::new();
    for ordinal in wanted.ordinals.clone() {
        match present.get(&ordinal) {
            None => actions.push(Action::Create(ordinal)),
            Some(replica) if replica.failed && !replica.ends => {
                actions.push(Action::Delete(ordinal));
            }
            Some(replica) if replica.healthy => continue,
            Some(_) => {}
        }
        if one_by_one {
            return actions;
        }
    }
    let condemned = present
        .iter()
        .rev()
        .filter(|(it, _)| !wanted.ordinals.contains(it));
    for (ordinal, replica) in condemned {
        if !replica.ends {
            actions.push(Action::Delete(*ordinal));
        }
        if one_by_one {
            return actions;
        }
    }
    if actions.is_empty() {
        actions.extend(next_update(wanted, present));
    }
    actions
}

fn next_update(wanted: &Wanted, present: &BTreeMap<i32, Replica>) -> Option<Action> {
    let from = wanted.update_from?;
    for ordinal in wanted
        .ordinals
        .clone()
        .rev()
        .filter(|ordinal| *ordinal >= from)
    {
        let replica = present.get(&ordinal)?;
        if replica.ends {
            return None;
        }
        if !replica.updated {
            return Some(Action::Delete(ordinal));
        }
        if !replica.healthy {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEALTHY: Replica = Replica {
        ends: false,
        failed: false,
        healthy: true,
        updated: true,
    };
    const STARTING: Replica = Replica {
        healthy: false,
        ..HEALTHY
    };
    const OLD: Replica = Replica {
        updated: false,
        ..HEALTHY
    };

    fn wanted(replicas: i32, order: Order) -> Wanted {
        Wanted {
            ordinals: 0..replicas,
            order,
            update_from: Some(0),
        }
    }

    fn present(replicas: &[Replica]) -> BTreeMap<i32, Replica> {
        (0..).zip(replicas.iter().copied()).collect()
    }

    #[test]
    fn pods_are_made_one_after_the_other_is_healthy() {
        let wanted = wanted(3, Order::OneByOne);
        assert_eq!(next(&wanted, &present(&[])), [Action::Create(0)]);
        assert_eq!(next(&wanted, &present(&[STARTING])), []);
        assert_eq!(next(&wanted, &present(&[HEALTHY])), [Action::Create(1)]);
    }

    #[test]
    fn in_parallel_all_are_made_and_deleted_at_once() {
        let all = [Action::Create(0), Action::Create(1)];
        assert_eq!(next(&wanted(2, Order::Parallel), &present(&[])), all);
        let actions = next(&wanted(0, Order::Parallel), &present(&[HEALTHY, STARTING]));
        assert_eq!(actions, [Action::Delete(1), Action::Delete(0)]);
    }

    #[test]
    fn pods_are_deleted_from_the_last_and_each_is_waited_for() {
        let wanted = wanted(1, Order::OneByOne);
        let three = present(&[HEALTHY, HEALTHY, HEALTHY]);
        assert_eq!(next(&wanted, &three), [Action::Delete(2)]);
        let ending = present(&[
            HEALTHY,
            HEALTHY,
            Replica {
                ends: true,
                ..STARTING
            },
        ]);
        assert_eq!(next(&wanted, &ending), []);
    }

    #[test]
    fn an_update_goes_from_the_last_to_the_partition() {
        let mut wanted = wanted(3, Order::OneByOne);
        assert_eq!(
            next(&wanted, &present(&[OLD, OLD, OLD])),
            [Action::Delete(2)]
        );
        assert_eq!(
            next(&wanted, &present(&[OLD, OLD, HEALTHY])),
            [Action::Delete(1)]
        );
        assert_eq!(next(&wanted, &present(&[OLD, OLD, STARTING])), []);
        wanted.update_from = Some(2);
        assert_eq!(next(&wanted, &present(&[OLD, OLD, HEALTHY])), []);
        wanted.update_from = None;
        assert_eq!(next(&wanted, &present(&[OLD, OLD, OLD])), []);
    }

    #[test]
    fn a_pod_that_ended_is_made_anew() {
        let failed = Replica {
            failed: true,
            ..STARTING
        };
        let wanted = wanted(1, Order::OneByOne);
        assert_eq!(next(&wanted, &present(&[failed])), [Action::Delete(0)]);
    }

    proptest! {
        #[test]
        fn every_set_reaches_what_it_asks_for(
            replicas in 0..6_i32,
            parallel in any::<bool>(),
            start in proptest::collection::vec(any::<(bool, bool)>(), 0..6),
        ) {
            let order = if parallel { Order::Parallel } else { Order::OneByOne };
            let wanted = wanted(replicas, order);
            let start: Vec<_> = start
                .into_iter()
                .map(|(healthy, updated)| Replica { healthy, updated, ..HEALTHY })
                .collect();
            let mut present = present(&start);
            for _ in 0..100 {
                for action in next(&wanted, &present) {
                    match action {
                        Action::Create(ordinal) => {
                            prop_assert_eq!(present.insert(ordinal, STARTING), None);
                        }
                        Action::Delete(ordinal) => {
                            let replica = present.get_mut(&ordinal).unwrap();
                            prop_assert!(!replica.ends);
                            replica.ends = true;
                        }
                    }
                }
                // Time passes: what ends is gone, what started serves.
                present.retain(|_, replica| !replica.ends);
                present.values_mut().for_each(|replica| replica.healthy = true);
            }
            let expected: BTreeMap<_, _> = (0..replicas).map(|it| (it, HEALTHY)).collect();
            prop_assert_eq!(present, expected);
        }
    }
}
