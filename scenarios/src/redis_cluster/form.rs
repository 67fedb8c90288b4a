//! `inroads agent redis-form`: makes one Redis Cluster of nodes that know nothing of each other, and waits until
//! every one of them says that it is ready. It may be run again at any time.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use futures_util::future::try_join_all;
use inroads_harness::clock;
use inroads_harness::role::{Role, RoleError, RoleFuture};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value, cmd};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::node::{self, field};
use super::plan::{self, Step, View};

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: "redis-form",
    about: "makes a Redis Cluster of single nodes",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

/// How long the nodes are left to talk to each other between two looks at them.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest time for one node to be reached and to say how it is.
const NODE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Parser)]
#[command(name = "redis-form", no_binary_name = true)]
struct Arguments {
    /// The nodes, HOST:PORT each.
    #[arg(required = true)]
    nodes: Vec<String>,
    /// How many replicas each master has.
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// Longest time until the cluster is ready, in seconds.
    #[arg(long, default_value_t = 120)]
    within: u64,
}

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let limit = Duration::from_secs(arguments.within);
    let begun = clock::now();
    let mut waiting_for = "the first answers".to_owned();
    while begun.elapsed() < limit {
        match look_and_act(&arguments).await {
            Ok(reasons) if reasons.is_empty() => {
                tracing::info!(nodes = arguments.nodes.len(), "the cluster is formed");
                return Ok(());
            }
            Ok(reasons) => waiting_for = reasons.join("; "),
            // Pods come up one by one, and their names with them.
            Err(error) => waiting_for = error,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!(
        "the cluster was not formed within {} s: {waiting_for}",
        limit.as_secs()
    )
    .into())
}

/// Asks all nodes, takes the steps that can be taken, and returns what is still missing.
async fn look_and_act(arguments: &Arguments) -> Result<Vec<String>, String> {
    let asking = arguments.nodes.iter().map(|name| async move {
        let asked = timeout(NODE_LIMIT, ask(name)).await;
        let late = || format!("no answer within {} s", NODE_LIMIT.as_secs());
        asked
            .unwrap_or_else(|_elapsed| Err(late()))
            .map_err(|error| format!("{name}: {error}"))
    });
    let (mut connections, views): (Vec<_>, Vec<_>) =
        try_join_all(asking).await?.into_iter().unzip();
    let steps = plan::next(&views, arguments.replicas)?;
    for step in &steps {
        let (node, command) = command_of(step);
        tracing::info!(node = %views[node].address, ?step, "forming the cluster");
        let done: Result<Value, RedisError> = command.query_async(&mut connections[node]).await;
        done.map_err(|error| format!("{}: {error}", views[node].address))?;
    }
    let reasons = plan::unsettled(&views, arguments.replicas)?;
    if reasons.is_empty() && !steps.is_empty() {
        return Ok(vec!["the last steps".to_owned()]);
    }
    Ok(reasons)
}

/// The node that a step is for, and how it is told.
fn command_of(step: &Step) -> (usize, Cmd) {
    let mut command = cmd("CLUSTER");
    let node = match step {
        Step::SetEpoch { node, epoch } => {
            command.arg("SET-CONFIG-EPOCH").arg(*epoch);
            node
        }
        Step::AddSlots { node, slots } => {
            // ADDSLOTSRANGE would be shorter, and is new in Redis 7.
            command.arg("ADDSLOTS").arg(slots);
            node
        }
        Step::Meet { node, other } => {
            command
                .arg("MEET")
                .arg(other.ip().to_string())
                .arg(other.port());
            node
        }
        Step::Replicate { node, master } => {
            command.arg("REPLICATE").arg(master);
            node
        }
    };
    (*node, command)
}

/// Connects to one node and hears what it says.
async fn ask(name: &str) -> Result<(MultiplexedConnection, View), String> {
    let address = resolve(name).await?;
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let connection = node::connect(stream).await;
    let mut connection = connection.map_err(|error| error.to_string())?;
    let members = node::members(&mut connection).await?;
    let cluster = say(&mut connection, cmd("CLUSTER").arg("INFO")).await?;
    let replication = say(&mut connection, cmd("INFO").arg("replication")).await?;
    let view = View {
        address,
        members,
        state_ok: field(&cluster, "cluster_state") == Some("ok"),
        in_sync: is_in_sync(&replication),
        replicas: field(&replication, "connected_slaves")
            .and_then(|count| count.parse().ok())
            .unwrap_or(0),
    };
    Ok((connection, view))
}

/// Whether a replica follows its master and the first transfer is over.
fn is_in_sync(replication: &str) -> bool {
    field(replication, "role") == Some("slave")
        && field(replication, "master_link_status") == Some("up")
        && field(replication, "master_sync_in_progress") == Some("0")
}

async fn say(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<String, String> {
    let said: Result<String, RedisError> = command.query_async(connection).await;
    said.map_err(|error| error.to_string())
}

async fn resolve(name: &str) -> Result<SocketAddr, String> {
    let found = tokio::net::lookup_host(name).await;
    let mut found = found.map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "it has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_still_copies_is_not_in_sync() {
        let replication = |progress: u8| {
            format!("role:slave\r\nmaster_link_status:up\r\nmaster_sync_in_progress:{progress}\r\n")
        };
        assert!(is_in_sync(&replication(0)));
        assert!(!is_in_sync(&replication(1)));
        assert!(!is_in_sync("role:master\r\nconnected_slaves:1\r\n"));
    }

    #[test]
    fn steps_are_told_in_the_words_of_redis() {
        let told = |step: &Step| {
            let (node, command) = command_of(step);
            let packed = String::from_utf8(command.get_packed_command()).unwrap();
            let words: Vec<&str> = packed.split("\r\n").filter(|w| !w.is_empty()).collect();
            let words: Vec<&str> = words.into_iter().skip(2).step_by(2).collect();
            (node, words.join(" "))
        };
        let other = "10.244.1.3:6379".parse().unwrap();
        assert_eq!(
            told(&Step::Meet { node: 0, other }),
            (0, "CLUSTER MEET 10.244.1.3 6379".to_owned())
        );
        let slots = vec![5, 6];
        assert_eq!(
            told(&Step::AddSlots { node: 2, slots }),
            (2, "CLUSTER ADDSLOTS 5 6".to_owned())
        );
    }

    #[tokio::test]
    async fn nodes_that_never_answer_are_named() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap().to_string();
        drop(closed);
        let arguments = [address.as_str(), "--within=1", "--replicas=0"];
        let error = run(arguments.map(ToOwned::to_owned).into()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&address), "{error}");
    }
}
