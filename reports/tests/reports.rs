//! Every renderer on one input, side by side, and the schema against what is committed.

use inroads_harness::run::Run;
use inroads_reports::{SCHEMA_FILE, beside, markdown, matrix, read, schema, table};

/// A run with every kind of verdict and cell, and with hostile texts.
fn sample() -> Run {
    read(include_str!("sample-run.json")).expect("the sample is a result file")
}

#[test]
fn the_table_fits_a_terminal() {
    let text = table(&sample());
    insta::assert_snapshot!(text);
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns");
}

#[test]
fn the_markdown_report_holds_everything() {
    insta::assert_snapshot!(markdown(&sample(), None));
}

#[test]
fn a_run_beside_itself_agrees_and_beside_another_shows_where_not() {
    let run = sample();
    let alone = beside(&run, &run);
    assert!(alone.contains("(100%)"), "{alone}");
    assert!(!alone.contains("| no |"), "{alone}");

    let mut other = run.clone();
    other.environment.cluster.kind = "kind".to_owned();
    let probe = &mut other.probes[0];
    probe.verdict = inroads_harness::run::Verdict::Fail;
    probe.effort = None;
    probe.reason = Some("a <b>hostile</b> | reason".to_owned());
    let (id, method) = (probe.id.clone(), probe.method.clone());
    let text = beside(&run, &other);
    let row = format!("| `{id}` | {method} |");
    let found = text.lines().find(|line| line.starts_with(&row));
    let found = found.unwrap_or_else(|| panic!("no row {row}: {text}"));
    assert!(!found.contains("<b>"), "{found}");
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(SCHEMA_FILE);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema(),
        "{SCHEMA_FILE} is not what the types say; write it anew with `cargo run -- schema > reports/{SCHEMA_FILE}`"
    );
}

#[test]
fn the_sample_is_valid_against_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let sample: serde_json::Value = serde_json::from_str(include_str!("sample-run.json")).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&sample)
        .map(|e| format!("{} at {}", e, e.instance_path()))
        .collect();
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn the_matrix_shows_marks_scores_and_surprises() {
    let text = matrix(&sample());
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    insta::assert_snapshot!(text);
}
