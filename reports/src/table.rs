//! The comparison on a terminal: one table, at most 100 columns wide.

use std::fmt::Write as _;

use inroads_harness::ids::MethodId;
use inroads_harness::run::{INTERRUPTED, LaptopsInfo, Run, Status, Summary, Unit};
use inroads_harness::stats::median;

use crate::again::stand_ins;
use crate::escape::terminal;
use crate::figures::{figure, ratio};
use crate::matrix;

/// The widest line.
const WIDTH: usize = 100;

/// The width of the first column.
const LABEL: usize = 24;

/// The width of a method's column.
const COLUMN: usize = 15;

/// A row: a metric of a scenario, by the name that people know it by.
struct Row {
    scenario: &'static str,
    metric: &'static str,
    label: &'static str,
    /// Which part of the figure: the median, or the 99th percentile of a latency.
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Median,
    P99,
}

/// The rows, in order. A metric that is not among them is in the result file.
const ROWS: &[Row] = &[
    row("http", "latency", "latency p50", Part::Median),
    row("http", "latency", "latency p99", Part::P99),
    row("http", "requests", "requests", Part::Median),
    row("http", "requests-h2", "requests, HTTP/2", Part::Median),
    row("http", "new-connections", "new connections", Part::Median),
    row("http", "first-byte", "  to the first byte", Part::Median),
    row("http", "answers-1mib", "answers of 1 MiB", Part::Median),
    row("http", "download", "bulk download", Part::Median),
    row("http", "upload", "bulk upload", Part::Median),
    row("http", "cpu-laptop", "CPU/request, laptop", Part::Median),
    row("http", "cpu-cluster", "CPU/request, cluster", Part::Median),
    row("http", "memory-laptop", "memory, laptop", Part::Median),
    row("http", "memory-cluster", "memory, cluster", Part::Median),
    row("redis-cluster", "latency", "latency p50", Part::Median),
    row("redis-cluster", "latency", "latency p99", Part::P99),
    row("redis-cluster", "operations", "GET and SET", Part::Median),
    row(
        "redis-cluster",
        "pipelined",
        "  sixteen in a pipeline",
        Part::Median,
    ),
    row("mongo-replica-set", "latency", "latency p50", Part::Median),
    row("mongo-replica-set", "latency", "latency p99", Part::P99),
    row("mongo-replica-set", "finds", "finds by _id", Part::Median),
    row("mongo-replica-set", "inserts", "inserts", Part::Median),
    row("dns", "latency", "latency p50", Part::Median),
    row("dns", "latency", "latency p99", Part::P99),
    row("dns", "lookups", "lookups", Part::Median),
];

const fn row(scenario: &'static str, metric: &'static str, label: &'static str, part: Part) -> Row {
    Row {
        scenario,
        metric,
        label,
        part,
    }
}

/// The name that people know a metric of a scenario by; its id where it has none.
pub(crate) fn label_of<'a>(scenario: &str, metric: &'a str) -> &'a str {
    let mut rows = ROWS.iter().filter(|row| row.part == Part::Median);
    rows.find(|row| row.scenario == scenario && row.metric == metric)
        .map_or(metric, |row| row.label.trim_start())
}

/// The comparison of all methods of a run.
#[must_use]
pub fn table(run: &Run) -> String {
    let mut text = heading(run);
    let ids: Vec<&MethodId> = run.methods.iter().map(|method| &method.id).collect();
    // More methods than fit stand in further tables, each with the control in front.
    let fit = (WIDTH - LABEL) / COLUMN;
    let (control, others): (Vec<&MethodId>, Vec<&MethodId>) =
        ids.iter().partition(|id| id.as_str() == "direct");
    let groups: Vec<Vec<&MethodId>> = if ids.len() <= fit {
        vec![ids]
    } else {
        others
            .chunks(fit - control.len())
            .map(|some| [&control, some].concat())
            .collect()
    };
    for group in groups {
        text.push('\n');
        text += &one_table(run, &group);
    }
    text + &footing(run)
}

fn heading(run: &Run) -> String {
    let cluster = &run.environment.cluster;
    let blocks = run
        .measurements
        .iter()
        .map(|m| m.block.saturating_add(1))
        .max()
        .unwrap_or(0);
    format!(
        "Inroads {} · {} {} · {} · {blocks} {} · seed {} · {}\n",
        terminal(&run.environment.inroads),
        terminal(&cluster.kind),
        terminal(&cluster.kubernetes),
        terminal(&run.run.profile),
        if blocks == 1 { "block" } else { "blocks" },
        run.run.seed,
        run.run.started_at.strftime("%Y-%m-%d %H:%M UTC"),
    )
}

fn one_table(run: &Run, methods: &[&MethodId]) -> String {
    let mut lines = vec![line("", methods.iter().map(|id| id.base().to_owned()))];
    // A variant has no room beside what it is a variant of.
    if methods.iter().any(|id| variant(id).is_some()) {
        let variants = methods.iter().map(|id| variant(id).unwrap_or_default());
        lines.push(line("", variants.map(ToOwned::to_owned)));
    }
    lines.push("─".repeat(LABEL + COLUMN * methods.len()));
    lines.push(line("set up in", methods.iter().map(|id| setup(run, id))));
    for (label, scores) in matrix::scores(run, methods) {
        let asked = |(passed, all): &(usize, usize)| match all {
            0 => MISSING.to_owned(),
            all => format!("{passed} of {all}"),
        };
        lines.push(line(label, scores.iter().map(asked)));
    }
    for scenario in &run.scenarios {
        let rows: Vec<&Row> = ROWS
            .iter()
            .filter(|row| row.scenario == scenario.id)
            .collect();
        let shown: Vec<(&Row, Vec<String>)> = rows
            .into_iter()
            .map(|row| {
                (
                    row,
                    methods
                        .iter()
                        .map(|id| cell(run, id, row))
                        .collect::<Vec<_>>(),
                )
            })
            .filter(|(_, cells)| cells.iter().any(|cell| cell != MISSING))
            .collect();
        if shown.is_empty() {
            continue;
        }
        lines.push(String::new());
        lines.push(terminal(&scenario.title));
        lines.extend(
            shown
                .into_iter()
                .map(|(row, cells)| line(&format!("  {}", row.label), cells)),
        );
    }
    lines
        .iter()
        .map(|line| line.trim_end())
        .fold(String::new(), |text, line| text + line + "\n")
}

/// The variant of a method, its colon in front.
fn variant(id: &MethodId) -> Option<&str> {
    id.as_str()
        .strip_prefix(id.base())
        .filter(|rest| !rest.is_empty())
}

/// What stands where there is no figure.
const MISSING: &str = "–";

fn line(label: &str, cells: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("{label:<LABEL$}");
    for cell in cells {
        write!(text, "{cell:>COLUMN$}").expect("writing to a string");
    }
    text
}

fn setup(run: &Run, id: &MethodId) -> String {
    let method = run.methods.iter().find(|method| method.id == *id);
    let ms = method.and_then(|method| method.setup_ms);
    ms.map_or("not run".to_owned(), |ms| {
        compact(&figure(ms / 1e3, Unit::Seconds))
    })
}

/// A figure, with its ratio to the control where there is one.
fn cell(run: &Run, id: &MethodId, row: &Row) -> String {
    let summary = run
        .summary
        .iter()
        .find(|s| s.method == *id && s.scenario == row.scenario && s.metric == row.metric);
    let Some(summary) = summary else {
        let tried = run
            .measurements
            .iter()
            .any(|m| m.method == *id && m.scenario == row.scenario && m.metric == row.metric);
        return if tried {
            "invalid".to_owned()
        } else {
            MISSING.to_owned()
        };
    };
    match row.part {
        Part::Median => with_ratio(summary),
        Part::P99 => {
            let values: Vec<f64> = run
                .measurements
                .iter()
                .filter(|m| {
                    m.valid
                        && m.method == *id
                        && m.scenario == row.scenario
                        && m.metric == row.metric
                })
                .filter_map(|m| m.p99)
                .collect();
            median(&values).map_or(MISSING.to_owned(), |p99| {
                compact(&figure(p99, summary.unit))
            })
        }
    }
}

fn with_ratio(summary: &Summary) -> String {
    let value = compact(&figure(summary.median, summary.unit));
    match summary.ratio_to_direct {
        Some(_) if summary.method.as_str() == "direct" => value,
        Some(by) => format!("{value} {}", ratio(by)),
        None => value,
    }
}

/// Takes out what a narrow column has no room for: `9.31 Gbit/s` becomes `9.31 Gb/s`, `38.2 k/s` `38.2k/s`.
fn compact(figure: &str) -> String {
    figure.replace("bit/s", "b/s").replace(' ', "")
}

fn footing(run: &Run) -> String {
    let mut text = String::new();
    if run
        .methods
        .iter()
        .any(|method| method.id.as_str() == "direct")
    {
        text += "\n× is the ratio to `direct` in the same block; latency at the rate that every method carries.\n";
    }
    let stand_ins: Vec<String> = stand_ins(run).into_iter().map(terminal).collect();
    if let Some(LaptopsInfo { count, place }) = &run.environment.laptops {
        let place = terminal(place);
        writeln!(text, "rates are those of {count} laptops together, {place}")
            .expect("writing to a string");
    }
    if !stand_ins.is_empty() {
        writeln!(text, "stand-ins: {}", stand_ins.join(", ")).expect("writing to a string");
    }
    for warning in &run.warnings {
        if warning.kind == INTERRUPTED {
            // The rest of it stands in the report.
            let what = terminal(warning.text.split(" (").next().unwrap_or_default());
            writeln!(text, "{what}, see report.md").expect("writing to a string");
        }
    }
    let cautions = run
        .warnings
        .iter()
        .filter(|warning| warning.is_caution())
        .count();
    if cautions > 0 {
        writeln!(
            text,
            "cautions about single figures: {cautions}, see report.md"
        )
        .expect("writing to a string");
    }
    for probe in run.probes.iter().filter(|probe| probe.is_surprise()) {
        writeln!(
            text,
            "not as expected: {} through {} ({}), see report.md",
            terminal(&probe.id),
            probe.method,
            probe.outcome()
        )
        .expect("writing to a string");
    }
    let status = match run.run.status {
        Status::Complete => "",
        Status::Partial => {
            "PARTIAL: not everything that was asked for was done; see the warnings.\n"
        }
        Status::Failed => "FAILED: see the warnings.\n",
    };
    text + status
}
