//! What the `http` scenario asks: are addresses reached, and is it really the wire?

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use inroads_harness::clock;
use inroads_harness::dial::{Dialer, HttpRoute};
use inroads_harness::method::Capability;
use inroads_harness::probe::{Attempt, Probe};
use inroads_harness::run::Level;
use inroads_harness::scenario::{PodFacts, Workload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connection::Connection;
use super::{CLOSED_PORT, ECHO_PORT, POD_PORT, SERVICE};

/// All probes, in report order.
pub(super) const ALL: &[Probe] = &[
    Probe {
        id: "reach/pod-ip",
        asks: "pods on every node answer at their own address",
        level: Level::Must,
        needs: &[Capability::PodIp],
    },
    Probe {
        id: "reach/cluster-ip",
        asks: "a Service answers at its virtual address",
        level: Level::Must,
        needs: &[Capability::ClusterIp],
    },
    Probe {
        id: "fidelity/udp-echo",
        asks: "a datagram comes back from a Service",
        level: Level::Must,
        needs: &[Capability::Udp],
    },
    Probe {
        id: "fidelity/refused",
        asks: "a closed port refuses at once, with no connection accepted first",
        level: Level::Must,
        needs: &[Capability::Tcp],
    },
    Probe {
        id: "fidelity/half-close",
        asks: "an answer still comes 0, 0.5 and 2 s after the client has ended its side",
        level: Level::Must,
        needs: &[Capability::HalfClose],
    },
];

/// How soon a refusal must come.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Waits of the half-close probe: real port-forwards cut after one second.
const WAITS_MS: [u64; 3] = [0, 500, 2000];

/// Longest wait for an answer that is due.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// One attempt at the probe `id`.
pub(super) async fn attempt(id: &str, dialer: &Dialer, workload: &Workload) -> Attempt {
    match id {
        "reach/pod-ip" => pod_ip(dialer, workload).await,
        "reach/cluster-ip" => cluster_ip(dialer, workload).await,
        "fidelity/udp-echo" => udp_echo(dialer, workload).await,
        "fidelity/refused" => refused(dialer, workload).await,
        "fidelity/half-close" => half_close(dialer, workload).await,
        other => Attempt::fail(
            "a probe of this scenario",
            format!("there is no probe `{other}`"),
        ),
    }
}

/// Every pod behind the Service answers with its own name, and they are on more than one node.
async fn pod_ip(dialer: &Dialer, workload: &Workload) -> Attempt {
    let pods = endpoints(workload);
    let nodes: BTreeSet<&str> = pods.iter().map(|(_, pod)| pod.node.as_str()).collect();
    let expected = format!(
        "{} pods on {} nodes answer with their names",
        pods.len(),
        nodes.len()
    );
    if nodes.len() < 2 {
        return Attempt::fail("pods on two nodes", format!("the workload is on {nodes:?}"));
    }
    for (name, pod) in &pods {
        match asked_name(dialer, &pod.ip.to_string(), POD_PORT).await {
            Ok(answer) if answer == *name => {}
            Ok(answer) => {
                return Attempt::fail(expected, format!("{} answered as `{answer}`", pod.ip));
            }
            Err(error) => {
                return Attempt::fail(expected, format!("{} on {}: {error}", pod.ip, pod.node));
            }
        }
    }
    let seen: Vec<String> = pods
        .iter()
        .map(|(name, pod)| format!("{name} on {}", pod.node))
        .collect();
    Attempt::pass(expected, seen.join(", "))
}

async fn cluster_ip(dialer: &Dialer, workload: &Workload) -> Attempt {
    let (host, port) = match service_address(workload, "http") {
        Ok(address) => address,
        Err(error) => return Attempt::fail("the workload", error),
    };
    let expected = format!("{host}:{port} answers with the name of a pod");
    match asked_name(dialer, &host, port).await {
        Ok(name) if workload.pods.contains_key(&name) => Attempt::pass(expected, name),
        Ok(name) => Attempt::fail(expected, format!("`{name}`, which is no pod")),
        Err(error) => Attempt::fail(expected, error),
    }
}

/// A datagram goes to the Service's echo server and comes back the same.
async fn udp_echo(dialer: &Dialer, workload: &Workload) -> Attempt {
    const TRIES: usize = 3;
    const WAIT: Duration = Duration::from_millis(500);
    let (host, port) = match service_address(workload, "echo-udp") {
        Ok(address) => address,
        Err(error) => return Attempt::fail("the workload", error),
    };
    let expected = format!("a datagram to {host}:{port} comes back the same");
    let mut path = match dialer.udp(&host, port).await {
        Ok(path) => path,
        Err(error) => return Attempt::fail(expected, error.to_string()),
    };
    let payload = format!("inroads udp probe {}", clock::wall_precise()).into_bytes();
    let mut last = "no answer".to_owned();
    for attempt in 1..=TRIES {
        if let Err(error) = path.send(&payload).await {
            last = error.to_string();
            continue;
        }
        let mut answer = vec![0; 2048];
        match timeout(WAIT, path.receive(&mut answer)).await {
            Ok(Ok(length)) if answer[..length] == payload => {
                return Attempt::pass(
                    expected,
                    format!("the same {length} bytes, at try {attempt}"),
                );
            }
            Ok(Ok(length)) => {
                return Attempt::fail(expected, format!("{length} other bytes came back"));
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_elapsed) => "no answer".clone_into(&mut last),
        }
    }
    Attempt::fail(expected, format!("{last} ({TRIES} tries)"))
}

/// Connecting to a port where nobody listens is refused, quickly, before anything is accepted.
async fn refused(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = format!("a refusal within {} s", AT_ONCE.as_secs());
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    let started = clock::now();
    let outcome = dialer.tcp(&pod.ip.to_string(), CLOSED_PORT).await;
    let took = started.elapsed();
    let ms = took.as_millis();
    match outcome {
        Err(error) if error.is_refused() && took < AT_ONCE => {
            Attempt::pass(expected, format!("{error} after {ms} ms"))
        }
        Err(error) => Attempt::fail(expected, format!("{error} after {ms} ms")),
        Ok(mut stream) => {
            // Accepted on behalf of a port that is closed. What becomes of it is the evidence.
            let mut byte = [0];
            let then = match timeout(ANSWER_LIMIT, stream.read(&mut byte)).await {
                Ok(Ok(0)) => "closed".to_owned(),
                Ok(Ok(_)) => "answered".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "left hanging".to_owned(),
            };
            Attempt::fail(expected, format!("accepted after {ms} ms, then {then}"))
        }
    }
}

/// The client ends its side; the server answers after a while.
async fn half_close(dialer: &Dialer, workload: &Workload) -> Attempt {
    let waits: Vec<String> = WAITS_MS.iter().map(|ms| format!("{ms} ms")).collect();
    let expected = format!(
        "the whole answer, {} after the end of the client's side",
        waits.join(", ")
    );
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    for wait in WAITS_MS {
        if let Err(error) = answer_after_end(dialer, pod, wait).await {
            return Attempt::fail(expected, format!("with {wait} ms: {error}"));
        }
    }
    Attempt::pass(expected, "all answers whole")
}

async fn answer_after_end(dialer: &Dialer, pod: &PodFacts, wait_ms: u64) -> Result<(), String> {
    const PAYLOAD: usize = 10_000;
    let mut stream = dialer
        .tcp(&pod.ip.to_string(), ECHO_PORT)
        .await
        .map_err(|error| error.to_string())?;
    let said = async {
        stream
            .write_all(format!("count {wait_ms}\n").as_bytes())
            .await?;
        stream.write_all(&[b'x'; PAYLOAD]).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = timeout(ANSWER_LIMIT + Duration::from_millis(wait_ms), said).await;
    match answer {
        Ok(Ok(answer)) if answer == format!("{PAYLOAD}\n") => Ok(()),
        Ok(Ok(answer)) if answer.is_empty() => {
            Err("the connection ended without the answer".to_owned())
        }
        Ok(Ok(answer)) => Err(format!(
            "the server got {} bytes of {PAYLOAD}",
            answer.trim()
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("no answer".to_owned()),
    }
}

/// The name that the pod at `host:port` gives itself.
async fn asked_name(dialer: &Dialer, host: &str, port: u16) -> Result<String, String> {
    let asked = async {
        let mut connection = Connection::open(dialer, host, port).await?;
        let HttpRoute { host, prefix } = connection.route();
        let request =
            format!("GET {prefix}/pod HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        connection.send(request.as_bytes()).await?;
        let (answer, body) = connection.receive_whole().await?;
        Ok::<_, inroads_harness::measure::OpError>(
            String::from_utf8_lossy(&answer[body..]).into_owned(),
        )
    };
    match timeout(ANSWER_LIMIT, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
    }
}

fn endpoints(workload: &Workload) -> Vec<(&str, &PodFacts)> {
    workload.endpoints(SERVICE).unwrap_or_default()
}

/// The Service's virtual address and the number of its port `name`.
fn service_address(workload: &Workload, name: &str) -> Result<(String, u16), String> {
    let target = workload
        .service_target(SERVICE, name)
        .map_err(|error| error.to_string())?;
    let host = target
        .hosts
        .last()
        .cloned()
        .ok_or("the Service has no address")?;
    Ok((host, target.port))
}
