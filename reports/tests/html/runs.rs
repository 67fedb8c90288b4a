//! A run and a comparison for the tests of the page, as they are and with hostile texts.

use std::time::Duration;

use inroads_harness::comparison::{
    Change, Comparison, Decision, Found, Named, Side, VerdictChange, Weight, Worsening,
};
use inroads_harness::expected::Outcome;
use inroads_harness::measure::Histogram;
use inroads_harness::run::{Measurement, Run, Unit};

/// Ends every element that text may stand in, and then wants to run.
pub(crate) const HOSTILE: &str = "web-7f</title></style></text></code></table>\"'><script>window.__pwned=1</script>\
                                  <img src=x onerror=\"window.__pwned=1\">\u{202e}\u{0}&lt;";

/// The sample, its latencies with histograms.
pub(crate) fn sample() -> Run {
    let mut run =
        inroads_reports::read(include_str!("../sample-run.json")).expect("it is a result file");
    let mut raw: Vec<Measurement> = Vec::new();
    for it in &mut run.measurements {
        if it.metric == "latency" {
            it.histogram = Some(histogram(it, 2000));
            raw.push(Measurement {
                metric: "latency-raw".to_owned(),
                ..it.clone()
            });
        }
    }
    run.measurements.extend(raw);
    run
}

/// `count` values with a median of about the cell's and a long tail.
pub(crate) fn histogram(cell: &Measurement, count: u32) -> String {
    let mut histogram = Histogram::default();
    for n in 1..=count {
        // The inverse of a distribution whose tail falls with the square.
        let share = f64::from(n) / f64::from(count + 1);
        let factor = 0.7 + 0.3 * (share / (1.0 - share)).sqrt();
        histogram.record(Duration::from_secs_f64(cell.value / 1e6 * factor));
    }
    histogram.encode()
}

/// The sample, and hostile text wherever the program itself writes none.
pub(crate) fn hostile() -> Run {
    let mut run = sample();
    let bad = || HOSTILE.to_owned();
    run.run.id = bad();
    run.run.command = bad();
    run.run.profile = bad();
    run.environment.cpu = bad();
    run.environment.comparable_key = bad();
    run.environment.cluster.kubernetes = bad();
    run.environment.components[0].name = bad();
    run.methods[1].title = bad();
    run.methods[1].needs = vec![bad(), format!("cluster: {HOSTILE}")];
    run.scenarios[0].title = bad();
    run.probes[0].id = bad();
    run.claims[0].evidence = bad();
    run.warnings[0].text = bad();
    for probe in run.probes.iter_mut().skip(1) {
        probe.seen = format!("pod {HOSTILE}");
        probe.expected = bad();
        probe.reason = Some(bad());
    }
    let metric = run.measurements[5].metric.clone();
    for it in &mut run.measurements {
        it.invalid_reason = it.invalid_reason.is_some().then(bad);
        if it.metric == metric {
            it.metric = bad();
        }
    }
    for it in &mut run.summary {
        if it.metric == metric {
            it.metric = bad();
        }
    }
    run
}

/// A comparison with everything that can be found, hostile text in it.
pub(crate) fn comparison() -> Comparison {
    let found = [
        (Found::Worse, 1.42),
        (Found::Acknowledged, 1.3),
        (Found::NotConfirmed, 1.2),
        (Found::Better, 0.8),
        (Found::Unclear, 1.1),
        (Found::Missing, 1.0),
        (Found::Same, 1.01),
    ];
    let changes = found.iter().zip(0..).flat_map(|((found, estimate), n)| {
        [Weight::Advisory, Weight::Blocking].map(|weight| change(*found, weight, *estimate, n))
    });
    let named = |id: &str| Named {
        id: id.to_owned(),
        started_at: "2026-11-22T02:00:00Z".parse().expect("a time"),
        profile: "thorough".to_owned(),
    };
    Comparison {
        baselines: vec![named("20261122-020000-aaaa"), named(HOSTILE)],
        candidate: named(HOSTILE),
        spread: 0.021,
        changes: changes.collect(),
        verdicts: vec![VerdictChange {
            probe: "dns/split".to_owned(),
            method: "wireguard".parse().expect("a name"),
            baseline: Some(Outcome::Unmodified),
            candidate: None,
            seen: HOSTILE.to_owned(),
            acknowledged: Some(HOSTILE.to_owned()),
            expired: Some(HOSTILE.to_owned()),
        }],
        decision: Decision::Regressed,
        reasons: vec![HOSTILE.to_owned()],
    }
}

fn change(found: Found, weight: Weight, estimate: f64, n: u32) -> Change {
    let side = Side {
        median: 120.0 + f64::from(n),
        ratio_to_direct: Some(1.9),
        blocks: 10,
    };
    let there = found != Found::Missing;
    Change {
        method: "wireguard".parse().expect("a name"),
        scenario: "http".to_owned(),
        metric: if n == 0 { "latency" } else { HOSTILE }.to_owned(),
        unit: Unit::Microseconds,
        weight,
        baseline: Some(side),
        candidate: there.then_some(side),
        worsening: there.then_some(Worsening {
            estimate,
            low: estimate / 1.1,
            high: estimate * 1.1,
            p: 0.01,
            adjusted: 0.02,
            detectable: 1.13,
        }),
        found,
        note: (n == 1).then(|| HOSTILE.to_owned()),
    }
}
