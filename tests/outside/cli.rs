//! The command line: what it takes, what it refuses and with which words.

use std::fs;

use serde_json::Value;

use crate::program::Program;

/// Refused, with exit code 2, and words that name the thing and the next step.
#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let program = Program::new();
    let ended = program.run(arguments);
    assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
    assert_eq!(ended.out, "", "{arguments:?}: only results go there");
    for word in words {
        assert!(
            ended.err.contains(word),
            "{arguments:?}: no {word:?} in: {}",
            ended.err
        );
    }
    assert!(program.runs().is_empty(), "{arguments:?} leaves no run");
}

#[test]
fn what_does_not_exist_is_refused_by_name_with_what_does() {
    refused(
        &["bench", "vpn"],
        &["no method `vpn`", "`forward`", "`wireguard`", "`all`"],
    );
    refused(
        &["bench", "all", "--scenario", "ftp"],
        &["no scenario `ftp`", "`http`", "`dns`"],
    );
    refused(&["bench", "--peer", "oc"], &["no peer `oc`", "`kubectl`"]);
    refused(
        &["bench", "--profile", "fast"],
        &["no profile `fast`", "`quick`", "`standard`"],
    );
    refused(
        &["shell", "vpn", "--", "true"],
        &["`vpn`", "`route`", "`none`"],
    );
    refused(
        &["shell", "direct", "--", "true"],
        &["`direct`", "`socks`", "`none`"],
    );
    refused(&["agent", "cook"], &["no role `cook`", "http-server"]);
    refused(
        &["bench", "--cluster", "lab=elsewhere"],
        &["no lab `elsewhere`", "cluster up --name elsewhere"],
    );
    refused(&["lab", "cook"], &["own processes"]);
}

#[test]
fn a_value_that_cannot_be_is_refused_by_name() {
    refused(&["bench", "--seed", "seven"], &["seven", "--seed"]);
    refused(&["bench", "--seed=-1"], &["-1", "--seed"]);
    refused(
        &["bench", "--cluster", "minikube"],
        &["minikube", "`lab=NAME`"],
    );
    refused(
        &["bench", "--cluster", "lab=../x"],
        &["../x", "lower-case letters"],
    );
    refused(
        &["bench", "--namespace", "Bad_Name"],
        &["Bad_Name", "lower-case letters"],
    );
    refused(&["cluster", "up", "--port", "99999"], &["99999", "--port"]);
    refused(
        &["cluster", "up", "--name", "a/b"],
        &["a/b", "lower-case letters"],
    );
    refused(&["report", "x", "--format", "pdf"], &["pdf", "table"]);
    refused(&["completions", "cmd"], &["cmd", "bash"]);
    refused(
        &["cluster", "status", "--json", "--kubeconfig"],
        &["--json", "--kubeconfig"],
    );
    refused(&["dance"], &["dance"]);
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_anything_starts() {
    let program = Program::new();
    fs::write(program.home().join("file"), "").unwrap();
    let ended = program.run(&["bench", "all", "--out", "file/runs"]);
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("file/runs"), "{}", ended.err);
    assert!(ended.err.contains("`--out`"), "{}", ended.err);
    assert!(!ended.err.contains("lab"), "nothing began: {}", ended.err);
}

#[test]
fn the_help_teaches_examples_and_exit_codes() {
    let program = Program::new();
    let help = program.ok(&["--help"]);
    for word in ["bench all", "shell wireguard", "130", "cluster up"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for command in ["bench", "shell", "cluster", "doctor", "report"] {
        assert!(program.ok(&[command, "--help"]).contains("Usage"));
    }
    assert!(program.ok(&["bench", "--help"]).contains("--peer"));
    assert_eq!(
        program.ok(&["--version"]).trim(),
        format!("inroads {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_list_and_a_schema_are_json_and_completions_know_the_commands() {
    let program = Program::new();
    let list: Value = serde_json::from_str(&program.ok(&["list", "--json"])).unwrap();
    let ids = |kind: &str| -> Vec<String> {
        let entries = list[kind].as_array().unwrap().iter();
        entries
            .map(|entry| entry["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        ids("methods"),
        [
            "direct",
            "forward",
            "forward:kubectl",
            "forward:kubectl-proxy",
            "route",
            "socks",
            "wireguard"
        ]
    );
    assert_eq!(
        ids("scenarios"),
        [
            "http",
            "redis-cluster",
            "mongo-replica-set",
            "dns",
            "way-in"
        ]
    );
    let plain = program.ok(&["list"]);
    let words = "wireguard dns/srv fidelity/half-close [thorough] --peer";
    for word in words.split(' ') {
        assert!(plain.contains(word), "{word}: {plain}");
    }

    let schema: Value = serde_json::from_str(&program.ok(&["schema"])).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    assert!(schema["properties"]["measurements"].is_object());

    for shell in ["bash", "zsh", "fish"] {
        let script = program.ok(&["completions", shell]);
        assert!(script.contains("wireguard") || script.contains("cluster"));
    }
}

#[test]
fn the_doctor_says_of_each_thing_how_it_stands() {
    let program = Program::new();
    let ended = program.run(&["doctor", "--json"]);
    let lines: Value = serde_json::from_str(&ended.out).unwrap();
    let lines = lines.as_array().unwrap();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let state = line["state"].as_str().unwrap();
        assert!(["good", "less", "bad"].contains(&state), "{line}");
        assert!(!line["detail"].as_str().unwrap().is_empty(), "{line}");
    }
    let bad = lines.iter().any(|line| line["state"] == "bad");
    assert_eq!(ended.code, Some(i32::from(bad)));
}

#[test]
fn a_report_of_what_is_no_result_says_so() {
    let program = Program::new();
    let write = |name: &str, text: &str| fs::write(program.home().join(name), text).unwrap();
    write(
        "truncated.json",
        r#"{ "schema_version": 1, "run": { "id": "x"#,
    );
    write("foreign.json", r#"{ "kind": "Pod" }"#);
    write("newer.json", r#"{ "schema_version": 99 }"#);
    write("binary.json", "\u{0}\u{1}");
    write("empty.json", "");
    fs::create_dir(program.home().join("folder")).unwrap();
    for (name, words) in [
        ("missing", vec!["`missing`", "No such file", "(hint:"]),
        ("folder", vec!["`folder/run.json`", "(hint:"]),
        (
            "truncated.json",
            vec!["`truncated.json`", "cut off", "column 40", "(hint:"],
        ),
        (
            "foreign.json",
            vec!["`foreign.json`", "no result file", "(hint:"],
        ),
        ("newer.json", vec!["`newer.json`", "99", "(hint:"]),
        ("binary.json", vec!["`binary.json`", "not JSON", "(hint:"]),
        ("empty.json", vec!["`empty.json`", "empty", "(hint:"]),
    ] {
        for format in ["table", "md", "json"] {
            let ended = program.run(&["report", name, "--format", format]);
            assert_eq!(ended.code, Some(1), "{name}: {}", ended.err);
            assert_eq!(ended.out, "", "{name}");
            for word in &words {
                assert!(ended.err.contains(word), "{name}, {word}: {}", ended.err);
            }
        }
    }
}

#[test]
fn a_cluster_that_is_not_there_is_no_riddle() {
    let program = Program::new();
    assert!(program.ok(&["cluster", "status"]).contains("no cluster"));
    assert!(program.ok(&["cluster", "down"]).contains("no cluster"));
    assert!(program.ok(&["clean"]).contains("nothing"));
    let status: Value =
        serde_json::from_str(&program.ok(&["cluster", "status", "--json"])).unwrap();
    assert_eq!(status["status"], "absent");
    let ended = program.run(&["cluster", "status", "--kubeconfig", "--name", "x"]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.out, "");
    assert!(
        ended.err.contains("cluster up --name x"),
        "the next step: {}",
        ended.err
    );
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let program = Program::new();
    let mut command = program.tool("sh");
    command.args(["-c", "\"$0\" schema | true", env!("CARGO_BIN_EXE_inroads")]);
    let ended = program.run_command(command);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}
