//! What speaks against figures: kinds of warnings, each with what to do about it.
//!
//! A figure that must not be used is invalid, and left out. What is here is about figures that are used all the same,
//! and about the machine that they were measured on.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::comparison::{Rules, Weight};
use crate::run::{CONTROL, Run, Summary, Warning};
use crate::stats::outliers;

/// What can be said against a figure that is used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// Some operations failed; they are not in the figure.
    FailedOperations,
    /// The rate moved within the window.
    Unsteady,
    /// The rate did not hold still before the window.
    UnstableWarmUp,
    /// The generator woke up too late to keep its schedule.
    GeneratorLate,
    /// The generator had no time left: the figure is its own limit.
    GeneratorSaturated,
    /// Too few values for a percentile.
    FewSamples,
    /// A block lies far from the others.
    OddBlock,
    /// The interval is wider than was asked for.
    Imprecise,
}

impl Doubt {
    const ALL: [Self; 8] = [
        Self::FailedOperations,
        Self::Unsteady,
        Self::UnstableWarmUp,
        Self::GeneratorLate,
        Self::GeneratorSaturated,
        Self::FewSamples,
        Self::OddBlock,
        Self::Imprecise,
    ];

    /// The kind of its warnings.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::FailedOperations => "failed-operations",
            Self::Unsteady => "unsteady",
            Self::UnstableWarmUp => "unstable-warm-up",
            Self::GeneratorLate => "generator-late",
            Self::GeneratorSaturated => "generator-saturated",
            Self::FewSamples => "few-samples",
            Self::OddBlock => "odd-block",
            Self::Imprecise => "imprecise",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::FailedOperations => {
                "see what the first one said; a figure with many failures is of the rest only"
            }
            Self::Unsteady | Self::UnstableWarmUp => {
                "measure more blocks (`--budget 30m`), or longer ones (`--profile thorough`), on a quiet machine"
            }
            Self::GeneratorLate => "end what else runs on this machine, or give it more cores",
            Self::GeneratorSaturated => {
                "the figure is a lower bound: more cores, or `--laptops N` in another cluster, carry more"
            }
            Self::FewSamples => "a longer profile has more values in a block",
            Self::OddBlock => {
                "it is not left out; look at what ran on the machine at that time, and measure more blocks"
            }
            Self::Imprecise => "measure more blocks: `--budget 30m`, or `--profile thorough`",
        }
    }

    /// The warning.
    #[must_use]
    pub fn warning(self, text: String) -> Warning {
        Warning {
            kind: self.kind().to_owned(),
            text,
            remedy: self.remedy().to_owned(),
        }
    }
}

impl Warning {
    /// Whether it is about figures that are used all the same.
    #[must_use]
    pub fn is_caution(&self) -> bool {
        // What earlier versions called all of them.
        self.kind == "caution" || Doubt::ALL.iter().any(|doubt| self.kind == doubt.kind())
    }
}

/// What is known against a whole run's figures once all blocks are in.
pub(crate) fn of_run(run: &Run, half_width: f64) -> Vec<Warning> {
    let few = few_samples(run).into_iter();
    let rest = odd_blocks(run)
        .into_iter()
        .chain(imprecise(run, half_width));
    few.chain(rest).collect()
}

/// The lines of a summary that the rules of the gate call blocking.
pub(crate) fn gated(summary: &[Summary]) -> impl Iterator<Item = &Summary> {
    let rules = Rules::default();
    summary.iter().filter(move |line| {
        rules.weight(line.method.as_str(), &line.scenario, &line.metric) == Weight::Blocking
    })
}

/// Half the width of a line's interval as a share of the figure: of the ratio to `direct`, or where there is none of
/// the figure itself. Infinite where there is no interval.
pub(crate) fn half_width(line: &Summary) -> f64 {
    let ratio = line.ratio_ci_low.zip(line.ratio_ci_high);
    let own = line.ci_low.zip(line.ci_high);
    ratio
        .or(own)
        .map_or(f64::INFINITY, |(low, high)| (high / low).sqrt() - 1.0)
}

fn few_samples(run: &Run) -> Option<Warning> {
    let mut found: Vec<(String, u64)> = Vec::new();
    let short = |m: &&crate::run::Measurement| m.valid && m.histogram.is_some() && m.p99.is_none();
    for m in run.measurements.iter().filter(short) {
        let name = format!("{} {}", m.scenario, m.metric);
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, least)) => *least = m.count.min(*least),
            None => found.push((name, m.count)),
        }
    }
    let list: Vec<String> = found
        .iter()
        .map(|(name, least)| format!("{name} ({least})"))
        .collect();
    let text = "a block needs 1000 values for a 99th percentile, and some have fewer";
    (!list.is_empty()).then(|| Doubt::FewSamples.warning(format!("{text}: {}", list.join(", "))))
}

fn odd_blocks(run: &Run) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for line in &run.summary {
        let of_line = |m: &&crate::run::Measurement| {
            m.valid
                && (&m.method, &m.scenario, &m.metric)
                    == (&line.method, &line.scenario, &line.metric)
        };
        let blocks: Vec<_> = run.measurements.iter().filter(of_line).collect();
        let logs: Vec<f64> = blocks.iter().map(|m| m.value.ln()).collect();
        let odd = blocks.iter().zip(outliers(&logs)).filter(|(_, odd)| *odd);
        let odd: Vec<String> = odd.map(|(m, _)| (m.block + 1).to_string()).collect();
        if !odd.is_empty() {
            let name = format!("`{}` {} {}", line.method, line.scenario, line.metric);
            let text = format!("{name}: far from the other blocks: {}", odd.join(", "));
            warnings.push(Doubt::OddBlock.warning(text));
        }
    }
    warnings
}

fn imprecise(run: &Run, wanted: f64) -> Option<Warning> {
    let wide: Vec<String> = gated(&run.summary)
        .map(|line| (line, half_width(line)))
        .filter(|(line, half)| {
            line.method.as_str() != CONTROL && half.is_finite() && *half > wanted
        })
        .map(|(line, half)| {
            format!(
                "{}/{}/{} ±{:.0}%",
                line.method,
                line.scenario,
                line.metric,
                half * 100.0
            )
        })
        .collect();
    if wide.is_empty() {
        return None;
    }
    let text = format!(
        "intervals of the ratio to `direct` wider than ±{:.0}%: {}",
        wanted * 100.0,
        wide.join(", ")
    );
    Some(Doubt::Imprecise.warning(text))
}

/// How much of the machine others took, from one moment to another.
#[derive(Debug, Clone, Copy)]
pub struct MachineNoise {
    load: Option<f64>,
    ticks: Option<Ticks>,
}

/// Ticks of all processors since the machine started, `proc(5)`.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl MachineNoise {
    /// Looks at the machine now, before anything of the run is started.
    #[must_use]
    pub fn look() -> Self {
        let load = fs::read_to_string("/proc/loadavg").ok();
        Self {
            load: load.and_then(|text| text.split(' ').next()?.parse().ok()),
            ticks: fs::read_to_string("/proc/stat")
                .ok()
                .and_then(|text| ticks(&text)),
        }
    }

    /// What to say of it now, at the end of the run.
    pub(crate) fn warnings(self, cores: usize) -> Vec<Warning> {
        /// The share of the cores that others may have in use at the start.
        const BUSY: f64 = 0.3;
        /// The share of all time that the host of a virtual machine may keep for itself.
        const STOLEN: f64 = 0.01;
        let warning = |text: String, remedy: &str| Warning {
            kind: "noisy-machine".to_owned(),
            text,
            remedy: remedy.to_owned(),
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "cores and ticks stay far below 2^52"
        )]
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        let mut warnings = Vec::new();
        let busy = BUSY * share(u64::try_from(cores).unwrap_or(1), 1);
        if let Some(load) = self.load.filter(|load| *load > busy) {
            let text = format!(
                "the load of this machine was {load} on {cores} cores before the run began"
            );
            warnings.push(warning(
                text,
                "end what else runs here, wait a minute, and measure again",
            ));
        }
        let stolen = self.ticks.zip(Self::look().ticks).map(|(before, after)| {
            let all = after.all.saturating_sub(before.all);
            share(after.stolen.saturating_sub(before.stolen), all)
        });
        if let Some(stolen) = stolen.filter(|stolen| *stolen > STOLEN) {
            let text = format!(
                "the host took {:.1}% of this virtual machine's time for others (steal)",
                stolen * 100.0
            );
            warnings.push(warning(
                text,
                "measure on a machine of your own, or more blocks at another time",
            ));
        }
        warnings
    }
}

/// From the first line of `/proc/stat`: user nice system idle iowait irq softirq steal guest guest_nice, where the
/// guests' are in user and nice already.
fn ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    Some(Ticks {
        all: fields.iter().take(8).sum(),
        stolen: *fields.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_as_proc_has_them() {
        let ticks = ticks("cpu  10 1 5 100 2 0 3 7 4 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n").unwrap();
        assert_eq!((ticks.all, ticks.stolen), (128, 7));
        assert!(super::ticks("intr 1 2").is_none());
    }

    #[test]
    fn every_doubt_has_a_kind_and_a_remedy_of_its_own() {
        let mut kinds: Vec<&str> = Doubt::ALL.iter().map(|doubt| doubt.kind()).collect();
        kinds.dedup();
        assert_eq!(kinds.len(), Doubt::ALL.len());
        for doubt in Doubt::ALL {
            let warning = doubt.warning("text".to_owned());
            assert!(warning.is_caution() && !warning.remedy.is_empty());
            let json = serde_json::to_value(doubt).unwrap();
            assert_eq!(json, warning.kind, "one name for all");
        }
    }

    #[test]
    fn half_a_width_is_a_share_of_the_ratio() {
        let line = |low, high| Summary {
            method: "route".parse().unwrap(),
            scenario: "http".into(),
            metric: "latency".into(),
            unit: crate::run::Unit::Microseconds,
            median: 1.0,
            ci_low: None,
            ci_high: None,
            ratio_to_direct: Some(1.0),
            ratio_ci_low: low,
            ratio_ci_high: high,
            blocks: 5,
        };
        assert!((half_width(&line(Some(1.0 / 1.1), Some(1.1))) - 0.1).abs() < 1e-9);
        assert!(half_width(&line(None, None)).is_infinite());
    }
}
