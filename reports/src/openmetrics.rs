//! A run as gauges in OpenMetrics' text format: for a Pushgateway or the textfile collector of Prometheus' node exporter.
//!
//! Names and units follow Prometheus: seconds and bytes, the unit at the end of the name.

use std::{fmt, slice};

use inroads_harness::expected::Outcome;
use inroads_harness::run::{Level, Measurement, Run, Status, Summary, Unit, Verdict};
use inroads_harness::stats::median;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

use crate::again::stand_ins;
use crate::escape::terminal;

/// The labels of a sample.
type Labels = Vec<(&'static str, String)>;

/// Gauges of one name. The client's own families are hash maps; these keep the order of the run.
#[derive(Debug)]
struct Gauges {
    name: &'static str,
    help: &'static str,
    unit: Option<registry::Unit>,
    samples: Vec<(Labels, f64)>,
}

impl Gauges {
    fn of(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Self {
        Self {
            name,
            help,
            unit: None,
            samples: samples.into_iter().collect(),
        }
    }

    fn in_unit(self, unit: registry::Unit) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }
}

/// A whole run.
#[derive(Debug)]
struct Exposition {
    gauges: Vec<Gauges>,
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for gauges in self.gauges.iter().filter(|it| !it.samples.is_empty()) {
            let unit = gauges.unit.as_ref();
            let kind = MetricType::Gauge;
            let mut family = encoder.encode_descriptor(gauges.name, gauges.help, unit, kind)?;
            for (labels, value) in &gauges.samples {
                family.encode_family(labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }
}

/// The figures and verdicts of a run in OpenMetrics' text format (version 1.0.0).
///
/// # Panics
/// Never: a string takes any text.
#[must_use]
pub fn openmetrics(run: &Run) -> String {
    let mut registry = Registry::with_prefix("inroads");
    registry.register_collector(Box::new(Exposition {
        gauges: std::iter::once(info(run)).chain(gauges(run)).collect(),
    }));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a string takes any text");
    text
}

/// A gauge that is always 1: readers of the older form of the text know no type `info`.
fn info(run: &Run) -> Gauges {
    let environment = &run.environment;
    let status = match run.run.status {
        Status::Complete => "complete",
        Status::Partial => "partial",
        Status::Failed => "failed",
    };
    let labels = vec![
        ("run", terminal(&run.run.id)),
        ("status", status.to_owned()),
        ("profile", terminal(&run.run.profile)),
        ("inroads", terminal(&environment.inroads)),
        ("cluster", terminal(&environment.cluster.kind)),
        ("kubernetes", terminal(&environment.cluster.kubernetes)),
        ("comparable_key", terminal(&environment.comparable_key)),
        ("stand_ins", terminal(&stand_ins(run).join(", "))),
    ];
    Gauges {
        name: "run_info",
        help: "The run and where it took place, and what in it was a stand-in.",
        unit: None,
        samples: vec![(labels, 1.0)],
    }
}

fn gauges(run: &Run) -> Vec<Gauges> {
    use registry::Unit::{Bytes, Other, Seconds};
    let times = in_units(run, &[Unit::Microseconds, Unit::Seconds]);
    let (latencies, times): (Vec<&Summary>, Vec<&Summary>) =
        times.partition(|line| blocks(run, line).any(|m| m.p50.is_some()));
    let quantiles = latencies.iter().flat_map(|line| quantiles(run, line));
    let times = times.iter();
    let times = times.map(|line| (labels(line), line.median / per_second(line.unit)));
    let medians = |unit| {
        let lines = in_units(run, slice::from_ref(&unit));
        let lines = lines.map(|line| (labels(line), line.median));
        lines.collect::<Vec<_>>()
    };
    let of_lines = |value: fn(&Run, &Summary) -> Option<f64>| {
        let lines = run.summary.iter();
        let lines = lines.filter_map(|line| Some((labels(line), value(run, line)?)));
        lines.collect::<Vec<_>>()
    };
    let setups = run.methods.iter().filter_map(|method| {
        let labels = vec![("method", method.id.to_string())];
        Some((labels, method.setup_ms? / 1e3))
    });
    vec![
        Gauges::of("latency", "Quantiles: medians over blocks.", quantiles).in_unit(Seconds),
        Gauges::of("time", "Other times: medians over blocks.", times).in_unit(Seconds),
        Gauges::of(
            "rate",
            "Operations each second: medians over blocks.",
            medians(Unit::PerSecond),
        )
        .in_unit(Other("per_second".to_owned())),
        Gauges::of(
            "throughput",
            "Payload each second: medians over blocks.",
            medians(Unit::BytesPerSecond),
        )
        .in_unit(Other("bytes_per_second".to_owned())),
        Gauges::of("size", "Sizes: medians over blocks.", medians(Unit::Bytes)).in_unit(Bytes),
        Gauges::of(
            "ratio_to_direct",
            "Geometric mean of the ratios to direct in the same block.",
            of_lines(|_, line| line.ratio_to_direct),
        ),
        Gauges::of(
            "blocks",
            "Valid blocks that a figure rests on.",
            of_lines(|_, line| Some(f64::from(line.blocks))),
        ),
        Gauges::of(
            "errors",
            "Operations that failed, in all blocks together.",
            of_lines(|run, line| Some(errors(run, line))),
        ),
        Gauges::of(
            "setup",
            "From the first object applied until the first answer.",
            setups,
        )
        .in_unit(Seconds),
        Gauges::of(
            "probe_pass",
            "Whether a probe passes; one that was not tried has no sample.",
            probes(run),
        ),
    ]
}

fn in_units<'a>(run: &'a Run, units: &'a [Unit]) -> impl Iterator<Item = &'a Summary> {
    run.summary.iter().filter(|line| units.contains(&line.unit))
}

/// The valid blocks of a line.
fn blocks<'a>(run: &'a Run, line: &'a Summary) -> impl Iterator<Item = &'a Measurement> {
    run.measurements.iter().filter(|m| {
        m.valid
            && (&m.method, &m.scenario, &m.metric) == (&line.method, &line.scenario, &line.metric)
    })
}

fn labels(line: &Summary) -> Labels {
    vec![
        ("method", line.method.to_string()),
        ("scenario", terminal(&line.scenario)),
        ("metric", terminal(&line.metric)),
    ]
}

fn quantiles(run: &Run, line: &Summary) -> Vec<(Labels, f64)> {
    type Part = fn(&Measurement) -> Option<f64>;
    let parts: [(&str, Part); 3] = [("0.5", |m| m.p50), ("0.9", |m| m.p90), ("0.99", |m| m.p99)];
    let samples = parts.into_iter().filter_map(|(quantile, part)| {
        let values: Vec<f64> = blocks(run, line).filter_map(part).collect();
        let mut labels = labels(line);
        labels.push(("quantile", quantile.to_owned()));
        Some((labels, median(&values)? / per_second(line.unit)))
    });
    samples.collect()
}

fn errors(run: &Run, line: &Summary) -> f64 {
    let all = run.measurements.iter().filter(|m| {
        (&m.method, &m.scenario, &m.metric) == (&line.method, &line.scenario, &line.metric)
    });
    #[expect(clippy::cast_precision_loss, reason = "a number of operations")]
    let sum = all.fold(0_u64, |sum, m| sum.saturating_add(m.errors)) as f64;
    sum
}

fn probes(run: &Run) -> impl Iterator<Item = (Labels, f64)> {
    let tried = run
        .probes
        .iter()
        .filter(|probe| probe.outcome() != Outcome::NotRun);
    tried.map(|probe| {
        let level = match probe.level {
            Level::Must => "must",
            Level::Should => "should",
        };
        let labels = vec![
            ("probe", terminal(&probe.id)),
            ("method", probe.method.to_string()),
            ("level", level.to_owned()),
            (
                "effort",
                probe.effort.map(|it| it.to_string()).unwrap_or_default(),
            ),
        ];
        (labels, f64::from(u8::from(probe.verdict == Verdict::Pass)))
    })
}

/// How many of a unit of time are in a second.
fn per_second(unit: Unit) -> f64 {
    if unit == Unit::Seconds { 1.0 } else { 1e6 }
}
