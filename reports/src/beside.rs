//! Two runs on two clusters side by side: where their verdicts differ, and whether methods stand in the same
//! order. It is how the lab answers for itself.

use std::fmt::Write as _;

use inroads_harness::run::{ProbeResult, Run, Unit};

use crate::escape::{markdown as escape, markdown_code_cell as code};
use crate::figures::figure;

/// What `other` shows that `run` does not, and the other way round, in Markdown.
#[must_use]
pub fn beside(run: &Run, other: &Run) -> String {
    let (ours, theirs) = (title(run), title(other));
    let mut text = format!("# {ours} beside {theirs}\n\n");
    let both: Vec<(&ProbeResult, &ProbeResult)> = run
        .probes
        .iter()
        .filter_map(|probe| Some((probe, same(other, probe)?)))
        .collect();
    let differ: Vec<_> = both
        .iter()
        .filter(|(one, two)| verdict(one) != verdict(two))
        .collect();
    let agree = both.len() - differ.len();
    line(
        &mut text,
        format_args!(
            "{agree} of {} verdicts agree{}. {} probes were asked on one of them only.\n",
            both.len(),
            percent(agree, both.len()),
            alone(run, other) + alone(other, run),
        ),
    );
    if !differ.is_empty() {
        line(
            &mut text,
            format_args!("| probe | method | {ours} | {theirs} |"),
        );
        line(&mut text, format_args!("| --- | --- | --- | --- |"));
        for (one, two) in differ {
            line(
                &mut text,
                format_args!(
                    "| {} | {} | {} | {} |",
                    code(&one.id),
                    one.method,
                    cell(one),
                    cell(two)
                ),
            );
        }
        text.push('\n');
    }
    orders(&mut text, run, other);
    text
}

fn title(run: &Run) -> String {
    let cluster = &run.environment.cluster;
    format!("{} {}", escape(&cluster.kind), escape(&cluster.kubernetes))
}

fn same<'a>(run: &'a Run, probe: &ProbeResult) -> Option<&'a ProbeResult> {
    run.probes
        .iter()
        .find(|other| other.id == probe.id && other.method == probe.method)
}

fn alone(run: &Run, other: &Run) -> usize {
    run.probes
        .iter()
        .filter(|probe| same(other, probe).is_none())
        .count()
}

/// The verdict with its effort: a probe that passes with more effort is not the same.
fn verdict(probe: &ProbeResult) -> String {
    match probe.effort {
        Some(effort) => format!("{} {effort}", probe.verdict),
        None => probe.verdict.to_string(),
    }
}

fn cell(probe: &ProbeResult) -> String {
    let seen = probe.reason.as_deref().unwrap_or(&probe.seen);
    format!("**{}**: {}", verdict(probe), escape(seen))
}

#[expect(clippy::cast_precision_loss, reason = "a number of verdicts")]
fn percent(part: usize, whole: usize) -> String {
    if whole == 0 {
        return String::new();
    }
    format!(" ({:.0}%)", part as f64 / whole as f64 * 100.0)
}

/// The methods of each metric that both runs have, best first.
fn orders(text: &mut String, run: &Run, other: &Run) {
    let mut metrics: Vec<(&str, &str, Unit)> = Vec::new();
    for line in &run.summary {
        let key = (line.scenario.as_str(), line.metric.as_str(), line.unit);
        let there = other
            .summary
            .iter()
            .any(|other| (other.scenario.as_str(), other.metric.as_str()) == (key.0, key.1));
        if there && !metrics.contains(&key) {
            metrics.push(key);
        }
    }
    if metrics.is_empty() {
        return;
    }
    line(
        text,
        format_args!("Methods, best first, with the median:\n"),
    );
    line(
        text,
        format_args!(
            "| metric | {} | {} | same order |",
            title(run),
            title(other)
        ),
    );
    line(text, format_args!("| --- | --- | --- | :-: |"));
    for (scenario, metric, unit) in metrics {
        let (one, two) = (
            order(run, other, scenario, metric, unit),
            order(other, run, scenario, metric, unit),
        );
        let names = |order: &[(String, f64)]| -> Vec<String> {
            order.iter().map(|(name, _)| name.clone()).collect()
        };
        let same = if names(&one) == names(&two) {
            "yes"
        } else {
            "no"
        };
        let show = |order: &[(String, f64)]| -> String {
            let parts: Vec<String> = order
                .iter()
                .map(|(name, value)| format!("{name} {}", figure(*value, unit)))
                .collect();
            parts.join(", ")
        };
        line(
            text,
            format_args!(
                "| {} {} | {} | {} | {same} |",
                escape(scenario),
                escape(metric),
                show(&one),
                show(&two)
            ),
        );
    }
}

fn order(run: &Run, other: &Run, scenario: &str, metric: &str, unit: Unit) -> Vec<(String, f64)> {
    let mut all: Vec<(String, f64)> = run
        .summary
        .iter()
        .filter(|line| line.scenario == scenario && line.metric == metric)
        .filter(|line| {
            let mut there = other.summary.iter();
            there.any(|there| {
                (&there.method, &there.scenario, &there.metric)
                    == (&line.method, &line.scenario, &line.metric)
            })
        })
        .map(|line| (line.method.to_string(), line.median))
        .collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    if unit.larger_is_better() {
        all.reverse();
    }
    all
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{arguments}");
}
