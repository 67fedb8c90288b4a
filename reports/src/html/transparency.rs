//! The transparency matrix, and the evidence behind each of its cells.

use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::run::{Level, ProbeResult};
use maud::{Markup, html};

use super::view::{View, none, section, wide};
use crate::matrix::{find, groups, mark, scores};
use crate::why::why;

pub(crate) fn transparency(view: &View<'_>) -> Markup {
    let about = "What a client in a pod takes for granted, tried through each method. A mark leads to what was expected and \
                 what was seen.";
    let body = html! {
        @if view.run.probes.is_empty() {
            (none("No probe was asked in this run."))
        } @else {
            (legend())
            (wide("Transparency matrix", table(view)))
            (surprises(view))
            (reasons(view))
            h3 #evidence { "Evidence" }
            (evidence(view))
            (view.stand_in_note())
        }
    };
    section("transparency", "What works, and what does not", about, body)
}

fn legend() -> Markup {
    html! {
        ul.marks aria-label="Marks" {
            @for (outcome, text) in [
                (Outcome::Unmodified, "works unmodified"),
                (Outcome::Configured, "works configured, or rewritten"),
                (Outcome::Fail, "fails"),
                (Outcome::Unsupported, "cannot by design"),
                (Outcome::NotRun, "not run"),
            ] { li { span.(class(outcome)) { (mark(outcome)) } " " (text) } }
            li { span.surprise { "!" } " not as expected" }
            li { "“should”: good to have, not counted" }
        }
    }
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unmodified => "pass",
        Outcome::Configured | Outcome::Rewritten => "part",
        Outcome::Fail => "fail",
        Outcome::Unsupported | Outcome::NotRun => "not",
    }
}

fn table(view: &View<'_>) -> Markup {
    let columns = view.methods.len() + 1;
    html! {
        table.matrix {
            caption { "Probes by group, methods beside each other" }
            thead { tr {
                th scope="col" { "probe" }
                @for method in &view.methods { th scope="col" { (view.name(method)) } }
            } }
            @for (group, ids) in groups(view.run) {
                tbody {
                    tr.group { th scope="rowgroup" colspan=(columns) { span { (group) } } }
                    @for id in ids { (row(view, id)) }
                }
            }
            tfoot { @for (label, scores) in scores(view.run, &view.methods) {
                tr {
                    th scope="row" { (label) }
                    @for (passed, all) in scores {
                        td { @if all == 0 { "–" } @else { b { (passed) } " of " (all) } }
                    }
                }
            } }
        }
    }
}

fn row(view: &View<'_>, id: &str) -> Markup {
    let level = view
        .run
        .probes
        .iter()
        .find(|it| it.id == id)
        .map(|it| it.level);
    html! {
        tr {
            th scope="row" {
                (id.split_once('/').map_or(id, |(_, name)| name))
                @if level == Some(Level::Should) { " " small { "should" } }
            }
            @for method in &view.methods { td { (cell(view, id, method)) } }
        }
    }
}

fn cell(view: &View<'_>, id: &str, method: &MethodId) -> Markup {
    let Some(probe) = find(view.run, id, method) else {
        return html! { span.not { "–" span.unseen { " not asked" } } };
    };
    let outcome = probe.outcome();
    let effort = matches!(outcome, Outcome::Configured | Outcome::Rewritten);
    html! {
        a.(class(outcome)) href=(format!("#{}", anchor(view, probe))) {
            (mark(outcome))
            @if effort { " " small { (outcome) } } @else { span.unseen { " " (outcome) } }
            @if probe.is_surprise() { " " span.surprise { "!" span.unseen { " not as expected" } } }
        }
    }
}

/// The place of a probe's evidence: by its number, for a name may hold anything.
fn anchor(view: &View<'_>, probe: &ProbeResult) -> String {
    let number = view
        .run
        .probes
        .iter()
        .position(|it| std::ptr::eq(it, probe));
    format!("probe-{}", number.unwrap_or_default())
}

fn surprises(view: &View<'_>) -> Markup {
    let all: Vec<&ProbeResult> = view
        .run
        .probes
        .iter()
        .filter(|it| it.is_surprise())
        .collect();
    html! {
        @if !all.is_empty() {
            h3 { "Not as expected" }
            ul.reasons { @for probe in all {
                li {
                    a href=(format!("#{}", anchor(view, probe))) { code { (probe.id) } }
                    " through " (probe.method) ": " strong { (probe.outcome()) }
                    @if let Some(foreseen) = probe.foreseen { ", where " (foreseen) " was expected" }
                }
            } }
        }
    }
}

fn reasons(view: &View<'_>) -> Markup {
    let paragraphs = why(view.run);
    html! {
        @if !paragraphs.is_empty() {
            h3 { "Why" }
            @for method in &view.methods {
                @let of_method: Vec<_> = paragraphs.iter().filter(|(id, ..)| id == method).collect();
                @if !of_method.is_empty() {
                    details {
                        summary { (view.name(method)) " " small { "what fails or takes effort, in " (of_method.len()) @if of_method.len() == 1 { " group" } @else { " groups" } } }
                        dl.why { @for (_, group, text) in of_method { dt { (group) } dd { (text) } } }
                    }
                }
            }
        }
    }
}

fn evidence(view: &View<'_>) -> Markup {
    html! {
        @for (_, ids) in groups(view.run) {
            @for id in ids {
                @let answers: Vec<&ProbeResult> =
                    view.methods.iter().filter_map(|method| find(view.run, id, method)).collect();
                details.evidence {
                    summary {
                        code { (id) }
                        span.verdicts { @for probe in &answers {
                            span.(class(probe.outcome())) title=(probe.method) { (mark(probe.outcome())) }
                        } }
                    }
                    @if let Some(probe) = answers.first() {
                        p.expected { strong { "Expected: " } (probe.expected) }
                    }
                    @for probe in answers { (answer(view, probe)) }
                }
            }
        }
    }
}

fn answer(view: &View<'_>, probe: &ProbeResult) -> Markup {
    let outcome = probe.outcome();
    html! {
        article #(anchor(view, probe)) tabindex="-1" {
            h4 {
                (view.name(&probe.method)) " "
                span.(class(outcome)) { (mark(outcome)) " " (outcome) }
                @if probe.is_surprise() { " " span.surprise { "! not as expected" } }
                " " small { (format!("{:.0} ms", probe.duration_ms)) }
            }
            @if !probe.seen.is_empty() { p.seen { (probe.seen) } }
            @if let Some(reason) = &probe.reason { p { strong { "Reason: " } (reason) } }
        }
    }
}
