//! What the `http` scenario asks: are addresses reached, and is it really the wire?

mod datagrams;
mod icmp;
mod reach;
mod secure;
mod volume;
mod web;
mod wire;

use std::time::Duration;

use inroads_harness::dial::{Dialer, HttpRoute};
use inroads_harness::measure::OpError;
use inroads_harness::method::Capability;
use inroads_harness::probe::{Attempt, Probe};
use inroads_harness::run::Level;
use inroads_harness::scenario::{PodFacts, Workload};
use tokio::time::timeout;

use super::SERVICE;
use super::connection::Connection;

/// All probes, in report order.
pub(super) const ALL: &[Probe] = &[
    must(
        "reach/pod-ip",
        "pods on every node answer at their own address",
        &[Capability::PodIp],
    ),
    must(
        "reach/cluster-ip",
        "a Service answers at its virtual address",
        &[Capability::ClusterIp],
    ),
    must(
        "reach/spread",
        "new connections to a Service reach every pod behind it",
        &[Capability::ClusterIp],
    ),
    must(
        "reach/no-endpoints",
        "a Service that nothing is behind refuses at once",
        &[Capability::ClusterIp],
    ),
    must(
        "fidelity/udp-echo",
        "a datagram comes back from a Service, and none from a closed port",
        &[Capability::Udp],
    ),
    Probe {
        id: "fidelity/udp-sizes",
        asks: "datagrams of 512, 1232, 1472 and 8192 bytes come back",
        level: Level::Should,
        needs: &[Capability::Udp],
    },
    must(
        "fidelity/icmp-live",
        "every pod answers a ping",
        &[Capability::Icmp],
    ),
    must(
        "fidelity/icmp-honest",
        "an address that no pod has does not answer a ping",
        &[Capability::Icmp],
    ),
    must(
        "fidelity/refused",
        "a closed port refuses at once, with no connection accepted first",
        &[Capability::Tcp],
    ),
    must(
        "fidelity/blast-radius",
        "a connection that is refused, reset or aborted does not hurt others",
        &[Capability::Tcp],
    ),
    must(
        "fidelity/half-close",
        "an answer still comes 0, 0.5 and 2 s after the client has ended its side",
        &[Capability::HalfClose],
    ),
    Probe {
        id: "fidelity/reset",
        asks: "a server's abort is seen as a reset, not as an end",
        level: Level::Should,
        needs: &[Capability::Tcp],
    },
    must(
        "fidelity/bulk-hash",
        "large transfers arrive byte for byte, and one that is given up leaves nothing behind",
        &[],
    ),
    must(
        "fidelity/mtu",
        "payloads of 1200 to 1500 bytes and a large TLS chain come through",
        &[Capability::Tcp],
    ),
    must(
        "fidelity/head-of-line",
        "a stream that nobody reads does not stall twenty others",
        &[],
    ),
    must(
        "fidelity/many",
        "500 connections at once, and up to 2000 in turn, all work",
        &[Capability::Tcp],
    ),
    must(
        "fidelity/tls-name",
        "TLS verifies the in-cluster name",
        &[Capability::Tcp, Capability::Dns],
    ),
    must(
        "fidelity/http",
        "Host, Authorization, redirects, chunks and WebSockets come through",
        &[],
    ),
];

/// Longest wait for an answer that is due.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

const fn must(id: &'static str, asks: &'static str, needs: &'static [Capability]) -> Probe {
    Probe {
        id,
        asks,
        level: Level::Must,
        needs,
    }
}

/// One attempt at the probe `id`.
pub(super) async fn attempt(id: &str, dialer: &Dialer, workload: &Workload) -> Attempt {
    match id {
        "reach/pod-ip" => reach::pod_ip(dialer, workload).await,
        "reach/cluster-ip" => reach::cluster_ip(dialer, workload).await,
        "reach/spread" => reach::spread(dialer, workload).await,
        "reach/no-endpoints" => reach::no_endpoints(dialer, workload).await,
        "fidelity/udp-echo" => datagrams::udp_echo(dialer, workload).await,
        "fidelity/udp-sizes" => datagrams::udp_sizes(dialer, workload).await,
        "fidelity/icmp-live" => icmp::live(dialer, workload).await,
        "fidelity/icmp-honest" => icmp::honest(dialer, workload).await,
        "fidelity/refused" => wire::refused(dialer, workload).await,
        "fidelity/blast-radius" => wire::blast_radius(dialer, workload).await,
        "fidelity/half-close" => wire::half_close(dialer, workload).await,
        "fidelity/reset" => wire::seen_reset(dialer, workload).await,
        "fidelity/bulk-hash" => volume::bulk_hash(dialer, workload).await,
        "fidelity/mtu" => secure::mtu(dialer, workload).await,
        "fidelity/head-of-line" => volume::head_of_line(dialer, workload).await,
        "fidelity/many" => volume::many(dialer, workload).await,
        "fidelity/tls-name" => secure::tls_name(dialer, workload).await,
        "fidelity/http" => web::http(dialer, workload).await,
        other => Attempt::fail(
            "a probe of this scenario",
            format!("there is no probe `{other}`"),
        ),
    }
}

/// The name that the pod at `host:port` gives itself.
pub(crate) async fn asked_name(dialer: &Dialer, host: &str, port: u16) -> Result<String, String> {
    let asked = async {
        let mut connection = Connection::open(dialer, host, port).await?;
        let HttpRoute { host, prefix } = connection.route();
        let request =
            format!("GET {prefix}/pod HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        connection.send(request.as_bytes()).await?;
        let (answer, body) = connection.receive_whole().await?;
        Ok::<_, OpError>(String::from_utf8_lossy(&answer[body..]).into_owned())
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
