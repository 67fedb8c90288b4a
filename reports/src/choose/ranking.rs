//! The order of methods: by fit, then by the weight of conditions, then by what matters, then the article's.

use inroads_harness::ids::MethodId;
use inroads_harness::run::{MethodInfo, Run};

use super::advice::{Ahead, Fit, Ranked};
use super::rules::Judged;
use super::team::Team;
use super::weighing::{Weighed, weigh};

/// The order in which the article tries them (claim 18), and the only methods that are ranked: the control is no way
/// in, and a variant is not what a team chooses between.
pub(super) const ORDER: [&str; 4] = ["forward", "route", "socks", "wireguard"];

/// A method with what was found of it.
pub(super) struct Candidate<'a> {
    pub(super) method: &'a MethodInfo,
    pub(super) judged: Judged,
}

impl Candidate<'_> {
    /// What is compared first: its fit, then what it takes, or by how much it is ruled out.
    fn grade(&self) -> (Fit, usize, u32) {
        match self.judged.fit() {
            Fit::RuledOut => (Fit::RuledOut, self.judged.blocks(), 0),
            fit => (fit, 0, self.judged.weight()),
        }
    }
}

/// Ranks candidates, which come in the article's order.
pub(super) fn rank(
    mut candidates: Vec<Candidate<'_>>,
    team: &Team,
    run: Option<&Run>,
) -> Vec<Ranked> {
    // Stable: the article's order stays within a grade.
    candidates.sort_by_key(Candidate::grade);
    let mut ranking: Vec<Ranked> = Vec::new();
    for group in candidates.chunk_by(|one, two| one.grade() == two.grade()) {
        let ids: Vec<&MethodId> = group.iter().map(|it| &it.method.id).collect();
        // There is nothing to choose between what is ruled out.
        let weighed = match group.first().map(|it| it.judged.fit()) {
            Some(Fit::RuledOut) | None => None,
            Some(_) => run.and_then(|run| weigh(run, team, &ids)),
        };
        let order = order(group.len(), weighed.as_deref());
        for (place, one) in order.iter().enumerate() {
            let next = order.get(place + 1).copied();
            let ahead = next.map(|next| ahead(weighed.as_deref(), *one, next));
            if let Some(candidate) = group.get(*one) {
                ranking.push(ranked(candidate, ahead));
            }
        }
    }
    between_grades(&mut ranking);
    ranking
}

/// The order within a grade: each time the first, in the article's order, of those that are left and that none of them
/// beats by more than noise.
fn order(count: usize, weighed: Option<&[Weighed]>) -> Vec<usize> {
    let mut left: Vec<usize> = (0..count).collect();
    let Some(weighed) = weighed else {
        return left;
    };
    let mut order = Vec::with_capacity(count);
    while !left.is_empty() {
        let beaten = |it: usize| left.iter().any(|other| weighed[*other].beats(&weighed[it]));
        let first = left.iter().position(|it| !beaten(*it));
        order.push(left.remove(first.unwrap_or_default()));
    }
    order
}

fn ahead(weighed: Option<&[Weighed]>, one: usize, next: usize) -> Ahead {
    let Some(weighed) = weighed else {
        return Ahead::Order { within_noise: None };
    };
    let (one, next) = (&weighed[one], &weighed[next]);
    let texts = (one.text.clone(), next.text.clone());
    if one.beats(next) {
        Ahead::Figure {
            own: texts.0,
            next: texts.1,
        }
    } else {
        Ahead::Order {
            within_noise: Some(texts),
        }
    }
}

fn ranked(candidate: &Candidate<'_>, ahead: Option<Ahead>) -> Ranked {
    let fit = candidate.judged.fit();
    let conditions = match fit {
        Fit::RuledOut => Vec::new(),
        _ => candidate.judged.conditions.clone(),
    };
    Ranked {
        method: candidate.method.id.clone(),
        title: candidate.method.title.clone(),
        fit,
        weight: conditions.iter().map(|it| it.weight).sum(),
        conditions,
        reasons: candidate.judged.reasons.clone(),
        ahead: ahead.filter(|_| fit != Fit::RuledOut),
    }
}

/// Says of the last of a grade why it stands before the first of the next one.
fn between_grades(ranking: &mut [Ranked]) {
    let next: Vec<(Fit, u32)> = ranking
        .iter()
        .skip(1)
        .map(|it| (it.fit, it.weight))
        .collect();
    for (one, (fit, weight)) in ranking.iter_mut().zip(next) {
        if one.ahead.is_none() && fit != Fit::RuledOut {
            one.ahead = Some(if one.fit == fit {
                Ahead::Conditions {
                    weight: one.weight,
                    next: weight,
                }
            } else {
                Ahead::Fit
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beaten_by_none_comes_first_and_the_article_decides_the_rest() {
        let of = |value, low, high| Weighed::latency(value, Some((low, high)));
        // The last is the best, and noise tells it from neither; the second beats the first.
        let all = [of(2.0, 1.9, 2.1), of(1.5, 1.4, 1.6), of(1.0, 0.5, 2.2)];
        assert_eq!(order(3, Some(&all)), [1, 0, 2]);
        assert!(matches!(ahead(Some(&all), 1, 0), Ahead::Figure { .. }));
        let tied = ahead(Some(&all), 0, 2);
        assert!(
            matches!(
                tied,
                Ahead::Order {
                    within_noise: Some(_)
                }
            ),
            "{tied:?}"
        );
    }

    #[test]
    fn with_nothing_measured_the_order_stays() {
        assert_eq!(order(3, None), [0, 1, 2]);
        assert_eq!(ahead(None, 0, 1), Ahead::Order { within_noise: None });
    }
}
