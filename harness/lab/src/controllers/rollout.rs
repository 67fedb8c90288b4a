//! A rolling update, step by step. Pure: numbers in, numbers out.
//!
//! There is one new set of pods and any number of old ones. Each step either grows the new set or shrinks
//! old ones, such that there are never more pods than wanted plus the surge, and never fewer available
//! ones than wanted minus what may be unavailable.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A ReplicaSet, as a rollout sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// How many pods it is asked to have.
    pub(super) replicas: i32,
    /// How many of them are available.
    pub(super) available: i32,
}

/// How far a rollout may stray from the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    ScaleNew(i32),
    /// The new size of each old set, in their order.
    ScaleOld(Vec<i32>),
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    Up,
    Down,
}

impl Limits {
    /// Both limits cannot be zero: nothing would ever move.
    pub(super) fn new(
        wanted: i32,
        surge: Option<&IntOrString>,
        unavailable: Option<&IntOrString>,
    ) -> Self {
        let surge = surge.map_or(0, |share| part(share, wanted, Round::Up));
        let unavailable = unavailable.map_or(0, |share| part(share, wanted, Round::Down));
        let stuck = surge == 0 && unavailable == 0;
        Self {
            surge,
            unavailable: if stuck { 1 } else { unavailable.min(wanted) },
        }
    }
}

/// A count, or a percentage of `total`.
pub(super) fn part(share: &IntOrString, total: i32, round: Round) -> i32 {
    match share {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<i64>().unwrap_or(0);
            let hundredths = i64::from(total) * percent;
            let whole = match round {
                Round::Up => (hundredths + 99) / 100,
                Round::Down => hundredths / 100,
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// The next step of a rollout; `old` from the oldest to the newest.
pub(super) fn step(wanted: i32, new: Set, old: &[Set], limits: Limits) -> Step {
    let grown = grow(wanted, new, old, limits);
    if grown != new.replicas {
        return Step::ScaleNew(grown);
    }
    let shrunk = shrink(wanted, new, old, limits);
    if shrunk
        .iter()
        .zip(old)
        .any(|(after, before)| *after != before.replicas)
    {
        return Step::ScaleOld(shrunk);
    }
    Step::Nothing
}

fn grow(wanted: i32, new: Set, old: &[Set], limits: Limits) -> i32 {
    if new.replicas >= wanted {
        return wanted;
    }
    let total = new.replicas + sum(old, |set| set.replicas);
    let room = (wanted + limits.surge - total).max(0);
    new.replicas + room.min(wanted - new.replicas)
}

fn shrink(wanted: i32, new: Set, old: &[Set], limits: Limits) -> Vec<i32> {
    let mut sizes: Vec<_> = old.iter().map(|set| set.replicas).collect();
    let total = new.replicas + sum(old, |set| set.replicas);
    let least = wanted - limits.unavailable;
    let new_unavailable = new.replicas - new.available;
    let mut budget = total - least - new_unavailable;
    if budget <= 0 {
        return sizes;
    }
    // What does not serve can go first, and costs nothing.
    for (size, set) in sizes.iter_mut().zip(old) {
        let unhealthy = (set.replicas - set.available).clamp(0, budget);
        *size -= unhealthy;
        budget -= unhealthy;
    }
    let available = new.available + sum(old, |set| set.available);
    let mut spare = (available - least).max(0);
    for (size, set) in sizes.iter_mut().zip(old) {
        let gone = (*size).min(spare).min(set.available);
        *size -= gone;
        spare -= gone;
    }
    sizes
}

/// Divides a new total among sets in proportion to their sizes, when a rollout is under way and the wanted
/// number changes. The largest take what is left over.
pub(super) fn proportionally(sizes: &[i32], total: i32) -> Vec<i32> {
    let before: i32 = sizes.iter().sum();
    if before == 0 {
        return sizes.to_vec();
    }
    let share = |size: &i32| {
        let share = i64::from(*size) * i64::from(total) / i64::from(before);
        i32::try_from(share).unwrap_or(i32::MAX)
    };
    let mut shares: Vec<_> = sizes.iter().map(share).collect();
    let mut by_size: Vec<_> = (0..sizes.len()).collect();
    by_size.sort_by_key(|index| std::cmp::Reverse(sizes[*index]));
    let left = total - shares.iter().sum::<i32>();
    for index in by_size
        .into_iter()
        .cycle()
        .take(usize::try_from(left).unwrap_or(0))
    {
        shares[index] += 1;
    }
    shares
}

fn sum(sets: &[Set], of: impl Fn(&Set) -> i32) -> i32 {
    sets.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn percent(text: &str) -> IntOrString {
        IntOrString::String(text.to_owned())
    }

    #[test]
    fn limits_round_to_the_safe_side() {
        let limits = Limits::new(10, Some(&percent("25%")), Some(&percent("25%")));
        assert_eq!(
            limits,
            Limits {
                surge: 3,
                unavailable: 2
            }
        );
        let limits = Limits::new(1, Some(&IntOrString::Int(0)), Some(&percent("25%")));
        assert_eq!(
            limits,
            Limits {
                surge: 0,
                unavailable: 1
            }
        );
    }

    #[test]
    fn the_default_rollout_of_two_goes_one_by_one() {
        let limits = Limits {
            surge: 1,
            unavailable: 0,
        };
        let old = [Set {
            replicas: 2,
            available: 2,
        }];
        let new = Set::default();
        assert_eq!(step(2, new, &old, limits), Step::ScaleNew(1));
        let starting = Set {
            replicas: 1,
            available: 0,
        };
        assert_eq!(step(2, starting, &old, limits), Step::Nothing);
        let started = Set {
            replicas: 1,
            available: 1,
        };
        assert_eq!(step(2, started, &old, limits), Step::ScaleOld(vec![1]));
    }

    #[test]
    fn a_new_total_is_divided_in_proportion() {
        assert_eq!(proportionally(&[3, 1], 8), [6, 2]);
        assert_eq!(proportionally(&[2, 1], 4), [3, 1]);
        assert_eq!(proportionally(&[0], 4), [0]);
    }

    proptest! {
        #[test]
        fn a_rollout_keeps_its_limits_and_ends(
            wanted in 0..12_i32,
            old in proptest::collection::vec(0..8_i32, 0..3),
            surge in 0..4_i32,
            unavailable in 0..4_i32,
        ) {
            let (surge_share, unavailable_share) =
                (IntOrString::Int(surge), IntOrString::Int(unavailable));
            let limits = Limits::new(wanted, Some(&surge_share), Some(&unavailable_share));
            let mut old: Vec<_> =
                old.into_iter().map(|size| Set { replicas: size, available: size }).collect();
            let mut new = Set::default();
            let start: i32 = old.iter().map(|set| set.replicas).sum();
            for _ in 0..200 {
                match step(wanted, new, &old, limits) {
                    Step::ScaleNew(size) => new.replicas = size,
                    Step::ScaleOld(sizes) => {
                        for (set, size) in old.iter_mut().zip(sizes) {
                            set.replicas = size;
                            set.available = set.available.min(size);
                        }
                    }
                    // Only now do the new pods begin to serve.
                    Step::Nothing if new.available < new.replicas => new.available += 1,
                    Step::Nothing => break,
                }
                let total = new.replicas + sum(&old, |set| set.replicas);
                prop_assert!(total <= (wanted + limits.surge).max(start));
                let available = new.available + sum(&old, |set| set.available);
                prop_assert!(available >= (wanted - limits.unavailable).min(start));
            }
            prop_assert_eq!(new, Set { replicas: wanted, available: wanted });
            prop_assert!(old.iter().all(|set| set.replicas == 0));
        }

        #[test]
        fn proportional_shares_add_up(
            sizes in proptest::collection::vec(1..20_i32, 1..5), total in 0..100_i32,
        ) {
            prop_assert_eq!(proportionally(&sizes, total).iter().sum::<i32>(), total);
        }
    }
}
