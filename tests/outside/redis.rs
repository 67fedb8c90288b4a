//! The `redis-cluster` scenario: what is said of it is what `redis-cli` sees that knows nothing of us.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::bench::result;
use crate::program::{Program, has, is_here, turn};
use crate::shell::forwarded_from;

/// What a user connects to.
const NAME: &str = "redis.inroads.svc.cluster.local";

/// Keys of which each of three masters has some, wherever the first connection leads.
const KEYS: &str = "a b c d e f g h i j k l";

/// Whether the software is here, or can be had.
fn can_be_had() -> bool {
    ["redis-server", "redis-cli"].map(is_here) == [true; 2] || has(&["apt-get", "dpkg-deb"])
}

#[test]
fn redis_cli_is_sent_on_through_a_route_and_lost_through_a_forward() {
    let _turn = turn();
    if !can_be_had() {
        return;
    }
    let set = |at: &str| {
        format!("for key in {KEYS}; do timeout 5 redis-cli -c {at} set $key $key 2>&1; done")
    };
    let program = Program::new().patient(Duration::from_secs(300));
    let script = set(&format!("-h {NAME}"));
    let ended = program.run(&["shell", "route", "--", "sh", "-c", &script]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let expected = vec!["OK"; KEYS.split(' ').count()];
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines, expected, "{}", ended.err);

    let script = format!(
        "until [ -s at ]; do sleep 0.02; done; at=$(cat at); {}; echo end",
        set("-h ${at%:*} -p ${at#*:}")
    );
    let mut running = program.start(&["shell", "forward", "--", "sh", "-c", &script]);
    let at = forwarded_from(&mut running, &format!("{NAME}:6379"));
    fs::write(program.home().join("new"), at).unwrap();
    fs::rename(program.home().join("new"), program.home().join("at")).unwrap();
    let ended = running.end();
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.last(), Some(&"end"), "{}", ended.err);
    let ok = lines.iter().filter(|line| **line == "OK").count();
    assert!(
        ok < expected.len(),
        "a forward leads to one node: {}",
        ended.out
    );
    assert!(
        ended.out.contains("10.244.") || ok == 0,
        "it was sent to a pod's address: {}",
        ended.out
    );
}

#[test]
fn each_method_carries_a_cluster_client_with_the_effort_that_it_asks() {
    let _turn = turn();
    if !can_be_had() {
        return;
    }
    let program = Program::new().patient(Duration::from_secs(300));
    let methods = ["direct", "forward", "route", "socks", "wireguard"];
    let mut arguments = vec!["bench"];
    arguments.extend(methods);
    arguments.extend(["--scenario", "redis-cluster", "--profile", "smoke"]);
    let ended = program.run(&arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let run = result(&program, &program.only_run());
    for (method, effort) in methods.into_iter().zip([
        "unmodified",
        "rewritten",
        "unmodified",
        "rewritten",
        "unmodified",
    ]) {
        for id in ["redis/moved", "redis/ask"] {
            let probes = run["probes"].as_array().unwrap();
            let probe = probes
                .iter()
                .find(|probe| probe["id"] == id && probe["method"] == method)
                .unwrap_or_else(|| panic!("{id} through {method} is missing"));
            assert_eq!(probe["verdict"], "pass", "{probe}");
            assert_eq!(probe["effort"], effort, "{probe}");
            let seen = probe["seen"].as_str().unwrap();
            let word = if id == "redis/moved" { "MOVED" } else { "ASK" };
            assert!(seen.contains(word), "{probe}");
            if effort == "rewritten" {
                assert!(seen.contains("node_address_map"), "{probe}");
            }
        }
        let measurements = run["measurements"].as_array().unwrap();
        let of_method: Vec<&Value> = measurements
            .iter()
            .filter(|cell| cell["method"] == method && cell["metric"] == "operations")
            .collect();
        assert_eq!(of_method.len(), 1, "{method}");
        assert_eq!(of_method[0]["access"], effort, "{method}");
    }
    let components = run["environment"]["components"].as_array().unwrap();
    let redis = components
        .iter()
        .find(|part| part["name"] == "redis-server");
    let redis = redis.unwrap();
    assert_eq!(redis["provenance"], "real");
    let version = redis["version"].as_str().unwrap();
    assert!(
        version.starts_with(|c: char| c.is_ascii_digit()),
        "{version}"
    );
}

#[test]
fn without_the_software_the_other_scenarios_are_run() {
    let _turn = turn();
    let program = Program::new();
    let arguments = [
        "bench",
        "direct",
        "--scenario",
        "dns",
        "--scenario",
        "redis-cluster",
        "--profile",
        "smoke",
    ];
    let mut command = program.command(&arguments);
    let empty = program.home().join("empty");
    fs::create_dir(&empty).unwrap();
    command.env("PATH", &empty).env("INROADS_CACHE", &empty);
    let ended = program.run_command(command);
    let run = result(&program, &program.only_run());
    assert_eq!(run["run"]["status"], "partial", "{}", ended.err);
    assert!(
        ended.err.contains("`redis-cluster` was not run"),
        "{}",
        ended.err
    );
    for probe in run["probes"].as_array().unwrap() {
        let id = probe["id"].as_str().unwrap();
        if id.starts_with("redis/") {
            assert_eq!(probe["verdict"], "not-run", "{probe}");
            let reason = probe["reason"].as_str().unwrap();
            assert!(reason.contains("apt-get"), "{probe}");
        } else {
            assert_ne!(probe["verdict"], "not-run", "{probe}");
        }
    }
    let measured = |scenario: &str| {
        let cells = run["measurements"].as_array().unwrap().iter();
        cells.filter(|cell| cell["scenario"] == scenario).count()
    };
    assert!(measured("dns") > 0);
    assert_eq!(measured("redis-cluster"), 0);
}
