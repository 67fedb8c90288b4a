//! Result files that were cut off, edited, or written by another program or another version.

#[path = "given/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;

use inputs::{against, sample};
use inroads_harness::run::{Run, SCHEMA_VERSION};
use inroads_reports::{
    Direction, ReadError, bencher, benchmark_action, beside, csv, junit, markdown, matrix,
    openmetrics, read, table,
};
use serde_json::{Value, json};

const SAMPLE: &str = include_str!("sample-run.json");

/// Renders a run in every form, which must not panic, and gives the shortest.
fn render(run: &Run) -> usize {
    let forms = [
        table(run),
        matrix(run),
        markdown(run, Some(&against())),
        beside(run, run),
        junit(run, Some(&against())),
        csv(run),
        openmetrics(run),
        benchmark_action(run, Direction::SmallerIsBetter),
        benchmark_action(run, Direction::BiggerIsBetter),
        bencher(run),
    ];
    forms
        .iter()
        .map(String::len)
        .min()
        .expect("a test's own data")
}

/// The sample with one field changed, by its JSON pointer.
fn with(pointer: &str, value: Value) -> String {
    let mut file: Value = serde_json::from_str(SAMPLE).expect("a test's own data");
    *file.pointer_mut(pointer).expect(pointer) = value;
    serde_json::to_string_pretty(&file).expect("a test's own data")
}

fn refused(file: impl AsRef<[u8]>) -> String {
    let error = read(file).expect_err("it is no result file").to_string();
    let hint = error.lines().last().expect("a test's own data");
    assert!(
        hint.starts_with("(hint: ") && hint.ends_with(')'),
        "{error}"
    );
    assert_eq!(error.matches("(hint: ").count(), 1, "{error}");
    error
}

#[test]
fn the_oldest_file_still_reads_and_renders_in_every_form() {
    let run = read(include_str!("old-run-v1.json")).unwrap();
    assert_eq!(run.schema_version, 1);
    assert!(run.claims.iter().all(|claim| claim.redo.is_empty()));
    assert!(run.probes.iter().all(|probe| probe.foreseen.is_none()));
    assert!(render(&run) > 100);
}

#[test]
fn a_run_that_was_killed_reads_though_nothing_is_summed_up() {
    let mut file: Value = serde_json::from_str(SAMPLE).unwrap();
    file["run"]["finished_at"] = Value::Null;
    file["summary"] = json!([]);
    file["claims"] = json!([]);
    file["measurements"].as_array_mut().unwrap().truncate(7);
    file["probes"].as_array_mut().unwrap().truncate(4);
    let run = read(file.to_string()).unwrap();
    render(&run);
    assert!(run.run.finished_at.is_none());
}

#[test]
fn a_field_that_is_not_known_is_passed_over() {
    let mut file: Value = serde_json::from_str(SAMPLE).unwrap();
    file["of_tomorrow"] = json!({ "a": 1 });
    file["measurements"][3]["of_tomorrow"] = json!("x");
    assert!(read(file.to_string()).is_ok());
}

#[test]
fn what_is_no_result_file_is_told_apart() {
    assert_eq!(read("").unwrap_err(), ReadError::Empty);
    assert_eq!(read(" \n").unwrap_err(), ReadError::Empty);
    assert_eq!(read([b'{', 0xff]).unwrap_err(), ReadError::NotText(1));
    let marked = format!("\u{feff}{SAMPLE}");
    assert!(read(marked).is_ok(), "an editor's mark is no reason");
    insta::assert_snapshot!(
        [
            refused(""),
            refused([b'{', 0xff]),
            refused("not json"),
            refused(r#"{"schema_version": 1, "run": {"id""#),
            refused("[1, 2]"),
            refused(r#"{"results": [{"command": "sleep 1", "mean": 1.0}]}"#),
            refused(r#"{"schema_version": 0}"#),
            refused(r#"{"schema_version": "1.0"}"#),
            refused(format!(r#"{{"schema_version": {}}}"#, SCHEMA_VERSION + 1)),
            refused(r#"{"schema_version": 1}"#),
            refused(r#"{"schema_version": 1, "run": {"id": 7}}"#),
        ]
        .join("\n\n")
    );
}

#[test]
fn an_edited_file_is_refused_with_the_field() {
    let pairs = [
        ("/measurements/12/unit", json!("miles")),
        ("/measurements/12/value", json!("fast")),
        ("/measurements/12/value", json!(-1.0)),
        ("/measurements/12/value", Value::Null),
        ("/measurements/12/block", json!(4_000_000_000_u32)),
        ("/measurements/12/method", json!("vpn")),
        ("/measurements/12/method", json!("Not A Method")),
        ("/measurements/12/scenario", json!("ftp")),
        ("/measurements/1/p99", json!(1.0)),
        ("/measurements/1/histogram", json!("AAAA")),
        ("/measurements/1/unit", json!("bytes")),
        ("/probes/3/method", json!("vpn")),
        ("/probes/3/verdict", json!("fine\u{1b}[31m")),
        ("/probes/3/id", json!("reach/pod-ip")),
        ("/probes/3/duration_ms", json!(-5)),
        ("/methods/1/id", json!("direct")),
        ("/scenarios/1/id", json!("http")),
        ("/summary/0/median", json!(1e9)),
        ("/summary/0/blocks", json!(99)),
        ("/summary/0/ratio_ci_low", json!(1e9)),
        ("/summary/0/ratio_ci_low", Value::Null),
        ("/summary/0/ci_high", json!(-1)),
        ("/summary/0/ratio_to_direct", json!(-1)),
        ("/summary/0/method", json!("vpn")),
        ("/run/started_at", json!("yesterday")),
    ];
    let errors = pairs.map(|(pointer, value)| {
        let error = refused(with(pointer, value.clone()));
        assert!(!error.contains('\u{1b}'), "{error:?}");
        format!("{pointer} = {value}\n{error}")
    });
    insta::assert_snapshot!(errors.join("\n\n"));
}

#[test]
fn a_block_that_stands_there_twice_is_refused() {
    let mut file: Value = serde_json::from_str(SAMPLE).unwrap();
    let first = file["measurements"][0].clone();
    file["measurements"].as_array_mut().unwrap().push(first);
    let error = refused(file.to_string());
    assert!(error.contains(".block`: "), "{error}");
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_refused() {
    let mut cuts = 0;
    for end in (0..SAMPLE.trim_end().len()).step_by(997) {
        let error = read(&SAMPLE.as_bytes()[..end]).expect_err("it is not whole");
        let cut_off = matches!(error, ReadError::Empty | ReadError::CutOff { .. });
        assert!(cut_off, "{end}: {error}");
        cuts += 1;
    }
    assert!(cuts > 50);
    let within_a_character = "{\"schema_version\": 1, \"run\": \"µ".as_bytes();
    let cut = read(&within_a_character[..within_a_character.len() - 1]);
    assert!(matches!(cut, Err(ReadError::CutOff { .. })), "{cut:?}");
}

#[test]
fn whatever_a_field_is_changed_to_is_an_error_or_a_run() {
    let file: Value = serde_json::from_str(SAMPLE).unwrap();
    let mut pointers = Vec::new();
    leaves(&file, String::new(), &mut pointers);
    // The first two of each kind of field: others differ in their index only.
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    pointers.retain(|pointer| {
        let kind: Vec<&str> = pointer
            .split('/')
            .filter(|it| it.parse::<usize>().is_err())
            .collect();
        let times = seen.entry(kind.join("/")).or_default();
        *times += 1;
        *times <= 2
    });
    let (mut runs, mut errors) = (0, 0);
    for pointer in &pointers {
        for value in [
            Value::Null,
            json!(true),
            json!(0),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!(""),
            json!("\u{0}\u{1b}[2J"),
            json!([]),
            json!({}),
        ] {
            match read(with(pointer, value)) {
                Ok(run) => {
                    render(&run);
                    runs += 1;
                }
                Err(error) => {
                    assert!(
                        !error.to_string().contains('\u{1b}'),
                        "{pointer}: {error:?}"
                    );
                    errors += 1;
                }
            }
        }
    }
    assert!(pointers.len() > 80, "{} fields", pointers.len());
    assert!(
        runs > 100 && errors > 300,
        "{runs} runs and {errors} errors"
    );
}

/// Pointers to all that holds no more values.
fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                leaves(value, format!("{at}/{name}"), found);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            for (index, value) in values.iter().enumerate() {
                leaves(value, format!("{at}/{index}"), found);
            }
        }
        _ => found.push(at),
    }
}

#[test]
fn what_was_read_is_written_as_it_was() {
    let run = sample();
    let again = read(serde_json::to_vec(&run).unwrap()).unwrap();
    assert_eq!(
        serde_json::to_value(&again).unwrap(),
        serde_json::to_value(&run).unwrap()
    );
}
