//! What the `redis-cluster` scenario asks: does a client that is told where to go next get there?

mod ask;
mod moved;

use std::time::Duration;

use inroads_harness::access::Access;
use inroads_harness::dial::Dialer;
use inroads_harness::method::Capability;
use inroads_harness::probe::{Attempt, Manner, Probe};
use inroads_harness::scenario::Workload;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{RedisError, cmd};
use tokio::time::timeout;

use super::PORT;
use super::client::{Client, Seed};
use super::node::{self, Member};
use super::slots::TAGS;

/// All probes, in report order.
pub(super) const ALL: &[Probe] = &[
    Probe::must(
        "redis/moved",
        "a cluster client writes and reads a key in every slot, following MOVED",
        &[Capability::Tcp],
    ),
    Probe::should(
        "redis/ask",
        "a cluster client keeps reading and writing a slot that is being moved, following ASK",
        &[Capability::Tcp],
    )
    // While a slot moves, clients of other probes are asked to try again.
    .asked(Manner::Alone),
];

/// Longest time to connect to one node, or to the cluster.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// Longest time to try an address that the cluster has told, where it is expected to be out of reach.
const TOLD_LIMIT: Duration = Duration::from_secs(2);

/// How long a key of a probe stays, in seconds, whatever becomes of the probe.
const KEY_LIFE: u64 = 60;

/// One attempt at the probe `id`.
pub(super) async fn attempt(id: &str, dialer: &Dialer, workload: &Workload) -> Attempt {
    let outcome = match id {
        "redis/moved" => moved::attempt(dialer, workload).await,
        "redis/ask" => ask::attempt(dialer, workload).await,
        other => (
            "a probe of this scenario".to_owned(),
            Err(format!("there is no probe `{other}`")),
        ),
    };
    match outcome {
        (expected, Ok(seen)) => Attempt::pass(expected, seen),
        (expected, Err(seen)) => Attempt::fail(expected, seen),
    }
}

/// What was expected, and what was seen.
type Outcome = (String, Result<String, String>);

/// A client of the cluster, set up for the access, and what had to be changed for it.
struct Guest {
    /// Its relays, where it has any, must outlive the last answer.
    _client: Client,
    connection: ClusterConnection,
    /// Why a client of which only the first address was changed does not get through, and what was changed
    /// instead; empty for an unmodified client.
    changed: String,
}

impl Guest {
    async fn connect(dialer: &Dialer, seed: &Seed) -> Result<Self, String> {
        let client = Client::new(dialer, seed).map_err(|error| error.to_string())?;
        let changed = match &client.changed {
            Some(changed) => {
                let without = told(dialer, seed).await?;
                format!("{without}; it works where {changed}")
            }
            None => String::new(),
        };
        let connecting = limited("connecting to the cluster", client.connect());
        let connection = connecting.await.map_err(|error| {
            let host = &seed.host;
            format!("the driver with `redis://{host}:{}`: {error}", seed.port)
        })?;
        Ok(Self {
            _client: client,
            connection,
            changed,
        })
    }

    /// What was seen, behind what had to be changed for it.
    fn with_changes(&self, seen: String) -> String {
        if self.changed.is_empty() {
            return seen;
        }
        format!("{}; {seen}", self.changed)
    }
}

/// What a client is told that reaches the Service by the access and knows of nothing else: the first address that
/// it is sent to, and why it does not get there.
async fn told(dialer: &Dialer, seed: &Seed) -> Result<String, String> {
    let mut node = node_at(dialer, &seed.host, seed.port).await?;
    for tag in TAGS.iter().step_by(1024) {
        let key = format!("told:{{{tag}}}");
        let asked: Result<Option<String>, RedisError> =
            cmd("GET").arg(&key).query_async(&mut node).await;
        let Err(error) = asked else { continue };
        let Some((address, slot)) = error.redirect_node() else {
            return Err(format!("asked for `{key}`, a node said: {error}"));
        };
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let port = port.parse().unwrap_or(PORT);
        let plain = Dialer::new(Access::Unmodified);
        let reached = timeout(TOLD_LIMIT, plain.tcp(host, port)).await;
        let why = match reached {
            Ok(Ok(_stream)) => "that can be reached".to_owned(),
            Ok(Err(error)) => format!("that cannot be reached: {error}"),
            Err(_elapsed) => format!("no connection within {} s", TOLD_LIMIT.as_secs()),
        };
        return Ok(format!(
            "with the first address changed alone, the client is told MOVED {slot} {address}, and {why}"
        ));
    }
    Err("the node behind the Service sends nobody on: it serves every slot".to_owned())
}

/// A connection to one node, through the access.
async fn node_at(dialer: &Dialer, host: &str, port: u16) -> Result<MultiplexedConnection, String> {
    let connecting = async {
        let stream = dialer.tcp(host, port).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let connection = node::connect(stream).await;
        connection.map_err(|error| error.to_string())
    };
    let connected = timeout(CONNECT_LIMIT, connecting).await;
    let late = || format!("no answer within {} s", CONNECT_LIMIT.as_secs());
    connected
        .unwrap_or_else(|_elapsed| Err(late()))
        .map_err(|error| format!("{host}:{port}: {error}"))
}

/// The masters, as the cluster tells of them.
async fn masters(connection: &mut ClusterConnection) -> Result<Vec<Member>, String> {
    let said: Result<String, RedisError> =
        cmd("CLUSTER").arg("NODES").query_async(connection).await;
    let members = node::parse_members(&said.map_err(|error| error.to_string())?)?;
    let masters: Vec<Member> = members
        .into_iter()
        .filter(|member| member.slot_count() > 0)
        .collect();
    if masters.len() < 2 {
        return Err(format!("the cluster has {} masters", masters.len()));
    }
    Ok(masters)
}

/// Host and port of an address that a cluster tells.
fn host_and_port(address: &str) -> Result<(String, u16), String> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok()?;
        Some((host.to_owned(), port))
    });
    parts.ok_or_else(|| format!("`{address}` is no address of a node"))
}

async fn limited<T>(
    doing: &str,
    future: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, String> {
    match timeout(CONNECT_LIMIT, future).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!(
            "{doing} took longer than {} s",
            CONNECT_LIMIT.as_secs()
        )),
    }
}
