//! What a run shows, in the form that answers ask for.

use inroads_harness::expected::Outcome;
use inroads_harness::probe::is_of_transparency;
use inroads_harness::run::{Level, Run, Summary};

/// A run, looked at.
pub(super) struct Seen<'a>(pub(super) &'a Run);

/// The ratio of a method's figure to another's.
pub(super) struct Ratio {
    /// The ratio itself, of medians over blocks.
    pub(super) value: f64,
    /// The interval to `direct`, where it is that ratio and there are blocks enough.
    pub(super) interval: Option<(f64, f64)>,
}

impl Seen<'_> {
    /// How a probe came out; nothing where it was not tried.
    pub(super) fn outcome(&self, probe: &str, method: &str) -> Option<Outcome> {
        let found = self.0.probes.iter();
        let mut found = found.filter(|it| it.id == probe && it.method.as_str() == method);
        let outcome = found.next()?.outcome();
        Some(outcome).filter(|outcome| *outcome != Outcome::NotRun)
    }

    /// How several came out through one method, with their names; nothing where one was not tried.
    pub(super) fn outcomes<'b>(
        &self,
        probes: &[&'b str],
        method: &str,
    ) -> Option<Vec<(&'b str, Outcome)>> {
        let each = probes.iter();
        each.map(|probe| Some((*probe, self.outcome(probe, method)?)))
            .collect()
    }

    /// Of the probes that transparency requires, those that were tried and did not pass unmodified, and the number
    /// of those that were tried.
    pub(super) fn opaque(&self, method: &str) -> Option<(Vec<&str>, usize)> {
        let must = self.0.probes.iter().filter(|it| {
            it.method.as_str() == method
                && it.level == Level::Must
                && is_of_transparency(&it.id)
                && it.outcome() != Outcome::NotRun
        });
        let (mut opaque, mut tried) = (Vec::new(), 0);
        for probe in must {
            tried += 1;
            if probe.outcome() != Outcome::Unmodified {
                opaque.push(probe.id.as_str());
            }
        }
        (tried > 0).then_some((opaque, tried))
    }

    /// A method's line of a figure, `scenario/metric`.
    pub(super) fn line(&self, figure: &str, method: &str) -> Option<&Summary> {
        let (scenario, metric) = figure.split_once('/')?;
        self.0.summary.iter().find(|it| {
            it.scenario == scenario && it.metric == metric && it.method.as_str() == method
        })
    }

    /// A figure as a multiple of the one of `direct`, block by block.
    pub(super) fn to_direct(&self, figure: &str, method: &str) -> Option<Ratio> {
        let line = self.line(figure, method)?;
        Some(Ratio {
            value: line.ratio_to_direct?,
            interval: line.ratio_ci_low.zip(line.ratio_ci_high),
        })
    }

    /// A figure of `method` as a multiple of the one of `other`.
    pub(super) fn ratio(&self, figure: &str, method: &str, other: &str) -> Option<f64> {
        let base = self.line(figure, other)?.median;
        (base > 0.0).then_some(self.line(figure, method)?.median / base)
    }
}

/// Outcomes as text: `dns/srv unmodified, dns/ptr fail`.
pub(super) fn told(outcomes: &[(&str, Outcome)]) -> String {
    let each: Vec<String> = outcomes
        .iter()
        .map(|(probe, outcome)| format!("{probe} {outcome}"))
        .collect();
    each.join(", ")
}

/// Whether a client got through, at whatever effort.
pub(super) fn works(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Unmodified | Outcome::Configured | Outcome::Rewritten
    )
}
