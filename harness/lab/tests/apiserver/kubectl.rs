//! The real `kubectl`, where there is one: what people type must work as they know it.
//!
//! `INROADS_TEST_KUBECTL` names another one than that on the PATH.

use std::{
    io::{Write, stderr},
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use crate::{
    cluster::{Cluster, NODE, soon},
    kubelet::website,
};

struct Kubectl {
    program: PathBuf,
    /// The minor version: 20, 32, …
    minor: u32,
    home: TempDir,
    _cluster: Cluster,
}

impl Kubectl {
    /// Nothing, said aloud, where there is no `kubectl`.
    async fn start() -> Option<Self> {
        let program =
            std::env::var_os("INROADS_TEST_KUBECTL").map_or("kubectl".into(), PathBuf::from);
        let version = Command::new(&program)
            .args(["version", "--client", "-o", "json"])
            .output()
            .await;
        let Ok(version) = version else {
            // Past the capture of a test's output, where it would not be seen.
            let said = format!("skipped: there is no {} here\n", program.display());
            stderr().write_all(said.as_bytes()).unwrap();
            return None;
        };
        let version: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
        let minor = version["clientVersion"]["minor"].as_str().unwrap();
        let minor = minor.trim_end_matches('+').parse().unwrap();
        let cluster = Cluster::start().await;
        cluster.ready().await;
        let home = TempDir::new().unwrap();
        std::fs::write(home.path().join("config"), cluster.kubeconfig()).unwrap();
        Some(Self {
            program,
            minor,
            home,
            _cluster: cluster,
        })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments.split_whitespace())
            .env("KUBECONFIG", self.home.path().join("config"))
            .env("HOME", self.home.path())
            .kill_on_drop(true);
        command
    }

    async fn output(&self, arguments: &str) -> Output {
        soon(self.command(arguments).output()).await.unwrap()
    }

    /// What it prints when all is well.
    async fn ok(&self, arguments: &str) -> String {
        let output = self.output(arguments).await;
        let (out, error) = texts(&output);
        assert!(output.status.success(), "kubectl {arguments}: {error}");
        out
    }

    /// What it complains of.
    async fn fails(&self, arguments: &str) -> String {
        let output = self.output(arguments).await;
        let (out, error) = texts(&output);
        assert!(!output.status.success(), "kubectl {arguments}: {out}");
        error
    }

    async fn feed(&self, arguments: &str, input: &str) -> Output {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .await
            .unwrap();
        soon(child.wait_with_output()).await.unwrap()
    }

    async fn apply(&self, manifest: &str) -> String {
        let output = self.feed("apply -f -", manifest).await;
        let (out, error) = texts(&output);
        assert!(output.status.success(), "kubectl apply: {error}");
        out
    }

    /// Starts something that goes on by itself, once it has printed a line.
    async fn spawn(&self, arguments: &str) -> (Child, String) {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        soon(out.read_line(&mut line)).await.unwrap();
        (child, line)
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The words of each line, without what differs from run to run.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

fn web(image: &str, environment: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: {image}
        env: [{environment}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80}}]
"
    )
}

#[tokio::test]
async fn tables_look_as_on_a_real_cluster() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.apply(&web("web:1", "")).await;
    kubectl
        .ok("rollout status deployment/web --timeout=20s")
        .await;

    let nodes = kubectl.ok("get nodes -o wide").await;
    let nodes = rows(&nodes);
    assert_eq!(nodes[0][..5], ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]);
    assert_eq!(nodes[0][5..8], ["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE"]);
    assert_eq!(nodes[1][..3], [NODE, "Ready", "<none>"]);

    let pods = kubectl.ok("get pods -o wide").await;
    let pods = rows(&pods);
    assert_eq!(
        pods[0][..7],
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    );
    assert_eq!(pods[0][7..], ["NOMINATED", "NODE", "READINESS", "GATES"]);
    assert_eq!(pods.len(), 3);
    assert_eq!(pods[1][1..4], ["1/1", "Running", "0"]);
    assert_eq!(pods[1][5..7], ["127.0.0.1", NODE]);

    let services = kubectl.ok("get services -o wide").await;
    let services = rows(&services);
    let expected = [
        "NAME",
        "TYPE",
        "CLUSTER-IP",
        "EXTERNAL-IP",
        "PORT(S)",
        "AGE",
        "SELECTOR",
    ];
    assert_eq!(services[0], expected);
    assert_eq!(services[1][..3], ["kubernetes", "ClusterIP", "10.96.0.1"]);
    assert_eq!((services[2][0], services[2][6]), ("web", "app=web"));

    let deployments = kubectl.ok("get deployments.apps -o wide").await;
    let deployments = rows(&deployments);
    assert_eq!(deployments[1][..4], ["web", "2/2", "2", "2"]);
    assert_eq!(deployments[1][5..], ["web", "web:1", "app=web"]);
    for kind in [
        "endpoints",
        "endpointslices",
        "events",
        "all",
        "cm,secret,sa",
        "leases",
        "roles",
    ] {
        let mut command = format!("get {kind} -A");
        if kind == "all" {
            command.push_str(" -o wide");
        }
        kubectl.ok(&command).await;
    }
    let names = kubectl.ok("get pods -o name").await;
    assert!(
        names.lines().all(|line| line.starts_with("pod/web-")),
        "{names}"
    );
    let yaml = kubectl.ok("get deployment web -o yaml").await;
    assert!(
        yaml.contains("kind: Deployment") && yaml.contains("image: web:1"),
        "{yaml}"
    );
    let json = kubectl.ok("get service,deployment -o json").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn apply_creates_changes_and_prunes_what_is_dropped() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    let both = "{name: A, value: '1'}, {name: B, value: '2'}";
    let created = kubectl.apply(&web("web:1", both)).await;
    assert!(created.contains("deployment.apps/web created"), "{created}");
    let again = kubectl.apply(&web("web:1", both)).await;
    assert!(again.contains("deployment.apps/web unchanged"), "{again}");
    let changed = kubectl.apply(&web("web:2", "{name: A, value: '1'}")).await;
    assert!(
        changed.contains("deployment.apps/web configured"),
        "{changed}"
    );
    assert!(changed.contains("service/web unchanged"), "{changed}");
    let path = "{.spec.template.spec.containers[0]['image','env']}";
    let seen = kubectl
        .ok(&format!("get deployment web -o jsonpath={path}"))
        .await;
    assert!(seen.contains("web:2") && !seen.contains("\"B\""), "{seen}");

    let manifest = web("web:3", "{name: C, value: '3'}");
    let forced = "apply --server-side --force-conflicts -f -";
    let (out, error) = texts(&kubectl.feed(forced, &manifest).await);
    assert!(
        out.contains("deployment.apps/web serverside-applied"),
        "{out}{error}"
    );
    let seen = kubectl
        .ok(&format!("get deployment web -o jsonpath={path}"))
        .await;
    assert!(seen.contains("web:3") && seen.contains("\"C\""), "{seen}");
}

#[tokio::test]
async fn bad_manifests_are_refused_with_the_reason() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    let refused = |manifest: String| {
        let kubectl = &kubectl;
        async move {
            let output = kubectl.feed("apply -f -", &manifest).await;
            let (out, error) = texts(&output);
            (output.status.success(), format!("{out}{error}"))
        }
    };
    let (ok, said) = refused(web("web:1", "").replace("replicas: 2", "replicas: two")).await;
    assert!(
        !ok && said.contains("DeploymentSpec.spec.replicas of type int32"),
        "{said}"
    );
    let (ok, said) =
        refused(web("web:1", "").replace("labels: {app: web}", "labels: {app: db}")).await;
    assert!(
        !ok && said.contains("`selector` does not match template `labels`"),
        "{said}"
    );
    let (ok, said) = refused(web("web:1", "").replace("replicas", "replicaz")).await;
    assert!(said.contains("unknown field \"spec.replicaz\""), "{said}");
    // Before 1.27 the server was not asked to be strict: it warns.
    assert_eq!(ok, kubectl.minor < 27, "{said}");
    let (ok, said) = refused("kind: [}\n".to_owned()).await;
    assert!(!ok && said.contains("yaml"), "{said}");
    let policy =
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: closed}\n";
    let (ok, said) = refused(policy.to_owned()).await;
    assert!(
        !ok && said.contains("no matches for kind \"NetworkPolicy\""),
        "{said}"
    );
}

#[tokio::test]
async fn objects_are_made_changed_waited_for_and_deleted() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.ok("create namespace team").await;
    kubectl
        .ok("create configmap settings --from-literal=a=b -n team")
        .await;
    kubectl
        .ok("create secret generic hidden --from-literal=a=b -n team")
        .await;
    kubectl
        .ok("create deployment api --image=api:1 --replicas=2 -n team")
        .await;
    kubectl
        .ok("create service clusterip api --tcp=80:8080 -n team")
        .await;
    kubectl
        .ok("wait --for=condition=Available deployment/api -n team --timeout=20s")
        .await;
    kubectl
        .ok("scale deployment api --replicas=3 -n team")
        .await;
    kubectl
        .ok("rollout status deployment/api -n team --timeout=20s")
        .await;
    kubectl
        .ok("set image deployment/api api=api:2 -n team")
        .await;
    kubectl
        .ok("rollout status deployment/api -n team --timeout=20s")
        .await;
    let history = kubectl.ok("rollout history deployment/api -n team").await;
    assert_eq!(rows(&history)[2][0], "1");
    kubectl.ok("rollout undo deployment/api -n team").await;
    kubectl
        .ok("rollout status deployment/api -n team --timeout=20s")
        .await;
    let image = "{.spec.template.spec.containers[0].image}";
    let image = kubectl
        .ok(&format!("get deployment api -n team -o jsonpath={image}"))
        .await;
    assert_eq!(image, "api:1");
    kubectl.ok("label deployment api tier=front -n team").await;
    kubectl.ok("annotate deployment api note=yes -n team").await;
    let found = kubectl.ok("get deployments -A -l tier=front -o name").await;
    assert_eq!(found.trim(), "deployment.apps/api");
    kubectl
        .ok("patch deployment api -n team -p {\"spec\":{\"replicas\":1}}")
        .await;
    kubectl.ok("run once --image=web:1 -n team").await;
    kubectl
        .ok("wait --for=condition=Ready pod/once -n team --timeout=20s")
        .await;
    kubectl.ok("delete pod once -n team --wait").await;
    let gone = kubectl.fails("get pod once -n team").await;
    assert!(
        gone.contains("Error from server (NotFound): pods \"once\" not found"),
        "{gone}"
    );
    kubectl
        .ok("delete namespace team --wait --timeout=20s")
        .await;
    let gone = kubectl.fails("get namespace team").await;
    assert!(gone.contains("namespaces \"team\" not found"), "{gone}");
    kubectl.ok("create job sum --image=job:1").await;
    kubectl
        .ok("wait --for=condition=complete job/sum --timeout=20s")
        .await;
    kubectl.ok("cordon worker-1").await;
    let nodes = kubectl.ok("get nodes").await;
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    kubectl.ok("uncordon worker-1").await;
}

#[tokio::test]
async fn descriptions_tell_what_happened() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.apply(&web("web:1", "")).await;
    kubectl
        .ok("rollout status deployment/web --timeout=20s")
        .await;
    let deployment = kubectl.ok("describe deployment web").await;
    assert!(
        deployment.contains("2 desired | 2 updated | 2 total | 2 available"),
        "{deployment}"
    );
    assert!(deployment.contains("ScalingReplicaSet"), "{deployment}");
    let pod = kubectl.ok("describe pod -l app=web").await;
    assert!(pod.contains("Successfully assigned default/web-"), "{pod}");
    let service = kubectl.ok("describe service web").await;
    assert!(service.contains("127.0.0.1:80"), "{service}");
    let node = kubectl.ok("describe node worker-1").await;
    assert!(node.contains("Non-terminated Pods:"), "{node}");
    for what in [
        "namespace default",
        "serviceaccount default",
        "clusterrole view",
        "rs",
        "endpoints web",
    ] {
        kubectl.ok(&format!("describe {what}")).await;
    }
    kubectl.apply(&web("broken:1", "")).await;
    let waiting = soon(async {
        loop {
            let pods = kubectl.ok("get pods").await;
            if pods.contains("ImagePullBackOff") {
                return pods;
            }
        }
    });
    waiting.await;
}

#[tokio::test]
async fn logs_proxy_and_rights_work() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    let port = website().await;
    kubectl
        .apply(&web("web:1", "").replace("port: 80", &format!("port: {port}")))
        .await;
    kubectl
        .ok("rollout status deployment/web --timeout=20s")
        .await;
    assert_eq!(kubectl.ok("logs deployment/web").await, "one\ntwo\nthree\n");
    assert_eq!(
        kubectl.ok("logs -f deployment/web").await,
        "one\ntwo\nthree\nfour\n"
    );
    assert_eq!(kubectl.ok("logs --tail=1 deployment/web").await, "three\n");

    let path = "/api/v1/namespaces/default/services/web:http/proxy/a?b=c";
    let seen = kubectl.ok(&format!("get --raw {path}")).await;
    assert!(seen.contains("\"path\":\"/a\""), "{seen}");
    let (mut proxy, line) = kubectl.spawn("proxy --port=0").await;
    let address = line.trim().rsplit(' ').next().unwrap().to_owned();
    let seen = curl(&address, path).await;
    assert!(seen.contains("\"query\":\"b=c\""), "{seen}");
    proxy.kill().await.unwrap();

    assert_eq!(kubectl.ok("auth can-i delete pods").await.trim(), "yes");
    kubectl.ok("create serviceaccount robot").await;
    let robot = "--as=system:serviceaccount:default:robot";
    assert_eq!(
        texts(
            &kubectl
                .output(&format!("auth can-i get pods {robot}"))
                .await
        )
        .0
        .trim(),
        "no"
    );
    kubectl
        .ok("create rolebinding robot-views --clusterrole=view --serviceaccount=default:robot")
        .await;
    assert_eq!(
        kubectl
            .ok(&format!("auth can-i get pods {robot}"))
            .await
            .trim(),
        "yes"
    );
    let refused = kubectl.fails(&format!("delete service web {robot}")).await;
    assert!(
        refused.contains("cannot delete resource \"services\""),
        "{refused}"
    );
}

#[tokio::test]
async fn exec_works_or_says_why_not() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.apply(&web("web:1", "")).await;
    kubectl
        .ok("rollout status deployment/web --timeout=20s")
        .await;
    if kubectl.minor >= 31 {
        assert_eq!(
            kubectl.ok("exec deployment/web -- echo hello there").await,
            "hello there\n"
        );
        let (out, error) = texts(
            &kubectl
                .feed("exec -i deployment/web -- cat", "input\n")
                .await,
        );
        assert_eq!(out, "input\n", "{error}");
        let output = kubectl.output("exec deployment/web -- false").await;
        assert_eq!(output.status.code(), Some(1));
    } else {
        let refused = kubectl.fails("exec deployment/web -- echo hello").await;
        assert!(refused.contains("speaks WebSocket only"), "{refused}");
    }
}

#[tokio::test]
async fn a_watched_table_grows() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.apply(&web("web:1", "")).await;
    let (mut child, header) = kubectl.spawn("get pods -w").await;
    assert_eq!(rows(&header)[0][..3], ["NAME", "READY", "STATUS"]);
    child.kill().await.unwrap();
}

/// One request over HTTP in the clear.
async fn curl(address: &str, path: &str) -> String {
    use tokio::io::AsyncReadExt;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}
