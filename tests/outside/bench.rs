//! `inroads bench`: a whole run, what it prints, writes and leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::machine::Watch;
use crate::program::{Ended, Program, User, has, skip, turn, until};

/// The methods of `bench all`, in report order.
pub(crate) const METHODS: [&str; 5] = ["direct", "forward", "route", "socks", "wireguard"];

/// The width that a table on standard output may have, in characters.
const COLUMNS: usize = 100;

/// A whole run in the shortest profile.
const ALL: [&str; 4] = ["bench", "all", "--profile", "smoke"];

#[test]
fn a_whole_run_measures_every_pair_and_leaves_three_files() {
    let _turn = turn();
    let program = Program::new();
    let mut watch = Watch::begin(&program.mark);
    let mut running = program.start(&ALL);
    running.until("measuring", |running| {
        running.said().contains("measuring").then_some(())
    });
    assert!(watch.look() > 5, "its namespaces were seen");
    let ended = running.end();
    watch.nothing_is_left();
    check(&program, &ended);
}

#[test]
fn a_user_without_rights_gets_the_same() {
    let _turn = turn();
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can become another user; the other tests run without rights");
    }
    if !has(&["setpriv"]) {
        return;
    }
    let program = Program::of(User::Nobody);
    let watch = Watch::begin(&program.mark);
    let ended = program.run(&ALL);
    watch.nothing_is_left();
    check(&program, &ended);
}

/// All that holds of a run of everything.
fn check(program: &Program, ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let folder = program.only_run();
    let run = result(program, &folder);
    assert_eq!(run["run"]["status"], "complete", "{}", run["warnings"]);
    assert_eq!(run["run"]["command"], "inroads bench all --profile smoke");
    check_measurements(&run);
    check_probes(&run);
    check_screen(ended);

    let report = fs::read_to_string(folder.join("report.md")).unwrap();
    let files: BTreeSet<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for method in METHODS {
        assert!(report.contains(method), "{method} in the report");
        assert!(ended.out.contains(method), "{method} in the table");
    }
    let id = folder.file_name().unwrap().to_str().unwrap();
    let again = program.ok(&["report", &format!("runs/{id}")]);
    assert!(
        ended.out.starts_with(&again),
        "the table comes from the file alone"
    );
    let again = program.ok(&["report", &format!("runs/{id}"), "--format", "md"]);
    assert_eq!(again, report);
    let again = program.ok(&["report", &format!("runs/{id}"), "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), run);
}

/// The result file, which must be as the schema has it.
pub(crate) fn result(program: &Program, folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("run.json")).unwrap();
    let run: Value = serde_json::from_str(&text).unwrap();
    let schema: Value = serde_json::from_str(&program.ok(&["schema"])).unwrap();
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(&run)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert_eq!(errors, [""; 0]);
    run
}

fn check_measurements(run: &Value) {
    let measurements = run["measurements"].as_array().unwrap();
    for method in METHODS {
        for (scenario, metrics) in [
            ("http", &["latency", "requests", "download", "upload"][..]),
            ("mongo-replica-set", &["latency", "finds", "inserts"][..]),
            ("dns", &["latency", "lookups"][..]),
            ("redis-cluster", &["latency", "operations", "pipelined"][..]),
        ] {
            for metric in metrics {
                let cell = measurements.iter().find(|cell| {
                    cell["method"] == method
                        && cell["scenario"] == scenario
                        && cell["metric"] == *metric
                });
                let cell =
                    cell.unwrap_or_else(|| panic!("{method} {scenario} {metric} is missing"));
                if cell["valid"] == true {
                    assert!(cell["count"].as_u64().unwrap() > 0, "{cell}");
                    assert_eq!(cell["errors"], 0, "every answer was verified: {cell}");
                } else {
                    let reason = cell["invalid_reason"].as_str().unwrap();
                    // A busy machine may not carry the rate, or end a bulk transfer in so short a
                    // window; wrong answers are another thing.
                    let slow = ["carried", "no operation ended within the window"];
                    assert!(slow.iter().any(|word| reason.contains(word)), "{cell}");
                    assert!(!reason.contains("instead of"), "{cell}");
                }
            }
        }
    }
}

fn check_probes(run: &Value) {
    let probes = run["probes"].as_array().unwrap();
    assert_eq!(probes.len(), 42 * METHODS.len());
    for probe in probes {
        let text = |key: &str| probe[key].as_str().unwrap_or_default();
        assert!(!text("expected").is_empty(), "{probe}");
        match text("verdict") {
            "pass" => assert!(
                !text("seen").is_empty() && !text("effort").is_empty(),
                "{probe}"
            ),
            "fail" => assert!(!text("seen").is_empty(), "{probe}"),
            "unsupported" => {
                assert!(!text("seen").is_empty(), "tried, not assumed: {probe}");
                assert!(!text("reason").is_empty(), "{probe}");
            }
            "not-run" => assert!(!text("reason").is_empty(), "{probe}"),
            other => panic!("{other}: {probe}"),
        }
        let outcome = match text("verdict") {
            "pass" => text("effort"),
            verdict => verdict,
        };
        assert_eq!(text("foreseen"), outcome, "{probe}");
    }
    let of_transparency = |probe: &&Value| {
        let id = probe["id"].as_str().unwrap();
        !id.starts_with("lifecycle/") && !id.starts_with("safety/")
    };
    for probe in probes.iter().filter(of_transparency) {
        let transparent = ["direct", "route", "wireguard"].map(Value::from);
        let expected = transparent.contains(&probe["method"]);
        assert_eq!(probe["effort"] == "unmodified", expected, "{probe}");
    }
}

fn check_screen(ended: &Ended) {
    for line in ended.out.lines() {
        assert!(line.chars().count() <= COLUMNS, "too wide: {line}");
    }
    for line in [ended.out.as_str(), &ended.err] {
        let strange = line.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(strange, None, "no terminal, so plain text: {line:?}");
    }
    assert!(
        ended.err.lines().any(|line| line.contains("left]")),
        "progress has an estimate: {}",
        ended.err
    );
}

#[test]
fn laptops_that_are_pods_carry_a_load_together() {
    let _turn = turn();
    let program = Program::new();
    let watch = Watch::begin(&program.mark);
    let ended = program.run(&[
        "bench",
        "direct",
        "route",
        "socks",
        "--laptops",
        "2",
        "--scenario",
        "http",
        "--cluster",
        "lab",
        "--profile",
        "smoke",
    ]);
    watch.nothing_is_left();
    // A pod of the cluster has its networks already.
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let able = "can run from here: direct, socks\n";
    assert!(ended.err.contains(able), "{}", ended.err);
    assert!(ended.err.contains("`route` was not run: "), "{}", ended.err);
    assert!(ended.err.contains("overlaps"), "{}", ended.err);
    let run = result(&program, &program.only_run());
    assert_eq!(run["environment"]["laptops"]["count"], 2);
    for method in ["direct", "socks"] {
        let requests = run["measurements"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["method"] == method && it["metric"] == "requests");
        let requests = requests.unwrap_or_else(|| panic!("`{method}` has no requests"));
        assert_eq!(requests["valid"], true, "{requests}");
        assert!(requests["count"].as_u64() > Some(100), "{requests}");
    }
    for probe in run["probes"].as_array().unwrap() {
        let inside = probe["method"] == "direct";
        let expected = if inside { "pass" } else { "not-run" };
        assert_eq!(probe["verdict"], expected, "{probe}");
    }
}

#[test]
fn one_seed_gives_one_order_and_the_json_goes_to_standard_output() {
    let _turn = turn();
    let order = || {
        let program = Program::new();
        let words = "bench all --profile smoke --scenario dns --seed 7 --json --out elsewhere";
        let words: Vec<&str> = words.split(' ').collect();
        let out = program.ok(&words);
        let run: Value = serde_json::from_str(&out).unwrap();
        let folder = program.home().join("elsewhere");
        let id = run["run"]["id"].as_str().unwrap();
        assert_eq!(result(&program, &folder.join(id)), run);
        let cells = run["measurements"].as_array().unwrap();
        let mut order: Vec<String> = cells
            .iter()
            .map(|cell| cell["method"].as_str().unwrap().to_owned())
            .collect();
        order.dedup();
        assert_eq!(run["run"]["seed"], 7);
        order
    };
    let first = order();
    // One block: each load goes through all methods before the next one, in the same order.
    let (of_one_load, rest) = first.split_at(METHODS.len());
    assert_eq!(of_one_load, rest, "two loads");
    let methods: BTreeSet<&str> = of_one_load.iter().map(String::as_str).collect();
    assert_eq!(methods, METHODS.into_iter().collect());
    assert_eq!(first, order());
}

#[test]
fn secrets_stand_in_no_result_and_not_on_the_screen() {
    let _turn = turn();
    if !has(&["kubectl"]) {
        return;
    }
    let program = Program::new();
    let kubeconfig = program.ok(&["cluster", "up"]);
    let words =
        "bench socks wireguard forward --profile smoke --scenario dns --cluster lab=inroads -vv";
    let words: Vec<&str> = words.split(' ').collect();
    let running = program.start(&words);
    let secrets = until("secrets of two methods", || {
        let mut kubectl = program.tool("kubectl");
        kubectl.args(["--kubeconfig", kubeconfig.trim()]);
        kubectl.args(["get", "secrets", "-n", "inroads", "-o", "json"]);
        let got: Value = serde_json::from_slice(&kubectl.output().unwrap().stdout).ok()?;
        let items = got["items"].as_array()?;
        (items.len() >= 2).then(|| items.clone())
    });
    let ended = running.end();
    let kubeconfig = fs::read_to_string(kubeconfig.trim()).unwrap();
    program.ok(&["cluster", "down"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);

    let mut hidden = Vec::new();
    for value in secrets
        .iter()
        .filter_map(|secret| secret["data"].as_object())
        .flat_map(|data| data.values())
    {
        let encoded = value.as_str().unwrap().to_owned();
        let mut decode = program.tool("sh");
        decode.args(["-c", "printf %s \"$0\" | base64 -d", &encoded]);
        let plain = String::from_utf8(decode.output().unwrap().stdout).unwrap();
        hidden.extend([encoded, plain]);
    }
    let token = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "));
    hidden.push(token.unwrap().trim_matches('"').to_owned());
    // Names of users and the like are short and no secrets.
    hidden.retain(|text| text.len() >= 20);
    assert!(hidden.len() >= 5, "{}", hidden.len());

    let folder = program.only_run();
    let mut said = ended.out + &ended.err;
    for file in ["run.json", "report.md", "report.html"] {
        said += &fs::read_to_string(folder.join(file)).unwrap();
    }
    for secret in hidden {
        assert!(
            !said.contains(secret.trim()),
            "a secret of {} letters",
            secret.len()
        );
    }
}
