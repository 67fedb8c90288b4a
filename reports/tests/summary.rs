//! A report that goes into a CI job's summary, which has a limit.

#[path = "given/inputs.rs"]
mod inputs;

use inputs::{against, sample};
use inroads_harness::run::Run;
use inroads_reports::{MARKDOWN_LIMIT, markdown};

/// GitHub's limit for the summary of a step, in bytes of UTF-8.
const GITHUB: usize = 1024 * 1024;

/// A run as large as one of the profile `thorough` over everything with all peers: twice as many probes, methods and
/// scenarios as there are.
fn thorough() -> Run {
    let sample = sample();
    let mut run = sample.clone();
    for copy in 1..4 {
        run.methods
            .extend(sample.methods.iter().cloned().map(|mut method| {
                method.id = format!("{}:{copy}", method.id)
                    .parse()
                    .expect("a test's own data");
                method
            }));
    }
    run.probes = (0..80)
        .flat_map(|number| {
            let template = sample.probes[number % sample.probes.len()].clone();
            run.methods.iter().map(move |method| {
                let mut probe = template.clone();
                probe.id = format!("group-{}/probe-{number}", number / 10);
                probe.method = method.id.clone();
                probe
            })
        })
        .collect();
    run.scenarios = (0..8)
        .map(|number| {
            let mut scenario = sample.scenarios[0].clone();
            scenario.id = format!("scenario-{number}");
            scenario
        })
        .collect();
    run.summary = run
        .scenarios
        .iter()
        .flat_map(|scenario| {
            let methods = run
                .methods
                .iter()
                .flat_map(|method| (0..14).map(move |m| (method, m)));
            methods.map(|(method, metric)| {
                let mut line = sample.summary[0].clone();
                line.method = method.id.clone();
                line.scenario = scenario.id.clone();
                line.metric = format!("metric-{metric}");
                line
            })
        })
        .collect();
    run
}

#[test]
fn a_thorough_run_fits_a_jobs_summary_with_all_its_evidence() {
    let run = thorough();
    assert_eq!(
        (run.methods.len(), run.probes.len(), run.summary.len()),
        (20, 1600, 2240)
    );
    let text = markdown(&run, Some(&against()));
    assert!(text.len() < MARKDOWN_LIMIT, "{} bytes", text.len());
    assert!(text.contains("### `group-7/probe-79`") && !text.contains("has no room"));
}

#[test]
fn evidence_gives_way_first_and_the_report_says_so() {
    let mut run = thorough();
    for probe in &mut run.probes {
        probe.seen = "unmodified: a very long story; ".repeat(40);
    }
    let text = markdown(&run, None);
    assert!(
        text.len() <= MARKDOWN_LIMIT && text.len() < GITHUB,
        "{} bytes",
        text.len()
    );
    assert!(
        text.len() > MARKDOWN_LIMIT / 2,
        "there was room for more: {} bytes",
        text.len()
    );
    assert!(text.contains("more probes is in run.json"));
    assert!(text.contains("## Figures") && text.contains("To do it again"));
    assert_eq!(
        text.matches("<details>").count(),
        text.matches("</details>").count()
    );
}

#[test]
fn a_report_that_is_too_long_without_its_evidence_is_cut_between_lines() {
    let mut run = thorough();
    for warning in &mut run.warnings {
        warning.text = "×".repeat(MARKDOWN_LIMIT);
    }
    let text = markdown(&run, None);
    assert!(text.len() <= MARKDOWN_LIMIT, "{} bytes", text.len());
    assert!(text.ends_with("All of it is in run.json.*\n"));
    assert!(text.contains("## Warnings\n"), "what fits is there");
}
