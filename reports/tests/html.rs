//! The page as text: that it holds everything, fetches nothing, and lets nobody else write in it.

use std::collections::BTreeSet;
use std::time::Duration;

use inroads_harness::clock::Stopwatch;
use inroads_harness::comparison::Decision;
use inroads_harness::run::{Measurement, Provenance, Run, Status};
use inroads_reports::html;

#[path = "html/runs.rs"]
mod runs;

/// What stands in all attributes of a name.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let before = format!(" {name}=\"");
    let parts = page.split(before.as_str()).skip(1);
    parts.filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_section_is_there_in_its_order_and_the_baseline_only_with_a_comparison() {
    let (run, against) = (runs::sample(), runs::comparison());
    let order = [
        "verdict",
        "decision",
        "heat",
        "percentiles",
        "throughput",
        "timeline",
        "figures",
        "transparency",
        "claims",
        "baseline",
        "cost",
        "environment",
    ];
    let page = html(&run, Some(&against));
    let places: Vec<usize> = order
        .iter()
        .map(|id| {
            let place = page.find(&format!("<section id=\"{id}\""));
            place
                .or(page.find(&format!("<header id=\"{id}\"")))
                .unwrap_or_else(|| panic!("no section {id}"))
        })
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    let alone = html(&run, None);
    assert!(!alone.contains("id=\"baseline\"") && !alone.contains("#baseline"));
}

#[test]
fn no_hostile_text_becomes_markup() {
    let page = html(&runs::hostile(), Some(&runs::comparison()));
    assert!(
        page.matches("&lt;script&gt;window.__pwned=1").count() > 20,
        "the texts are there"
    );
    for markup in ["<script", "<img", "onerror=\"", "javascript:"] {
        assert!(!page.contains(markup), "{markup}");
    }
    // One of each, and at its place: nothing has ended one before its time.
    for tag in ["</title>", "</style>", "</main>", "</body>"] {
        assert_eq!(page.matches(tag).count(), 1, "{tag}");
    }
    for element in ["table", "svg", "text", "section", "details", "code"] {
        let opened = page.matches(&format!("<{element} ")).count()
            + page.matches(&format!("<{element}>")).count();
        assert_eq!(
            opened,
            page.matches(&format!("</{element}>")).count(),
            "{element}"
        );
    }
}

#[test]
fn the_page_asks_for_nothing() {
    let page = html(&runs::sample(), Some(&runs::comparison()));
    for request in [
        "http:", "https:", "src=\"", "url(", "@import", "<script", "<iframe", "<object", "xlink",
    ] {
        assert!(!page.contains(request), "{request}");
    }
    assert!(page.contains("content=\"default-src 'none'; "));
    assert!(page.contains("<link rel=\"icon\" href=\"data:,\">"));
}

#[test]
fn ids_are_unique_and_every_link_leads_somewhere() {
    let page = html(&runs::sample(), Some(&runs::comparison()));
    let ids = attributes(&page, "id");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
    let links: Vec<&str> = attributes(&page, "href")
        .into_iter()
        .filter_map(|it| it.strip_prefix('#'))
        .collect();
    assert!(links.len() > 40, "{links:?}");
    for link in links
        .into_iter()
        .chain(attributes(&page, "aria-labelledby"))
        .chain(attributes(&page, "for"))
    {
        assert!(unique.contains(link), "{link} leads nowhere");
    }
}

#[test]
fn the_banner_says_in_words_how_it_ended() {
    let mut run = runs::sample();
    let mut against = runs::comparison();
    for (status, word) in [
        (Status::Complete, "Complete"),
        (Status::Partial, "Partial"),
        (Status::Failed, "Failed"),
    ] {
        run.run.status = status;
        assert!(
            html(&run, None).contains(&format!("<strong>{word}</strong>")),
            "{word}"
        );
    }
    for (decision, word) in [
        (Decision::Pass, "Pass"),
        (Decision::Regressed, "Regressed"),
        (Decision::VerdictChanged, "Verdict changed"),
        (Decision::Incomplete, "Incomplete"),
        (Decision::Inconclusive, "Inconclusive"),
    ] {
        against.decision = decision;
        assert!(
            html(&run, Some(&against)).contains(&format!("<strong>{word}</strong>")),
            "{word}"
        );
    }
}

#[test]
fn what_is_invalid_is_hatched_and_says_so() {
    // The sample's `forward` did not carry the rate of `dns`.
    let page = html(&runs::sample(), None);
    let cell = "<td class=\"num hatched\" title=\"carried 71% of the asked 2000/s\">invalid</td>";
    assert!(page.contains(cell), "{page}");
    assert!(page.contains("<strong>dns latency invalid</strong> through forward: carried 71%"));
}

#[test]
fn stand_ins_are_named_beside_figures_and_only_where_there_are_any() {
    let mut run = runs::sample();
    let note = "Measured with stand-ins: kube-apiserver";
    assert!(html(&run, None).matches(note).count() >= 7);
    for component in &mut run.environment.components {
        component.provenance = Provenance::Real;
    }
    assert!(!html(&run, None).contains("stand-ins"));
}

#[test]
fn blocking_changes_stand_before_advisory_ones() {
    let page = html(&runs::sample(), Some(&runs::comparison()));
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(place("<caption>Blocking") < place("<caption>Advisory: shown"));
    assert!(place("<caption>Advisory: shown") < place("<caption>Advisory, no change"));
    for word in [
        "worse, acknowledged",
        "worse, not confirmed",
        "better",
        "unclear",
        "missing",
        "no change found",
    ] {
        assert!(page.contains(&format!("</span> {word}</span>")), "{word}");
    }
}

/// A run as it is when nothing was measured and nothing asked.
fn empty() -> Run {
    let mut run = runs::sample();
    run.measurements.clear();
    run.summary.clear();
    run.probes.clear();
    run.claims.clear();
    run
}

#[test]
fn a_run_without_figures_says_that_there_are_none() {
    let page = html(&empty(), None);
    for text in [
        "Nothing was measured",
        "There are no histograms",
        "No probe was asked",
        "This run answers no claims",
    ] {
        assert!(page.contains(text), "{text}");
    }
    let mut nobody = empty();
    nobody.methods.clear();
    nobody.scenarios.clear();
    assert!(html(&nobody, None).ends_with("</html>"));
}

#[test]
fn figures_that_are_no_figures_are_drawn_as_far_as_they_can_be() {
    let mut run = runs::sample();
    let absurd = [
        0.0,
        -1.0,
        1e308,
        -1e308,
        1e-308,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    for (it, value) in run.measurements.iter_mut().zip(absurd.iter().cycle()) {
        (it.value, it.p50, it.p99) = (*value, Some(*value), Some(*value));
        it.histogram = Some("AAAA".to_owned());
        it.block = u32::MAX;
    }
    for (it, value) in run.summary.iter_mut().zip(absurd.iter().cycle()) {
        (it.median, it.ci_low, it.ci_high) = (*value, Some(*value), Some(-*value));
        (it.ratio_to_direct, it.ratio_ci_low, it.ratio_ci_high) =
            (Some(*value), Some(*value), Some(*value));
    }
    let mut against = runs::comparison();
    for (change, value) in against.changes.iter_mut().zip(absurd) {
        if let Some(by) = &mut change.worsening {
            (by.estimate, by.low, by.high) = (value, value, value);
        }
    }
    assert!(html(&run, Some(&against)).ends_with("</html>"));
}

/// As large as a thorough run: ten blocks of five methods and four scenarios.
fn thorough() -> Run {
    let mut run = runs::sample();
    let once = run.measurements.clone();
    let scenarios = ["http", "dns", "redis-cluster", "mongo-replica-set"];
    run.measurements.clear();
    run.scenarios = scenarios
        .map(|id| {
            let mut scenario = run.scenarios[0].clone();
            (scenario.id, scenario.title) = (id.to_owned(), id.to_owned());
            scenario
        })
        .to_vec();
    let first = |it: &&Measurement| it.block == 0 && it.scenario == "http";
    for (scenario, block) in scenarios
        .iter()
        .flat_map(|it| (0..10).map(move |n| (it, n)))
    {
        for it in once.iter().filter(first) {
            let histogram = it
                .metric
                .starts_with("latency")
                .then(|| runs::histogram(it, 20_000));
            run.measurements.push(Measurement {
                scenario: (*scenario).to_owned(),
                block,
                histogram,
                ..it.clone()
            });
        }
    }
    let lines = run.summary.clone();
    run.summary = scenarios
        .iter()
        .flat_map(|scenario| {
            let of_http = lines.iter().filter(|it| it.scenario == "http");
            of_http.cloned().map(|mut line| {
                line.scenario = (*scenario).to_owned();
                line
            })
        })
        .collect();
    run
}

#[test]
fn a_thorough_run_is_rendered_in_less_than_a_second() {
    let (run, against) = (thorough(), runs::comparison());
    let figures = run
        .measurements
        .iter()
        .filter(|it| it.histogram.is_some())
        .count();
    assert_eq!(figures, 10 * 5 * 4 * 2, "latencies, corrected and raw");
    let clock = Stopwatch::start();
    let page = html(&run, Some(&against));
    let took = clock.elapsed();
    assert!(page.matches("<svg").count() > 40);
    assert!(
        took < Duration::from_secs(1),
        "{took:?} for {} bytes",
        page.len()
    );
    println!("{took:?} for {} bytes", page.len());
}
