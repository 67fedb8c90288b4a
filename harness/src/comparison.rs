//! A run beside one or more earlier ones: what changed, and whether it is a regression.
//!
//! Pure functions of result files. A change is judged over blocks: what a method does in a block is taken as a ratio to
//! `direct` of the same block, so that a machine that is slower tonight moves neither run's figures.

mod acknowledged;
mod blocks;
mod key;
mod nights;
mod rules;

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use acknowledged::Acknowledgements;
pub use key::differences;
pub use nights::{Alarms, Night, Nights};
pub use rules::{RULES, Rules, RulesError};

use crate::expected::Outcome;
use crate::ids::MethodId;
use crate::run::{Level, ProbeResult, Run, Unit};
use acknowledged::Said;

/// What was found between a baseline and a run. Everything that a report needs; nothing is computed from it any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The runs that the other is held against, the latest last.
    pub baselines: Vec<Named>,
    /// The run that is judged.
    pub candidate: Named,
    /// By how much a run as a whole is taken to move with nothing changed: a standard deviation, as a share.
    pub spread: f64,
    /// Every cell, in report order.
    pub changes: Vec<Change>,
    /// Required probes that came out otherwise than in the latest baseline.
    pub verdicts: Vec<VerdictChange>,
    /// All of it in one word.
    pub decision: Decision,
    /// Why, a sentence for each reason; none where it is a pass.
    pub reasons: Vec<String>,
}

/// A run, for a heading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// When it began, UTC.
    pub started_at: jiff::Timestamp,
    /// How it was measured.
    pub profile: String,
}

/// All of a comparison in one word, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// A blocking cell is worse.
    Regressed,
    /// A required probe came out otherwise.
    VerdictChanged,
    /// It cannot be said: cells or verdicts of the baseline are missing.
    Incomplete,
    /// It cannot be said: cells are too unclear to rule out a regression.
    Inconclusive,
    /// Nothing is worse.
    Pass,
}

/// One method, scenario and metric on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The method.
    pub method: MethodId,
    /// The scenario.
    pub scenario: String,
    /// The metric.
    pub metric: String,
    /// The unit of both medians.
    pub unit: Unit,
    /// Whether a regression here is one of the whole.
    pub weight: Weight,
    /// In the baselines; absent where it was not measured there.
    pub baseline: Option<Side>,
    /// In the candidate; absent where it was not measured there.
    pub candidate: Option<Side>,
    /// By how much it became worse; absent where one side is, or has too few blocks.
    pub worsening: Option<Worsening>,
    /// What that comes to.
    pub found: Found,
    /// Why it is found to be that, where there is more to say than the figures do.
    pub note: Option<String>,
}

/// What one side has for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Median over blocks, in the cell's unit.
    pub median: f64,
    /// Geometric mean of the ratios to `direct` of the same block; absent where `direct` was not run.
    pub ratio_to_direct: Option<f64>,
    /// Valid blocks.
    pub blocks: u32,
}

/// By how much a figure became worse: as a factor, above 1 is worse whichever direction of the unit is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Worsening {
    /// The estimate (Hodges–Lehmann, of the logarithms).
    pub estimate: f64,
    /// The lower end of the 95% interval (Welch's t, of the logarithms).
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How likely so much or more would be with no change at all: one-sided, Welch's t.
    pub p: f64,
    /// The same, corrected for the number of cells: Holm's for blocking cells, Benjamini and Hochberg's for the others.
    pub adjusted: f64,
    /// The smallest true factor that would be found here in four of five such comparisons.
    pub detectable: f64,
}

/// Whether a regression of a cell is one of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// It is.
    Blocking,
    /// It is shown.
    Advisory,
}

/// What a change comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// Worse, by more than the floors and more than chance.
    Worse,
    /// Worse, and somebody has said that it may be.
    Acknowledged,
    /// Worse in the first measurement and not in the second.
    NotConfirmed,
    /// Better, likewise.
    Better,
    /// Too wide an interval to rule a regression out.
    Unclear,
    /// Not measured on one of the sides.
    Missing,
    /// No more than chance or the floors.
    Same,
}

/// A required probe that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictChange {
    /// The probe.
    pub probe: String,
    /// The method.
    pub method: MethodId,
    /// As it was; absent where it was not asked.
    pub baseline: Option<Outcome>,
    /// As it is; absent where it was not asked.
    pub candidate: Option<Outcome>,
    /// What was seen this time.
    pub seen: String,
    /// Who has said that it may be, and until when.
    pub acknowledged: Option<String>,
    /// Who has said so, and until when it was.
    #[serde(default)]
    pub expired: Option<String>,
}

impl Comparison {
    /// Holds `candidate` against the runs of a baseline, by these rules and with what is accepted on the day. The more
    /// runs, the less the chance of one moves all that is held against it; three show what that chance is.
    #[must_use]
    pub fn between(
        (baselines, candidate): (&[Run], &Run),
        rules: &Rules,
        accepted: &Acknowledgements,
        today: Date,
    ) -> Self {
        let (mut changes, spread) = blocks::changes(baselines, candidate, rules);
        for change in &mut changes {
            if change.found != Found::Worse {
                continue;
            }
            match accepted.of(&change.name(), today) {
                Said::Nothing => {}
                Said::Expired(text) => change.note = Some(text),
                Said::May(text) => {
                    change.found = Found::Acknowledged;
                    change.note = Some(text);
                }
            }
        }
        let named = |run: &Run| Named {
            id: run.run.id.clone(),
            started_at: run.run.started_at,
            profile: run.run.profile.clone(),
        };
        let mut in_order: Vec<&Run> = baselines.iter().collect();
        in_order.sort_by_key(|run| run.run.started_at);
        let mut comparison = Self {
            baselines: in_order.iter().map(|run| named(run)).collect(),
            candidate: named(candidate),
            spread,
            changes,
            verdicts: verdicts(&in_order, candidate, accepted, today),
            decision: Decision::Pass,
            reasons: Vec::new(),
        };
        comparison.decide();
        comparison
    }

    /// The methods and scenarios of what would be a regression, to measure them again.
    #[must_use]
    pub fn suspects(&self) -> (BTreeSet<MethodId>, BTreeSet<String>) {
        let suspects = || {
            self.blocking()
                .filter(|change| change.found == Found::Worse)
        };
        (
            suspects().map(|change| change.method.clone()).collect(),
            suspects().map(|change| change.scenario.clone()).collect(),
        )
    }

    /// Takes in that the suspects were measured again, in another run and another order, and held against the same
    /// baseline. What is not worse there too is no regression; what could not be measured is none either, and unclear.
    pub fn confirm(&mut self, again: &Self, rules: &Rules) {
        for change in &mut self.changes {
            if change.found != Found::Worse || change.weight != Weight::Blocking {
                continue;
            }
            let second = again.changes.iter().find(|it| it.name() == change.name());
            let measured = second.and_then(|it| Some((it.worsening?, it.baseline?.median)));
            let Some((second, baseline)) = measured else {
                change.found = Found::Unclear;
                change.note = Some("worse, and could not be measured again".to_owned());
                continue;
            };
            let factor = format!("×{:.2} when measured again", second.estimate);
            // One question of few now, and of its own: it needs no correction for the others.
            let worse = second.estimate > 1.0
                && second.p < rules.confirm
                && rules.is_large(baseline, second.estimate, change.unit);
            // Large again, and not unlike the first: neither sure enough, nor cleared.
            let open = second.high > 1.0 + rules.unclear
                || second.estimate > 1.0
                    && rules.is_large(baseline, second.estimate, change.unit)
                    && change
                        .worsening
                        .is_some_and(|first| second.high >= first.estimate);
            if worse {
                change.note = Some(factor);
            } else if open {
                change.found = Found::Unclear;
                let high = second.high;
                change.note = Some(format!("worse, and {factor}, up to ×{high:.2}: not sure"));
            } else {
                change.found = Found::NotConfirmed;
                change.note = Some(format!("{factor}, which is no regression"));
            }
        }
        self.decide();
    }

    fn blocking(&self) -> impl Iterator<Item = &Change> {
        let all = self.changes.iter();
        all.filter(|change| change.weight == Weight::Blocking)
    }

    /// All of it in one word, with the reasons.
    fn decide(&mut self) {
        let mut reasons: Vec<(Decision, String)> = Vec::new();
        for change in self.blocking() {
            let name = change.name();
            let note = change.note.as_ref().map(|note| format!(" ({note})"));
            let note = note.unwrap_or_default();
            match (change.found, change.worsening) {
                (Found::Worse, Some(by)) => reasons.push((
                    Decision::Regressed,
                    format!(
                        "{name} is ×{:.2} worse, at least ×{:.2}{note}",
                        by.estimate, by.low
                    ),
                )),
                (Found::Unclear | Found::Missing, _) => {
                    let decision = match change.found {
                        Found::Missing => Decision::Incomplete,
                        _ => Decision::Inconclusive,
                    };
                    reasons.push((decision, format!("{name}: nothing can be said{note}")));
                }
                _ => {}
            }
        }
        for change in self.verdicts.iter().filter(|it| it.acknowledged.is_none()) {
            let said = |outcome: Option<Outcome>| {
                outcome.map_or_else(|| "not asked".to_owned(), |outcome| outcome.to_string())
            };
            let VerdictChange { probe, method, .. } = change;
            let (was, is) = (said(change.baseline), said(change.candidate));
            let decision = if change.candidate.is_none() {
                Decision::Incomplete
            } else {
                Decision::VerdictChanged
            };
            let expired = change.expired.as_ref().map(|text| format!(" ({text})"));
            let expired = expired.unwrap_or_default();
            reasons.push((
                decision,
                format!("{probe} through {method} was {was} and is {is}{expired}"),
            ));
        }
        if self.blocking().next().is_none() {
            let text = "the runs have no cell in common that could be a regression";
            reasons.push((Decision::Incomplete, text.to_owned()));
        }
        reasons.sort_by_key(|(decision, _)| *decision);
        self.decision = reasons
            .first()
            .map_or(Decision::Pass, |(decision, _)| *decision);
        self.reasons = reasons.into_iter().map(|(_, reason)| reason).collect();
    }
}

impl Change {
    /// Its name, as `method/scenario/metric`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}/{}", self.method, self.scenario, self.metric)
    }
}

/// The required probes that came out otherwise than when a baseline asked them last, or were not asked again. What was
/// not run was not asked.
fn verdicts(
    baselines: &[&Run],
    candidate: &Run,
    accepted: &Acknowledgements,
    today: Date,
) -> Vec<VerdictChange> {
    let asked =
        |probe: &&ProbeResult| probe.level == Level::Must && probe.outcome() != Outcome::NotRun;
    let mut seen = BTreeSet::new();
    let latest_first = baselines.iter().rev();
    let required = latest_first
        .flat_map(|run| run.probes.iter().filter(asked))
        .filter(|probe| seen.insert((&probe.id, &probe.method)));
    let changes = required.filter_map(|before| {
        let same = |it: &&ProbeResult| it.id == before.id && it.method == before.method;
        let after = candidate.probes.iter().find(same);
        let outcome = after.filter(asked).map(ProbeResult::outcome);
        let name = format!("{}/{}", before.method, before.id);
        let (acknowledged, expired) = match accepted.of(&name, today) {
            Said::Nothing => (None, None),
            Said::May(text) => (Some(text), None),
            Said::Expired(text) => (None, Some(text)),
        };
        (outcome != Some(before.outcome())).then(|| VerdictChange {
            probe: before.id.clone(),
            method: before.method.clone(),
            baseline: Some(before.outcome()),
            candidate: outcome,
            seen: after.map(seen_or_why).unwrap_or_default(),
            acknowledged,
            expired,
        })
    });
    changes.collect()
}

/// What a probe saw, or why it was not run.
fn seen_or_why(probe: &ProbeResult) -> String {
    match &probe.reason {
        Some(reason) if probe.seen.is_empty() => reason.clone(),
        _ => probe.seen.clone(),
    }
}

#[cfg(test)]
mod tests;
