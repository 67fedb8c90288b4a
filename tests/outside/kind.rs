//! Real Kubernetes: kind clusters, and clusters that a kubeconfig names.
//!
//! They need Docker, kind and an image of a node, which `kind-configs/offline/build` makes where there is no
//! registry. Where one of them is not here, the tests say which, and are skipped. One cluster serves most of them:
//! a minute each is too much.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bench::{METHODS, result};
use crate::machine::Watch;
use crate::program::{Ended, Program, Running, has, skip, turn, until};

/// Longest time for anything with a kind cluster.
const PATIENCE: Duration = Duration::from_secs(420);

/// A run that goes through every phase.
const SMOKE: [&str; 4] = ["bench", "all", "--profile", "smoke"];

/// What `docker` prints.
fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// Whether kind clusters can be made here; where not, that is said.
fn can_run() -> bool {
    if !has(&["docker", "kind", "kubectl"]) {
        return false;
    }
    let Some(images) = docker(&["images", "--format", "{{.Repository}}"]) else {
        skip("no Docker engine answers");
        return false;
    };
    let found = images
        .lines()
        .any(|name| name.ends_with("kindest/node") || name == "inroads/kind-node");
    if !found {
        skip("there is no image of a kind node: `kind-configs/offline/build` makes one");
    }
    found
}

fn program() -> Program {
    Program::new().patient(PATIENCE)
}

/// Everything of ours that the engine holds: containers, images, networks, by name.
fn on_engine() -> BTreeSet<String> {
    let lists: [&[&str]; 3] = [
        &["ps", "--all", "--format", "container {{.Names}}"],
        &["images", "--format", "image {{.Repository}}:{{.Tag}}"],
        &["network", "ls", "--format", "network {{.Name}}"],
    ];
    let texts = lists.map(|list| docker(list).unwrap());
    texts
        .iter()
        .flat_map(|text| text.lines().map(ToOwned::to_owned))
        .collect()
}

/// Waits until the engine holds what it held before.
fn until_only(before: &BTreeSet<String>) {
    let more = || -> Vec<String> { on_engine().difference(before).cloned().collect() };
    for _ in 0..120 {
        if more().is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(500));
    }
    panic!("left on the engine: {:?}", more());
}

/// A kind cluster that stays as long as this value.
struct Standing<'a> {
    program: &'a Program,
    name: String,
    kubeconfig: String,
}

impl<'a> Standing<'a> {
    fn up(program: &'a Program) -> Self {
        let name = format!("outside-{}", std::process::id());
        let kubeconfig = program.ok(&["cluster", "up", "--cluster", "kind", "--name", &name]);
        Self {
            program,
            name,
            kubeconfig: kubeconfig.trim().to_owned(),
        }
    }

    /// What kubectl prints, as the cluster's administrator.
    fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command = self.program.tool("kubectl");
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        let ended = self.program.run_command(command);
        assert_eq!(ended.code, Some(0), "kubectl {arguments:?}: {}", ended.err);
        ended.out
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let down = ["cluster", "down", "--name", &self.name];
        drop(self.program.command(&down).output());
    }
}

/// The verdicts of a run, by probe and method.
fn verdicts(run: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let probes = run["probes"].as_array().unwrap().iter();
    probes
        .map(|probe| {
            let verdict = format!("{} {}", text(&probe["verdict"]), text(&probe["effort"]));
            (text(&probe["id"]), text(&probe["method"]), verdict)
        })
        .collect()
}

/// Where kind is known not to be as expected, which is of the lab: probe and method. docs/FIDELITY.md has why.
const DIFFERS: &[(&str, &str)] = &[("reach/no-endpoints", "route")];

/// The run ended as it should, with no surprise but the known ones.
fn is_as_known(ended: &Ended, run: &Value) {
    let surprises = run["probes"].as_array().unwrap().iter().filter(|probe| {
        let outcome = match probe["verdict"].as_str() {
            Some("pass") => &probe["effort"],
            _ => &probe["verdict"],
        };
        probe["verdict"] != "not-run" && probe["foreseen"] != *outcome
    });
    let surprises: Vec<&Value> = surprises.collect();
    for probe in &surprises {
        let of = (
            probe["id"].as_str().unwrap(),
            probe["method"].as_str().unwrap(),
        );
        assert!(DIFFERS.contains(&of), "{probe}");
    }
    let code = if surprises.is_empty() { 0 } else { 4 };
    assert_eq!(ended.code, Some(code), "{}{}", ended.out, ended.err);
}

#[test]
fn a_whole_run_on_a_fresh_cluster_leaves_nothing() {
    let _turn = turn();
    if !can_run() {
        return;
    }
    let before = on_engine();
    let program = program();
    let watch = Watch::begin(&program.mark);
    let mut arguments = SMOKE.to_vec();
    arguments.extend(["--cluster", "kind"]);
    let ended = program.run(&arguments);
    until_only(&before);
    watch.nothing_is_left();

    let run = result(&program, &program.only_run());
    is_as_known(&ended, &run);
    assert_eq!(run["run"]["status"], "complete", "{}", run["warnings"]);
    let environment = &run["environment"];
    assert_eq!(environment["cluster"]["kind"], "kind");
    assert_eq!(environment["cluster"]["nodes"], 3);
    let real = |name: &str| {
        let parts = environment["components"].as_array().unwrap().iter();
        let mut named = parts.filter(|part| part["name"] == name);
        named.any(|part| part["provenance"] == "real")
    };
    for part in ["kube-apiserver", "kubelet", "kube-proxy"] {
        assert!(real(part), "{part} is real: {}", environment["components"]);
    }
    for method in METHODS {
        let asked = run["probes"].as_array().unwrap().iter();
        let not_run = asked.filter(|it| it["method"] == method && it["verdict"] == "not-run");
        let not_run = not_run.filter(|probe| probe["foreseen"] != "not-run");
        let not_run: Vec<&Value> = not_run.map(|probe| &probe["id"]).collect();
        // What the engine's resolver is asked for cannot be seen.
        assert_eq!(not_run, ["dns/split"], "{method}");
        let figures = run["measurements"].as_array().unwrap().iter();
        let valid = figures
            .filter(|figure| figure["method"] == method && figure["value"].as_f64() > Some(0.0));
        assert!(valid.count() > 4, "figures of {method}");
    }
    let failed = |method: &str| {
        let asked = verdicts(&run).into_iter();
        let asked = asked.filter(|(_, of, verdict)| {
            of == method && !verdict.starts_with("pass") && !verdict.starts_with("not-run")
        });
        asked.collect::<Vec<_>>()
    };
    assert!(failed("direct").is_empty(), "{:?}", failed("direct"));
}

#[test]
fn one_cluster_serves_administrators_accounts_and_interrupts() {
    let _turn = turn();
    if !can_run() {
        return;
    }
    let before = on_engine();
    let program = program();
    let cluster = Standing::up(&program);
    let standing = on_engine();

    println!("a name that is taken");
    let again = program.run(&[
        "cluster",
        "up",
        "--cluster",
        "kind",
        "--name",
        &cluster.name,
    ]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("is there already"), "{}", again.err);

    println!("a client of the user's own, on a container laptop");
    let by_name = format!("kind={}", cluster.name);
    let url = "http://web.inroads.svc.cluster.local/";
    let shell = [
        "shell",
        "wireguard",
        "--cluster",
        &by_name,
        "--",
        "curl",
        "-sS",
        "-m",
        "5",
        url,
    ];
    let ended = program.run(&shell);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.starts_with("Inroads: "), "{}", ended.out);
    until_only(&standing);

    println!("an account with the printed rights and no other");
    let account = account(&program, &cluster);
    let run = [
        "bench",
        "all",
        "--profile",
        "smoke",
        "--cluster",
        "context",
        "--kubeconfig",
        &account,
    ];
    let ended = program.run(&run);
    until_only(&standing);
    let result = result(&program, &program.only_run());
    is_as_known(&ended, &result);
    assert_eq!(
        result["run"]["status"], "complete",
        "{}",
        result["warnings"]
    );
    let left = cluster.kubectl(&[
        "get",
        "all,secrets,roles",
        "--namespace",
        "inroads",
        "-o",
        "name",
    ]);
    let left: Vec<&str> = left
        .lines()
        .filter(|line| !line.contains("token"))
        .collect();
    assert_eq!(left, ["role.rbac.authorization.k8s.io/inroads-runner"]);
    cluster.kubectl(&["delete", "namespace", "inroads"]);

    interrupts(&program, &cluster, &standing);
    an_api_server_that_goes_away(&program, &cluster, &standing);
    drop(cluster);
    until_only(&before);
}

/// Makes an account with the printed rights, and returns its kubeconfig.
fn account(program: &Program, cluster: &Standing<'_>) -> String {
    let rights = program.home().join("rbac.yaml");
    fs::write(&rights, program.ok(&["rbac"])).unwrap();
    let rights = rights.to_str().unwrap();
    // A namespace must be there before the server can say what it thinks of what is in it.
    cluster.kubectl(&["create", "namespace", "inroads"]);
    cluster.kubectl(&["apply", "--dry-run=server", "-f", rights]);
    cluster.kubectl(&["apply", "-f", rights]);
    let request = program.home().join("token.json");
    let wanted = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}"#;
    fs::write(&request, wanted).unwrap();
    let path = "/api/v1/namespaces/inroads/serviceaccounts/inroads-runner/token";
    let made = cluster.kubectl(&["create", "--raw", path, "-f", request.to_str().unwrap()]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let token = made["status"]["token"].as_str().unwrap();
    let raw = cluster.kubectl(&["config", "view", "--raw", "-o", "json"]);
    let mut config: Value = serde_json::from_str(&raw).unwrap();
    config["users"][0]["user"] = serde_json::json!({ "token": token });
    let file = program.home().join("account");
    fs::write(&file, config.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What a run says at the beginning of each phase on a cluster that is up.
const PHASES: [&str; 6] = [
    "making an image",
    "loading it",
    "deploying scenarios",
    "connecting laptops",
    "asking the probes",
    "measuring, block 1",
];

/// The first phase with a result file.
const FIRST_WITH_A_RESULT: usize = 2;

fn reach(running: &mut Running, phase: &str) {
    running.until(phase, |running| {
        running.said().contains(phase).then_some(())
    });
    thread::sleep(Duration::from_millis(150));
}

fn interrupts(program: &Program, cluster: &Standing<'_>, standing: &BTreeSet<String>) {
    let by_name = format!("kind={}", cluster.name);
    for (index, phase) in PHASES.into_iter().enumerate() {
        println!("an interrupt while {phase}");
        let before = program.runs().len();
        let mut arguments = SMOKE.to_vec();
        arguments.extend(["--scenario", "dns", "--cluster", &by_name]);
        let mut running = program.start(&arguments);
        reach(&mut running, phase);
        running.signal(Signal::SIGINT);
        let ended = running.end();
        assert_eq!(ended.code, Some(130), "{phase}: {}{}", ended.out, ended.err);
        until_only(standing);
        let made = program.runs().len() - before;
        assert_eq!(made, usize::from(index >= FIRST_WITH_A_RESULT), "{phase}");
        let namespaces = cluster.kubectl(&["get", "namespaces", "-o", "name"]);
        assert!(!namespaces.contains("inroads"), "{phase}: {namespaces}");
    }
    println!("a kill while measuring");
    let mut arguments = SMOKE.to_vec();
    arguments.extend(["--scenario", "dns", "--cluster", &by_name]);
    let mut running = program.start(&arguments);
    reach(&mut running, "measuring, block 1");
    running.signal(Signal::SIGKILL);
    drop(running.end());
    // What is on this machine goes by itself; what is in a cluster that stays, by the command for it.
    until_only(standing);
    let clean = [
        "clean",
        "--cluster",
        "context",
        "--kubeconfig",
        &cluster.kubeconfig,
    ];
    let cleaned = program.ok(&clean);
    assert!(cleaned.contains("namespace inroads"), "{cleaned}");
    let outside = [
        "get",
        "roles",
        "--namespace",
        "kube-system",
        "-l",
        "inroads.dev/run",
        "-o",
        "name",
    ];
    assert_eq!(cluster.kubectl(&outside), "");
    assert!(program.ok(&clean).contains("nothing to remove"));
}

/// The run ends by itself, with what there is by then.
fn an_api_server_that_goes_away(
    program: &Program,
    cluster: &Standing<'_>,
    standing: &BTreeSet<String>,
) {
    println!("an API server that goes away in mid-run");
    let by_name = format!("kind={}", cluster.name);
    let mut arguments = SMOKE.to_vec();
    arguments.extend(["--scenario", "dns", "--cluster", &by_name]);
    let mut running = program.start(&arguments);
    reach(&mut running, "measuring, block 1");
    let control_plane = format!("inroads-{}-control-plane", cluster.name);
    docker(&["pause", &control_plane]).unwrap();
    let ended = running.end();
    docker(&["unpause", &control_plane]).unwrap();
    assert!(
        matches!(ended.code, Some(0 | 1)),
        "{}{}",
        ended.out,
        ended.err
    );
    until_only(standing);
    until("the API server answers again", || {
        let mut command = program.tool("kubectl");
        command.env("KUBECONFIG", &cluster.kubeconfig);
        let asked = command.args(["get", "--raw", "/readyz"]).output().ok()?;
        asked.status.success().then_some(())
    });
}

#[test]
fn an_interrupt_while_the_cluster_is_made_leaves_nothing() {
    let _turn = turn();
    if !can_run() {
        return;
    }
    let before = on_engine();
    for phase in ["preparing nodes", "starting control-plane"] {
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            println!("{signal} while {phase}");
            let program = program();
            let mut arguments = SMOKE.to_vec();
            arguments.extend(["--cluster", "kind", "--kind-config", "single"]);
            let mut running = program.start(&arguments);
            reach(&mut running, phase);
            running.signal(signal);
            let ended = running.end();
            if signal == Signal::SIGINT {
                assert_eq!(ended.code, Some(130), "{phase}: {}", ended.err);
                assert!(program.runs().is_empty(), "nothing was measured");
            }
            until_only(&before);
        }
    }
}

#[test]
fn what_is_missing_is_named_with_the_next_step() {
    let _turn = turn();
    if !can_run() {
        return;
    }
    let before = on_engine();
    let program = program();
    let mut without_engine = program.command(&["bench", "all", "--cluster", "kind"]);
    without_engine.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let ended = program.run_command(without_engine);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("no Docker engine answers"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("(hint: start it"), "{}", ended.err);

    let mut without_kind = program.command(&["bench", "all", "--cluster", "kind"]);
    let folder = program.home().join("bin");
    fs::create_dir(&folder).unwrap();
    let found = std::env::var_os("PATH").unwrap();
    let mut found = std::env::split_paths(&found).map(|path| path.join("docker"));
    let docker = found.find(|file| file.is_file()).unwrap();
    std::os::unix::fs::symlink(docker, folder.join("docker")).unwrap();
    without_kind.env("PATH", &folder);
    let ended = program.run_command(without_kind);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("`kind` is not on PATH"), "{}", ended.err);

    let nowhere = "registry.invalid/kind-node:v0";
    let ended = program.run(&["bench", "all", "--cluster", "kind", "--node-image", nowhere]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains(nowhere), "{}", ended.err);
    assert!(
        ended.err.contains("kind-configs/offline/build"),
        "{}",
        ended.err
    );

    let config = [
        "bench",
        "all",
        "--cluster",
        "kind",
        "--kind-config",
        "triple-stack",
    ];
    let ended = program.run(&config);
    assert!(ended.err.contains("dual-stack"), "{}", ended.err);
    assert!(program.runs().is_empty(), "nothing was measured");
    until_only(&before);
}
