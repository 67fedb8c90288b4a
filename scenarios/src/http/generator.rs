//! The load generator by itself, against any address: to be compared with generators by others.

use clap::Parser;
use inroads_harness::access::Access;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::{WarmUp, closed_loop, on_this_thread, open_loop};
use inroads_harness::role::{Role, RoleError, RoleFuture};
use inroads_harness::scenario::LoadOrder;
use serde_json::json;
use std::rc::Rc;
use std::time::Duration;

use super::load::{Destination, KeepAlive};

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: "http-load",
    about: "the load generator of the http scenario, against any server of its kind",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

#[derive(Debug, Parser)]
#[command(name = "http-load", no_binary_name = true)]
struct Arguments {
    /// The server's host.
    host: String,
    /// Its port.
    port: u16,
    /// Connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Seconds to measure, after one of warm-up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Requests each second, in an open loop; without it a closed loop runs as fast as it can.
    #[arg(long)]
    rate: Option<f64>,
}

#[expect(clippy::print_stdout, reason = "the figures are this command's result")]
async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let Arguments {
        host,
        port,
        connections,
        seconds,
        rate,
    } = Arguments::try_parse_from(arguments)?;
    let load = move || KeepAlive {
        dialer: Dialer::new(Access::Unmodified),
        to: Destination { host, port },
    };
    let order = LoadOrder {
        load: "latency".to_owned(),
        connections,
        rate,
        warm_up: WarmUp::UpTo(Duration::from_secs(1)),
        window: Duration::try_from_secs_f64(seconds)?,
        seed: 1,
    };
    // Blocking is all that this process has to do.
    let figures = tokio::task::spawn_blocking(move || match rate {
        Some(_) => {
            let plan = order.open()?;
            let tally = on_this_thread(async move { open_loop(Rc::new(load()), plan).await })?;
            Ok::<_, RoleError>(json!({
                "carried": tally.carried(), "errors": tally.errors.count,
                "p50_us": tally.corrected.percentile_us(0.5), "p99_us": tally.corrected.percentile_us(0.99),
            }))
        }
        None => {
            let plan = order.closed();
            let tally = on_this_thread(async move { closed_loop(Rc::new(load()), plan).await })?;
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
            let rate = tally.ops as f64 / tally.elapsed.as_secs_f64();
            Ok(json!({
                "requests_per_s": rate, "errors": tally.errors.count,
                "p50_us": tally.total.percentile_us(0.5), "p99_us": tally.total.percentile_us(0.99),
            }))
        }
    });
    println!("{}", figures.await??);
    Ok(())
}
