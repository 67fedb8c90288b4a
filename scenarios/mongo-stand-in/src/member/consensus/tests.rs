//! Elections and commits under a clock and a network of the test's own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const TIMING: Timing = Timing {
    heartbeat: Duration::from_secs(2),
    election: Duration::from_secs(10),
};

const THREE: usize = 3;

fn at(term: i64, second: u32) -> OpTime {
    OpTime {
        term,
        time: (second, 1),
    }
}

fn members(now: Instant) -> Vec<Consensus> {
    let start = |me| {
        let mut member = Consensus::new(me, THREE, TIMING, now);
        member.initiate(now);
        member
    };
    (0..THREE).map(start).collect()
}

/// An election of `candidate` in which those of `voters` are reached; says whether it won.
fn election(
    set: &mut [Consensus],
    candidate: usize,
    voters: &[usize],
    logs: &[OpTime],
    now: Instant,
) -> bool {
    let term = set[candidate].stand(now);
    let asked = Candidacy {
        from: candidate,
        term,
        applied: logs[candidate],
        dry_run: false,
    };
    let others = voters.iter().filter(|voter| **voter != candidate);
    let votes = others
        .filter(|voter| set[**voter].vote(asked, logs[**voter], now))
        .count();
    votes + 1 >= set[candidate].majority() && set[candidate].win(term, now)
}

#[test]
fn one_vote_a_term_and_none_for_who_is_behind() {
    let now = Instant::now();
    let mut set = members(now);
    let candidacy = |from, term, applied| Candidacy {
        from,
        term,
        applied,
        dry_run: false,
    };
    assert!(
        !set[2].vote(candidacy(0, 1, at(0, 1)), at(0, 2), now),
        "behind"
    );
    assert!(set[2].vote(candidacy(0, 1, at(0, 2)), at(0, 2), now));
    assert!(
        !set[2].vote(candidacy(1, 1, at(0, 2)), at(0, 2), now),
        "twice"
    );
    assert!(set[2].vote(candidacy(1, 2, at(0, 2)), at(0, 2), now));
    assert!(
        !set[2].vote(candidacy(0, 1, at(0, 9)), at(0, 2), now),
        "an old term"
    );
}

#[test]
fn who_only_asks_changes_nothing_and_who_has_a_primary_wants_no_other() {
    let now = Instant::now();
    let mut set = members(now);
    let asked = Candidacy {
        from: 0,
        term: 1,
        applied: OpTime::NONE,
        dry_run: true,
    };
    assert!(set[2].vote(asked, OpTime::NONE, now));
    assert_eq!((set[2].term, set[2].voted_in), (0, 0));
    set[2].hear(
        Pulse {
            from: 1,
            standing: Standing::Primary,
            term: 0,
            applied: OpTime::NONE,
        },
        now,
    );
    assert!(!set[2].vote(asked, OpTime::NONE, now));
    let later = now + TIMING.election * 2;
    assert!(set[2].vote(asked, OpTime::NONE, later), "it fell silent");
}

#[test]
fn a_primary_without_a_majority_steps_down() {
    let now = Instant::now();
    let mut set = members(now);
    assert!(election(&mut set, 0, &[1], &[OpTime::NONE; THREE], now));
    let soon = now + TIMING.election / 2;
    set[0].look(soon);
    assert_eq!(set[0].standing, Standing::Primary);
    let pulse = set[2].pulse(OpTime::NONE);
    set[0].hear(pulse, soon);
    let later = now + TIMING.election + Duration::from_secs(1);
    set[0].look(later);
    assert_eq!(
        set[0].standing,
        Standing::Primary,
        "one other is a majority"
    );
    set[0].look(soon + TIMING.election + Duration::from_secs(1));
    assert_eq!(set[0].standing, Standing::Secondary);
}

#[test]
fn an_operation_is_committed_by_a_majority_of_the_same_term() {
    let now = Instant::now();
    let mut set = members(now);
    assert!(election(&mut set, 0, &[1, 2], &[OpTime::NONE; THREE], now));
    let last = at(1, 5);
    assert_eq!(set[0].committed(last), None, "nobody else has any");
    set[0].acknowledge(1, at(1, 4), 1, now);
    assert_eq!(set[0].committed(last), Some(at(1, 4)));
    set[0].acknowledge(1, at(0, 9), 1, now);
    assert_eq!(set[0].committed(last), None, "of an earlier term");
    set[0].acknowledge(2, last, 2, now);
    assert_eq!(set[0].committed(last), None, "there is a later term");
    assert_eq!(set[0].standing, Standing::Secondary);
}

#[test]
fn who_was_started_again_copies_first_and_then_abstains() {
    let now = Instant::now();
    let mut member = Consensus::new(2, THREE, TIMING, now);
    let asked = Candidacy {
        from: 0,
        term: 4,
        applied: at(3, 1),
        dry_run: false,
    };
    assert!(!member.vote(asked, OpTime::NONE, now), "it has no data");
    member.begin_copy();
    assert!(!member.vote(asked, OpTime::NONE, now));
    member.end_copy(true, now);
    assert!(
        !member.vote(asked, at(3, 1), now),
        "it may have voted before"
    );
    assert!(!member.may_stand(now));
    let later = now + TIMING.election;
    assert!(member.vote(asked, at(3, 1), later));
}

/// What can happen in a set.
#[derive(Debug, Clone)]
enum Event {
    Election {
        candidate: usize,
        voters: Vec<usize>,
    },
    /// A primary logs an operation.
    Write { primary: usize },
    /// A member copies the log of another that leads, and tells it so where the answer arrives.
    Pull { from: usize, by: usize, told: bool },
    /// A member hears of another.
    Pulse { from: usize, to: usize },
    /// Time goes by.
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let member = 0..THREE;
    prop_oneof![
        2 => (member.clone(), proptest::collection::vec(0..THREE, 0..3))
            .prop_map(|(candidate, voters)| Event::Election { candidate, voters }),
        4 => member.clone().prop_map(|primary| Event::Write { primary }),
        6 => (member.clone(), member.clone(), any::<bool>())
            .prop_map(|(from, by, told)| Event::Pull { from, by, told }),
        3 => (member.clone(), member).prop_map(|(from, to)| Event::Pulse { from, to }),
        1 => (1u64..8).prop_map(Event::Wait),
    ]
}

proptest! {
    /// Whatever is lost or late: one primary a term, and each later one has all that was committed.
    #[test]
    fn no_term_has_two_primaries_and_nothing_committed_is_lost(
        events in proptest::collection::vec(event(), 1..120)
    ) {
        let mut now = Instant::now();
        let mut set = members(now);
        let mut logs: Vec<Vec<OpTime>> = vec![Vec::new(); THREE];
        let mut leaders: BTreeMap<i64, usize> = BTreeMap::new();
        let mut committed: Vec<OpTime> = Vec::new();
        let mut clock = 0;
        for event in events {
            match event {
                Event::Election { candidate, voters } => {
                    if !set[candidate].may_stand(now) {
                        continue;
                    }
                    let last: Vec<OpTime> = logs
                        .iter()
                        .map(|log| log.last().copied().unwrap_or(OpTime::NONE))
                        .collect();
                    let mut voters = voters;
                    voters.sort_unstable();
                    voters.dedup();
                    if election(&mut set, candidate, &voters, &last, now) {
                        let term = set[candidate].term;
                        prop_assert_eq!(leaders.insert(term, candidate), None);
                        for operation in &committed {
                            prop_assert!(logs[candidate].contains(operation));
                        }
                    }
                }
                Event::Write { primary } if set[primary].standing == Standing::Primary => {
                    clock += 1;
                    logs[primary].push(at(set[primary].term, clock));
                }
                Event::Pull { from, by, told }
                    if from != by && set[from].standing == Standing::Primary
                        && set[by].standing == Standing::Secondary
                        && set[by].term <= set[from].term =>
                {
                    let term = set[from].term;
                    set[by].learn_term(term, now);
                    // What a primary does not have is rolled back: all is copied.
                    logs[by] = logs[from].clone();
                    if told && let Some(last) = logs[by].last().copied() {
                        set[from].acknowledge(by, last, term, now);
                        if let Some(point) = set[from].committed(*logs[from].last().unwrap()) {
                            let new = logs[from].iter().filter(|at| **at <= point);
                            for operation in new {
                                if !committed.contains(operation) {
                                    committed.push(*operation);
                                }
                            }
                        }
                    }
                }
                Event::Pulse { from, to } if from != to => {
                    let last = logs[from].last().copied().unwrap_or(OpTime::NONE);
                    let pulse = set[from].pulse(last);
                    set[to].hear(pulse, now);
                }
                Event::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    set.iter_mut().for_each(|member| member.look(now));
                }
                _ => {}
            }
        }
    }
}
