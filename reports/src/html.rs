//! The report as one HTML page: everything a run found, for a browser that is offline.
//!
//! Nothing is fetched and nothing is executed; the page has no script. maud escapes whatever came from a run, and drawings
//! are escaped by plotters. Colours come from the style sheet alone, so that a page reads on light, on dark and on paper.

mod axis;
mod chart;
mod claims;
mod cost;
mod decision;
mod figures;
mod forest;
mod head;
mod heat;
mod latency;
mod origin;
mod rates;
mod transparency;
mod view;

use inroads_harness::comparison::Comparison;
use inroads_harness::run::Run;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use view::View;

const STYLE: &str = include_str!("html/page.css");

/// Nothing is loaded and nothing runs, whatever a name or an error text may hold.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The report of a run as a page of HTML, and what became of it since a baseline where there is one.
#[must_use]
pub fn html(run: &Run, against: Option<&Comparison>) -> String {
    let view = View::of(run);
    page(&view, against).into_string()
}

fn page(view: &View<'_>, against: Option<&Comparison>) -> Markup {
    let title = format!("Inroads: {}", view.run.run.id);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#decision" { "Skip to the decision table" }
                div.sheet {
                    (contents(against.is_some()))
                    main {
                        (head::head(view, against))
                        (decision::decision(view))
                        (heat::heat(view))
                        (latency::percentiles(view))
                        (rates::rates(view))
                        (latency::timeline(view))
                        (figures::figures(view))
                        (transparency::transparency(view))
                        (claims::claims(view))
                        @if let Some(against) = against { (forest::forest(view, against)) }
                        (cost::cost(view))
                        (origin::origin(view))
                    }
                }
                footer { "Rendered by Inroads " (env!("CARGO_PKG_VERSION")) " from " code { "run.json" } " alone." }
            }
        }
    }
}

/// The sections, by their ids.
fn contents(compared: bool) -> Markup {
    let sections = [
        ("verdict", "Verdict"),
        ("decision", "Decision"),
        ("heat", "Heat-map"),
        ("percentiles", "Percentiles"),
        ("throughput", "Throughput"),
        ("timeline", "Timeline"),
        ("figures", "Figures"),
        ("transparency", "Transparency"),
        ("claims", "Claims"),
        ("baseline", "Baseline"),
        ("cost", "Cost"),
        ("environment", "Environment"),
    ];
    let shown = sections
        .into_iter()
        .filter(|(id, _)| compared || *id != "baseline");
    html! {
        nav aria-label="Contents" {
            p.brand { "Inroads" }
            ol { @for (id, name) in shown { li { a href=(format!("#{id}")) { (name) } } } }
        }
    }
}
