//! The head: the verdict, what ran, what did not and why, and on what.

use std::collections::BTreeMap;

use inroads_harness::comparison::{Comparison, Decision};
use inroads_harness::expected::Outcome;
use inroads_harness::run::{Level, ProbeResult, Run, Status, Warning};
use maud::{Markup, html};

use super::view::View;

/// Probes that the banner names.
const SURPRISES: usize = 5;

/// A judgement: class, mark, word, and what it means.
type Judgement = (&'static str, &'static str, &'static str, &'static str);

pub(crate) fn head(view: &View<'_>, against: Option<&Comparison>) -> Markup {
    let run = view.run;
    html! {
        header #verdict {
            p.kicker { "Inroads " (run.environment.inroads) " · run " (run.run.id) }
            h1 { "Ways into the cluster" }
            p.command { code { (run.run.command) } }
            div.banners {
                (banner(status(run.run.status), &[]))
                @if let Some(surprised) = surprised(run, against) { (surprised) }
                @if let Some(against) = against {
                    (banner(decision(against.decision), &against.reasons))
                }
            }
            (facts(view))
            (ran(view))
            (not_run(view))
            (warnings(run))
            (view.stand_in_note())
        }
    }
}

/// Where required probes came out otherwise than is expected, and nobody has said that they may.
fn surprised(run: &Run, against: Option<&Comparison>) -> Option<Markup> {
    let verdicts = || against.into_iter().flat_map(|it| &it.verdicts);
    let accepted = |probe: &ProbeResult| {
        verdicts().any(|it| {
            it.acknowledged.is_some() && it.probe == probe.id && it.method == probe.method
        })
    };
    let surprises = run
        .probes
        .iter()
        .filter(|it| it.level == Level::Must && it.is_surprise());
    let names: Vec<String> = surprises
        .filter(|it| !accepted(it))
        .map(|it| format!("{} through {}", it.id, it.method))
        .collect();
    let judgement = (
        "bad",
        "!",
        "Not as expected",
        "Required probes came out otherwise than is expected of their method, for better or worse.",
    );
    let (shown, more) = names.split_at(names.len().min(SURPRISES));
    let mut reasons = shown.to_vec();
    if !more.is_empty() {
        reasons.push(format!("{} more", more.len()));
    }
    (!reasons.is_empty()).then(|| banner(judgement, &reasons))
}

fn banner((class, mark, word, meaning): Judgement, reasons: &[String]) -> Markup {
    html! {
        div.banner.(class) role="status" {
            span.sign aria-hidden="true" { (mark) }
            div {
                strong { (word) }
                p { (meaning) }
                @if !reasons.is_empty() {
                    ul { @for reason in reasons { li { (reason) } } }
                }
            }
        }
    }
}

fn status(status: Status) -> Judgement {
    match status {
        Status::Complete => ("good", "✔", "Complete", "All that was asked for was done."),
        Status::Partial => (
            "unsure",
            "◐",
            "Partial",
            "Not everything that was asked for was done; what is missing stands below.",
        ),
        Status::Failed => (
            "bad",
            "✘",
            "Failed",
            "The harness itself failed; the figures are what there was until then.",
        ),
    }
}

fn decision(decision: Decision) -> Judgement {
    match decision {
        Decision::Pass => (
            "good",
            "✔",
            "Pass",
            "Nothing is worse than in the baseline.",
        ),
        Decision::Regressed => (
            "bad",
            "▼",
            "Regressed",
            "A figure that may not become worse has become worse.",
        ),
        Decision::VerdictChanged => (
            "bad",
            "≠",
            "Verdict changed",
            "A required probe came out otherwise than in the baseline.",
        ),
        Decision::Incomplete => (
            "unsure",
            "?",
            "Incomplete",
            "Figures or verdicts of the baseline are missing.",
        ),
        Decision::Inconclusive => (
            "unsure",
            "?",
            "Inconclusive",
            "It cannot be said whether something became worse.",
        ),
    }
}

fn facts(view: &View<'_>) -> Markup {
    let run = view.run;
    let (environment, cluster) = (&run.environment, &run.environment.cluster);
    let took = run.run.finished_at.map(|end| {
        let seconds = end
            .as_second()
            .saturating_sub(run.run.started_at.as_second());
        format!(", {} min {:02} s", seconds / 60, seconds.rem_euclid(60))
    });
    html! {
        dl.facts {
            div { dt { "Began" } dd {
                (run.run.started_at.strftime("%Y-%m-%d %H:%M UTC").to_string())
                (took.unwrap_or_else(|| ", and did not end".to_owned()))
            } }
            div { dt { "Cluster" } dd { (cluster.kind) " " (cluster.kubernetes) ", " (cluster.nodes) " nodes" } }
            div { dt { "Measured" } dd {
                (run.run.profile) ", " (counted(view.block_count().try_into().unwrap_or_default(), "block"))
                ", seed " (run.run.seed)
            } }
            div { dt { "Machine" } dd { (environment.cores) " × " (environment.cpu) ", Linux " (environment.kernel) } }
            div.fingerprint { dt { "Fingerprint" } dd { code { (environment.comparable_key) } } }
        }
    }
}

fn counted(count: usize, of: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {of}{s}")
}

fn ran(view: &View<'_>) -> Markup {
    let run = view.run;
    let answered = run
        .probes
        .iter()
        .filter(|it| it.outcome() != Outcome::NotRun);
    let figures = run.measurements.iter().filter(|it| it.valid).count();
    let surprises = run.probes.iter().filter(|it| it.is_surprise()).count();
    let names = |all: Vec<&str>| all.join(", ");
    html! {
        p.ran {
            strong { "What ran. " }
            (counted(view.methods.len(), "method")) " (" (names(view.methods.iter().map(|it| it.as_str()).collect())) "), "
            (counted(run.scenarios.len(), "scenario"))
            " (" (names(run.scenarios.iter().map(|it| it.title.as_str()).collect())) "): "
            (counted(answered.count(), "probe")) " answered, " (counted(figures, "valid figure")) ". "
            @if surprises > 0 {
                strong { (counted(surprises, "answer")) " not as expected" } ", see "
                a href="#transparency" { "the matrix" } "."
            }
        }
    }
}

/// What did not run, by its reason.
fn not_run(view: &View<'_>) -> Markup {
    let run = view.run;
    let mut why: BTreeMap<(String, &str), Vec<&str>> = BTreeMap::new();
    for probe in run
        .probes
        .iter()
        .filter(|it| it.outcome() == Outcome::NotRun)
    {
        let reason = probe.reason.as_deref().unwrap_or("no reason was recorded");
        let what = format!("{} not asked", probe.id);
        why.entry((what, reason))
            .or_default()
            .push(probe.method.as_str());
    }
    for it in run.measurements.iter().filter(|it| !it.valid) {
        let reason = it
            .invalid_reason
            .as_deref()
            .unwrap_or("no reason was recorded");
        let what = format!("{} {} invalid", it.scenario, it.metric);
        let methods = why.entry((what, reason)).or_default();
        if !methods.contains(&it.method.as_str()) {
            methods.push(it.method.as_str());
        }
    }
    html! {
        @if why.is_empty() {
            p.ran { strong { "What did not. " } "Nothing that was asked for is missing." }
        } @else {
            details {
                summary { strong { "What did not, and why" } " (" (why.len()) ")" }
                ul.reasons {
                    @for ((what, reason), methods) in &why {
                        li { strong { (what) } " through " (methods.join(", ")) ": " (reason) }
                    }
                }
            }
        }
    }
}

/// What a reader must know; cautions about single figures lie behind a click, and never alone say that all is well.
fn warnings(run: &Run) -> Markup {
    let (cautions, others): (Vec<&Warning>, Vec<&Warning>) =
        run.warnings.iter().partition(|it| it.is_caution());
    let list = |warnings: &[&Warning]| {
        html! {
            ul.reasons {
                @for warning in warnings {
                    li { strong { (warning.kind) } ": " (warning.text) " " span.remedy { (warning.remedy) } }
                }
            }
        }
    };
    html! {
        @if !others.is_empty() {
            div.warnings { p { strong { "⚠ Before trusting the figures" } } (list(&others)) }
        }
        @if !cautions.is_empty() {
            details {
                summary { strong { "Cautions about single figures" } " (" (cautions.len()) ")" }
                (list(&cautions))
            }
        }
    }
}
