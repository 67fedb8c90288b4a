//! Running the loads, and `inroads agent redis-load`, which runs one against any Redis Cluster and prints its
//! figures as JSON. It is how the generator itself is measured, beside others of its kind.

use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use inroads_harness::access::Access;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::{
    ClosedTally, Load, Reading, WarmUp, closed_loop, on_this_thread, open_loop,
};
use inroads_harness::role::{Role, RoleError, RoleFuture};
use inroads_harness::run::Unit;
use inroads_harness::scenario::{LoadOrder, ScenarioError};
use serde_json::json;

use super::client::{Client, Seed};
use super::load::{Operations, Pipelined};

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: "redis-load",
    about: "the load generator of the redis-cluster scenario, against any Redis Cluster",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

/// As many operations as there can be, one by one.
pub(super) fn operations(client: Client, order: &LoadOrder) -> Result<Vec<Reading>, ScenarioError> {
    let tally = closed(order, Operations::new(client, order.seed))?;
    Ok(vec![Reading::rate("operations", Unit::PerSecond, &tally)])
}

/// As many as there can be in pipelines of `depth`. What is counted is operations, as where they go one by one.
pub(super) fn pipelined(
    client: Client,
    order: &LoadOrder,
    depth: usize,
) -> Result<Vec<Reading>, ScenarioError> {
    let mut tally = closed(order, Pipelined::new(client, depth, order.seed))?;
    tally.ops *= depth as u64;
    Ok(vec![Reading::rate("pipelined", Unit::PerSecond, &tally)])
}

/// Operations at a fixed rate.
pub(super) fn latency(client: Client, order: &LoadOrder) -> Result<Vec<Reading>, ScenarioError> {
    let open = order.open()?;
    let load = Operations::new(client, order.seed);
    let tally = on_this_thread(open_loop(Rc::new(load), open))?;
    Ok(Reading::latencies(&tally, open.rate))
}

fn closed(order: &LoadOrder, load: impl Load) -> Result<ClosedTally, ScenarioError> {
    Ok(on_this_thread(closed_loop(Rc::new(load), order.closed()))?)
}

#[derive(Debug, Parser)]
#[command(name = "redis-load", no_binary_name = true)]
struct Arguments {
    /// A node's host.
    host: String,
    /// Its port.
    #[arg(default_value_t = super::PORT)]
    port: u16,
    /// Operations, or pipelines, under way at once.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Commands of one pipeline; 1 sends them one by one.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Seconds to measure, after one of warm-up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Operations each second, in an open loop; without it a closed loop runs as fast as it can.
    #[arg(long, conflicts_with = "pipeline")]
    rate: Option<f64>,
}

#[expect(clippy::print_stdout, reason = "the figures are this command's result")]
async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let seed = Seed {
        host: arguments.host,
        port: arguments.port,
        nodes: Vec::new(),
    };
    let client = Client::new(&Dialer::new(Access::Unmodified), &seed)?;
    let order = LoadOrder {
        load: "latency".to_owned(),
        connections: arguments.connections,
        rate: arguments.rate,
        warm_up: WarmUp::UpTo(Duration::from_secs(1)),
        window: Duration::try_from_secs_f64(arguments.seconds)?,
        seed: 1,
    };
    // Blocking is all that this process has to do.
    let measuring = tokio::task::spawn_blocking(move || match (order.rate, arguments.pipeline) {
        (Some(_), _) => latency(client, &order),
        (None, depth @ 2..) => pipelined(client, &order, depth),
        (None, _) => operations(client, &order),
    });
    let readings = measuring.await??;
    let figures = readings.iter().map(|reading| {
        let figures = json!({
            "value": reading.value, "count": reading.count, "errors": reading.errors,
            "p50_us": reading.p50, "p99_us": reading.p99, "invalid": reading.invalid_reason,
        });
        (reading.metric.clone(), figures)
    });
    let figures: serde_json::Map<String, serde_json::Value> = figures.collect();
    println!("{}", serde_json::Value::Object(figures));
    Ok(())
}
