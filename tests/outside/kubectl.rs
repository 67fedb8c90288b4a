//! A lab that stays, and Debian's own `kubectl` on it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::machine::Watch;
use crate::program::{Ended, Program, Running, has, http_get, turn};

/// A namespace with a web server in two pods, a Service, and a pod that fails.
const DEMO: &str = include_str!("demo.yaml");

/// A lab, and `kubectl` with its configuration.
struct Lab {
    program: Program,
    kubeconfig: String,
}

impl Lab {
    fn up() -> Self {
        let program = Program::new();
        let printed = program.ok(&["cluster", "up"]);
        assert_eq!(
            printed.lines().count(),
            1,
            "a path and nothing else: {printed}"
        );
        let kubeconfig = printed.trim().to_owned();
        Self {
            program,
            kubeconfig,
        }
    }

    fn kubectl(&self, words: &str) -> Command {
        let mut command = self.program.tool("kubectl");
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .args(words.split(' '));
        command
    }

    fn run(&self, words: &str) -> Ended {
        self.program.run_command(self.kubectl(words))
    }

    fn ok(&self, words: &str) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, Some(0), "kubectl {words}: {}", ended.err);
        assert_eq!(ended.err, "", "kubectl {words}");
        ended.out
    }

    fn demo(&self) {
        fs::write(self.program.home().join("demo.yaml"), DEMO).unwrap();
        self.ok("apply -f demo.yaml");
        self.ok("wait -n demo --for=condition=Available deployment/web --timeout=30s");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Also after a failed assertion: a lab that stays would stay.
        drop(self.program.command(&["cluster", "down"]).output());
    }
}

#[test]
fn a_lab_that_stays_is_there_until_it_is_ended() {
    let _turn = turn();
    let program = Program::new();
    let mut watch = Watch::begin(&program.mark);
    let path = program.ok(&["cluster", "up", "--name", "mine"]);
    let path = Path::new(path.trim());
    assert!(watch.look() > 5, "its namespaces were seen");
    assert!(!watch.left().is_empty(), "what is left would be seen");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap());
    assert_eq!(mode & 0o077, 0, "the token in it is nobody else's");

    let status = program.ok(&["cluster", "status", "--name", "mine", "--kubeconfig"]);
    assert_eq!(Path::new(status.trim()), path);
    let again = program.run(&["cluster", "up", "--name", "mine"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("up already"), "{}", again.err);
    assert!(again.err.contains("cluster down"), "{}", again.err);

    let status = program.ok(&["cluster", "status", "--name", "mine", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["status"], "up");
    let port = status["api"].as_str().unwrap().rsplit_once(':').unwrap().1;
    let taken = program.run(&["cluster", "up", "--name", "other", "--port", port]);
    assert_eq!(taken.code, Some(1), "{}", taken.err);
    assert!(taken.err.contains("in use"), "{}", taken.err);
    assert!(taken.err.contains("choose another port"), "{}", taken.err);

    program.ok(&["cluster", "down", "--name", "mine"]);
    assert!(!path.exists(), "the kubeconfig is gone");
    watch.nothing_is_left();
}

#[test]
fn kubectl_sees_what_there_is() {
    let _turn = turn();
    if !has(&["kubectl"]) {
        return;
    }
    let lab = Lab::up();
    lab.demo();
    let nodes = lab.ok("get nodes");
    for node in ["control-plane", "worker-1", "worker-2"] {
        let line = nodes.lines().find(|line| line.starts_with(node));
        assert!(line.is_some_and(|line| line.contains("Ready")), "{nodes}");
    }
    assert!(lab.ok("get nodes -o wide").contains("INTERNAL-IP"));

    let pods = lab.ok("get pods -A -o wide");
    assert!(pods.lines().next().unwrap().contains("NODE"), "{pods}");
    let running = pods
        .lines()
        .filter(|line| line.contains("web-") && line.contains("1/1") && line.contains("Running"));
    assert_eq!(running.count(), 2, "{pods}");
    assert!(pods.contains("cluster-dns"), "{pods}");

    let yaml = lab.ok("get service web -n demo -o yaml");
    assert!(yaml.contains("clusterIP: 10."), "{yaml}");
    let described = lab.ok("describe service web -n demo");
    assert!(
        described.contains("Endpoints:") && described.contains(":8080"),
        "{described}"
    );
    let described = lab.ok("describe pods -l app=web -n demo");
    for word in ["Controlled By:", "Events:", "Scheduled", "Readiness:"] {
        assert!(described.contains(word), "{word}: {described}");
    }
    let missing = lab.run("get pod no-such -n demo");
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("not found"), "{}", missing.err);
}

#[test]
fn kubectl_runs_things_and_takes_them_away() {
    let _turn = turn();
    if !has(&["kubectl"]) {
        return;
    }
    let lab = Lab::up();
    lab.demo();
    lab.ok("wait -n demo --for=jsonpath={.status.phase}=Failed pod/once --timeout=20s");
    assert!(lab.ok("logs once -n demo").contains("no role `nope`"));
    assert_eq!(
        lab.ok("exec -n demo deploy/web -- /bin/echo inside"),
        "inside\n"
    );
    let failing = lab.run("exec -n demo deploy/web -- /bin/false");
    assert_eq!(failing.code, Some(1), "{}", failing.err);

    lab.ok("scale -n demo deployment/web --replicas=1");
    lab.ok("wait -n demo --for=jsonpath={.status.replicas}=1 deployment/web --timeout=20s");
    lab.ok("delete pod once -n demo");
    lab.ok("delete -f demo.yaml --ignore-not-found --timeout=30s");
    assert_eq!(lab.run("get namespace demo").code, Some(1));

    for (text, words) in [
        ("kind: [", vec!["demo.yaml"]),
        (
            "apiVersion: v1\nkind: Cheese\nmetadata: {name: x}\n",
            vec!["Cheese"],
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n",
            vec!["spec.containers", "Required"],
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 99999}]}\n",
            vec!["99999"],
        ),
    ] {
        fs::write(lab.program.home().join("demo.yaml"), text).unwrap();
        let refused = lab.run("apply -f demo.yaml");
        assert_eq!(refused.code, Some(1), "{text}: {}", refused.out);
        for word in words {
            assert!(refused.err.contains(word), "{word}: {}", refused.err);
        }
    }
}

/// The address that a `kubectl` that stays says it listens on.
fn address(running: &mut Running) -> String {
    running.until("listening", |running| {
        let said = running.printed();
        let from = said.find("127.0.0.1:")?;
        let rest = &said[from..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
        Some(rest[..end].to_owned())
    })
}

#[test]
fn kubectl_proxy_leads_to_a_service() {
    let _turn = turn();
    if !has(&["kubectl"]) {
        return;
    }
    let lab = Lab::up();
    lab.demo();
    let mut proxy = lab.program.start_command(lab.kubectl("proxy --port=0"));
    let at = address(&mut proxy);
    let answer = http_get(&at, "/api/v1/namespaces/demo/services/web:http/proxy/");
    assert!(answer.contains("inside of the cluster"), "{answer}");
}

#[test]
fn kubectl_port_forward_works_over_spdy_and_websocket() {
    let _turn = turn();
    if !has(&["kubectl"]) {
        return;
    }
    let lab = Lab::up();
    lab.demo();
    for websockets in ["true", "false"] {
        let mut command = lab.kubectl("port-forward -n demo service/web 0:80");
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
        let mut forward = lab.program.start_command(command);
        // By itself, and inside of a WebSocket where kubectl knows that: 1.31 and newer.
        let at = address(&mut forward);
        let answer = http_get(&at, "/");
        assert!(answer.contains("inside of the cluster"), "{answer}");
    }
}
