//! Every machine-readable form of one run, side by side, and each by the rules of its format.

#[path = "given/inputs.rs"]
mod inputs;

use std::collections::{BTreeMap, BTreeSet};

use inputs::{against, sample};
use inroads_harness::run::{Status, Verdict};
use inroads_reports::{
    Direction, bencher, benchmark_action, comparison, csv, junit, markdown, openmetrics,
};
use serde_json::Value;

#[test]
fn junit_has_a_suite_for_each_method_and_the_gate() {
    insta::assert_snapshot!(junit(&sample(), Some(&against())));
}

#[test]
fn junit_counts_surprises_and_regressions_as_failures_and_trouble_as_errors() {
    let xml = junit(&sample(), None);
    assert!(!xml.contains("name=\"gate\""), "{xml}");
    let counts = |suite: &str, xml: &str| -> Vec<String> {
        let line = xml
            .lines()
            .find(|line| line.contains(&format!("<testsuite name=\"{suite}\"")));
        let line = line.unwrap_or_else(|| panic!("no suite {suite}"));
        let of = |name: &str| {
            let rest = line.split_once(&format!("{name}=\"")).expect(name).1;
            rest.split('"').next().unwrap().to_owned()
        };
        ["tests", "skipped", "errors", "failures"].map(of).to_vec()
    };
    // One surprise that is no pass; what is unsupported or fails without an expectation of it is told apart.
    assert_eq!(counts("probes of forward", &xml), ["9", "0", "0", "1"]);
    assert_eq!(counts("probes of socks", &xml), ["9", "0", "0", "1"]);
    assert_eq!(counts("probes of wireguard", &xml), ["9", "1", "0", "0"]);
    assert_eq!(counts("run", &xml), ["1", "1", "0", "0"]);
    // Seven blocking cells and three verdicts: two worse, two that this run has not, two that say nothing.
    let gate = counts("gate", &junit(&sample(), Some(&against())));
    assert_eq!(gate, ["10", "2", "2", "2"]);

    let mut broken = sample();
    broken.run.status = Status::Failed;
    broken.probes.clear();
    assert_eq!(counts("run", &junit(&broken, None)), ["1", "0", "1", "0"]);
}

#[test]
fn csv_has_a_line_for_each_measurement() {
    let run = sample();
    let text = csv(&run);
    assert_eq!(text.matches("\r\n").count(), run.measurements.len() + 1);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let values = head.iter().position(|name| name == "value").unwrap();
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), run.measurements.len());
    for (line, m) in lines.iter().zip(&run.measurements) {
        assert_eq!(
            line[values].parse::<f64>().unwrap().to_bits(),
            m.value.to_bits()
        );
    }
    insta::assert_snapshot!(text.lines().take(12).collect::<Vec<_>>().join("\n"));
}

#[test]
fn figures_for_the_benchmark_action_are_split_by_direction() {
    let run = sample();
    let smaller = benchmark_action(&run, Direction::SmallerIsBetter);
    let bigger = benchmark_action(&run, Direction::BiggerIsBetter);
    let mut names = BTreeSet::new();
    for text in [&smaller, &bigger] {
        let entries: Vec<Value> = serde_json::from_str(text).unwrap();
        for entry in entries {
            assert!(
                entry["value"].is_f64() && entry["unit"].is_string(),
                "{entry}"
            );
            let name = entry["name"].as_str().unwrap().to_owned();
            assert!(names.insert(name), "a name stands there twice: {entry}");
        }
    }
    let others = run
        .summary
        .iter()
        .filter(|it| it.method.as_str() != "direct");
    let ratios = others.filter(|it| it.ratio_to_direct.is_some()).count();
    assert_eq!(names.len(), run.summary.len() + ratios);
    insta::assert_snapshot!("benchmark_action_smaller", smaller);
    insta::assert_snapshot!("benchmark_action_bigger", bigger);
}

#[test]
fn bencher_metric_format_is_what_its_schema_says() {
    let text = bencher(&sample());
    // As https://bencher.dev/docs/reference/bencher-metric-format has it.
    let schema = serde_json::json!({
        "type": "object",
        "patternProperties": { ".+": {
            "type": "object",
            "minProperties": 1,
            "patternProperties": { ".+": {
                "type": "object",
                "properties": {
                    "value": { "type": "number" },
                    "lower_value": { "type": "number" },
                    "upper_value": { "type": "number" },
                },
                "required": ["value"],
                "additionalProperties": false,
            }},
        }},
    });
    let value: Value = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&value));
    let benchmarks = value.as_object().unwrap();
    assert_eq!(benchmarks.len(), sample().summary.len());
    for metric in benchmarks
        .values()
        .flat_map(|it| it.as_object().unwrap().values())
    {
        let part = |name: &str| metric[name].as_f64();
        let value = part("value").unwrap();
        assert!(
            part("lower_value").is_none_or(|low| low <= value),
            "{metric}"
        );
        assert!(
            part("upper_value").is_none_or(|high| high >= value),
            "{metric}"
        );
    }
    insta::assert_snapshot!(text);
}

#[test]
fn gauges_follow_the_rules_of_openmetrics() {
    let text = openmetrics(&sample());
    let families = parse(&text).unwrap();
    let run = sample();
    let tried = run.probes.iter().filter(|it| it.verdict != Verdict::NotRun);
    assert_eq!(families["inroads_probe_pass"].len(), tried.count());
    assert_eq!(families["inroads_blocks"].len(), run.summary.len());
    let latency = &families["inroads_latency_seconds"];
    let of = r#"method="direct",scenario="http",metric="latency",quantile="0.5""#;
    assert!((latency[of] - 102.463e-6).abs() < 1e-9, "{latency:?}");
    insta::assert_snapshot!(text);
}

/// Samples by family and labels, where the text is OpenMetrics: families are whole and once, names end in their unit, and
/// no sample stands there twice.
fn parse(text: &str) -> Result<BTreeMap<String, BTreeMap<String, f64>>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("no end")?;
    let mut families: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    let mut current = String::new();
    for line in body.split_terminator('\n') {
        let wrong = |what: &str| format!("{what}: {line}");
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let mut word = || words.next().ok_or_else(|| wrong("too short"));
            let (key, name, rest) = (word()?, word()?, word()?);
            match key {
                "HELP" => {
                    current = name.to_owned();
                    if families.insert(current.clone(), BTreeMap::new()).is_some() {
                        return Err(wrong("a family stands there twice"));
                    }
                }
                "TYPE" if name == current && rest == "gauge" => {}
                "UNIT" if name == current && name.ends_with(&format!("_{rest}")) => {}
                _ => return Err(wrong("no metadata of this family")),
            }
            continue;
        }
        let (name, rest) = line.split_once('{').ok_or_else(|| wrong("no labels"))?;
        if name != current {
            return Err(wrong("a sample of another family"));
        }
        let (labels, value) = rest.rsplit_once("} ").ok_or_else(|| wrong("no value"))?;
        well_formed(labels).map_err(|what| wrong(&what))?;
        let value: f64 = value.parse().map_err(|error| wrong(&format!("{error}")))?;
        let family = families.get_mut(&current).expect("it was just made");
        if family.insert(labels.to_owned(), value).is_some() {
            return Err(wrong("a sample stands there twice"));
        }
    }
    Ok(families)
}

/// Whether these are labels: names once each, values quoted, and only `\\`, `\"` and `\n` escaped.
fn well_formed(labels: &str) -> Result<(), String> {
    let mut rest = labels;
    let mut names = BTreeSet::new();
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("no value of a label")?;
        let letters = |c: char| c.is_ascii_lowercase() || c == '_';
        if name.is_empty() || !name.chars().all(letters) || !names.insert(name) {
            return Err(format!("a bad name, `{name}`"));
        }
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => match characters.next() {
                    Some((_, '\\' | '"' | 'n')) => {}
                    _ => return Err("a bad escape".to_owned()),
                },
                Some(_) => {}
                None => return Err("a value without an end".to_owned()),
            }
        };
        match value[end + 1..].strip_prefix(',') {
            Some(more) => rest = more,
            None if value.len() == end + 1 => return Ok(()),
            None => return Err("no comma".to_owned()),
        }
    }
}

#[test]
fn labels_from_a_cluster_are_escaped() {
    let mut run = sample();
    run.environment.cluster.kubernetes = "v1\"} 1\n# EOF\n\\".to_owned();
    let families = parse(&openmetrics(&run)).unwrap();
    assert_eq!(families["inroads_run_info"].len(), 1);
}

#[test]
fn a_comparison_fits_a_terminal() {
    let text = comparison(&against());
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_markdown_report_has_what_changed() {
    let text = markdown(&sample(), Some(&against()));
    let end = text.find("```text").expect("the table");
    insta::assert_snapshot!(text[..end]);
    assert!(!markdown(&sample(), None).contains("baseline"));
}
