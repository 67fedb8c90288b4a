//! What the `http` scenario asks: are addresses reached, and is it really the wire?

mod datagrams;
mod icmp;
mod reach;
mod secure;
mod volume;
mod web;
mod wire;

use std::net::IpAddr;
use std::time::Duration;

use inroads_harness::dial::{Dialer, HttpRoute};
use inroads_harness::measure::OpError;
use inroads_harness::method::Capability;
use inroads_harness::probe::{Attempt, Manner, Probe};
use inroads_harness::scenario::{PodFacts, Workload};
use tokio::time::timeout;

use super::SERVICE;
use super::connection::Connection;
use super::server::pages;

/// All probes, in report order.
pub(super) const ALL: &[Probe] = &[
    Probe::must(
        "reach/pod-ip",
        "pods on every node answer at their own address",
        &[Capability::PodIp],
    ),
    Probe::must(
        "reach/cluster-ip",
        "a Service answers at its virtual address",
        &[Capability::ClusterIp],
    ),
    Probe::must(
        "reach/spread",
        "new connections to a Service reach every pod behind it",
        &[Capability::ClusterIp],
    ),
    Probe::must(
        "reach/no-endpoints",
        "a Service that nothing is behind refuses at once",
        &[Capability::ClusterIp],
    ),
    Probe::must(
        "fidelity/udp-echo",
        "a datagram comes back from a Service, and none from a closed port",
        &[Capability::Udp],
    ),
    Probe::should(
        "fidelity/udp-sizes",
        "datagrams of 512, 1232, 1472 and 8192 bytes come back",
        &[Capability::Udp],
    ),
    Probe::must(
        "fidelity/icmp-live",
        "every pod answers a ping",
        &[Capability::Icmp],
    ),
    Probe::must(
        "fidelity/icmp-honest",
        "an address that no pod has does not answer a ping",
        &[Capability::Icmp],
    ),
    Probe::must(
        "fidelity/refused",
        "a closed port refuses at once, with no connection accepted first",
        &[Capability::Tcp],
    ),
    Probe::must(
        "fidelity/blast-radius",
        "a connection that is refused, reset or aborted does not hurt others",
        &[Capability::Tcp],
    ),
    Probe::must(
        "fidelity/half-close",
        "an answer still comes 0, 0.5 and 2 s after the client has ended its side",
        &[Capability::HalfClose],
    ),
    Probe::should(
        "fidelity/reset",
        "a server's abort is seen as a reset, not as an end",
        &[Capability::Tcp],
    ),
    Probe::must(
        "fidelity/bulk-hash",
        "large transfers arrive byte for byte, and one that is given up leaves nothing behind",
        &[],
    ),
    Probe::must(
        "fidelity/mtu",
        "payloads of 1200 to 1500 bytes and a large TLS chain come through",
        &[Capability::Tcp],
    ),
    Probe::must(
        "fidelity/head-of-line",
        "a stream that nobody reads does not stall twenty others",
        &[],
    ),
    Probe::must(
        "fidelity/many",
        "500 connections at once, and up to 2000 in turn, all work",
        &[Capability::Tcp],
    )
    // Through all methods at once it would ask how many connections the servers carry.
    .asked(Manner::Alone),
    Probe::must(
        "fidelity/tls-name",
        "TLS verifies the in-cluster name",
        &[Capability::Tcp, Capability::Dns],
    ),
    Probe::must(
        "fidelity/http",
        "Host, Authorization, redirects, chunks and WebSockets come through",
        &[],
    ),
];

/// Longest wait for an answer that is due.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

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
    Ok(page(dialer, host, port, "GET", "/pod", b"").await?.1)
}

/// The client's own address for `host:port`, and the one that is seen there.
pub(crate) async fn seen_address(
    dialer: &Dialer,
    host: &str,
    port: u16,
) -> Result<(String, String), String> {
    let (local, seen) = page(dialer, host, port, "GET", pages::PEER, b"").await?;
    Ok((local.to_string(), seen))
}

/// What the web server at `host:port` gives back of `body`.
pub(crate) async fn given_back(
    dialer: &Dialer,
    host: &str,
    port: u16,
    body: &[u8],
) -> Result<String, String> {
    Ok(page(dialer, host, port, "POST", pages::BACK, body).await?.1)
}

/// Asks for one page, over a connection of its own. Returns the client's own address and the page.
async fn page(
    dialer: &Dialer,
    host: &str,
    port: u16,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<(IpAddr, String), String> {
    let asked = async {
        let mut connection = Connection::open(dialer, host, port).await?;
        let local = connection.local_address()?;
        let HttpRoute { host, prefix } = connection.route();
        let length = body.len();
        let head = format!(
            "{method} {prefix}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        connection.send(&[head.as_bytes(), body].concat()).await?;
        let (answer, body) = connection.receive_whole().await?;
        let text = String::from_utf8_lossy(&answer[body..]).into_owned();
        Ok::<_, OpError>((local, text))
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
    let address = workload.service_address(SERVICE, name);
    address.map_err(|error| error.to_string())
}
