//! The `http` scenario: a web server behind a Service, asked small and large things in every usual way.

mod connection;
pub(crate) mod generator;
mod load;
mod probes;
pub(crate) mod server;
mod stream;
pub(crate) mod tls;

use std::cell::Cell;
use std::rc::Rc;

use async_trait::async_trait;
use inroads_harness::Scenario;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::{
    ClosedTally, Load, Reading, closed_loop, on_this_thread, open_loop,
};
use inroads_harness::method::{Capability, Manifest};
use inroads_harness::probe::{Attempt, Probe};
use inroads_harness::run::Unit;
use inroads_harness::scenario::{LoadOrder, LoadSpec, ScenarioError, Shape, Target, Workload};

pub(crate) use probes::{asked_name, given_back, seen_address};

use load::{Destination, Download, Http2, KeepAlive, OneShot, Upload};

/// The Service.
const SERVICE: &str = "web";

/// The Service that nothing is behind.
const VACANT: &str = "vacant";

/// The Service of the TLS server.
const SECURE: &str = "secure";

/// The port of the pods' web server.
const POD_PORT: u16 = 8080;

/// The port of the pods' echo server.
const ECHO_PORT: u16 = 7007;

/// A port of the pods where nobody listens.
const CLOSED_PORT: u16 = 9;

/// The size of a large answer, in bytes.
const MEBIBYTE: u64 = 1 << 20;

/// The size of one bulk transfer, in bytes: long enough to reach full speed, short enough to count several.
const BULK: u64 = 8 << 20;

/// HTTP/2 connections that carry the streams.
const HTTP2_CONNECTIONS: usize = 4;

/// The scenario.
pub(crate) struct Http;

#[async_trait]
impl Scenario for Http {
    fn id(&self) -> &'static str {
        "http"
    }

    fn title(&self) -> &'static str {
        "HTTP service"
    }

    fn summary(&self) -> &'static str {
        "a web server in two pods behind a Service: small and large answers, kept and new connections"
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "http.yaml",
            yaml: include_str!("../manifests/http.yaml"),
        }]
    }

    fn targets(&self, workload: &Workload) -> Vec<Target> {
        let ports = [
            (SERVICE, "http"),
            (SERVICE, "echo"),
            (SECURE, "https"),
            (SECURE, "http"),
        ];
        let mut targets: Vec<Target> = ports
            .iter()
            .filter_map(|(service, port)| workload.service_target(service, port).ok())
            .collect();
        for (pod, _) in workload.endpoints(SERVICE).unwrap_or_default() {
            let ports = [POD_PORT, ECHO_PORT, CLOSED_PORT];
            targets.extend(
                ports
                    .iter()
                    .filter_map(|port| workload.pod_target(pod, *port).ok()),
            );
        }
        targets
    }

    fn probes(&self) -> &'static [Probe] {
        probes::ALL
    }

    async fn attempt(&self, id: &str, dialer: &Dialer, workload: &Workload) -> Attempt {
        probes::attempt(id, dialer, workload).await
    }

    fn loads(&self) -> &'static [LoadSpec] {
        &[
            LoadSpec {
                id: "requests",
                title: "small requests, kept connections",
                shape: Shape::Closed,
                connections: 32,
            },
            LoadSpec {
                id: "latency",
                title: "small requests at a fixed rate",
                shape: Shape::Open,
                connections: 16,
            },
            LoadSpec {
                id: "requests-h2",
                title: "small requests over HTTP/2",
                shape: Shape::Closed,
                connections: 32,
            },
            LoadSpec {
                id: "new-connections",
                title: "a new connection for each request",
                shape: Shape::Closed,
                connections: 8,
            },
            LoadSpec {
                id: "answers-1mib",
                title: "answers of 1 MiB",
                shape: Shape::Closed,
                connections: 4,
            },
            LoadSpec {
                id: "download",
                title: "bulk download",
                shape: Shape::Closed,
                connections: 2,
            },
            LoadSpec {
                id: "upload",
                title: "bulk upload",
                shape: Shape::Closed,
                connections: 2,
            },
        ]
    }

    fn load_needs(&self, load: &LoadSpec) -> &'static [Capability] {
        match load.id {
            // Without TLS there is nothing to negotiate HTTP/2 with, so nothing may stand in the middle.
            "requests-h2" => &[Capability::Tcp],
            _ => &[],
        }
    }

    fn measure(
        &self,
        order: &LoadOrder,
        dialer: &Dialer,
        workload: &Workload,
    ) -> Result<Vec<Reading>, ScenarioError> {
        let (dialer, to) = (dialer.clone(), service(workload)?);
        match order.load.as_str() {
            "latency" => latency(order, KeepAlive { dialer, to }),
            "requests" => {
                let tally = closed(order, KeepAlive { dialer, to })?;
                Ok(vec![Reading::rate("requests", Unit::PerSecond, &tally)])
            }
            "requests-h2" => {
                let connections = (0..HTTP2_CONNECTIONS).map(|_| Default::default()).collect();
                let tally = closed(
                    order,
                    Http2 {
                        dialer,
                        to,
                        connections,
                        next: Cell::new(0),
                    },
                )?;
                Ok(vec![Reading::rate("requests-h2", Unit::PerSecond, &tally)])
            }
            "new-connections" => {
                let tally = closed(order, OneShot { dialer, to })?;
                Ok(vec![
                    Reading::rate("new-connections", Unit::PerSecond, &tally),
                    Reading::latency("connect", &tally.connect, &tally.errors),
                    Reading::latency("first-byte", &tally.first_byte, &tally.errors),
                ])
            }
            "answers-1mib" => {
                let load = Download {
                    dialer,
                    to: vec![to],
                    size: MEBIBYTE,
                    next: Cell::new(0),
                };
                let tally = closed(order, load)?;
                Ok(vec![Reading::rate("answers-1mib", Unit::PerSecond, &tally)])
            }
            "download" => {
                let load = Download {
                    dialer,
                    to: pods(workload)?,
                    size: BULK,
                    next: Cell::new(0),
                };
                Ok(vec![Reading::rate(
                    "download",
                    Unit::BytesPerSecond,
                    &closed(order, load)?,
                )])
            }
            "upload" => {
                let size = usize::try_from(BULK).unwrap_or(usize::MAX);
                let load = Upload {
                    dialer,
                    to: pods(workload)?,
                    size,
                    next: Cell::new(0),
                };
                Ok(vec![Reading::rate(
                    "upload",
                    Unit::BytesPerSecond,
                    &closed(order, load)?,
                )])
            }
            other => Err(ScenarioError::NoSuchLoad(other.to_owned())),
        }
    }
}

fn closed(order: &LoadOrder, load: impl Load) -> Result<ClosedTally, ScenarioError> {
    Ok(on_this_thread(closed_loop(Rc::new(load), order.closed()))?)
}

fn latency(order: &LoadOrder, load: impl Load) -> Result<Vec<Reading>, ScenarioError> {
    let plan = order.open()?;
    let tally = on_this_thread(open_loop(Rc::new(load), plan))?;
    Ok(Reading::latencies(&tally, plan.rate))
}

/// The Service by its address: names are the `dns` scenario's business.
fn service(workload: &Workload) -> Result<Destination, ScenarioError> {
    let (host, port) = workload.service_address(SERVICE, "http")?;
    Ok(Destination { host, port })
}

/// All pods, so that a bulk transfer does not depend on which node one pod happens to run.
fn pods(workload: &Workload) -> Result<Vec<Destination>, ScenarioError> {
    let endpoints = workload.endpoints(SERVICE)?;
    Ok(endpoints
        .iter()
        .map(|(_, pod)| Destination {
            host: pod.ip.to_string(),
            port: POD_PORT,
        })
        .collect())
}
